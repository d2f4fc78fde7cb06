"""Observe, the first primitive: fold events into one state, and show it read-only.

Every policy sees the same `View`. New information enters here, as a field; the verbs never change.
State is bounded: sessions beyond `MAX_SESSIONS` leave oldest first.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from agentrt.events import (
    AnchorState,
    CallEnded,
    CallStarted,
    Dispatched,
    EngineObserved,
    Event,
    RunEnded,
    RunStarted,
    SessionEvent,
    ToolEnded,
    ToolStarted,
)
from agentrt.identity import AgentKey, Dispatch, SessionKey

MAX_SESSIONS = 10_000
MAX_DISPATCHES_PER_SESSION = 1_000


class Phase(StrEnum):
    """What a session is doing."""

    RUNNING = "running"
    WAITING_ON_TOOL = "waiting_on_tool"
    ENDED = "ended"


@dataclass(slots=True)
class SessionState:
    """One conversation as the application sees it. Policies read it and never write it."""

    key: SessionKey
    workload: str
    phase: Phase = Phase.RUNNING
    resumable: bool = False
    agent: str | None = None
    """The agent that called last."""
    calls: int = 0
    calls_in_flight: int = 0
    last_event_s: float = 0.0
    tools_in_flight: dict[str, str] = field(default_factory=dict)
    """Tool run id -> tool name."""
    dispatches: deque[Dispatch] = field(default_factory=lambda: deque(maxlen=MAX_DISPATCHES_PER_SESSION))


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A read-only snapshot of one step, handed to every verb.

    `now` is seconds on the runtime's clock, the only clock a policy may read.
    """

    now: float
    sessions: Mapping[SessionKey, SessionState] = field(default_factory=dict)
    engine: EngineObserved | None = None
    """The engine's last snapshot; None until one arrived."""

    def anchor(self, key: AgentKey) -> AnchorState | None:
        """Residency of an agent's anchor at the last snapshot; None when the engine never saw it."""
        anchors = self.engine.anchors if self.engine else ()
        return next((a for a in anchors if (a.tenant, a.workload, a.agent) == key), None)


class Observer:
    """Folds events into the state behind `View`. Not thread-safe: the runtime calls it under its lock."""

    def __init__(self, *, max_sessions: int = MAX_SESSIONS) -> None:
        self._max_sessions = max_sessions
        self._sessions: OrderedDict[SessionKey, SessionState] = OrderedDict()
        self._engine: EngineObserved | None = None

    def fold(self, event: Event) -> None:  # noqa: C901 - one flat match, a line or two per event
        """Take one event into the state. Unknown event types only refresh the session's time."""
        if isinstance(event, EngineObserved):
            self._engine = event
            return
        if not isinstance(event, SessionEvent):
            return
        state = self._session(event)
        state.last_event_s = event.at_s
        match event:
            case RunStarted():
                state.phase, state.resumable, state.workload = Phase.RUNNING, event.resumable, event.workload
            case RunEnded():
                state.phase = Phase.ENDED
                state.tools_in_flight.clear()
            case Dispatched():
                state.dispatches.append(event.dispatch)
            case CallStarted():
                state.phase, state.agent = Phase.RUNNING, event.identity.agent
                state.calls += 1
                state.calls_in_flight += 1
            case CallEnded():
                state.calls_in_flight = max(0, state.calls_in_flight - 1)
            case ToolStarted():
                state.tools_in_flight[event.tool_run_id] = event.tool
                state.phase = Phase.WAITING_ON_TOOL
            case ToolEnded():
                state.tools_in_flight.pop(event.tool_run_id, None)
                if not state.tools_in_flight and state.phase is Phase.WAITING_ON_TOOL:
                    state.phase = Phase.RUNNING

    def view(self, now: float) -> View:
        """The state as of now; the mapping is live and read-only."""
        return View(now=now, sessions=MappingProxyType(self._sessions), engine=self._engine)

    def dispatches(self, key: SessionKey) -> tuple[Dispatch, ...]:
        """Edges seen in a session, oldest first; empty for a session never seen."""
        state = self._sessions.get(key)
        return tuple(state.dispatches) if state else ()

    def _session(self, event: SessionEvent) -> SessionState:
        state = self._sessions.get(event.session)
        if state is None:
            workload = getattr(event, "workload", None) or _workload_of(event)
            state = self._sessions[event.session] = SessionState(event.session, workload)
            while len(self._sessions) > self._max_sessions:
                self._sessions.popitem(last=False)
        else:
            self._sessions.move_to_end(event.session)
        return state


def _workload_of(event: SessionEvent) -> str:
    identity = getattr(event, "identity", None)
    return identity.workload if identity else "default"
