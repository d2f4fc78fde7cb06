"""Shadow LRU: what stock eviction would still hold, followed on a sample of block hashes.

Spatial sampling (SHARDS: Waldspurger et al., FAST '15): a block is followed if its hash falls below a threshold, and
the shadow cache is as much smaller as the sample. Every request is seen, so hits of the shadow and of the real cache
are counted over the same blocks, and their difference has little noise.

Blocks of a running request cannot be evicted; when it ends they become free, the tail of the chain first, as in vLLM.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence

_RANGE = 1 << 32
_MIX = 0x9E3779B1  # Knuth's multiplicative hash: consecutive integers fall anywhere


class ShadowLRU:
    """LRU of `capacity_blocks` blocks, of which about `sample_blocks` are followed. Memory is bounded by these."""

    def __init__(self, capacity_blocks: int, *, sample_blocks: int = 2048) -> None:
        self.share = min(1.0, sample_blocks / max(1, capacity_blocks))
        self.capacity = max(1, round(capacity_blocks * self.share))
        """Followed blocks that the shadow holds."""
        self._below = int(_RANGE * self.share)
        self._free: OrderedDict[Hashable, None] = OrderedDict()
        self._in_use: dict[Hashable, int] = {}
        self._calls: dict[str, list[Hashable]] = {}

    def __len__(self) -> int:
        return len(self._free) + len(self._in_use)

    def sample(self, hashes: Sequence[Hashable]) -> list[Hashable]:
        """Those of these block hashes that are followed, in order."""
        if self.share >= 1.0:
            return list(hashes)
        below = self._below
        return [h for h in hashes if _position(h) < below]

    def start(self, call_id: str, sampled: Sequence[Hashable], lookups: int) -> int:
        """A request with these followed blocks began; returns how many of the first `lookups` the shadow has.

        Only a prefix counts: behind the first missing block nothing is of use.
        """
        hits = 0
        for block in sampled[:lookups]:
            if block not in self._free and block not in self._in_use:
                break
            hits += 1
        self._calls[call_id] = []
        self._hold(call_id, sampled)
        return hits

    def end(self, call_id: str, sampled: Sequence[Hashable] = ()) -> None:
        """The request ended, with these further blocks that it filled; all of its blocks are free now."""
        self._hold(call_id, sampled)
        for block in reversed(self._calls.pop(call_id)):
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

    def _hold(self, call_id: str, blocks: Sequence[Hashable]) -> None:
        held = self._calls[call_id]
        for block in blocks:
            self._free.pop(block, None)
            self._in_use[block] = self._in_use.get(block, 0) + 1
            held.append(block)
        self._evict()

    def _evict(self) -> None:
        while self._free and len(self) > self.capacity:
            self._free.popitem(last=False)


def _position(block_hash: Hashable) -> int:
    """Where a hash falls in [0, 2^32); the same in every process."""
    if isinstance(block_hash, bytes):
        return int.from_bytes(block_hash[:4], "little")
    return (hash(block_hash) * _MIX) % _RANGE
