"""Which agent is called next: first-order transitions with END, learned online, per workload.

Counts are shared by all sessions of a workload; the current agent is each session's own (one global current agent
learns almost nothing once sessions interleave). Rows are shrunk to a prior made of declared edges and of how often
each agent is called at all, so that a new agent is neither certain nor impossible.

Source: the learning rule of CacheSage (arXiv:2605.27744 §4), with END and shrinkage added.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from agentrt.identity import END, Dispatch

_SHRINKAGE = 2.0
"""Weight of the prior, in observations."""

_SELF_PRIOR = 0.3
"""Prior share of an agent calling again: agents that use tools loop."""

_ROW_LIMIT = 4096
"""A row is halved when it has seen this many, so that a workload may change."""


@dataclass(slots=True)
class _Counts:
    """Fractional counts with their total, halved at `_ROW_LIMIT`."""

    of: dict[str, float] = field(default_factory=dict)
    total: float = 0.0

    def add(self, target: str, weight: float) -> None:
        self.of[target] = self.of.get(target, 0.0) + weight
        self.total += weight
        if self.total > _ROW_LIMIT:
            self.of = {key: n / 2 for key, n in self.of.items()}
            self.total /= 2

    def keep(self, most: int) -> None:
        kept = sorted(self.of, key=self.of.__getitem__, reverse=True)[:most]
        self.of = {key: self.of[key] for key in kept}
        self.total = sum(self.of.values())


class Transitions:
    """P(next agent | current agent), bounded to `max_agents` rows (least recently used leave)."""

    def __init__(self, *, max_agents: int = 256) -> None:
        self._max_agents = max_agents
        self._rows: OrderedDict[str, _Counts] = OrderedDict()
        self._declared: dict[str, dict[str, float]] = {}
        self._called = _Counts()

    def learn_one(self, source: str, target: str, weight: float = 1.0) -> None:
        """Count one step from `source` to `target` (an agent, or END)."""
        row = self._rows.get(source)
        if row is None:
            row = self._rows[source] = _Counts()
            while len(self._rows) > self._max_agents:
                self._rows.popitem(last=False)
        else:
            self._rows.move_to_end(source)
        row.add(target, weight)
        self._called.add(target, weight)
        if len(self._called.of) > 4 * self._max_agents:
            self._called.keep(self._max_agents)

    def declare(self, edges: Iterable[Dispatch]) -> None:
        """Take a graph's declared edges as the prior of their sources."""
        rows: dict[str, dict[str, float]] = {}
        for edge in edges:
            rows.setdefault(edge.source, {})[edge.target] = edge.weight
        for source, targets in rows.items():
            total = sum(targets.values())
            self._declared[source] = {target: weight / total for target, weight in targets.items()}
        while len(self._declared) > self._max_agents:
            self._declared.pop(next(iter(self._declared)))

    def predict_one(self, source: str) -> dict[str, float]:
        """Probabilities of the next agent (or END) after `source`; they sum to 1."""
        row = self._rows.get(source, _NOTHING)
        prior = self._declared.get(source) or self._back_off(source)
        total = row.total + _SHRINKAGE
        return {
            target: (row.of.get(target, 0.0) + _SHRINKAGE * prior.get(target, 0.0)) / total
            for target in {**prior, **row.of}
        }

    def reach(self, source: str, *, discount: float, steps: int = 8) -> dict[str, float]:
        """P(agent is called again), discounted by `discount` per step, for a session at `source` that goes on.

        Sums the discounted visits of the next `steps` calls (END absorbs), capped at 1: an upper bound of the
        discounted first-passage probability that costs one pass instead of one per agent.
        """
        now = {agent: p for agent, p in self.predict_one(source).items() if agent != END}
        alive = sum(now.values())
        if alive <= 0:
            return {}
        now = {agent: p / alive for agent, p in now.items()}
        reached = dict(now)
        weight = 1.0
        for _ in range(steps - 1):
            weight *= discount
            if weight < 0.01:  # noqa: PLR2004 - beyond this nothing changes an order
                break
            following: dict[str, float] = {}
            for agent, p in now.items():
                for target, q in self.predict_one(agent).items():
                    if target != END:
                        following[target] = following.get(target, 0.0) + p * q
            for agent, p in following.items():
                reached[agent] = reached.get(agent, 0.0) + weight * p
            now = {agent: p for agent, p in following.items() if p > 1e-3}  # noqa: PLR2004 - noise
        return {agent: min(p, 1.0) for agent, p in reached.items()}

    def end_probability(self, source: str) -> float:
        """P(the session ends after `source`)."""
        return self.predict_one(source).get(END, 0.0)

    def _back_off(self, source: str) -> dict[str, float]:
        called = self._called
        share = (1 - _SELF_PRIOR) / called.total if called.total else 0.0
        prior = {target: share * n for target, n in called.of.items()} or {END: 1 - _SELF_PRIOR}
        prior[source] = prior.get(source, 0.0) + _SELF_PRIOR
        return prior


_NOTHING = _Counts()
