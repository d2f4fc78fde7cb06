"""What a step of the engine costs in seconds: a model of time, to be calibrated against a real server.

A step reads the weights once, whatever it computes; prompt tokens are bound by arithmetic, decoding by reading
the KV cache. The defaults follow from the data sheets of an 8B model in bf16 on one H100 SXM (3.35 TB/s, 989
TFLOP/s of which 40 % are reached):

    step_s             16 GB of weights / 3.35 TB/s = 4.8 ms, and 1 ms of scheduling and sampling
    prefill_token_s    2 * 8e9 FLOP / 400 TFLOP/s = 40 us
    decode_seq_s       sampling and detokenising, 20 us
    prefill_pair_s     attention of one token to one other: 32 layers * 4 * 4096 FLOP / 400 TFLOP/s = 1.3 ns
    decode_context_s   reading 128 KiB of KV cache per token of context / 3.35 TB/s = 39 ns
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """What one step computed."""

    prefill_tokens: int = 0
    prefill_pairs: int = 0
    """(prompt token, token attended to) pairs."""
    decode_seqs: int = 0
    decode_context_tokens: int = 0
    """Tokens of context read by all decoding sequences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """Seconds per step; every term is seconds per unit of `StepWork`."""

    step_s: float = 5.8e-3
    prefill_token_s: float = 40e-6
    decode_seq_s: float = 20e-6
    prefill_pair_s: float = 1.3e-9
    decode_context_s: float = 39e-9

    def seconds(self, work: StepWork) -> float:
        """Duration of a step."""
        return (
            self.step_s
            + self.prefill_token_s * work.prefill_tokens
            + self.prefill_pair_s * work.prefill_pairs
            + self.decode_seq_s * work.decode_seqs
            + self.decode_context_s * work.decode_context_tokens
        )
