"""What one LLM call costs, seen from the client.

Time to first token runs from the start of the request to the first streamed chunk, text or tool call. Tokens are what
the server says in `usage`; a server that says nothing is counted, not guessed.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult


@dataclass(slots=True, kw_only=True)
class CallRecord:
    """One LLM call. Times are seconds on the meter's clock; None where the server or the model did not say."""

    session: str
    agent: str
    started_s: float
    ended_s: float | None = None
    ttft_s: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None
    segments: tuple[tuple[int, int], ...] = ()
    """The prompt as a chain of messages: (hash of everything up to here, characters of this message)."""


@dataclass(slots=True, kw_only=True)
class SessionRecord:
    """One conversation, from its start to the end of its graph run."""

    session: str
    started_s: float
    ended_s: float
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class LoadResult:
    """Everything one pass of the load generator saw."""

    calls: list[CallRecord] = field(default_factory=list)
    sessions: list[SessionRecord] = field(default_factory=list)
    wall_s: float = 0.0


class CallMeter(BaseCallbackHandler):
    """Measures the LLM calls of one session; goes into `config["callbacks"]` and never changes a run."""

    run_inline = True  # in async graphs handlers would otherwise run late, on another thread

    def __init__(
        self, session: str, calls: list[CallRecord], *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._session = session
        self._calls = calls
        self._clock = clock
        self._open: dict[UUID, CallRecord] = {}

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Start the clock of a call."""
        del serialized, kwargs
        segments = _segments(messages[0] if messages else ())
        agent = str((metadata or {}).get("langgraph_node", ""))
        record = CallRecord(session=self._session, agent=agent, started_s=self._clock(), segments=segments)
        self._open[run_id] = record
        self._calls.append(record)

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Take the time of the first chunk."""
        del token, kwargs
        record = self._open.get(run_id)
        if record is not None and record.ttft_s is None:
            record.ttft_s = self._clock() - record.started_s

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Take the call's usage."""
        del kwargs
        record = self._open.pop(run_id, None)
        if record is None:
            return
        record.ended_s = self._clock()
        usage = _usage(response)
        if usage is not None:
            record.prompt_tokens = usage["input_tokens"]
            record.output_tokens = usage["output_tokens"]
            record.cached_tokens = usage.get("input_token_details", {}).get("cache_read", 0)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Keep the failure."""
        del kwargs
        record = self._open.pop(run_id, None)
        if record is not None:
            record.ended_s = self._clock()
            record.error = f"{type(error).__name__}: {error}"


def _usage(response: LLMResult) -> Any:
    """The reply's `usage_metadata`, or None when the server said nothing."""
    generation = response.generations[0][0] if response.generations and response.generations[0] else None
    message = generation.message if isinstance(generation, ChatGeneration) else None
    return message.usage_metadata if isinstance(message, AIMessage) else None


def _segments(messages: Sequence[BaseMessage]) -> tuple[tuple[int, int], ...]:
    digest = hashlib.blake2b(digest_size=8)
    chain: list[tuple[int, int]] = []
    for message in messages:
        text = f"{message.type}{message.content}{getattr(message, 'tool_calls', '')}"
        digest.update(text.encode("utf-8", "replace"))
        chain.append((int.from_bytes(digest.digest()), len(text)))
    return tuple(chain)
