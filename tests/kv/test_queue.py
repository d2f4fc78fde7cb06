from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentrt.kv.blocks import FreeGroup
from agentrt.kv.queue import OrderedFreeQueue

NUM_BLOCKS = 24
NUM_GROUPS = 4


class B:
    def __init__(self, block_id, block_hash):
        self.block_id, self.block_hash = block_id, block_hash


class QueueMachine(RuleBasedStateMachine):
    """The queue against a plain model: a list of (value, age) looked through in full at every eviction."""

    def __init__(self):
        super().__init__()
        self.groups = [FreeGroup(0.0) for _ in range(NUM_GROUPS)]
        self.group_of = [self.groups[i % NUM_GROUPS] for i in range(NUM_BLOCKS)]
        self.blocks = [B(i, None) for i in range(NUM_BLOCKS)]
        self.queue = OrderedFreeQueue(self.blocks, self.group_of)
        self.uncached = list(range(NUM_BLOCKS))
        self.cached = OrderedDict()
        self.in_use = []
        self.time = 0

    def expected_order(self):
        if not self.queue.by_value:
            return list(self.cached)
        return sorted(self.cached, key=lambda i: (self.group_of[i].value, self.cached[i]))

    @precondition(lambda self: self.uncached or self.cached)
    @rule(data=st.data())
    def take(self, data):
        n = data.draw(st.integers(1, len(self.uncached) + len(self.cached)))
        expected = (self.uncached + self.expected_order())[:n]
        taken = [b.block_id for b in self.queue.popleft_n(n)]
        assert taken == expected
        for i in taken:
            if i in self.cached:
                del self.cached[i]
            else:
                self.uncached.remove(i)
        self.in_use += taken

    @precondition(lambda self: self.in_use)
    @rule(data=st.data())
    def free_cached(self, data):
        some = data.draw(st.lists(st.sampled_from(self.in_use), unique=True, min_size=1))
        for i in some:
            self.in_use.remove(i)
            self.blocks[i].block_hash = ("h", i)
            self.time += 1
            self.cached[i] = self.time
        self.queue.append_n([self.blocks[i] for i in some])

    @precondition(lambda self: self.in_use)
    @rule(data=st.data())
    def free_uncached(self, data):
        some = data.draw(st.lists(st.sampled_from(self.in_use), unique=True, min_size=1))
        for i in some:
            self.in_use.remove(i)
            self.blocks[i].block_hash = None
        self.queue.prepend_n([self.blocks[i] for i in some])
        self.uncached = some + self.uncached

    @precondition(lambda self: self.cached)
    @rule(data=st.data())
    def hit(self, data):
        i = data.draw(st.sampled_from(list(self.cached)))
        self.queue.remove(self.blocks[i])
        del self.cached[i]
        self.in_use.append(i)

    @precondition(lambda self: self.in_use)
    @rule(data=st.data(), group=st.integers(0, NUM_GROUPS - 1))
    def change_owner(self, data, group):
        i = data.draw(st.sampled_from(self.in_use))
        self.group_of[i] = self.groups[group]

    @rule(group=st.integers(0, NUM_GROUPS - 1), value=st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 1.5]))
    def revalue(self, group, value):
        self.queue.set_value(self.groups[group], value)

    @rule(back=st.booleans())
    def stand_back(self, back):
        self.queue.stand_back(back)

    @invariant()
    def same_order_and_count(self):
        assert [b.block_id for b in self.queue.get_all_free_blocks()] == self.uncached + self.expected_order()
        assert self.queue.num_free_blocks == len(self.uncached) + len(self.cached)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=200), st.integers(0, 3))
def test_equal_values_are_exactly_stock_lru(ops, groups):
    """With one value for all groups, victims come in the order in which blocks were freed."""
    owners = [FreeGroup(0.5) for _ in range(groups + 1)]
    group_of = [owners[i % (groups + 1)] for i in range(len(ops))]
    queue = OrderedFreeQueue([], group_of)
    lru: OrderedDict[int, None] = OrderedDict()
    blocks = [B(i, i) for i in range(len(ops))]
    for i, op in enumerate(ops):
        queue.append(blocks[i])
        lru[i] = None
        if op == 1:
            assert queue.popleft().block_id == lru.popitem(last=False)[0]
        elif op == 2 and lru:
            some = next(iter(lru))
            queue.remove(blocks[some])
            del lru[some]
    assert [b.block_id for b in queue.get_all_free_blocks()] == list(lru)


def test_a_fault_in_the_index_leaves_plain_lru():
    """A group whose state is broken drops the index; the same call still returns blocks, oldest first."""
    low, high = FreeGroup(0.0), FreeGroup(1.0)
    queue = OrderedFreeQueue([], [high, high, low, low])
    queue.append_n([B(i, i) for i in range(4)])
    low.free[99] = 0
    low.free.move_to_end(99, last=False)
    low.free.pop(2)
    queue._heap.insert(0, (float("-inf"), 0, low))
    victims = [b.block_id for b in queue.popleft_n(4)]
    assert sorted(victims) == [0, 1, 2, 3]
    assert queue.faults == 1
    assert not queue.ordered
    assert queue.num_free_blocks == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_falls_back_to_lru(bad):
    """NaN or infinity as a value is a fault, not an order."""
    group = FreeGroup(0.0)
    queue = OrderedFreeQueue([], [group] * 3)
    queue.append_n([B(i, i) for i in range(3)])
    queue.set_value(group, bad)
    assert not queue.ordered
    assert [b.block_id for b in queue.popleft_n(3)] == [0, 1, 2]


def test_remove_refuses_a_block_that_is_not_free():
    """As in vLLM, hitting a block that is not in the queue is an error."""
    queue = OrderedFreeQueue([], [FreeGroup(0.0)])
    with pytest.raises(RuntimeError, match="not free"):
        queue.remove(B(0, 1))


def test_an_empty_queue_says_so():
    """Taking from an empty queue is a ValueError, as in vLLM."""
    queue = OrderedFreeQueue([], [])
    with pytest.raises(ValueError, match="No free blocks"):
        queue.popleft()
    with pytest.raises(ValueError, match="2 blocks wanted, 0 free"):
        queue.popleft_n(2)


def test_the_cursor_continues_where_it_stopped():
    """iter_blocks_after(b) yields what comes after b in eviction order."""
    queue = OrderedFreeQueue([B(0, None)], [FreeGroup(0.0)] * 4)
    queue.append_n([B(i, i) for i in (1, 2, 3)])
    assert [b.block_id for b in queue.iter_blocks_after(B(1, 1))] == [2, 3]
