"""Shadow LRU: what stock eviction would still hold, followed on a sample of block hashes.

Spatial sampling (SHARDS: Waldspurger et al., FAST '15): a block is followed if its hash falls below a threshold, and
the shadow cache is as much smaller as the sample. Every request is seen, so hits of the shadow and of the real cache
are counted over the same blocks, and their difference has little noise.

Blocks of a running request cannot be evicted; when it ends they become free, the tail of the chain first, as in vLLM.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence

_STEPS = 256
"""The share is a multiple of 1/256, so that one byte of a hash decides."""

_MIX = 0x9E3779B1  # Knuth's multiplicative hash: consecutive integers fall anywhere


class ShadowLRU:
    """LRU of `capacity_blocks` blocks, of which about `sample_blocks` are followed. Memory is bounded by these."""

    def __init__(self, capacity_blocks: int, *, sample_blocks: int = 2048) -> None:
        self._below = min(_STEPS, max(1, _STEPS * sample_blocks // max(1, capacity_blocks)))
        self.share = self._below / _STEPS
        self.capacity = max(1, round(capacity_blocks * self.share))
        """Followed blocks that the shadow holds."""
        self._free: OrderedDict[Hashable, None] = OrderedDict()
        self._in_use: dict[Hashable, int] = {}
        self._calls: dict[str, list[Hashable]] = {}

    def __len__(self) -> int:
        return len(self._free) + len(self._in_use)

    def sample(self, hashes: Sequence[Hashable]) -> tuple[list[int], list[Hashable]]:
        """Those of these block hashes that are followed: their places and themselves."""
        below = self._below
        if hashes and isinstance(hashes[0], bytes):
            places = [i for i, h in enumerate(hashes) if h[0] < below]  # type: ignore[index]  # one kind of hash a pool
        else:
            places = [i for i, h in enumerate(hashes) if (hash(h) * _MIX >> 24) % _STEPS < below]
        followed = [hashes[i] for i in places]
        return places, followed

    def hits(self, sampled: Sequence[Hashable]) -> int:
        """How many of these followed blocks the shadow has. Behind the first missing one nothing is of use."""
        for index, block in enumerate(sampled):
            if block not in self._free and block not in self._in_use:
                return index
        return len(sampled)

    def hold(self, call_id: str, sampled: Sequence[Hashable]) -> None:
        """A running request uses these followed blocks, in addition to those it has."""
        held = self._calls.setdefault(call_id, [])
        for block in sampled:
            self._free.pop(block, None)
            self._in_use[block] = self._in_use.get(block, 0) + 1
            held.append(block)
        self._evict()

    def release(self, call_id: str) -> None:
        """The request gives its blocks back: it ended, or was preempted."""
        for block in reversed(self._calls.pop(call_id, ())):
            users = self._in_use[block] - 1
            if users:
                self._in_use[block] = users
            else:
                del self._in_use[block]
                self._free[block] = None
        self._evict()

    def clear(self) -> None:
        """The cache was reset: nothing free is cached any more."""
        self._free.clear()

    def _evict(self) -> None:
        # Every running request also has a block that is not full yet.
        room = self.capacity - self.share * len(self._calls)
        while self._free and len(self) > room:
            self._free.popitem(last=False)
