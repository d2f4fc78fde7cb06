"""One turn of the loop: events observed, policies asked, proposals ruled on. Synchronous, without threads or I/O.

Not thread-safe: the runtime calls it under its lock.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from agentrt.act import Arbiter, Outcome, Ruling, Verdict
from agentrt.engines.reports import EngineStatus
from agentrt.engines.wire import Action
from agentrt.events import AnchorState, CallStarted, EngineObserved, Event, RunEnded
from agentrt.hosting import PolicyHost
from agentrt.identity import END, Dispatch, SessionKey
from agentrt.observe import Observer, Phase
from agentrt.policy import Policy
from agentrt.predict import Forecast, Horizon

MAX_RULINGS = 10_000
PLAN_HORIZON = Horizon(dispatches=8)


class Loop:
    """The state of one runtime. The same events at the same times give the same rulings.

    `warm_budget_tokens` may be spent per `period_s`, which is also the least time between two looks at the engine.
    """

    def __init__(
        self, policies: Iterable[Policy], *, clock: Callable[[], float], warm_budget_tokens: int, period_s: float
    ) -> None:
        self._clock = clock
        self._warm_budget_tokens = warm_budget_tokens
        self._period_s = period_s
        self._host = PolicyHost(policies)
        self._observer = Observer()
        self._arbiter = Arbiter()
        self._rulings: dict[int, Ruling] = {}
        self._budget_tokens = warm_budget_tokens
        self._next_look_s = 0.0
        self._observed = 0
        self.forecasts: dict[SessionKey, Forecast] = {}
        """Latest forecast per session; replaced, never changed, so that it may be read without the lock."""

    def observe(self, event: Event) -> None:
        """Fold an event into the state and fan it out to the policies."""
        self._observed += 1
        self._observer.fold(event)
        view = self._observer.view(self._clock())
        if isinstance(event, CallStarted | RunEnded):
            over = isinstance(event, RunEnded)
            happened = event.identity.agent if isinstance(event, CallStarted) else END
            self._host.learn_forecasts(event.session, happened, view, over=over)
        self._host.observe(event, view)
        if isinstance(event, CallStarted):
            forecast = self._host.predict(event.session, PLAN_HORIZON, view)
            if forecast is not None:
                self.forecasts[event.session] = forecast
                if len(self.forecasts) > len(view.sessions) + 1:
                    self.forecasts.pop(next(iter(self.forecasts)))
        elif isinstance(event, RunEnded):
            self.forecasts.pop(event.session, None)

    def rule(self) -> list[Action]:
        """Ask the policies and rule; the granted actions, for the engine."""
        now = self._clock()
        asked = self._host.act(self._observer.view(now))
        granted = []
        for ruling in self._arbiter.rule(asked, now=now, budget_tokens=self._budget_tokens):
            self._rulings[ruling.ruling_id] = ruling
            if ruling.verdict is Verdict.GRANTED:
                self._budget_tokens -= ruling.proposal.cost_tokens
                self._host.granted(ruling.policy)
                granted.append(_action(ruling))
        while len(self._rulings) > MAX_RULINGS:
            self._rulings.pop(next(iter(self._rulings)))
        return granted

    def wants_look(self) -> bool:
        """Whether to ask for the engine's status: once a period, while a session runs."""
        now = self._clock()
        if now < self._next_look_s:
            return False
        if all(session.phase is Phase.ENDED for session in self._observer.view(now).sessions.values()):
            return False
        self._next_look_s = now + self._period_s
        self._budget_tokens = self._warm_budget_tokens
        return True

    def note_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """The engine answered."""
        for outcome in outcomes:
            ruling = self._rulings.get(int(outcome.action_id))
            if ruling is not None:
                self._rulings[ruling.ruling_id] = ruling.with_outcome(outcome)

    @property
    def rulings(self) -> tuple[Ruling, ...]:
        """The last rulings, oldest first."""
        return tuple(self._rulings.values())

    def dispatches(self, session: SessionKey) -> tuple[Dispatch, ...]:
        """Edges seen in a session, oldest first."""
        return self._observer.dispatches(session)

    def stats(self) -> dict[str, Any]:
        """Events observed, sessions, the policies' accounts, and outcomes by status."""
        actions: dict[str, int] = {}
        for ruling in self._rulings.values():
            if ruling.outcome is not None:
                actions[ruling.outcome.status] = actions.get(ruling.outcome.status, 0) + 1
        return {
            "events": self._observed,
            "sessions": len(self._observer.view(self._clock()).sessions),
            "policies": self._host.stats(),
            "actions": actions,
        }


def engine_observed(status: EngineStatus, *, at_s: float) -> EngineObserved:
    """An engine's status as a fact."""
    return EngineObserved(
        at_s=at_s,
        running=status.running,
        waiting=status.waiting,
        free_blocks=status.free_blocks,
        total_blocks=status.total_blocks,
        block_size_tokens=status.block_size_tokens,
        anchors=tuple(AnchorState(**anchor.model_dump()) for anchor in status.anchors),
    )


def _action(ruling: Ruling) -> Action:
    target = ruling.proposal.target
    named = {
        "tenant": target.tenant,
        "workload": target.workload,
        "session": target.session,
        "agent": target.agent,
        "invocation": target.invocation,
    }
    payload = {name: value for name, value in named.items() if value is not None}
    return Action(
        action_id=str(ruling.ruling_id),
        action_type=ruling.proposal.action_type,
        payload={**payload, **ruling.proposal.payload},
    )
