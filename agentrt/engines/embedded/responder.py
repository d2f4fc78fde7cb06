"""What the embedded engine says. No model: a seeded script that takes part in a workflow's control flow.

The reply to a prompt depends on the engine's seed and the prompt alone, not on time, concurrency or identity, so the
same workflow takes the same turns whatever the cache does. `SeededResponder` follows these rules, in order:

1. A tool choice of `required` or a named tool is obeyed, with arguments that fit the tool's JSON schema.
2. Tools are on offer and the last message is not a tool's result: one is called, with `tool_probability`.
3. A response format with a JSON schema gets JSON that fits it.
4. A line `Reply with one of: A, B, C` in the last user message, else in the system prompt, gets one of them as the
   first line of the reply. Weights may be given: `Reply with one of: PASS (0.7), FAIL (0.3)`.
5. Anything else gets prose of a seeded length.
"""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from agentrt.engines.embedded import json_values
from agentrt.engines.embedded.prose import sentences
from agentrt.engines.embedded.template import text_of

_ONE_OF = re.compile(r"^[ \t]*Reply with one of:[ \t]*(.+?)[ \t.]*$", re.MULTILINE)
_WEIGHTED = re.compile(r"^(.*?)\s*\(\s*(\d+(?:\.\d+)?)\s*\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponderRequest:
    """What a responder sees of a request: OpenAI's fields. A plain completion has no messages."""

    messages: Sequence[Mapping[str, Any]] = ()
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    response_format: Mapping[str, Any] | None = None
    max_tokens: int = 128

    def limited_to(self, max_tokens: int) -> "ResponderRequest":
        """The same request with room for this many tokens."""
        return replace(self, max_tokens=max_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of one tool; `arguments` is a JSON object as text."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An assistant message."""

    content: str = ""
    tool_calls: tuple[ToolCall, ...] = field(default=())


class Responder(Protocol):
    """Anything that answers: give the engine your own script for your own workflow."""

    def reply(self, request: ResponderRequest, rng: random.Random) -> Reply:
        """Answer at once. `rng` is seeded by the engine's seed and the prompt; use no other randomness."""


class SeededResponder:
    """The default script; see the rules at the top of this file."""

    def __init__(self, *, tool_probability: float = 0.7, min_tokens: int = 20, max_tokens: int = 120) -> None:
        self._tool_probability = tool_probability
        self._min_tokens = min_tokens
        self._max_tokens = max_tokens

    def reply(self, request: ResponderRequest, rng: random.Random) -> Reply:
        """Answer by the rules."""
        tool = self._tool_to_call(request, rng)
        if tool is not None:
            return Reply(tool_calls=(_call(tool, rng),))
        schema = _schema_in(request.response_format)
        if schema is not None:
            return Reply(content=json.dumps(json_values.sample(schema, rng)))
        # The words of the filler are about 1.2 tokens each; `max_tokens` cuts it, as it would cut a model.
        text = sentences(rng, int(rng.randint(self._min_tokens, self._max_tokens) / 1.2))
        choice = _choice(request.messages, rng)
        return Reply(content=text if choice is None else f"{choice}\n{text}")

    def _tool_to_call(self, request: ResponderRequest, rng: random.Random) -> Mapping[str, Any] | None:
        tools, choice = request.tools, request.tool_choice
        if not tools or choice == "none":
            return None
        if isinstance(choice, Mapping):
            name = choice.get("function", {}).get("name")
            return next((tool for tool in tools if tool["function"]["name"] == name), None)
        if choice != "required":
            answered = bool(request.messages) and request.messages[-1].get("role") in {"tool", "function"}
            if answered or rng.random() >= self._tool_probability:
                return None
        return rng.choice(tools)


def _call(tool: Mapping[str, Any], rng: random.Random) -> ToolCall:
    function = tool["function"]
    arguments = json_values.sample(function.get("parameters") or {"type": "object"}, rng)
    return ToolCall(
        call_id=f"call_{rng.getrandbits(96):024x}",
        name=function["name"],
        arguments=json.dumps(arguments if isinstance(arguments, dict) else {}),
    )


def _schema_in(response_format: Mapping[str, Any] | None) -> Any:
    if not response_format:
        return None
    if response_format.get("type") == "json_object":
        return {"type": "object"}
    described = response_format.get("json_schema")
    return described.get("schema") if isinstance(described, Mapping) else None


def _choice(messages: Sequence[Mapping[str, Any]], rng: random.Random) -> str | None:
    """One of the allowed answers, where a prompt lists them."""
    users = [m for m in messages if m.get("role") == "user"][-1:]
    systems = [m for m in messages if m.get("role") in {"system", "developer"}]
    for message in (*users, *systems):
        found = _ONE_OF.search(text_of(message))
        if found:
            names, weights = zip(*map(_option, found[1].split(",")), strict=True)
            return str(rng.choices(names, weights if any(weights) else None)[0])
    return None


def _option(text: str) -> tuple[str, float]:
    weighted = _WEIGHTED.match(text.strip())
    return (weighted[1].strip(), float(weighted[2])) if weighted else (text.strip(), 1.0)
