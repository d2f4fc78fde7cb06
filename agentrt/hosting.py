"""Calls the verbs of policies so that none of them can hurt: faults are counted, logged once, and benched.

Not thread-safe: the runtime calls it under its lock.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from agentrt.act import Proposal
from agentrt.errors import ConfigError
from agentrt.events import Event
from agentrt.identity import SessionKey
from agentrt.observe import View
from agentrt.policy import FAULTS_TO_BENCH, Policy
from agentrt.predict import Forecast, Horizon, Pool
from agentrt.score import Decision, Item, merge

logger = logging.getLogger("agentrt")

_T = TypeVar("_T")


@dataclass(slots=True)
class _Seat:
    policy: Policy
    faults: int = 0
    faults_in_a_row: dict[str, int] = field(default_factory=dict)
    """By verb: a verb that always raises is not excused by one that never does."""
    benched: bool = False
    proposals: int = 0
    granted: int = 0


class PolicyHost:
    """The policies of one runtime, asked in order of name."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._seats: dict[str, _Seat] = {}
        for policy in sorted(policies, key=lambda p: p.name):
            if policy.name in self._seats:
                raise ConfigError(f"two policies are called {policy.name!r}; give one of them another `name`")
            self._seats[policy.name] = _Seat(policy)
        self._pool = Pool()
        self._last: dict[SessionKey, dict[str, Forecast]] = {}

    def observe(self, event: Event, view: View) -> None:
        """Fan an event out to every policy."""
        for seat in self._active():
            self._ask(seat, "observe", partial(seat.policy.observe, event, view))

    def predict(self, session: SessionKey, horizon: Horizon, view: View) -> Forecast | None:
        """The pooled forecast; None when nobody has an opinion."""
        votes = self._votes("predict", lambda policy: policy.predict(session, horizon, view))
        return self._pool.merge(votes)

    def score(self, decision: Decision, items: Sequence[Item], view: View) -> list[float] | None:
        """Merged scores; None when nobody has an opinion, so that the asker's own order stands."""
        votes = self._votes("score", lambda policy: policy.score(decision, items, view))
        aligned = {name: scores for name, scores in votes.items() if len(scores) == len(items)}
        for name in votes.keys() - aligned.keys():
            self._fault(self._seats[name], "score", ValueError("scores are not aligned with the items"))
        return merge(aligned)

    def act(self, view: View) -> list[tuple[str, Proposal]]:
        """Every policy's proposals, by policy name."""
        asked: list[tuple[str, Proposal]] = []
        for seat in self._active():
            proposals = self._ask(seat, "act", partial(_proposals, seat.policy, view)) or []
            seat.proposals += len(proposals)
            asked += [(seat.policy.name, proposal) for proposal in proposals]
        return asked

    def granted(self, name: str) -> None:
        """One of the policy's proposals was granted."""
        self._seats[name].granted += 1

    def learn_forecasts(self, session: SessionKey, happened: str, view: View, *, over: bool = False) -> None:
        """The session called `happened` next: score the last forecasts, and note new ones unless it is `over`."""
        for name, forecast in self._last.pop(session, {}).items():
            self._pool.learn(name, forecast, happened)
        if not over:
            horizon = Horizon(dispatches=1)
            self._last[session] = self._votes("predict", lambda policy: policy.predict(session, horizon, view))
            while len(self._last) > len(view.sessions) + 1:
                self._last.pop(next(iter(self._last)))

    def stats(self) -> dict[str, dict[str, float | int | bool]]:
        """Per policy: proposals, grants, faults, whether it is benched, and the weight of its forecasts."""
        return {
            name: {
                "proposals": seat.proposals,
                "granted": seat.granted,
                "faults": seat.faults,
                "benched": seat.benched,
                "forecast_weight": round(self._pool.weight(name), 4),
            }
            for name, seat in self._seats.items()
        }

    def _active(self) -> list[_Seat]:
        return [seat for seat in self._seats.values() if not seat.benched]

    def _votes(self, verb: str, ask: Callable[[Policy], _T | None]) -> dict[str, _T]:
        votes: dict[str, _T] = {}
        for seat in self._active():
            vote = self._ask(seat, verb, partial(ask, seat.policy))
            if vote is not None:
                votes[seat.policy.name] = vote
        return votes

    def _ask(self, seat: _Seat, verb: str, call: Callable[[], _T]) -> _T | None:
        try:
            answer = call()
        except Exception as error:
            self._fault(seat, verb, error)
            return None
        seat.faults_in_a_row.pop(verb, None)
        return answer

    @staticmethod
    def _fault(seat: _Seat, verb: str, error: BaseException) -> None:
        seat.faults += 1
        in_a_row = seat.faults_in_a_row[verb] = seat.faults_in_a_row.get(verb, 0) + 1
        if seat.faults == 1:
            logger.error("agentrt: policy %r raised in %s; its vote is lost", seat.policy.name, verb, exc_info=error)
        if in_a_row >= FAULTS_TO_BENCH and not seat.benched:
            seat.benched = True
            logger.error("agentrt: policy %r is benched after %d faults in a row", seat.policy.name, FAULTS_TO_BENCH)


def _proposals(policy: Policy, view: View) -> list[Proposal]:
    return list(policy.act(view))  # a generator raises here, under guard
