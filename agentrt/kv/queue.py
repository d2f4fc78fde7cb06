"""The ordered free queue: which cached block is given up next.

A drop-in for vLLM's `FreeKVCacheBlockQueue`. The truth is two ordered dicts that hold the free blocks exactly as
the stock list would: uncached first, then cached, least recently freed first. Over the cached part lies an index
by owner group: each group keeps its free blocks in that same order, and a heap holds one candidate per group,
its oldest block, under the key (value of the group, time of freeing). So

* equal values give exactly stock LRU, since the time of freeing decides;
* a group's value changes in O(1) whatever its size, and an eviction costs O(log groups);
* a fault in the index (a bad value, a bug) drops the index and nothing else: the truth goes on as LRU.

Invariant of the heap: every non-empty group has at least one entry that is not above its true key. Entries that
are too low are corrected when they surface.
"""

import heapq
import logging
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

from agentrt.kv.blocks import Block, FreeGroup

logger = logging.getLogger("agentrt")

_COMPACT_FROM = 1024
"""Heap entries below which stale ones are not worth collecting."""


class OrderedFreeQueue:
    """Free blocks of a pool in eviction order. Not thread-safe: it belongs to the engine's loop."""

    def __init__(self, free_blocks: Iterable[Block], group_of: list[FreeGroup]) -> None:
        """Take over `free_blocks`, given in stock order. `group_of[block_id]` is the block's owner group."""
        self._uncached: OrderedDict[int, Block] = OrderedDict()
        self._cached: OrderedDict[int, Block] = OrderedDict()
        self._group_of = group_of
        self._heap: list[tuple[float, int, FreeGroup]] = []
        self.time = 0
        """Counts frees; orders blocks of equal value."""
        self._compact_at = _COMPACT_FROM
        self.ordered = True
        """False for good after a fault."""
        self.by_value = True
        """False while the order stands back: stock LRU, with the index kept."""
        self.faults = 0
        for block in free_blocks:
            if block.block_hash is None:
                self._uncached[block.block_id] = block
            else:
                self.append(block)

    # ---- what BlockPool calls -----------------------------------------------------------------------------

    @property
    def num_free_blocks(self) -> int:
        """Blocks that may be handed out now."""
        return len(self._uncached) + len(self._cached)

    @property
    def num_cached_blocks(self) -> int:
        """Free blocks that still hold a cached prefix."""
        return len(self._cached)

    def popleft(self) -> Block:
        """Take the next victim. Raises ValueError when nothing is free."""
        if not self.num_free_blocks:
            raise ValueError("No free blocks available")
        return self.popleft_n(1)[0]

    def popleft_n(self, n: int) -> list[Block]:
        """Take the next n victims: uncached blocks first, then cached ones by group value and age."""
        if n > self.num_free_blocks:
            raise ValueError(f"{n} blocks wanted, {self.num_free_blocks} free")
        uncached = self._uncached
        victims = [uncached.popitem(last=False)[1] for _ in range(min(n, len(uncached)))]
        n -= len(victims)
        cached = self._cached
        if n and self.ordered:
            before = len(cached)
            try:
                (self._take_lowest if self.by_value else self._take_oldest)(n, victims)
                return victims
            except Exception as error:
                self.fail(f"popleft_n: {error!r}")
                n -= before - len(cached)
        victims.extend(cached.popitem(last=False)[1] for _ in range(n))
        return victims

    def remove(self, block: Block) -> None:
        """Take a block out because a request hit it. Raises RuntimeError when it is not free."""
        block_id = block.block_id
        if self._cached.pop(block_id, None) is not None:
            if self.ordered:
                self._group_of[block_id].free.pop(block_id, None)
        elif self._uncached.pop(block_id, None) is None:
            raise RuntimeError(f"remove() called on a block that is not free: {block}")

    def append(self, block: Block) -> None:
        """Free one cached block."""
        self.append_n((block,))

    def append_n(self, blocks: Iterable[Block]) -> None:
        """Free cached blocks, the tail of a chain before its head."""
        cached, group_of = self._cached, self._group_of
        ordered = self.ordered
        time = self.time
        for block in blocks:
            block_id = block.block_id
            cached[block_id] = block
            if ordered:
                time += 1
                group = group_of[block_id]
                if not group.free:
                    heapq.heappush(self._heap, (group.value, time, group))
                group.free[block_id] = time
        self.time = time
        if len(self._heap) > self._compact_at:
            self._compact()

    def prepend_n(self, blocks: Sequence[Block]) -> None:
        """Free blocks that cache nothing: reused before all others, first of the list first."""
        uncached = self._uncached
        for block in reversed(blocks):
            uncached[block.block_id] = block
            uncached.move_to_end(block.block_id, last=False)

    def get_all_free_blocks(self) -> list[Block]:
        """Every free block in eviction order."""
        return list(self.iter_blocks_after(None))

    def iter_blocks_after(self, cursor: Block | None) -> Iterator[Block]:
        """Free blocks in eviction order, after `cursor` (None: from the start)."""
        blocks = [*self._uncached.values(), *self._in_order()]
        if cursor is not None:
            found = next((i for i, b in enumerate(blocks) if b.block_id == cursor.block_id), -1)
            blocks = blocks[found + 1 :]
        return iter(blocks)

    # ---- what the order calls -----------------------------------------------------------------------------

    def set_value(self, group: FreeGroup, value: float) -> None:
        """Give a group another value; its blocks keep their age. O(1) up, O(log groups) down."""
        if not math.isfinite(value):
            self.fail(f"value {value}")
            return
        lower = value < group.value
        group.value = value
        # A higher value leaves an entry that is too low, which popping corrects; a lower one needs a new entry.
        if lower and group.free and self.ordered:
            heapq.heappush(self._heap, (value, next(iter(group.free.values())), group))
            if len(self._heap) > self._compact_at:
                self._compact()

    def regroup(self, block_ids: Iterable[int], source: FreeGroup, target: FreeGroup) -> None:
        """Free blocks change from one group to another, keeping their age."""
        moved = {block_id: source.free.pop(block_id) for block_id in block_ids}
        target.free = OrderedDict(sorted((target.free | moved).items(), key=lambda entry: entry[1]))
        if target.free and self.ordered:
            heapq.heappush(self._heap, (target.value, next(iter(target.free.values())), target))

    def stand_back(self, back: bool) -> None:  # noqa: FBT001 - a switch
        """Let stock LRU choose victims, or take over again. Groups keep their values and blocks either way."""
        self.by_value = not back
        if self.by_value:
            self._compact()

    def uncache(self, block_id: int) -> None:
        """A free block no longer caches anything: it is reused before all that do. Others are left alone."""
        block = self._cached.pop(block_id, None)
        if block is not None:
            self._group_of[block_id].free.pop(block_id, None)
            self._uncached[block_id] = block

    def fail(self, where: str) -> None:
        """Give up the index for good; stock LRU goes on with nothing to repair."""
        self.faults += 1
        if self.ordered:
            self.ordered = False
            self._heap = []
            logger.error("agentrt: eviction order failed (%s); stock LRU from here on", where)

    def by_age(self) -> list[Block]:
        """Every free block as stock LRU would give them up."""
        return [*self._uncached.values(), *self._cached.values()]

    def entries(self) -> tuple[tuple[float, int, FreeGroup], ...]:
        """The heap's entries (value, time, group), for the audit."""
        return tuple(self._heap)

    # ---- the index ----------------------------------------------------------------------------------------

    def _take_lowest(self, n: int, victims: list[Block]) -> None:
        heap, cached = self._heap, self._cached
        while n:
            value, time, group = heap[0]
            free = group.free
            if not free:
                heapq.heappop(heap)
                continue
            oldest = next(iter(free.values()))
            if group.value != value or oldest != time:
                heapq.heapreplace(heap, (group.value, oldest, group))
                continue
            # Take from this group until another's candidate comes first.
            bound = self._runner_up()
            while n and free:
                block_id, oldest = next(iter(free.items()))
                if bound is not None and bound < (value, oldest):
                    break
                del free[block_id]
                victims.append(cached.pop(block_id))
                n -= 1

    def _take_oldest(self, n: int, victims: list[Block]) -> None:
        cached, group_of = self._cached, self._group_of
        while n:
            block_id, block = cached.popitem(last=False)
            victims.append(block)
            n -= 1
            del group_of[block_id].free[block_id]

    def _runner_up(self) -> tuple[float, int] | None:
        """Key of the second smallest entry: one of the heap root's two children."""
        children = self._heap[1:3]
        return min(children)[:2] if children else None

    def _in_order(self) -> list[Block]:
        if not (self.ordered and self.by_value):
            return list(self._cached.values())
        key_of = {i: (self._group_of[i].value, self._group_of[i].free[i]) for i in self._cached}
        return sorted(self._cached.values(), key=lambda block: key_of[block.block_id])

    def _compact(self) -> None:
        """Drop stale heap entries; amortised O(1), since the next time is after the heap has doubled."""
        groups = {entry[2]: None for entry in self._heap if entry[2].free}
        self._heap = [(g.value, next(iter(g.free.values())), g) for g in groups]
        heapq.heapify(self._heap)
        self._compact_at = max(_COMPACT_FROM, 2 * len(self._heap))
