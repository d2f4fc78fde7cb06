"""Token counts of a finished LLM request, as far as the server said."""

from typing import Any, NamedTuple

from langchain_core.outputs import LLMResult


class Usage(NamedTuple):
    """None where it was not told."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


NO_USAGE = Usage()


def read_usage(response: LLMResult) -> Usage:
    """Counts from the message's `usage_metadata`, else from the provider's own `token_usage`."""
    generations = response.generations
    message = getattr(generations[0][0], "message", None) if generations and generations[0] else None
    metadata = getattr(message, "usage_metadata", None)
    if metadata:
        details = metadata.get("input_token_details") or {}
        return Usage(
            _count(metadata.get("input_tokens")),
            _count(details.get("cache_read")),
            _count(metadata.get("output_tokens")),
        )
    reported = (response.llm_output or {}).get("token_usage") or {}
    details = reported.get("prompt_tokens_details") or {}
    return Usage(
        _count(reported.get("prompt_tokens")),
        _count(details.get("cached_tokens")),
        _count(reported.get("completion_tokens")),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None
