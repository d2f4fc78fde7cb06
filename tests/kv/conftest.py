from dataclasses import dataclass

import pytest

from agentrt.identity import Identity
from agentrt.kv.audit import BlockState, audit
from agentrt.kv.order import KVOrder


@dataclass
class FakeBlock:
    """The two attributes the order reads."""

    block_id: int
    block_hash: object = None


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Pool:
    """A minimal block pool around a KVOrder, with vLLM's calling order."""

    def __init__(self, num_blocks: int, **kwargs: object) -> None:
        self.clock = Clock()
        self.blocks = [FakeBlock(i) for i in range(num_blocks)]
        self.order = KVOrder(num_blocks=num_blocks, block_size_tokens=1, clock=self.clock, **kwargs)
        self.queue = self.order.take_over(self.blocks)
        self.cached: dict[object, FakeBlock] = {}
        self.in_use: dict[str, list[FakeBlock]] = {}
        self.victims: list[object] = []
        self._calls = 0

    def start(self, identity: Identity | None, prompt: list[object]) -> tuple[str, int]:
        """Admit a request whose blocks have these hashes; returns its id and how many were hit."""
        self._calls += 1
        call_id = f"call-{self._calls}"
        hits = []
        for key in prompt:
            if key not in self.cached:
                break
            hits.append(self.cached[key])
        for block in hits:
            if block.block_id in self.queue._cached:
                self.queue.remove(block)
        new = self.queue.popleft_n(len(prompt) - len(hits))
        for block in new:
            if block.block_hash is not None:
                self.victims.append(block.block_hash)
                if self.cached.get(block.block_hash) is block:  # else it was computed again since, as in vLLM
                    del self.cached[block.block_hash]
                block.block_hash = None
                self.order.block_evicted(block.block_id)
        self.order.blocks_allocated([b.block_id for b in new])
        self.order.call_started(call_id, identity, hits, list(range(len(prompt))), block_hashes=prompt)
        for key, block in zip(prompt[len(hits) :], new, strict=True):
            block.block_hash = key
            self.cached[key] = block
        self.order.blocks_stored(call_id, new, first=len(hits), block_hashes=prompt[len(hits) :])
        self.in_use[call_id] = [*hits, *new]
        return call_id, len(hits)

    def end(self, call_id: str) -> None:
        self.order.call_ended(call_id)
        busy = {b.block_id for blocks in self.in_use.values() for b in blocks}
        mine = self.in_use.pop(call_id)
        still = {b.block_id for blocks in self.in_use.values() for b in blocks}
        self.queue.append_n([b for b in reversed(mine) if b.block_id in busy - still])

    def audit(self) -> list[str]:
        """What the audit finds."""
        busy = {b.block_id for blocks in self.in_use.values() for b in blocks}
        return audit(
            self.order, [BlockState(b.block_id, b.block_id in busy, b.block_hash is not None) for b in self.blocks]
        )

    def run(self, identity: Identity | None, prompt: list[object]) -> int:
        """One whole request; returns its hits."""
        call_id, hits = self.start(identity, prompt)
        self.clock.now += 0.1
        self.end(call_id)
        self.clock.now += 0.1
        self.order.tick()
        return hits


@pytest.fixture(scope="session")
def pool_of():
    """Make a Pool of n blocks."""
    return Pool


@pytest.fixture(scope="session")
def block():
    """Make a fake block."""
    return FakeBlock
