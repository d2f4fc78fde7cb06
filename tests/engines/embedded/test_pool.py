"""The block pool hits, allocates and evicts as vLLM's does; silent, its order is least recently used."""

from array import array
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrt.engines.embedded.pool import BlockPool, HashChain
from agentrt.kv.order import KVOrder

SIZE = 4


class LRUModel:
    """Prefix caching with plain LRU eviction, as short as it can be written."""

    def __init__(self, num_blocks):
        self.queue = list(range(num_blocks))
        self.cached = {}
        self.hash_of = {}
        self.refs = Counter()

    def start(self, hashes, max_hit, total):
        """Take blocks for a prompt; None when too few are free."""
        hit = []
        for h in hashes[:max_hit]:
            if not self.cached.get(h):
                break
            hit.append(self.cached[h][0])
        if total - len(hit) > len(self.queue) - sum(not self.refs[b] for b in hit):
            return None
        for b in hit:
            if not self.refs[b]:
                self.queue.remove(b)
            self.refs[b] += 1
        new = [self.queue.pop(0) for _ in range(total - len(hit))]
        for b in new:
            self.refs[b] = 1
            if b in self.hash_of:
                self.cached[self.hash_of.pop(b)].remove(b)
        blocks = hit + new
        for b, h in list(zip(blocks, hashes, strict=False))[len(hit) :]:
            self.hash_of[b] = h
            self.cached.setdefault(h, []).append(b)
        return blocks

    def finish(self, blocks):
        """Give blocks back, tail first; uncached ones to the front."""
        freed = []
        for b in reversed(blocks):
            self.refs[b] -= 1
            if not self.refs[b]:
                freed.append(b)
        self.queue[:0] = [b for b in freed if b not in self.hash_of]
        self.queue += [b for b in freed if b in self.hash_of]


class Told:
    """A pool that tells its order everything, under no identity."""

    def __init__(self, num_blocks):
        self.now = 0.0
        self.order = KVOrder(num_blocks=num_blocks, block_size_tokens=SIZE, clock=lambda: self.now)
        self.pool = BlockPool(self.order)
        self.calls = 0

    def start(self, tokens):
        """Take blocks for a prompt; None when too few are free."""
        self.now += 0.7
        hashes = HashChain(SIZE, None).extend(tokens)
        hit = self.pool.find_hit(hashes, len(tokens) - 1)
        missing = -(-len(tokens) // SIZE) - len(hit)
        if missing > self.pool.num_free_blocks - self.pool.num_evictable(hit):
            return None
        self.calls += 1
        call = str(self.calls)
        self.pool.touch(hit)
        self.order.call_started(call, None, hit, tokens)
        blocks = hit + self.pool.allocate(missing)
        full = blocks[len(hit) : len(hashes)]
        self.pool.store(full, hashes[len(hit) :])
        self.order.blocks_stored(call, full)
        self.order.tick()
        return call, blocks

    def finish(self, call, blocks):
        """Give blocks back."""
        self.order.call_ended(call)
        self.pool.free(blocks)


PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=24)


@given(st.lists(PROMPTS | st.integers(0, 7), min_size=20, max_size=80), st.integers(6, 12))
def test_without_identities_the_order_is_plain_lru(script, num_blocks):
    """Told of no identity, the pool hands out the very blocks an LRU cache would, in the same order."""
    told, model, live = Told(num_blocks), LRUModel(num_blocks), []
    for step in script:
        if isinstance(step, int):
            if step < len(live):
                call, blocks = live.pop(step)
                told.finish(call, blocks)
                model.finish([b.block_id for b in blocks])
        else:
            tokens = array("I", step)
            hashes = [tuple(step[: end + SIZE]) for end in range(0, len(step) - SIZE + 1, SIZE)]
            started = told.start(tokens)
            expected = model.start(hashes, (len(step) - 1) // SIZE, -(-len(step) // SIZE))
            assert (started is None) == (expected is None)
            if started is not None:
                assert [b.block_id for b in started[1]] == expected
                live.append(started)
        assert told.pool.num_free_blocks == len(model.queue)
    assert [b.block_id for b in told.order.queue.get_all_free_blocks()] == model.queue
    assert told.order.queue.faults == 0


@pytest.fixture
def told():
    return Told(8)


def prompt(*blocks):
    """Tokens of whole blocks, each filled with one number."""
    return array("I", [n for n in blocks for _ in range(SIZE)])


def test_a_hit_never_covers_the_whole_prompt(told):
    """At least one token is left to compute, so a prompt of whole blocks hits all but its last."""
    told.finish(*told.start(prompt(1, 2)))
    hashes = HashChain(SIZE, None).extend(prompt(1, 2))
    assert len(told.pool.find_hit(hashes, 2 * SIZE - 1)) == 1
    assert len(told.pool.find_hit(hashes, 2 * SIZE)) == 2


def test_a_salt_separates_everything():
    """Equal prompts under different salts share no block, from the first on."""
    hashes = [HashChain(SIZE, salt).extend(prompt(1, 2)) for salt in (None, "", "a", "b")]
    assert len({h for chain in hashes for h in chain}) == 8


def test_hashes_are_chained():
    """Equal blocks after different beginnings are different, and growing a chain keeps its hashes."""
    chain = HashChain(SIZE, None)
    first = list(chain.extend(prompt(1, 2)))
    assert chain.extend(prompt(1, 2, 3))[:2] == first
    assert HashChain(SIZE, None).extend(prompt(9, 2))[1] != first[1]


def test_blocks_in_use_are_not_handed_out(told):
    """What runs is never a victim, however great the need."""
    _, running = told.start(prompt(1, 2, 3))
    handed_out = told.pool.allocate(told.pool.num_free_blocks)
    assert not {b.block_id for b in running} & {b.block_id for b in handed_out}
    assert told.pool.num_free_blocks == 0


def test_a_fault_of_the_order_costs_only_the_order(told, caplog):
    """Telling an order that cannot take it leaves the pool working as LRU."""
    told.pool.tell("a test", lambda _: 1 / 0)
    call, blocks = told.start(prompt(1, 2))
    told.finish(call, blocks)
    assert told.order.queue.ordered is False
    assert told.order.queue.faults == 1
    assert "a test" in caplog.text
