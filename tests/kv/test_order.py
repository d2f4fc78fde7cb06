from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agentrt.identity import AgentKey, Identity
from agentrt.kv.sessions import MAX_WORKLOADS


def who(session, agent, invocation="", **kw):
    return Identity(session=session, agent=agent, invocation=invocation, **kw)


def prompt(agent, session, n, anchor=2):
    return [f"{agent}#{i}" for i in range(anchor)] + [f"{session}/{agent}#{i}" for i in range(n)]


def groups_of(pool, **kw):
    return {(r["kind"], r["session"], r["agent"]): r for r in pool.order.residency(tenant="default", **kw)}


def test_a_context_belongs_to_its_session_and_agent(pool_of):
    """Blocks computed by a labelled call are owned by context(session, agent)."""
    pool = pool_of(32)
    pool.run(who("s1", "planner"), prompt("planner", "s1", 4))
    assert groups_of(pool)[("context", "s1", "planner")]["blocks"] == 6


def test_a_second_session_promotes_the_shared_head_to_an_anchor(pool_of):
    """What two sessions of one agent share becomes the agent's anchor; the rest stays theirs."""
    pool = pool_of(32)
    pool.run(who("s1", "planner"), prompt("planner", "s1", 4))
    pool.run(who("s2", "planner"), prompt("planner", "s2", 4))
    groups = groups_of(pool)
    assert groups[("anchor", None, "planner")]["blocks"] == 2
    assert groups[("context", "s1", "planner")]["blocks"] == 4
    assert groups[("context", "s2", "planner")]["blocks"] == 4


def test_agents_of_one_session_share_a_context(pool_of):
    """What two agents of one session share is that session's, and worth at least as much as either's own."""
    pool = pool_of(64)
    trunk = [f"t{i}" for i in range(4)]
    pool.run(who("s1", "a"), [*trunk, "a1", "a2"])
    pool.run(who("s1", "b"), [*trunk, "b1", "b2"])
    groups = groups_of(pool)
    assert groups[("context", "s1", None)]["blocks"] == 4
    assert groups[("context", "s1", None)]["value"] >= groups[("context", "s1", "b")]["value"]


def test_an_ended_run_goes_first(pool_of):
    """After run_ended, that session's own blocks are the next victims, and its agents' anchors are not."""
    pool = pool_of(24)
    for session in ("s1", "s2", "s3"):
        pool.run(who(session, "a"), prompt("a", session, 4))
    assert pool.order.sessions.run_ended(("default", "s3"), pool.clock.now, resumable=False)
    pool.order.revalue()
    first = [b.block_hash for b in pool.queue.get_all_free_blocks() if b.block_hash is not None][:4]
    assert set(first) == {f"s3/a#{i}" for i in range(4)}
    assert first[0] == "s3/a#3"  # the tail of the chain before its head


def test_silent_sessions_end_by_themselves(pool_of):
    """Without any signal, a session silent far beyond its gaps is forgotten and worth nothing."""
    pool = pool_of(24)
    pool.run(who("s1", "a"), prompt("a", "s1", 4))
    pool.clock.now += 10_000
    pool.order.tick()
    assert groups_of(pool)[("context", "s1", "a")]["value"] == 0
    assert pool.order.status()["sessions"] == 0


def test_a_session_outlives_the_learners_of_its_workload(pool_of):
    """When more workloads come than are remembered, a session of a forgotten one is not over at once."""
    pool = pool_of(400)
    pool.run(who("s1", "a", workload="first"), prompt("a", "s1", 4))
    for i in range(MAX_WORKLOADS + 1):
        pool.run(who(f"t{i}", "a", workload=f"other-{i}"), [f"t{i}"])
    pool.clock.now += 2
    pool.order.tick()
    assert pool.order.sessions.get(("default", "s1")) is not None


def test_a_continued_context_ages_what_it_left_behind(pool_of):
    """Blocks an agent came back without are worth almost nothing; what it took over keeps its worth."""
    pool = pool_of(64)
    pool.run(who("s1", "a"), ["h0", "h1", "h2", "h3", "old0", "old1"])
    pool.run(who("s1", "a"), ["h0", "h1", "h2", "h3", "new0", "new1"])
    rows = sorted(pool.order.residency(tenant="default"), key=lambda r: r["value"])
    assert [r["blocks"] for r in rows] == [2, 6]
    assert rows[0]["value"] < 0.05 * rows[1]["value"]


def test_parallel_invocations_do_not_age_each_other(pool_of):
    """Two branches of one agent in one session share a head and keep their own contexts."""
    pool = pool_of(64)
    head = [f"h{i}" for i in range(3)]
    pool.run(who("s1", "a", "i1"), [*head, *(f"x{i}" for i in range(6))])
    pool.run(who("s1", "a", "i2"), [*head, *(f"y{i}" for i in range(6))])
    assert pool.run(who("s1", "a", "i1"), [*head, *(f"x{i}" for i in range(6)), "x6"]) == 9
    assert not [r for r in pool.order.residency(tenant="default") if r["value"] < 0.01]


def test_another_tenant_sees_nothing(pool_of):
    """Residency is told per tenant."""
    pool = pool_of(32)
    pool.run(who("s1", "a", tenant="acme"), prompt("a", "s1", 4))
    assert pool.order.residency(tenant="default") == []
    assert len(pool.order.residency(tenant="acme")) == 1


def test_the_anchor_chain_is_remembered_while_it_is_evicted(pool_of):
    """Tokens of an agent's shared head stay known, with how much of it is resident."""
    pool = pool_of(16)
    key = AgentKey("default", "default", "a")
    assert pool.order.anchor_chain(key) is None
    for session in ("s1", "s2", "s3"):
        pool.run(who(session, "a"), prompt("a", session, 3))
    chain = pool.order.anchor_chain(key)
    assert list(chain.token_ids) == [0, 1]
    assert (chain.known_blocks, chain.resident_blocks) == (2, 2)
    pool.run(None, [f"u{i}" for i in range(16)])
    assert (chain.known_blocks, chain.resident_blocks) == (2, 0)


def test_a_free_block_that_lost_its_hash_goes_first(pool_of):
    """When an engine drops the hash of a free block, it no longer waits behind its former owner's place."""
    pool = pool_of(8)
    pool.run(who("s1", "a"), ["h0", "h1", "h2"])
    pool.run(None, ["u0", "u1", "u2", "u3", "u4"])
    block = pool.cached.pop("h1")
    block.block_hash = None
    pool.order.block_evicted(block.block_id)
    assert pool.queue.get_all_free_blocks()[0] is block
    check_books(pool)


def test_a_fault_stops_all_bookkeeping(pool_of):
    """After a fault the order is LRU and the hooks do nothing more."""
    pool = pool_of(16)
    pool.run(who("s1", "a"), prompt("a", "s1", 3))
    pool.order.fault("test")
    pool.run(who("s2", "a"), prompt("a", "s2", 3))
    status = pool.order.status()
    assert status["order"] == "lru"
    assert status["faults"] == 1
    assert pool.order.residency(tenant="default") == []


calls = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.integers(1, 6), st.booleans(), st.booleans()),
    min_size=1,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(calls)
def test_random_traffic_keeps_the_books(pool_of, ops):
    """Whatever happens, every resident block is counted once, and free blocks lie in their owner's group."""
    pool = pool_of(40)
    length = {}
    for session, agent, grow, ends, unlabelled in ops:
        key = (session, agent)
        length[key] = min(length.get(key, 0) + grow, 20)
        identity = None if unlabelled else who(f"s{session}", agent)
        pool.run(identity, prompt(agent, f"s{session}", length[key]))
        if ends:
            pool.order.sessions.run_ended(("default", f"s{session}"), pool.clock.now, resumable=False)
            length = {k: n for k, n in length.items() if k[0] != session}
        check_books(pool)


def check_books(pool):
    order = pool.order
    assert order.queue.ordered, "no fault"
    counted = {}
    for block in pool.blocks:
        group = order.ownership.owner(block.block_id)
        if block.block_id in order.ownership._blocks:
            counted[group] = counted.get(group, 0) + 1
            assert order.ownership.group_of[block.block_id] is group
    for group in order.ownership.groups():
        assert group.resident == counted.pop(group, 0)
        for block_id in group.free:
            assert order.ownership.group_of[block_id] is group
            assert block_id in order.queue._cached
    assert not counted, "a block owned by a group nobody lists"
    free = sum(len(g.free) for g in order.ownership.groups())
    assert free == order.queue.num_cached_blocks


@settings(max_examples=100, deadline=None)
@given(calls)
def test_unlabelled_traffic_is_stock_lru(pool_of, ops):
    """With no identity at all, victims are those of a plain LRU list, in the same order."""
    pool = pool_of(30)
    lru, victims = {}, []
    for session, agent, grow, _, _ in ops:
        keys = prompt(agent, f"s{session}", grow * 3)
        hit = 0
        while hit < len(keys) and keys[hit] in lru:
            hit += 1
        touched = keys[:hit]
        for key in touched:
            del lru[key]
        free = 30 - len(lru) - len(touched)
        for _ in range(max(0, len(keys) - hit - free)):
            oldest = next(iter(lru))
            del lru[oldest]
            victims.append(oldest)
        pool.run(None, keys)
        for key in reversed(keys):
            lru.pop(key, None)
            lru[key] = None
    assert pool.victims == victims


@settings(max_examples=100, deadline=None)
@given(calls)
def test_a_head_is_never_worth_less_than_its_tail(pool_of, ops):
    """Along every cached chain of labelled calls, the value never rises towards the tail."""
    pool = pool_of(60)
    length, last = {}, []
    for session, agent, grow, _, _ in ops:
        key = (session, agent)
        length[key] = min(length.get(key, 0) + grow, 15)
        last = prompt(agent, f"s{session}", length[key])
        pool.run(who(f"s{session}", agent), last)
        pool.order.revalue()
        values = [pool.order.ownership.owner(pool.cached[k].block_id).value for k in last if k in pool.cached]
        assert all(head >= tail - 1e-9 for head, tail in pairwise(values))
