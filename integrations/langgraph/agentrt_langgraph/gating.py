"""Asks a runtime's gates about one tool call, and a human where they say so, whoever intercepted the call.

Only what LangGraph uses to pause a run leaves this module as an exception.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.errors import GraphBubbleUp
from langgraph.types import interrupt

from agentrt.events import ToolOutcome
from agentrt.identity import Identity
from agentrt.tools import Ask, Deny, Serve, ToolCall, ToolRuling, arguments_digest, stronger
from agentrt_langgraph.port import RuntimePort
from agentrt_langgraph.reports import Reports
from agentrt_langgraph.toolschema import reads_context

APPROVAL = "agentrt.tool_approval"
"""`type` of the payload of an interrupt that asks about a tool call."""

_STALE = "not approved: its graph keeps no checkpoints and began anew, and the approval was for an earlier call"
_CHECKPOINTER = "__pregel_checkpointer"
"""Where LangGraph tells a task which checkpointer it runs under, its own graph's or a surrounding one's."""


class GateSource(Protocol):
    """One runtime, where its events go, and what it saw of the run."""

    @property
    def runtime(self) -> RuntimePort:
        """Whose gates are asked."""

    @property
    def reports(self) -> Reports:
        """Where it is told."""

    def is_new(self, call: ToolCall) -> bool:
        """Whether the call was made since the run was last resumed, so that nobody can have been asked about it."""


@dataclass(slots=True)
class Gated:
    """One tool call, as every runtime that watches it was asked about it, and what counts."""

    asked: list[tuple[GateSource, ToolCall]]
    source: GateSource
    call: ToolCall
    ruling: ToolRuling | None
    started_s: float = 0.0

    @property
    def answer(self) -> Serve | Deny | None:
        """What takes the place of running the tool; None when it runs."""
        answer = self.ruling.answer if self.ruling is not None else None
        return answer if isinstance(answer, (Serve, Deny)) else None


def decide(
    callers: Iterable[tuple[GateSource, Identity]], tool_call: Mapping[str, Any], tool: Any, *, may_ask: bool = True
) -> Gated | None:
    """Ask the gates of every runtime that watches this call; None when there is none. Raises only interrupts."""
    asked: list[tuple[GateSource, ToolCall]] = []
    best: Gated | None = None
    for source, identity in callers:
        started_s = 0.0
        try:
            call = _described(identity, tool_call, tool, can_ask=may_ask and can_resume())
            started_s = source.runtime.clock()
            ruling = source.runtime.tool_gates.ask(call)
        except Exception as error:
            source.runtime.fault("tool_gates", error)
            call = _undescribed(identity, tool_call)
            ruling = source.runtime.tool_gates.without_answer()
        asked.append((source, call))
        if best is None or stronger(best.ruling, ruling) is not best.ruling:
            best = Gated(asked, source, call, ruling, started_s)
    if best is not None and best.ruling is not None and isinstance(best.ruling.answer, Ask):
        _ask_human(best, best.ruling.policy, best.ruling.answer)
    return best


def _described(identity: Identity, tool_call: Mapping[str, Any], tool: Any, *, can_ask: bool) -> ToolCall:
    arguments = tool_call["args"]
    return ToolCall(
        identity=identity,
        tool=tool_call["name"],
        tool_call_id=str(tool_call.get("id") or ""),
        arguments=MappingProxyType(arguments),
        arguments_digest=arguments_digest(arguments, identity.tenant),
        depends_on_state=tool is not None and reads_context(tool),
        can_ask=can_ask,
    )


def _undescribed(identity: Identity, tool_call: Mapping[str, Any]) -> ToolCall:
    name, call_id = str(tool_call.get("name")), str(tool_call.get("id") or "")
    return ToolCall(identity=identity, tool=name, tool_call_id=call_id, arguments={}, depends_on_state=True)


def can_resume() -> bool:
    """Whether the run in this context can be paused, and go on later."""
    config = var_child_runnable_config.get() or {}
    return config.get("configurable", {}).get(_CHECKPOINTER) not in (None, False)


def _ask_human(gated: Gated, policy: str, question: Ask) -> None:
    """Pause the run with the question. When it resumes and comes here again, the ruling is a refusal or nothing.

    The node is run again from its beginning: before the interrupt, nothing may happen that must not happen twice.
    """
    call, gates = gated.call, gated.source.runtime.tool_gates
    if not call.can_ask:
        gated.ruling = ToolRuling(policy, Deny(f"{question.reason}; it needs approval, and this run cannot be paused"))
        return
    try:
        given = interrupt(_payload(call, policy, question))
    except GraphBubbleUp:
        note(gated, "asked", policy, question.reason)
        raise
    except Exception as error:
        gated.source.runtime.fault("tool_gates", error)
        gated.ruling = ToolRuling(policy, Deny(f"{question.reason}; it needs approval, and nobody could be asked"))
        return
    refusal = _refusal(given) or (_STALE if gated.source.is_new(call) else None)
    gated.ruling = None if refusal is None else ToolRuling(policy, Deny(refusal))
    if refusal is None:
        gates.account(call.tool, policy, "approved")


def _payload(call: ToolCall, policy: str, question: Ask) -> dict[str, Any]:
    return {
        "type": APPROVAL,
        "tool": call.tool,
        "tool_call_id": call.tool_call_id,
        "arguments": json.loads(json.dumps(dict(call.arguments), default=str)),
        "agent": call.identity.agent,
        "policy": policy,
        "reason": question.reason,
        "question": question.question,
    }


def _refusal(given: object) -> str | None:
    """Why a human's answer is no approval; None when it is one. What is not understood approves nothing."""
    approve, reason = given, ""
    if isinstance(given, dict):
        approve, reason = given.get("approve"), str(given.get("reason") or "")
    if approve is True:
        return None
    if approve is False:
        return f"not approved: {reason}" if reason else "not approved"
    return "not approved: the answer was neither True, False nor {'approve': bool, 'reason': str}"


def note(gated: Gated, outcome: ToolOutcome, policy: str, reason: str) -> None:
    """Say, in the account and by events, that the tool did not run, and why. Never raises."""
    runtime, call = gated.source.runtime, gated.call
    try:
        if outcome != "ran":
            runtime.tool_gates.account(call.tool, policy, outcome)
        gated.source.reports.tool_answered(call, gated.started_s, outcome, policy, reason)
    except Exception as error:
        runtime.fault("tool_gates", error)
