"""Tool calls, before they run: a policy may serve a stored result, deny, ask a human, or let them run.

    class Budget(Policy, ToolGate):
        name = "budget"
        fail_closed = True

        def before(self, call):
            return Deny("three searches are enough") if self.spent(call) else None

A policy that is also a `ToolGate` is asked in the user's own thread, at the moment of the call, beside the loop:
it must answer from memory, in microseconds, and be safe under threads. `agentrt.gates` asks and merges.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from agentrt.identity import Identity

MAX_ARGUMENTS_CHARS = 65_536
"""Larger arguments get no digest: an LLM writes none, and digesting them would cost the user milliseconds."""

MAX_ARGUMENTS_ITEMS = 4_096
_TENANT_KEY_BYTES = 32
_DIGEST_BYTES = 16
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_SCALARS = (int, float, bool, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool call that an agent asks for.

    `arguments` are what the model wrote, without what the framework injects; they are the user's own objects: read
    them, never change or keep them. `arguments_digest`: see `arguments_digest()`. `depends_on_state`: the tool also
    reads the graph's state, store, configuration or call id, so that equal arguments need not mean equal results.
    `can_ask`: a human can be asked, because the run can be resumed.

    A call is repeated with the same `tool_call_id` when its run resumes or its node is retried: answer it alike.
    """

    identity: Identity
    tool: str
    tool_call_id: str
    arguments: Mapping[str, Any]
    arguments_digest: str | None = None
    depends_on_state: bool = False
    can_ask: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Let the tool run. Weaker than every other answer."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Serve:
    """Do not run the tool: this is its result.

    `result` is what `ToolGate.after` was given, or any value the tool could have returned; or a
    `concurrent.futures.Future` of either, awaited for `wait_s` seconds at most. The call waits without blocking
    other tasks. If the future fails, is cancelled or too late, the tool runs as if nothing had been said.
    """

    result: object | Future[Any]
    reason: str
    wait_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Deny:
    """Do not run the tool. The agent is told `reason` as an error of the tool."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Run the tool only if a human says yes to `question`. Where nobody can be asked, this is a `Deny`."""

    question: str
    reason: str


Answer = Run | Serve | Deny | Ask
_STRENGTH: dict[type[Answer], int] = {Run: 0, Serve: 1, Ask: 2, Deny: 3}


class ToolGate:
    """What a `Policy` also subclasses to be asked about tool calls.

    A gate that raises loses its vote; it is counted, logged once, and after several faults in a row asked no more.
    With `fail_closed` its fault is a refusal instead, always: for gates that guard.
    """

    name: ClassVar[str]
    fail_closed: ClassVar[bool] = False

    def before(self, call: ToolCall) -> Answer | None:
        """Answer a call before it runs; None is no opinion."""
        del call
        return None

    def after(self, call: ToolCall, result: object) -> None:
        """A call ran and its result may stand in for later ones: it is no error and steers nothing.

        `result` is the framework's object (in LangGraph a `ToolMessage`, a copy), to be given back in `Serve`.
        """


@dataclass(frozen=True, slots=True)
class ToolRuling:
    """The answer that counts, and the name of the policy that gave it."""

    policy: str
    answer: Answer


def merge(answers: Mapping[str, Answer]) -> ToolRuling | None:
    """The strongest answer, by policy name: Deny > Ask > Serve > Run, ties by name. None when nobody answered."""
    if not answers:
        return None
    policy = min(answers, key=lambda name: (-_STRENGTH[type(answers[name])], name))
    return ToolRuling(policy, answers[policy])


def stronger(first: ToolRuling | None, second: ToolRuling | None) -> ToolRuling | None:
    """The ruling that counts where two runtimes watch one call; the first where they are equal."""
    if first is None or second is None:
        return first or second
    return second if _STRENGTH[type(second.answer)] > _STRENGTH[type(first.answer)] else first


def checked(answer: Answer | None) -> Answer | None:
    """What a gate said, if it has a meaning; raises TypeError otherwise."""
    if answer is not None and type(answer) not in _STRENGTH:
        raise TypeError(f"a gate answers Run, Serve, Deny, Ask or None, not {type(answer).__name__}")
    return answer


def arguments_digest(arguments: object, tenant: str) -> str | None:
    """32 hex digits that are equal for equal arguments of one tenant, in every process; None where there are none.

    Arguments have a digest if they are a JSON object of at most `MAX_ARGUMENTS_CHARS` characters, whatever the order
    of its keys. 1, 1.0 and True differ. The tenant is the key, so that digests of two tenants never compare.
    """
    if type(arguments) is not dict or not _is_small_json(arguments):
        return None
    try:
        text = _canonical(arguments)
    except ValueError:  # not a number, or infinite
        return None
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES, key=_tenant_key(tenant)).hexdigest()


@lru_cache(maxsize=256)
def _tenant_key(tenant: str) -> bytes:
    return hashlib.blake2b(tenant.encode("utf-8", "surrogatepass"), digest_size=_TENANT_KEY_BYTES).digest()


def _is_small_json(arguments: object) -> bool:
    """Exact JSON types only, few and short: what is subclassed, cyclic or huge ends the walk early."""
    chars, items = MAX_ARGUMENTS_CHARS, MAX_ARGUMENTS_ITEMS
    waiting = [arguments]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        items -= 1
        if kind is str:
            chars -= len(value)  # type: ignore[arg-type]
        elif kind is dict:
            if any(type(key) is not str for key in value):  # type: ignore[attr-defined]
                return False
            chars -= sum(map(len, value))  # type: ignore[call-overload]
            waiting += value.values()  # type: ignore[attr-defined]
        elif kind is list:
            waiting += value  # type: ignore[arg-type]
        elif kind not in _SCALARS:
            return False
        if chars < 0 or items < 0 or len(waiting) > MAX_ARGUMENTS_ITEMS:
            return False
    return True
