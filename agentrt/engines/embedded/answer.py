"""A reply made ready to be generated token by token."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agentrt.engines.embedded.openai import tool_call
from agentrt.engines.embedded.responder import Reply, ToolCall
from agentrt.engines.embedded.template import reply_tokens
from agentrt.engines.embedded.tokenizer import pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Tokens of a reply, and what they say. `tool_calls` are complete with the last token."""

    tokens: "array[int]"
    text_pieces: list[str]
    tool_calls: tuple[ToolCall, ...]
    finish_reason: Literal["stop", "length", "tool_calls"]

    def text(self, start: int, stop: int) -> str:
        """The text of tokens `start` to `stop`."""
        return "".join(self.text_pieces[start:stop])


def answer_of(reply: Reply, *, max_tokens: int, stops: Sequence[str] = ()) -> Answer:
    """Cut a reply at the first stop text and at `max_tokens`. A tool call that does not fit is dropped."""
    content = reply.content
    for stop in stops:
        if stop:
            content = content.split(stop, 1)[0]
    tokens = reply_tokens({"content": content, "tool_calls": [tool_call(call) for call in reply.tool_calls]})
    if len(tokens) > max_tokens:
        return Answer(
            tokens=tokens[:max_tokens],
            text_pieces=pieces(content)[:max_tokens],
            tool_calls=(),
            finish_reason="length",
        )
    return Answer(
        tokens=tokens,
        text_pieces=pieces(content),
        tool_calls=reply.tool_calls,
        finish_reason="tool_calls" if reply.tool_calls else "stop",
    )
