"""Write a small Llama with seeded real weights, a tokenizer and a chat template: `python model.py SIZE DIR`.

Real weights, because with dummy ones logits nearly tie and outputs differ for reasons that are not ours. The
model only ever says whole words (the other rows of its output layer are zero), so what it says encodes back to the
tokens it sampled, as with a real model: an agent's own answers can hit the prefix cache.
"""

import sys
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SIZES: dict[str, dict[str, int]] = {
    # functional tests: a prompt of 2000 tokens in 0.03 s
    "nano": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
             "head_dim": 32, "intermediate_size": 128},
    # performance tests: prefill is slow enough to tell a hit from a miss by the clock
    "small": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
              "head_dim": 64, "intermediate_size": 768},
}  # fmt: skip
VOCABULARY = 2048
SPECIAL = ("<|bos|>", "<|im_end|>", "<|pad|>", "<|im_start|>")

# Every message is rendered without looking at later ones, so a growing conversation only ever appends.
CHAT_TEMPLATE = """\
{%- set has_system = messages and messages[0]['role'] == 'system' -%}
{%- if has_system or tools -%}
<|im_start|>system
{% if has_system %}{{ messages[0]['content'] }}
{% endif %}
{%- if tools %}You may call these functions:
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}Call one as <tool_call>{"name": ..., "arguments": ...}</tool_call>
{% endif %}<|im_end|>
{% endif -%}
{%- for message in messages -%}
{%- if not (loop.first and has_system) -%}
<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}
{%- elif message['content'] %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif -%}
{%- for call in message['tool_calls'] or [] %}
<tool_call>{"name": "{{ call['function']['name'] }}", "arguments": {{ call['function']['arguments'] | tojson }}}</tool_call>
{%- endfor -%}
<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""  # noqa: E501 - a template's line breaks are output


def write(size: str, directory: Path) -> None:
    """Write the model `size` to `directory`, the same bytes every time for one version of the libraries."""
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(directory)
    _weights(size, tokenizer).save_pretrained(directory)


def _tokenizer() -> PreTrainedTokenizerFast:
    byte_pairs = Tokenizer(models.BPE())
    byte_pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_pairs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    byte_pairs.train_from_iterator(topics.values(), trainer)  # English prose that every Python brings along
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_pairs,
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        pad_token=SPECIAL[2],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _weights(size: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        **SIZES[size],
        vocab_size=len(tokenizer),
        max_position_embeddings=16384,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:  # matrices; norms stay at one
                weight.normal_(0, 1.0 if "embed" in name else 2.0 / weight.shape[1] ** 0.5)
        model.lm_head.weight.normal_(0, 4.0 / config.hidden_size**0.5)
        model.lm_head.weight[_unspoken(tokenizer)] = 0.0
    return model


def _unspoken(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Tokens that are not a blank and a word: they would not encode back to themselves in a text."""
    words = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return [i for i, word in enumerate(words) if not (word[0] == "Ġ" and word[1:].isascii() and word[1:].isalpha())]


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
