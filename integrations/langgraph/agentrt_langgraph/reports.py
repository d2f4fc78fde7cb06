"""What the runtime is told, as events of `agentrt.events`."""

from collections.abc import Iterable

from agentrt.events import (
    BranchAbandoned,
    CallEnded,
    CallStarted,
    Dispatched,
    RunEnded,
    RunStarted,
    StructureDeclared,
    ToolEnded,
    ToolOutcome,
    ToolStarted,
)
from agentrt.identity import Dispatch, SessionKey
from agentrt.tools import ToolCall
from agentrt_langgraph.port import RuntimePort
from agentrt_langgraph.records import MAX_INVOCATIONS, Call, ToolRun, Turn
from agentrt_langgraph.usage import Usage


class Reports:
    """Turns what the tracker saw into events. Costs a few microseconds each and never blocks."""

    def __init__(self, runtime: RuntimePort) -> None:
        self._clock = runtime.clock
        self._emit = runtime.emit

    def structure(self, tenant: str, workload: str, edges: tuple[Dispatch, ...]) -> None:
        """A graph declares its edges."""
        self._emit(StructureDeclared(at_s=self._clock(), tenant=tenant, workload=workload, edges=edges))

    def run_started(self, turn: Turn, session: SessionKey) -> None:
        """A run began for this session."""
        self._emit(RunStarted(at_s=self._clock(), session=session, workload=turn.workload, resumable=turn.resumable))

    def run_ended(self, turn: Turn, *, failed: bool) -> None:
        """A run ended, for its own session and for those its calls named."""
        for session in (turn.session, *turn.guests):
            self._emit(
                RunEnded(
                    at_s=self._clock(),
                    session=session,
                    workload=turn.workload,
                    resumable=turn.resumable,
                    failed=failed,
                    interrupted=turn.interrupted and not failed,
                )
            )

    def dispatched(self, turn: Turn, dispatches: Iterable[Dispatch]) -> None:
        """One agent handed to another."""
        for dispatch in dispatches:
            self._emit(Dispatched(at_s=self._clock(), session=turn.session, workload=turn.workload, dispatch=dispatch))

    def abandon(self, turn: Turn) -> None:
        """Invocations that failed in a run that went on will not be continued."""
        invocations = tuple(turn.pending)
        turn.pending.clear()
        for first in range(0, len(invocations), MAX_INVOCATIONS):
            self._emit(
                BranchAbandoned(
                    at_s=self._clock(),
                    session=turn.session,
                    workload=turn.workload,
                    invocations=invocations[first : first + MAX_INVOCATIONS],
                )
            )

    def call_started(self, call: Call) -> None:
        """An LLM request is about to be sent."""
        self._emit(
            CallStarted(
                at_s=self._clock(),
                session=call.session,
                identity=call.identity,
                call_id=call.call_id,
            )
        )

    def call_ended(self, call: Call, usage: Usage, *, failed: bool) -> None:
        """An LLM request ended."""
        self._emit(
            CallEnded(
                at_s=self._clock(),
                session=call.session,
                identity=call.identity,
                call_id=call.call_id,
                failed=failed,
                prompt_tokens=usage.prompt_tokens,
                cached_tokens=usage.cached_tokens,
                output_tokens=usage.output_tokens,
            )
        )

    def tool_started(self, tool: ToolRun) -> None:
        """A tool began under an agent."""
        if tool.identity is None:
            return
        tool.started_s = self._clock()
        self._emit(
            ToolStarted(
                at_s=tool.started_s,
                session=tool.identity.session_key,
                identity=tool.identity,
                tool=tool.name,
                tool_run_id=tool.tool_run_id,
                arguments_digest=tool.arguments_digest,
            )
        )

    def tool_ended(self, tool: ToolRun, *, failed: bool) -> None:
        """A tool ended."""
        if tool.identity is None:
            return
        now = self._clock()
        self._emit(
            ToolEnded(
                at_s=now,
                session=tool.identity.session_key,
                identity=tool.identity,
                tool=tool.name,
                tool_run_id=tool.tool_run_id,
                duration_s=max(0.0, now - tool.started_s),
                failed=failed,
                arguments_digest=tool.arguments_digest,
            )
        )

    def tool_answered(self, call: ToolCall, started_s: float, outcome: ToolOutcome, policy: str, reason: str) -> None:
        """A gate answered in a tool's place: LangChain tells nothing of such a call."""
        now, session, run_id = self._clock(), call.identity.session_key, f"call:{call.tool_call_id}"
        self._emit(
            ToolStarted(
                at_s=started_s,
                session=session,
                identity=call.identity,
                tool=call.tool,
                tool_run_id=run_id,
                arguments_digest=call.arguments_digest,
            )
        )
        self._emit(
            ToolEnded(
                at_s=now,
                session=session,
                identity=call.identity,
                tool=call.tool,
                tool_run_id=run_id,
                duration_s=max(0.0, now - started_s),
                arguments_digest=call.arguments_digest,
                outcome=outcome,
                policy=policy,
                reason=reason,
            )
        )
