"""Ownership, index and queue agree after any history; the audit says so, and says where they do not."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentrt.identity import AgentKey, Identity, SessionKey

SESSIONS, AGENTS = 4, 3
NUM_BLOCKS = 40


class PoolMachine(RuleBasedStateMachine):
    """Requests of several sessions and agents, signals and actions, in any order."""

    pool_of = None

    def __init__(self):
        super().__init__()
        self.pool = self.pool_of(NUM_BLOCKS)
        self.running = []

    def identity(self, data):
        if data.draw(st.integers(0, 5)) == 0:
            return None
        session, agent = data.draw(st.integers(0, SESSIONS - 1)), data.draw(st.integers(0, AGENTS - 1))
        return Identity(session=f"s{session}", agent=f"a{agent}", invocation=data.draw(st.sampled_from(["", "1", "2"])))

    @rule(data=st.data(), anchor=st.integers(0, 3), own=st.integers(1, 6), cut=st.booleans())
    def start(self, data, anchor, own, cut):
        identity = self.identity(data)
        if NUM_BLOCKS - sum(map(len, self.pool.in_use.values())) < anchor + own:
            return
        name = "nobody" if identity is None else f"{identity.session}/{identity.agent}"
        agent = "nobody" if identity is None else identity.agent
        tail = f"{name}{'+' if cut else ''}"
        prompt = [f"{agent}#{i}" for i in range(anchor)] + [f"{tail}#{i}" for i in range(own)]
        self.running.append(self.pool.start(identity, prompt)[0])
        self.pool.clock.now += 0.1

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data):
        call = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.pool.end(call)

    @rule(data=st.data(), how=st.sampled_from(["run_ended", "resumable"]))
    def run_ended(self, data, how):
        session = SessionKey("default", f"s{data.draw(st.integers(0, SESSIONS - 1))}")
        self.pool.order.sessions.run_ended(session, self.pool.clock.now, resumable=how == "resumable")
        self.pool.order.revalue()

    @rule(data=st.data(), value=st.sampled_from([-1.0, 0.0, 0.5, 1.0]))
    def score(self, data, value):
        for group in list(self.pool.order.ownership.groups()):
            if data.draw(st.booleans()):
                group.override, group.overridden_until_s = value, self.pool.clock.now + 5
        self.pool.order.revalue()

    @rule(data=st.data())
    def drop(self, data):
        """Somebody drops the hash of a free block in place."""
        free = [b for b in self.pool.queue.get_all_free_blocks() if b.block_hash is not None]
        if free:
            block = data.draw(st.sampled_from(free))
            if self.pool.cached.get(block.block_hash) is block:
                del self.pool.cached[block.block_hash]
            block.block_hash = None
            self.pool.order.block_evicted(block.block_id)

    @rule(seconds=st.sampled_from([0.5, 5.0, 600.0]))
    def wait(self, seconds):
        self.pool.clock.now += seconds
        self.pool.order.tick()

    @rule(back=st.booleans())
    def stand_back(self, back):
        self.pool.queue.stand_back(back)

    @invariant()
    def nothing_to_find(self):
        assert self.pool.audit() == []


@pytest.fixture
def machine(pool_of):
    return type("Machine", (PoolMachine,), {"pool_of": staticmethod(pool_of)})


def test_nothing_is_ever_found(machine):
    """Whatever happens to a pool, the audit finds nothing, after every step."""
    case = machine.TestCase
    case.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
    case().runTest()


@pytest.fixture
def pool(pool_of):
    """A pool with two sessions of one agent, idle."""
    pool = pool_of(16)
    for session in ("s1", "s2"):
        pool.run(Identity(session=session, agent="a"), ["a#0", f"{session}#0", f"{session}#1"])
    assert pool.audit() == []
    return pool


def disturb_queue(pool):
    pool.queue.popleft()


def disturb_index(pool):
    next(g for g in pool.order.ownership.groups() if g.free).free.popitem()


def disturb_heap(pool):
    pool.queue._heap.clear()


def disturb_owner(pool):
    (context, *_) = pool.order.ownership.of_session(SessionKey("default", "s1"))
    block_id = next(iter(context.free))
    pool.order.ownership.group_of[block_id] = pool.order.ownership.unknown


def disturb_count(pool):
    pool.order.ownership.anchors_of(AgentKey("default", "default", "a"))[0].resident += 1


def disturb_session(pool):
    pool.order.ownership._registry._by_session.clear()


def disturb_hash(pool):
    next(b for b in pool.blocks if b.block_hash is not None).block_hash = None


@pytest.mark.parametrize(
    "disturb",
    [disturb_queue, disturb_index, disturb_heap, disturb_owner, disturb_count, disturb_session, disturb_hash],
)
def test_a_disturbance_is_found(pool, disturb):
    """Each kind of disagreement is told in words."""
    disturb(pool)
    assert pool.audit()


def test_after_a_fault_only_the_queue_is_held_to_account(pool):
    """Once the order has failed, its index may be anything; the queue may not."""
    disturb_heap(pool)
    pool.queue.fail("test")
    assert pool.audit() == []
    disturb_queue(pool)
    assert pool.audit()
