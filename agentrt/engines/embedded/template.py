"""The chat template: messages and tools to prompt tokens.

Three properties that prefix caching lives on, each held by a test:

* append-only: the prompt of `messages[:k]` is a prefix of the prompt of `messages[:k+1]`;
* a reply continues its prompt: prompt with `generation` + reply tokens = the prompt that contains the reply;
* tools stand in the system block at the front, as in the templates of Llama 3 and Qwen.

Ids of messages and tool calls are left out: they differ from run to run and tell a model nothing.
"""

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from agentrt.engines.embedded.tokenizer import encode

_BEGIN, _START, _END, _CALL = 1, 2, 3, 4
_ROLES = {"system": 5, "developer": 5, "user": 6, "assistant": 7, "tool": 8, "function": 8}
_OTHER_ROLE = 9

Message = Mapping[str, Any]


def prompt_tokens(
    messages: Sequence[Message], tools: Iterable[Mapping[str, Any]] = (), *, generation: bool = True
) -> "array[int]":
    """Token ids of a prompt, ending in the opening of the assistant's turn if `generation`."""
    ids = array("I", (_BEGIN,))
    catalogue = "".join(_canonical(tool) + "\n" for tool in tools)
    first = messages[0] if messages else None
    if catalogue and first is not None and _role(first) != _ROLES["system"]:
        ids += _turn(_ROLES["system"], encode(catalogue))
        catalogue = ""
    for index, message in enumerate(messages):
        body = message_tokens(message)
        if index == 0 and catalogue:
            body = body + encode("\n" + catalogue)
        ids += _turn(_role(message), body)
    if generation:
        ids += array("I", (_START, _ROLES["assistant"]))
    return ids


def message_tokens(message: Message) -> "array[int]":
    """Token ids of what a message says: its text, then its tool calls."""
    ids = array("I", encode(text_of(message)))
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        ids += call_tokens(str(function.get("name", "")), str(function.get("arguments", "")))
    return ids


def call_tokens(name: str, arguments: str) -> "array[int]":
    """Token ids of one tool call. Arguments count as JSON: spacing and order of keys do not matter."""
    with suppress(ValueError):
        arguments = _canonical(json.loads(arguments))
    return array("I", (_CALL,)) + encode(f"{name} {arguments}")


def reply_tokens(message: Message) -> "array[int]":
    """Token ids a model produces to say `message`, with the closing of its turn."""
    return message_tokens(message) + array("I", (_END,))


def text_of(message: Message) -> str:
    """The text of a message; parts that are no text appear as JSON."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(
        part["text"] if isinstance(part, dict) and isinstance(part.get("text"), str) else _canonical(part)
        for part in parts
    )


def _turn(role: int, body: "array[int]") -> "array[int]":
    return array("I", (_START, role)) + body + array("I", (_END,))


def _role(message: Message) -> int:
    return _ROLES.get(str(message.get("role")), _OTHER_ROLE)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
