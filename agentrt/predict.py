"""Predict, the second primitive: probabilities over what agents do next, pooled over policies.

Forecasts are merged by a weighted mean; a policy's weight falls with its running Brier score, so that
one that has been wrong counts for less (logged opinions, no voting rights by seniority).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_BRIER_MEMORY = 0.95
"""Weight of the past in the running Brier score: about the last twenty outcomes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """How far ahead a forecast looks: the next `dispatches` hand-overs of the session."""

    dispatches: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """P(agent is called within the horizon), per agent, and P(the session ends first).

    `next_use_s` gives the expected seconds to an agent's next call, where known.
    """

    probabilities: Mapping[str, float]
    end: float = 0.0
    next_use_s: Mapping[str, float] = field(default_factory=dict)


class Pool:
    """Merges forecasts by policy name, and learns whom to trust from what came true."""

    def __init__(self) -> None:
        self._brier: dict[str, float] = {}

    def weight(self, name: str) -> float:
        """Trust in a policy's forecasts, in (0, 1]: 1 - its running Brier score, 0.75 before any outcome."""
        return max(1.0 - self._brier.get(name, 0.25), 1e-3)

    def merge(self, votes: Mapping[str, Forecast]) -> Forecast | None:
        """Weighted mean of the forecasts, keyed by policy name; None when nobody has an opinion."""
        if not votes:
            return None
        total = sum(self.weight(name) for name in votes)
        agents = sorted({agent for vote in votes.values() for agent in vote.probabilities})
        shares = {name: self.weight(name) / total for name in sorted(votes)}
        return Forecast(
            probabilities={
                agent: sum(shares[n] * votes[n].probabilities.get(agent, 0.0) for n in shares) for agent in agents
            },
            end=sum(shares[n] * votes[n].end for n in shares),
            next_use_s=_first_known([votes[n].next_use_s for n in sorted(shares, key=self.weight, reverse=True)]),
        )

    def learn(self, name: str, forecast: Forecast, happened: str) -> None:
        """Update a policy's Brier score with the agent that was in fact called next (or END)."""
        outcomes = {*forecast.probabilities, happened}
        error = sum((forecast.probabilities.get(a, 0.0) - (a == happened)) ** 2 for a in outcomes) / 2
        past = self._brier.get(name, 0.25)
        self._brier[name] = _BRIER_MEMORY * past + (1 - _BRIER_MEMORY) * min(error, 1.0)


def _first_known(estimates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Per agent, the estimate of the most trusted policy that gives one."""
    known: dict[str, float] = {}
    for estimate in estimates:
        for agent, seconds in estimate.items():
            known.setdefault(agent, seconds)
    return known
