"""What a job looks like to an OpenAI client: one response, or chunks as tokens come."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from agentrt.engines.embedded.job import Job
from agentrt.engines.embedded.openai import envelope, tool_call, usage


class Render(ABC):
    """The common part of both endpoints."""

    prefix: ClassVar[str]
    whole_kind: ClassVar[str]
    chunk_kind: ClassVar[str]

    def __init__(self, job: Job, *, model: str) -> None:
        self._job = job
        self._answer = job.answer
        self._model = model
        self._id = f"{self.prefix}-{job.request.request_id}"

    def whole(self) -> dict[str, Any]:
        """The response, once everything is produced."""
        choice = {"index": 0, **self._whole_choice(), "logprobs": None, "finish_reason": self._answer.finish_reason}
        return envelope(self.whole_kind, self._id, self._model, [choice], usage=self._usage())

    def chunks(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Chunks for the tokens produced since the last call."""
        last = stop == len(self._answer.tokens)
        for index, part in enumerate(parts := list(self._parts(start, stop))):
            reason = self._answer.finish_reason if last and index == len(parts) - 1 else None
            choice = {"index": 0, **part, "logprobs": None, "finish_reason": reason}
            yield envelope(self.chunk_kind, self._id, self._model, [choice])

    def usage_chunk(self) -> dict[str, Any]:
        """The last chunk of a stream that asked for it."""
        return envelope(self.chunk_kind, self._id, self._model, [], usage=self._usage())

    @abstractmethod
    def _whole_choice(self) -> dict[str, Any]: ...

    @abstractmethod
    def _parts(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """The choice of each chunk for tokens `start` to `stop`; at least one for the last token."""

    def _usage(self) -> dict[str, Any]:
        request = self._job.request
        return usage(
            prompt_tokens=len(request.prompt),
            completion_tokens=len(self._answer.tokens),
            cached_tokens=request.num_cached_tokens or 0,
        )


class ChatRender(Render):
    """`/v1/chat/completions`."""

    prefix = "chatcmpl"
    whole_kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"

    def _whole_choice(self) -> dict[str, Any]:
        answer = self._answer
        text = answer.text(0, len(answer.tokens))
        message: dict[str, Any] = {"role": "assistant", "content": None if answer.tool_calls and not text else text}
        if answer.tool_calls:
            message["tool_calls"] = [tool_call(call) for call in answer.tool_calls]
        return {"message": message}

    def _parts(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        answer = self._answer
        if start == 0:
            yield {"delta": {"role": "assistant", "content": ""}}
        text = answer.text(start, stop)
        if text:
            yield {"delta": {"content": text}}
        if stop == len(answer.tokens):
            for index, call in enumerate(answer.tool_calls):
                yield {"delta": {"tool_calls": [tool_call(call, index=index)]}}
            yield {"delta": {}}


class CompletionRender(Render):
    """`/v1/completions`."""

    prefix = "cmpl"
    whole_kind = chunk_kind = "text_completion"

    def _whole_choice(self) -> dict[str, Any]:
        return {"text": self._answer.text(0, len(self._answer.tokens))}

    def _parts(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        yield {"text": self._answer.text(start, stop)}
