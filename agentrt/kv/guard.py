"""The guard: never worse than LRU by more than noise.

It compares the hits of the real cache with those of a shadow LRU over the same requests, with a memory of some tens
of caches' worth of lookups. Where the order loses, it steps down, and stock LRU orders eviction; after a rest it
is tried again, after a longer rest each time it loses again.
"""

import math
from bisect import bisect_left
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from agentrt.kv.shadow import ShadowLRU

MEMORY_CACHES = 30
"""Lookups remembered, in units of the cache's size (shorter ones flip on noise)."""
LOSS_LIMIT = 0.01
"""Share of lookups lost against LRU at which the order steps down."""
EVIDENCE_CACHES = 5
"""Lookups before the first judgement after a change."""
LEAST_EVIDENCE = 10_000
"""The same in lookups: in a small cache a few sessions would decide."""
_LONGEST_REST = 16


class Mode(StrEnum):
    """Who orders eviction."""

    ORDER = "order"
    TRIAL = "trial"
    """The order, again, after it had stepped down."""
    LRU = "lru"


@dataclass(slots=True)
class Tally:
    """Lookups and hits, older ones fading."""

    lookups: float = 0.0
    hits: float = 0.0
    shadow_hits: float = 0.0

    def add(self, lookups: int, hits: int, shadow_hits: int, memory: float) -> None:
        """Count one request."""
        fade = math.exp(-lookups / memory)
        self.lookups = self.lookups * fade + lookups
        self.hits = self.hits * fade + hits
        self.shadow_hits = self.shadow_hits * fade + shadow_hits

    @property
    def loss(self) -> float:
        """Hit rate of LRU less that of the cache, in [-1, 1]."""
        return (self.shadow_hits - self.hits) / self.lookups if self.lookups else 0.0


class Guard:
    """Watches one pool. Not thread-safe: it belongs to the engine's loop."""

    def __init__(self, num_blocks: int, *, sample_blocks: int = 2048) -> None:
        self._shadow = ShadowLRU(num_blocks, sample_blocks=sample_blocks)
        cache = self._shadow.capacity
        self._evidence = max(EVIDENCE_CACHES * cache, LEAST_EVIDENCE)
        self._memory = float(max(MEMORY_CACHES * cache, LEAST_EVIDENCE))
        self._tally = Tally()
        self._since_change = 0
        self._rest_factor = 1
        self._filled: dict[str, int] = {}
        """Full blocks of each running request."""
        self.mode = Mode.ORDER
        self.step_downs = 0
        self.last_loss = 0.0
        """The loss that the last step-down was for."""

    def admitted(self, call_id: str, hashes: Sequence[Hashable], hits: int, lookups: int) -> None:
        """A request with these full prompt blocks was admitted: `hits` of them were cached, at most `lookups` could be.

        `lookups` is 0 where it says nothing: a request admitted again, or one that may not read the cache.
        """
        shadow = self._shadow
        places, sampled = shadow.sample(hashes)
        looked_up = bisect_left(places, lookups)
        found = bisect_left(places, min(hits, lookups))
        shadow_hits = shadow.hits(sampled[:looked_up])
        shadow.hold(call_id, sampled[: bisect_left(places, hits)])
        self._filled[call_id] = hits
        if looked_up:
            self._tally.add(looked_up, found, shadow_hits, self._memory)
            self._since_change += looked_up
            self._judge()

    def filled(self, call_id: str, first: int, hashes: Sequence[Hashable]) -> None:
        """The request's blocks from the `first` on became full, with these hashes."""
        known = self._filled.get(call_id)
        if known is not None and first + len(hashes) > known:
            self._shadow.hold(call_id, self._shadow.sample(hashes[max(0, known - first) :])[1])
            self._filled[call_id] = first + len(hashes)

    def freed(self, call_id: str) -> None:
        """The request gives its blocks back. Harmless for one never seen."""
        if self._filled.pop(call_id, None) is not None:
            self._shadow.release(call_id)

    def reset(self) -> None:
        """The cache was emptied."""
        self._shadow.clear()

    @property
    def steps_down(self) -> bool:
        """Whether LRU should order eviction now."""
        return self.mode is Mode.LRU

    def verdict(self) -> str:
        """The last change, in words."""
        if self.mode is Mode.LRU:
            return f"the order lost {self.last_loss:.1%} of lookups against LRU, stock LRU for a while"
        return "the order is tried again"

    def status(self) -> dict[str, float | int | str]:
        """For people: who orders, and the two hit rates over the guard's memory."""
        lookups = self._tally.lookups
        return {
            "mode": str(self.mode),
            "sampled_share": round(self._shadow.share, 4),
            "lookups": round(lookups),
            "hit_rate": round(self._tally.hits / lookups, 4) if lookups else 0.0,
            "lru_hit_rate": round(self._tally.shadow_hits / lookups, 4) if lookups else 0.0,
            "step_downs": self.step_downs,
        }

    def _judge(self) -> None:
        if self.mode is Mode.LRU:
            if self._since_change >= self._rest_factor * self._memory:
                self._change(Mode.TRIAL)
            return
        if self._since_change < self._evidence:
            return
        if self._tally.loss > LOSS_LIMIT:
            self._rest_factor = min(_LONGEST_REST, 2 * self._rest_factor) if self.mode is Mode.TRIAL else 1
            self.step_downs += 1
            self.last_loss = self._tally.loss
            self._change(Mode.LRU)
        elif self.mode is Mode.TRIAL and self._since_change >= self._memory:
            self.mode = Mode.ORDER  # it held for as long as the guard remembers

    def _change(self, mode: Mode) -> None:
        # What was seen before a change says nothing about what follows it.
        self.mode, self._tally, self._since_change = mode, Tally(), 0
