"""vLLM's real scheduler, KV cache manager and block pool in this process, with a model that only counts.

Everything that decides about blocks is vLLM's own code; only the forward pass is replaced, so a thousand engine steps
take a second.
"""

import logging
import random
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from agentrt.config import Settings
from agentrt.identity import Identity

BLOCK_SIZE_TOKENS = 32
ATTENTION = "FullAttentionSpec"
MAX_STEPS = 20_000
TOKEN = 7
"""What the model always says."""


VLLM = (
    "config.SchedulerConfig",
    "engine.arg_utils.EngineArgs",
    "sampling_params.SamplingParams",
    "utils.hashing.get_hash_fn_by_name",
    "v1.core.block_pool.BlockPool",
    "v1.core.kv_cache_manager.KVCacheManager",
    "v1.core.kv_cache_utils.FreeKVCacheBlockQueue",
    "v1.core.kv_cache_utils.get_request_block_hasher",
    "v1.core.kv_cache_utils.init_none_hash",
    "v1.core.sched.async_scheduler.AsyncScheduler",
    "v1.core.sched.scheduler.Scheduler",
    "v1.engine.core.EngineCore",
    "v1.kv_cache_interface.FullAttentionSpec",
    "v1.kv_cache_interface.KVCacheConfig",
    "v1.kv_cache_interface.KVCacheGroupSpec",
    "v1.kv_cache_interface.SlidingWindowSpec",
    "v1.outputs.ModelRunnerOutput",
    "v1.request.Request",
    "v1.request.RequestStatus",
)


@pytest.fixture(scope="session")
def vllm(nano_path: Path) -> Iterator[SimpleNamespace]:
    """The parts of vLLM used here, by name. Importing it warns about its own dependencies: not our business."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("VLLM_PLUGINS", "")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        parts = SimpleNamespace()
        for path in VLLM:
            module, _, name = path.rpartition(".")
            setattr(parts, name, getattr(import_module(f"vllm.{module}"), name))
        parts.extend = import_module("agentrt_vllm.scheduler").extended
        parts.Endpoint = import_module("agentrt_vllm.endpoint").AgentRTEndpoint
        logging.getLogger("vllm").setLevel(logging.ERROR)
        sha256 = parts.get_hash_fn_by_name("sha256")
        parts.init_none_hash(sha256)
        parts.hasher = parts.get_request_block_hasher(BLOCK_SIZE_TOKENS, sha256)
        parts.config = parts.EngineArgs(
            model=str(nano_path), max_model_len=2048, block_size=BLOCK_SIZE_TOKENS, enforce_eager=True,
            max_num_seqs=8, max_num_batched_tokens=512, enable_prefix_caching=True,
        ).create_engine_config()  # fmt: skip
        yield parts


@dataclass
class Served:
    """What became of one request."""

    cached_tokens: int
    block_ids: list[int]


class Simulation:
    """A scheduler over `num_blocks` usable blocks, stepped by hand; `lookahead` steps are in flight, as on a GPU."""

    def __init__(
        self, vllm: SimpleNamespace, scheduler: type[Any], num_blocks: int, lookahead: int = 0, spec: str = ATTENTION
    ) -> None:
        self._vllm = vllm
        self._lookahead = lookahead
        self._in_flight: deque[tuple[Any, Any]] = deque()
        self._made = 0
        self.served: dict[str, Served] = {}
        self.preemptions = 0
        vllm.config.cache_config.num_gpu_blocks = num_blocks + 1
        self.scheduler = scheduler(
            vllm_config=vllm.config,
            kv_cache_config=vllm.KVCacheConfig(
                num_blocks=num_blocks + 1, kv_cache_tensors=[], kv_cache_groups=[self._group(spec)]
            ),
            structured_output_manager=MagicMock(),
            block_size=BLOCK_SIZE_TOKENS,
            hash_block_size=BLOCK_SIZE_TOKENS,
            log_stats=False,
        )

    @property
    def pool(self) -> Any:
        """The block pool."""
        return self.scheduler.kv_cache_manager.block_pool

    def call(self, op: str, **payload: Any) -> dict[str, Any]:
        """What `EngineCore.agentrt_call` would answer."""
        answer: dict[str, Any] = self.scheduler.agentrt.call(op, payload)
        return answer

    def add(self, tokens: Sequence[int], identity: Identity | None = None, *, max_tokens: int = 2) -> str:
        """Queue a request; returns its id."""
        self._made += 1
        params = self._vllm.SamplingParams(
            max_tokens=max_tokens,
            temperature=0,
            ignore_eos=True,
            extra_args={"agentrt": identity.to_label()} if identity else None,
        )
        request = self._vllm.Request(
            request_id=f"r{self._made}",
            prompt_token_ids=list(tokens),
            sampling_params=params,
            pooling_params=None,
            block_hasher=self._vllm.hasher,
        )
        self.scheduler.add_request(request)
        return f"r{self._made}"

    def abort(self, request_id: str) -> None:
        """The client went away."""
        self.scheduler.finish_requests(request_id, self._vllm.RequestStatus.FINISHED_ABORTED)

    def step(self) -> None:
        """One engine step: schedule, and the output of the oldest step in flight."""
        output = self.scheduler.schedule()
        self.preemptions += len(output.preempted_req_ids or ())
        for new in output.scheduled_new_reqs:
            self.served.setdefault(new.req_id, Served(new.num_computed_tokens, list(new.block_ids[0])))
        self._in_flight.append((output, self._forward(output)))
        while len(self._in_flight) > self._lookahead or (self._in_flight and not self.scheduler.has_requests()):
            self.scheduler.update_from_output(*self._in_flight.popleft())

    def run(self) -> None:
        """Step until nothing is left to do."""
        for _ in range(MAX_STEPS):
            if not self.scheduler.has_requests():
                return
            self.step()
        raise AssertionError(f"requests still unfinished after {MAX_STEPS} steps")

    def serve(self, tokens: Sequence[int], identity: Identity | None = None, *, max_tokens: int = 2) -> int:
        """Run one request alone; returns its cached tokens."""
        request_id = self.add(tokens, identity, max_tokens=max_tokens)
        self.run()
        return self.served[request_id].cached_tokens

    def _forward(self, output: Any) -> Any:
        ids = list(output.num_scheduled_tokens)
        requests = self.scheduler.requests
        sampled = [[TOKEN] if requests[i].num_computed_tokens >= requests[i].num_tokens else [] for i in ids]
        return self._vllm.ModelRunnerOutput(
            req_ids=ids,
            req_id_to_index={request_id: index for index, request_id in enumerate(ids)},
            sampled_token_ids=sampled,
            logprobs=None,
            prompt_logprobs_dict={},
            pooler_output=[],
        )

    def _group(self, spec: str) -> Any:
        more = {} if spec == ATTENTION else {"sliding_window": 4 * BLOCK_SIZE_TOKENS}
        layer = getattr(self._vllm, spec)(
            block_size=BLOCK_SIZE_TOKENS, num_kv_heads=1, head_size=32, dtype=torch.bfloat16, **more
        )
        return self._vllm.KVCacheGroupSpec(["layer"], layer)


@pytest.fixture
def stock(vllm: SimpleNamespace) -> Callable[..., Simulation]:
    """Makes simulations of vLLM as it is."""

    def make(num_blocks: int = 64) -> Simulation:
        return Simulation(vllm, vllm.Scheduler, num_blocks)

    return make


@pytest.fixture
def extended(vllm: SimpleNamespace) -> Callable[..., Simulation]:
    """Makes simulations of vLLM with the plugin; `on_gpu` uses the asynchronous scheduler, one step ahead."""

    def make(num_blocks: int = 64, *, on_gpu: bool = False, spec: str = ATTENTION) -> Simulation:
        base = vllm.AsyncScheduler if on_gpu else vllm.Scheduler
        vllm.config.scheduler_config.async_scheduling = on_gpu
        return Simulation(vllm, vllm.extend(base, Settings()), num_blocks, int(on_gpu), spec)

    return make


@pytest.fixture
def prompt() -> Callable[[int, int], list[int]]:
    """Makes prompts: `prompt(tokens, seed)`."""

    def make(tokens: int, seed: int) -> list[int]:
        rng = random.Random(seed)
        return [rng.randrange(10, 1000) for _ in range(tokens)]

    return make
