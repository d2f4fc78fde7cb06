"""When an agent is called again: expected discounted return, learned from every visit.

For an agent `g` of a session in some state, the target is E[exp(-T / tau)], T being the seconds until `g`'s next call
in that session (infinite when the session ends first). It is learned directly: at every call of the session each agent
seen so far leaves a pending visit with the keys of the moment; the agent's next call, or the session's end, settles
them. No Markov assumption, no solve: a look-up per agent.

Keys back off from specific to general, each level shrunk to the one before it:

    prior -> role-free (how recently and how often g called) -> (current, g) -> (previous, current, g)

The role-free level is what protects against names that never recur.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence

TAUS_S = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Patience ladder; a caller reads the rung nearest to the time its cache can wait."""

_SHRINKAGE = 5.0
_MEMORY = 200.0
"""A key's estimate follows about this many of its last visits."""

_MAX_KEYS = 4096
_MAX_PENDING = 16
_MAX_AGENTS_PER_SESSION = 256


def rung(patience_s: float) -> int:
    """Index of the rung of `TAUS_S` nearest to `patience_s`, on a logarithmic scale."""
    return min(range(len(TAUS_S)), key=lambda k: abs(math.log(TAUS_S[k] / max(patience_s, 1e-6))))


class Reuse:
    """Shared table of one workload: key -> (visits, discounted returns). Least recently used keys leave."""

    def __init__(self, *, max_keys: int = _MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._table: OrderedDict[Hashable, tuple[float, list[float]]] = OrderedDict()

    def learn_one(self, keys: Sequence[Hashable], elapsed_s: float | None) -> None:
        """Settle a visit: the agent was called again after `elapsed_s`, or never (None)."""
        returns = [0.0] * len(TAUS_S) if elapsed_s is None else [math.exp(-elapsed_s / tau) for tau in TAUS_S]
        table = self._table
        for key in keys:
            seen = table.get(key)
            if seen is None:
                table[key] = (1.0, returns)
                while len(table) > self._max_keys:
                    table.popitem(last=False)
            else:
                visits, mean = seen
                visits = min(visits + 1.0, _MEMORY)
                table[key] = (visits, [m + (r - m) / visits for m, r in zip(mean, returns, strict=True)])
                table.move_to_end(key)

    def predict_one(self, keys: Sequence[Hashable], tau_index: int, prior: float, trust: float = 0.0) -> float:
        """Expected discounted return in [0, 1], from the general key (the first) to the most specific one.

        `prior` is an estimate from elsewhere, worth `trust` visits against the general key.
        """
        value = prior
        for level, key in enumerate(keys):
            seen = self._table.get(key)
            if seen is not None:
                visits, mean = seen
                weight = _SHRINKAGE + (trust if level == 0 else 0.0)
                value = (visits * mean[tau_index] + weight * value) / (visits + weight)
        return value


class Visits:
    """One session's agents, and their visits that are still to be settled."""

    __slots__ = ("_calls", "_pending", "_recent", "_reuse")

    def __init__(self, reuse: Reuse) -> None:
        self._reuse = reuse
        self._recent: list[str] = []
        """Agents by recency of their last call, most recent first; its head is the current agent."""
        self._calls: dict[str, int] = {}
        self._pending: dict[str, deque[tuple[float, tuple[Hashable, ...]]]] = {}

    @property
    def agents(self) -> Sequence[str]:
        """Agents seen so far, most recent first."""
        return self._recent

    def called(self, agent: str, now: float) -> None:
        """The session calls `agent`: settle its pending visits, and leave one for every agent seen so far."""
        previous = self._recent[0] if self._recent else ""
        for at_s, keys in self._pending.pop(agent, ()):
            self._reuse.learn_one(keys, now - at_s)
        if agent in self._calls:
            self._recent.remove(agent)
        elif len(self._recent) >= _MAX_AGENTS_PER_SESSION:
            self._forget(self._recent.pop())
        self._recent.insert(0, agent)
        self._calls[agent] = self._calls.get(agent, 0) + 1
        for rank, seen in enumerate(self._recent):
            pending = self._pending.setdefault(seen, deque())
            if len(pending) >= _MAX_PENDING:
                at_s, keys = pending.popleft()
                self._reuse.learn_one(keys, 2 * (now - at_s))  # it takes at least as long again, most likely
            pending.append((now, self._keys(seen, rank, previous)))

    def ended(self) -> None:
        """The session is over: nobody is called again."""
        for agent in self._recent:
            self._forget(agent, settle=True)
        self._pending.clear()

    def expected_return(self, agent: str, tau_index: int, prior: float, trust: float = 0.0) -> float:
        """E[exp(-T / tau)] from the session's last call; `prior` is the estimate before any experience.

        `trust` is what the prior is worth against role-free experience, in visits.
        """
        pending = self._pending.get(agent)
        if not pending:
            return prior
        return self._reuse.predict_one(pending[-1][1], tau_index, prior, trust)

    def _forget(self, agent: str, *, settle: bool = False) -> None:
        pending = self._pending.pop(agent, ())
        if settle:
            for _, keys in pending:
                self._reuse.learn_one(keys, None)
        else:
            self._calls.pop(agent, None)

    def _keys(self, agent: str, rank: int, previous: str) -> tuple[Hashable, ...]:
        current = self._recent[0]
        role_free = (min(rank, 7), min(self._calls[agent], 6), min(len(self._recent), 4))
        return (role_free, (current, agent), (previous, current, agent))
