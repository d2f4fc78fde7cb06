import random

from agentrt.identity import Identity, SessionKey
from agentrt.kv.branches import abandon

S = SessionKey("default", "s")


def visit(number, session="s"):
    return Identity(session=session, agent="chat", invocation=f"i{number}")


def turn(*turns):
    """Blocks of a conversation: a head, and two blocks per turn."""
    return ["head", *(f"{name}#{half}" for name in turns for half in (0, 1))]


def victims(pool):
    return [b.block_hash for b in pool.queue.get_all_free_blocks() if b.block_hash is not None]


def leave(pool, *invocations):
    known = abandon(pool.order, S, invocations)
    pool.order.revalue()
    return known


def test_an_abandoned_branch_goes_first_and_gives_back_what_it_shares(pool_of):
    """The branch's own blocks are the next victims; the prefix it took over from visits that stay is none of them."""
    pool = pool_of(64)
    pool.run(visit(1), turn("a"))
    pool.run(Identity(session="s", agent="writer", invocation="w"), ["w1", "w2"])
    pool.run(visit(2), turn("a", "b"))
    pool.run(visit(3), turn("a", "b", "c"))
    assert leave(pool, "i2", "i3")
    assert set(victims(pool)[:4]) == {"b#0", "b#1", "c#0", "c#1"}
    assert pool.audit() == []
    assert pool.run(visit(4), turn("a", "x")) == 3
    assert pool.audit() == []


def test_a_call_takes_an_abandoned_invocation_up_again(pool_of):
    """An invocation that calls after it was given up, as a retried one does, counts as any other."""
    pool = pool_of(64)
    pool.run(visit(1), turn("a"))
    worth = pool.order.residency(tenant="default")[0]["value"]
    leave(pool, "i1")
    assert pool.order.residency(tenant="default")[0]["value"] < worth / 10
    pool.run(visit(1), turn("a"))
    assert pool.order.residency(tenant="default")[0]["value"] > worth / 2


def test_what_is_in_use_stays(pool_of):
    """Blocks of a call that still runs are not moved, and all agree afterwards."""
    pool = pool_of(64)
    pool.run(visit(1), turn("a"))
    call, _ = pool.start(visit(2), turn("a", "b"))
    leave(pool, "i2")
    assert pool.audit() == []
    pool.end(call)
    assert pool.audit() == []


def test_an_unknown_session_has_no_branches(pool_of):
    """Nothing is known of a session that never called."""
    assert not leave(pool_of(8), "i1")


def test_random_branches_keep_the_books(pool_of):
    """Whatever is abandoned when, under eviction, queue, ownership and blocks agree."""
    for seed in range(20):
        rng = random.Random(seed)
        pool = pool_of(24)
        history = [[]]
        for number in range(60):
            turns = [*rng.choice(history), f"t{number}"][-4:]
            history.append(turns)
            pool.run(visit(number, rng.choice(["s", "s", "other"])), turn(*turns))
            if rng.random() < 0.3:
                leave(pool, *(f"i{n}" for n in rng.sample(range(number + 1), min(number + 1, 4))))
            assert pool.audit() == []
