"""The block pool, with the semantics of vLLM's `BlockPool` and `KVCacheManager` for one group of full attention.

A full block is cached under a hash chained over everything before it, so a hit is always a prefix. A block in use
is never evicted; a free one waits in the queue until a request hits it or the pool hands it out anew. The queue is
`agentrt.kv`'s ordered one, and the pool tells its `KVOrder` what happens to blocks; a fault there costs the order,
never a request.
"""

import hashlib
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from agentrt.kv.audit import BlockState
from agentrt.kv.order import KVOrder

_DIGEST_BYTES = 16


class Block:
    """One block of the pool. `block_hash` is None while it caches nothing."""

    __slots__ = ("block_hash", "block_id", "ref_cnt")

    def __init__(self, block_id: int) -> None:
        self.block_id = block_id
        self.ref_cnt = 0
        self.block_hash: bytes | None = None

    def __repr__(self) -> str:
        return f"<block {self.block_id} x{self.ref_cnt}{'' if self.block_hash is None else ' cached'}>"


class BlockPool:
    """`num_blocks` blocks of `block_size_tokens` tokens. Not thread-safe: it belongs to the engine's loop."""

    def __init__(self, order: KVOrder) -> None:
        self.num_blocks = order.num_blocks
        self.block_size_tokens = order.block_size_tokens
        self._order = order
        self._blocks = [Block(i) for i in range(self.num_blocks)]
        self._queue = order.take_over(self._blocks)
        # Requests that run at the same time may compute the same block twice; both stay, as in vLLM.
        self._cached: dict[bytes, dict[int, Block]] = {}

    @property
    def num_free_blocks(self) -> int:
        """Blocks that can be handed out now."""
        return self._queue.num_free_blocks

    def find_hit(self, hashes: Sequence[bytes], max_tokens: int) -> list[Block]:
        """Blocks of the longest cached prefix, at most `max_tokens` long."""
        hit: list[Block] = []
        for block_hash in hashes[: max_tokens // self.block_size_tokens]:
            found = self._cached.get(block_hash)
            if not found:
                break
            hit.append(next(iter(found.values())))
        return hit

    def num_evictable(self, blocks: Sequence[Block]) -> int:
        """How many of these blocks count as free until they are touched."""
        return sum(1 for block in blocks if block.ref_cnt == 0)

    def touch(self, blocks: Sequence[Block]) -> None:
        """Take hit blocks into use."""
        for block in blocks:
            if block.ref_cnt == 0:
                self._queue.remove(block)
            block.ref_cnt += 1

    def allocate(self, count: int) -> list[Block]:
        """Hand out blocks, evicting what they cached. The caller has checked that enough are free."""
        blocks: list[Any] = self._queue.popleft_n(count)
        for block in blocks:
            if block.block_hash is not None:
                self._evict(block)
            block.ref_cnt = 1
        self.tell("blocks_allocated", lambda order: order.blocks_allocated([b.block_id for b in blocks]))
        return blocks

    def store(self, blocks: Sequence[Block], hashes: Sequence[bytes]) -> None:
        """Full blocks become hittable."""
        for block, block_hash in zip(blocks, hashes, strict=True):
            block.block_hash = block_hash
            self._cached.setdefault(block_hash, {})[block.block_id] = block

    def free(self, blocks: Sequence[Block]) -> None:
        """Give a request's blocks back, in chain order; its tail will be evicted before its head."""
        uncached: list[Block] = []
        cached: list[Block] = []
        for block in reversed(blocks):
            block.ref_cnt -= 1
            if block.ref_cnt == 0:
                (uncached if block.block_hash is None else cached).append(block)
        self._queue.prepend_n(uncached)
        self._queue.append_n(cached)

    def states(self) -> list[BlockState]:
        """Every block, for the audit."""
        return [BlockState(b.block_id, b.ref_cnt > 0, b.block_hash is not None) for b in self._blocks]

    def tell(self, what: str, event: Callable[[KVOrder], None]) -> None:
        """Tell the order something. If it cannot take it, it falls back to LRU, and the engine goes on."""
        try:
            event(self._order)
        except Exception as error:  # the order is an add-on: no fault of it may cost a request
            self._order.fault(f"{what}: {error!r}")

    def _evict(self, block: Block) -> None:
        assert block.block_hash is not None
        holders = self._cached[block.block_hash]
        del holders[block.block_id]
        if not holders:
            del self._cached[block.block_hash]
        block.block_hash = None
        self.tell("block_evicted", lambda order: order.block_evicted(block.block_id))


class HashChain:
    """Block hashes of a growing token sequence; the salt goes into the first block, and so into all."""

    __slots__ = ("_block_size", "_root", "hashes")

    def __init__(self, block_size_tokens: int, cache_salt: str | None) -> None:
        self._block_size = block_size_tokens
        self._root = bytes(_DIGEST_BYTES)
        if cache_salt is not None:
            self._root = _digest(b"salt:" + cache_salt.encode("utf-8", "surrogatepass"))
        self.hashes: list[bytes] = []

    def extend(self, tokens: "array[int]") -> list[bytes]:
        """Hashes of all full blocks of `tokens`, which continues what was given before."""
        size, hashes = self._block_size, self.hashes
        for start in range(len(hashes) * size, len(tokens) - size + 1, size):
            parent = hashes[-1] if hashes else self._root
            hashes.append(_digest(parent + tokens[start : start + size].tobytes()))
        return hashes


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
