"""OpenAI's request and response shapes, as far as the embedded engine speaks them.

Unknown fields are ignored, as vLLM does. `vllm_xargs` takes scalars and lists of scalars only, as vLLM does.
"""

import time
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agentrt.engines.embedded.responder import ToolCall

_Scalar = str | int | float
_INT64 = 2**63


class _Loose(BaseModel):
    model_config = ConfigDict(extra="allow")


class FunctionCallIn(_Loose):
    """A call an assistant made earlier."""

    name: str
    arguments: str = ""


class ToolCallIn(_Loose):
    """A tool call in the history."""

    function: FunctionCallIn


class MessageIn(_Loose):
    """One message of the prompt."""

    role: str
    content: str | list[Any] | None = None
    tool_calls: list[ToolCallIn] | None = None


class FunctionIn(_Loose):
    """A function on offer; `parameters` is a JSON schema."""

    name: str
    parameters: dict[str, Any] | None = None


class ToolIn(_Loose):
    """A tool on offer."""

    function: FunctionIn


class NamedFunction(BaseModel):
    """The function of a named tool choice."""

    name: str


class NamedTool(BaseModel):
    """A named tool choice."""

    type: Literal["function"] = "function"
    function: NamedFunction


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: bool = False


class GenerationRequest(BaseModel):
    """What chat and plain completions have in common."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    n: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    priority: int = Field(0, ge=-_INT64, lt=_INT64)
    cache_salt: str | None = Field(None, min_length=1)
    vllm_xargs: dict[str, _Scalar | list[_Scalar]] | None = None

    @property
    def stops(self) -> Sequence[str]:
        """Texts that end the reply."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def wants_usage(self) -> bool:
        """Whether a stream should end with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(GenerationRequest):
    """Body of `POST /v1/chat/completions`."""

    messages: list[MessageIn] = Field(min_length=1)
    tools: list[ToolIn] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    response_format: dict[str, Any] | None = None
    max_completion_tokens: int | None = Field(None, ge=1)


class CompletionRequest(GenerationRequest):
    """Body of `POST /v1/completions`: text or token ids, one prompt."""

    prompt: str | list[int]


def usage(*, prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """The `usage` object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


def tool_call(call: ToolCall, *, index: int | None = None) -> dict[str, Any]:
    """A tool call in a message, or with an `index` in a stream's delta."""
    place = {} if index is None else {"index": index}
    function = {"name": call.name, "arguments": call.arguments}
    return {**place, "id": call.call_id, "type": "function", "function": function}


def envelope(kind: str, response_id: str, model: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A response or a chunk of one."""
    created = int(time.time())
    return {"id": response_id, "object": kind, "created": created, "model": model, "choices": choices, **more}


def error_body(message: str, *, status: int, field: str | None = None) -> dict[str, Any]:
    """An error as OpenAI and vLLM write it."""
    kind = "BadRequestError" if status < 500 else "InternalServerError"  # noqa: PLR2004 - 5xx
    return {"error": {"message": message, "type": kind, "param": field, "code": status}}
