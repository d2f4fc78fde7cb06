"""`prefix_cache` (CacheSage), the application's half: tell the engine what only the framework knows.

The other half values blocks beside the blocks (`agentrt.kv`). This one

* signals: a run ended, a branch was abandoned, a tool started or ended, the edges a graph declares;
* releases what cannot come back: the contexts of a run that is not resumable, and of abandoned invocations;
* forecasts the next agents of a session from transitions learned per workload;
* warms the anchor of the predicted next agent, only when it is cold, likely, and the engine idle.

Source of the idea: arXiv:2605.27744 (CacheSage), with run ends and branches added: its replications found that
protecting the blocks of sessions that will not go on is what costs most.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from agentrt.act import Proposal, ProposalKind, Target
from agentrt.events import (
    BranchAbandoned,
    Dispatched,
    Event,
    RunEnded,
    SessionEvent,
    StructureDeclared,
    ToolEnded,
    ToolStarted,
)
from agentrt.identity import END, START, AgentKey, SessionKey
from agentrt.models.transitions import Transitions
from agentrt.observe import Phase, View
from agentrt.policy import Policy
from agentrt.predict import Forecast, Horizon

_EMA = 0.2
_MAX_TOOLS = 1000
_MAX_WORKLOADS = 256
_MAX_PENDING = 10_000
_SIGNAL_LIFE_S = 30.0
"""A signal that could not be delivered for this long is no news any more."""


class PrefixCache(Policy):
    """Signals, releases and warm-ups for prefix caching across sessions.

    `warm_probability`: least probability of the next agent for a warm-up; `warm_period_s`: least time between two
    warm-ups of one agent.
    """

    name: ClassVar[str] = "prefix_cache"

    def __init__(self, *, warm_probability: float = 0.5, warm_period_s: float = 2.0) -> None:
        self._warm_probability = warm_probability
        self._warm_period_s = warm_period_s
        self._transitions: dict[tuple[str, str], Transitions] = {}
        self._tool_s: dict[str, float] = {}
        self._pending: deque[Proposal] = deque(maxlen=_MAX_PENDING)
        self._warmed_s: dict[AgentKey, float] = {}

    # ---- observe ------------------------------------------------------------------------------------------

    def observe(self, event: Event, view: View) -> None:
        """Learn transitions and tool durations; note what the engine should be told."""
        match event:
            case Dispatched():
                edge = event.dispatch
                if edge.source != START:
                    self._learner(event.session.tenant, event.workload).learn_one(edge.source, edge.target, edge.weight)
            case RunEnded():
                self._run_ended(event, view)
            case BranchAbandoned():
                self._branch_abandoned(event)
            case ToolStarted():
                expected_s = self._tool_s.get(event.tool)
                known = {} if expected_s is None else {"expected_s": round(expected_s, 3)}
                self._signal(event, "tool_started", f"waits on tool {event.tool}", tool=event.tool, **known)
            case ToolEnded():
                past_s = self._tool_s.get(event.tool, event.duration_s)
                if event.outcome == "ran" and (len(self._tool_s) < _MAX_TOOLS or event.tool in self._tool_s):
                    self._tool_s[event.tool] = past_s + _EMA * (event.duration_s - past_s)
                self._signal(event, "tool_ended", f"tool {event.tool} returned", tool=event.tool)
            case StructureDeclared():
                self._structure_declared(event)
            case _:
                pass

    def _run_ended(self, event: RunEnded, view: View) -> None:
        state = view.sessions.get(event.session)
        if state is not None and state.agent is not None:
            self._learner(event.session.tenant, event.workload).learn_one(state.agent, END)
        resumable = event.resumable or event.interrupted
        self._signal(event, "run_ended", "the run ended", resumable=resumable)
        if not resumable:
            self._release(event, None, "its run ended and cannot be resumed")

    def _branch_abandoned(self, event: BranchAbandoned) -> None:
        self._signal(event, "branch_abandoned", "a branch was abandoned", invocations=list(event.invocations))
        for invocation in event.invocations:
            self._release(event, invocation, "its branch was abandoned")

    def _structure_declared(self, event: StructureDeclared) -> None:
        if not event.edges:
            return
        self._learner(event.tenant, event.workload).declare(event.edges)
        edges = [{"source": e.source, "target": e.target, "weight": e.weight} for e in event.edges]
        self._pending.append(
            Proposal(
                kind=ProposalKind.SIGNAL,
                action_type="agentrt.signal.prior",
                target=Target(tenant=event.tenant, workload=event.workload),
                reason=f"{len(edges)} declared edges",
                expires_s=event.at_s + _SIGNAL_LIFE_S,
                payload={"edges": edges},
            )
        )

    # ---- predict ------------------------------------------------------------------------------------------

    def predict(self, session: SessionKey, horizon: Horizon, view: View) -> Forecast | None:
        """Agents reached within the horizon from the session's current agent; None before its first call."""
        state = view.sessions.get(session)
        if state is None or state.agent is None or state.phase is Phase.ENDED:
            return None
        learner = self._transitions.get((session.tenant, state.workload))
        if learner is None:
            return None
        if horizon.dispatches == 1:
            steps = learner.predict_one(state.agent)
            return Forecast(
                probabilities={a: p for a, p in steps.items() if a != END},
                end=steps.get(END, 0.0),
            )
        reach = learner.reach(state.agent, discount=1.0, steps=horizon.dispatches)
        return Forecast(probabilities=reach, end=learner.end_probability(state.agent))

    # ---- act ----------------------------------------------------------------------------------------------

    def act(self, view: View) -> Iterable[Proposal]:
        """Everything noted since the last step, and at most one warm-up."""
        proposals = list(self._pending)
        self._pending.clear()
        warm = self._warm(view)
        return [*proposals, warm] if warm else proposals

    def _warm(self, view: View) -> Proposal | None:
        engine = view.engine
        if engine is None or engine.running or engine.waiting or not any(a.known_blocks for a in engine.anchors):
            return None
        best: tuple[float, AgentKey] | None = None
        for session, state in view.sessions.items():
            forecast = self.predict(session, Horizon(dispatches=1), view) if state.phase is not Phase.ENDED else None
            for agent, p in forecast.probabilities.items() if forecast else ():
                key = AgentKey(session.tenant, state.workload, agent)
                if p >= self._warm_probability and (best is None or p > best[0]) and self._is_cold(key, view):
                    best = (p, key)
        if best is None:
            return None
        p, key = best
        self._warmed_s[key] = view.now
        anchor = view.anchor(key)
        tokens = (anchor.known_blocks - anchor.resident_blocks) * engine.block_size_tokens if anchor else 0
        return Proposal(
            kind=ProposalKind.WARM,
            action_type="agentrt.kv.prefetch",
            target=Target(tenant=key.tenant, workload=key.workload, agent=key.agent),
            reason=f"next with probability {p:.2f}, cold, and the engine is idle",
            expires_s=view.now + self._warm_period_s,
            value=p * tokens,
            cost_tokens=tokens,
        )

    def _is_cold(self, key: AgentKey, view: View) -> bool:
        anchor = view.anchor(key)
        if anchor is None or anchor.resident_blocks >= anchor.known_blocks:
            return False
        return view.now - self._warmed_s.get(key, float("-inf")) >= self._warm_period_s

    # ---- inside -------------------------------------------------------------------------------------------

    def _learner(self, tenant: str, workload: str) -> Transitions:
        key = (tenant, workload)
        if key not in self._transitions:
            while len(self._transitions) >= _MAX_WORKLOADS:
                self._transitions.pop(next(iter(self._transitions)))
            self._transitions[key] = Transitions()
        return self._transitions[key]

    def _signal(self, event: SessionEvent, name: str, reason: str, **payload: Any) -> None:
        target = Target(tenant=event.session.tenant, session=event.session.session)
        self._note(event, f"agentrt.signal.{name}", target, reason, payload)

    def _release(self, event: SessionEvent, invocation: str | None, reason: str) -> None:
        target = Target(tenant=event.session.tenant, session=event.session.session, invocation=invocation)
        self._note(event, "agentrt.kv.release", target, reason, {})

    def _note(
        self, event: SessionEvent, action_type: str, target: Target, reason: str, payload: Mapping[str, Any]
    ) -> None:
        release = action_type == "agentrt.kv.release"
        self._pending.append(
            Proposal(
                kind=ProposalKind.RELEASE if release else ProposalKind.SIGNAL,
                action_type=action_type,
                target=target,
                reason=reason,
                expires_s=event.at_s + _SIGNAL_LIFE_S,
                payload=payload,
            )
        )
