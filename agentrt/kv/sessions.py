"""What the engine knows of sessions: who called last, what is running, what was signalled, and what that teaches.

Learners are per (tenant, workload), shared by its sessions. All state is bounded: sessions and workloads leave oldest
first, and silent sessions end by themselves.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from agentrt.identity import END, AgentKey, Dispatch, Identity, SessionKey
from agentrt.models.gaps import Gaps
from agentrt.models.reuse import Reuse, Visits
from agentrt.models.transitions import Transitions

MAX_SESSIONS = 10_000
MAX_WORKLOADS = 64
MAX_ABANDONED = 1000

_RETURN_PRIOR = (0.5, 4.0)
"""Ended runs that were continued later, of how many: a weak prior that conversations end."""

_TOOL_PATIENCE_S = 3600.0
_LONGEST_SILENCE_S = 3600.0
_EMA = 0.1


@dataclass(slots=True)
class Life:
    """One session as the engine sees it."""

    key: SessionKey
    workload: "Workload"
    agent: str
    visits: Visits
    in_flight: set[str] = field(default_factory=set)
    last_start_s: float = 0.0
    idle_since_s: float = 0.0
    tools: int = 0
    tools_until_s: float = 0.0
    """A tool whose end is never told stops counting then."""
    ended: bool = False
    resumable: bool = False
    unreachable: set[str] = field(default_factory=set)
    abandoned: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def busy(self, now: float) -> bool:
        """A call is running, or a tool is awaited: the session goes on for certain."""
        return bool(self.in_flight) or (self.tools > 0 and now < self.tools_until_s)


@dataclass(slots=True)
class Workload:
    """What is learned per (tenant, workload)."""

    transitions: Transitions = field(default_factory=Transitions)
    reuse: Reuse = field(default_factory=Reuse)
    gaps: Gaps = field(default_factory=Gaps)
    returns: Gaps = field(default_factory=Gaps)
    step_s: float = 1.0
    runs_ended: float = _RETURN_PRIOR[1]
    runs_continued: float = _RETURN_PRIOR[0]
    ends_told: int = 0
    ends_guessed: int = 0
    """Runs whose end was signalled, and sessions that fell silent."""
    grain: float = 1.0
    """Factor to whose powers values are rounded; set at every re-valuation of all groups."""
    reach: dict[str, dict[str, float]] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    """Memos of `Transitions.reach` and `.end_probability`, dropped at every re-valuation of all groups."""


class Sessions:
    """Live sessions and the learners of their workloads. Time comes from the caller."""

    def __init__(self, *, max_sessions: int = MAX_SESSIONS) -> None:
        self._max_sessions = max_sessions
        self._lives: OrderedDict[SessionKey, Life] = OrderedDict()
        self._workloads: dict[tuple[str, str], Workload] = {}

    def __len__(self) -> int:
        return len(self._lives)

    def get(self, session: SessionKey) -> Life | None:
        """A session that made a call and is still remembered."""
        return self._lives.get(session)

    def workload_of(self, agent: AgentKey | None) -> Workload | None:
        """Learners of an agent's workload; None for what several workloads share."""
        return self._workloads.get(agent[:2]) if agent is not None else None

    def workloads(self) -> Iterable[Workload]:
        """Learners of every workload."""
        return self._workloads.values()

    # ---- learning -----------------------------------------------------------------------------------------

    def call_started(self, call_id: str, identity: Identity, now: float) -> list[SessionKey]:
        """A session's agent calls. Returns sessions that left because too many are live."""
        key, agent = identity.session_key, identity.agent
        workload = self._workload(identity.tenant, identity.workload)
        life = self._lives.get(key)
        if life is None:
            life = self._lives[key] = Life(key, workload, agent, Visits(workload.reuse))
        else:
            self._lives.move_to_end(key)
            self._learn_step(life, identity, now)
        life.visits.called(agent, now)
        life.agent, life.last_start_s, life.ended = agent, now, False
        life.unreachable.discard(agent)
        life.abandoned.pop(identity.invocation, None)
        life.in_flight.add(call_id)
        gone = []
        while len(self._lives) > self._max_sessions:
            gone.append(self._lives.popitem(last=False)[0])
        return gone

    def call_ended(self, session: SessionKey, call_id: str, now: float) -> None:
        """That call is over; the session is idle until the next."""
        life = self._lives.get(session)
        if life is not None:
            life.in_flight.discard(call_id)
            life.idle_since_s = now

    def _learn_step(self, life: Life, identity: Identity, now: float) -> None:
        workload = life.workload
        if life.ended:
            workload.runs_continued += 1
            workload.returns.learn_one(now - life.idle_since_s)
            return
        source = life.agent
        if life.in_flight and identity.parent:
            source = identity.parent  # parallel branches: the last caller need not be the dispatcher
        workload.transitions.learn_one(source, identity.agent)
        workload.step_s += _EMA * (max(now - life.last_start_s, 1e-3) - workload.step_s)
        if not life.in_flight:
            workload.gaps.learn_one(now - life.idle_since_s)

    # ---- signals ------------------------------------------------------------------------------------------

    def run_ended(self, session: SessionKey, now: float, *, resumable: bool) -> bool:
        """The session's run ended. False when the session is unknown."""
        life = self._lives.get(session)
        if life is None:
            return False
        if not life.ended:
            life.workload.transitions.learn_one(life.agent, END)
            life.workload.runs_ended += 1
            life.workload.ends_told += 1
            life.visits.ended()
        life.ended, life.resumable, life.tools, life.idle_since_s = True, resumable, 0, now
        life.in_flight.clear()
        return True

    def unreachable(self, session: SessionKey, agent: str) -> bool:
        """The session cannot reach the agent any more, until it calls again."""
        life = self._lives.get(session)
        if life is None:
            return False
        life.unreachable.add(agent)
        return True

    def abandon(self, session: SessionKey, invocations: Iterable[str]) -> bool:
        """These invocations will not go on."""
        life = self._lives.get(session)
        if life is None:
            return False
        for invocation in invocations:
            life.abandoned[invocation] = None
        while len(life.abandoned) > MAX_ABANDONED:
            life.abandoned.popitem(last=False)
        return True

    def tool_started(self, session: SessionKey, now: float, expected_s: float | None = None) -> bool:
        """The session waits on one more tool."""
        life = self._lives.get(session)
        if life is None:
            return False
        life.tools += 1
        patience_s = _TOOL_PATIENCE_S if expected_s is None else min(3 * expected_s + 1, _TOOL_PATIENCE_S)
        life.tools_until_s = max(life.tools_until_s, now + patience_s)
        return True

    def tool_ended(self, session: SessionKey) -> bool:
        """One tool of the session returned."""
        life = self._lives.get(session)
        if life is None:
            return False
        life.tools = max(0, life.tools - 1)
        return True

    def declare(self, tenant: str, workload: str, edges: Iterable[Dispatch]) -> None:
        """Declared edges of a workload, as a prior."""
        self._workload(tenant, workload).transitions.declare(edges)

    def expire(self, now: float, *, least_silence_s: float) -> list[SessionKey]:
        """Sessions silent for so long that they count as over; they are forgotten, and their end is learned."""
        patience_s = {
            id(workload): max(least_silence_s, min(2.5 * workload.gaps.quantile(0.99), _LONGEST_SILENCE_S))
            for workload in self._workloads.values()
        }
        dead = [
            key
            for key, life in self._lives.items()
            if not life.busy(now) and now - life.idle_since_s > patience_s.get(id(life.workload), least_silence_s)
        ]
        for key in dead:
            life = self._lives.pop(key)
            if not life.ended:
                life.workload.transitions.learn_one(life.agent, END)
                life.workload.ends_guessed += 1
                life.visits.ended()
        return dead

    def _workload(self, tenant: str, workload: str) -> Workload:
        key = (tenant, workload)
        if key not in self._workloads:
            while len(self._workloads) >= MAX_WORKLOADS:
                self._workloads.pop(next(iter(self._workloads)))
            self._workloads[key] = Workload()
        return self._workloads[key]
