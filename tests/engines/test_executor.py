import pytest

from agentrt.engines.executor import ActionExecutor
from agentrt.identity import Identity
from agentrt.kv.order import KVOrder


class Block:
    def __init__(self, block_id):
        self.block_id, self.block_hash = block_id, None


@pytest.fixture
def order(clock):
    order = KVOrder(num_blocks=40, block_size_tokens=4, clock=clock, retain_max_share=0.25)
    order.take_over([Block(i) for i in range(40)])
    for number, session in enumerate(("s1", "s2", "s3")):
        blocks = order.queue.popleft_n(6)
        order.blocks_allocated([b.block_id for b in blocks])
        order.call_started(session, Identity(session=session, agent="a"), [], range(24))
        for i, block in enumerate(blocks):
            block.block_hash = (number, i)
        order.blocks_stored(session, blocks)
        order.call_ended(session)
        order.queue.append_n(list(reversed(blocks)))
    return order


@pytest.fixture
def executor(order):
    return ActionExecutor(order, load=lambda: (0, 0))


def act(executor, kind, message_id="m", **payload):
    [outcome] = executor.execute(message_id, [{"action_id": "1", "action_type": f"agentrt.{kind}", "payload": payload}])
    return outcome["outcome"], outcome["reason"]


def victims(order):
    return [b.block_hash[0] for b in order.queue.get_all_free_blocks() if b.block_hash]


def test_release_puts_a_session_first(order, executor):
    """After a release, that session's blocks are the next victims."""
    assert act(executor, "kv.release", session="s2") == ("accepted", "")
    assert victims(order)[:6] == [1] * 6


def test_a_released_session_that_goes_on_is_released_no_more(order, executor):
    """When a released session calls again after its run ended, none of its contexts stays first in line."""
    act(executor, "signal.run_ended", "m1", session="s2")
    act(executor, "kv.release", "m2", session="s2")
    order.call_started("again", Identity(session="s2", agent="b"), [], range(4))
    assert all(row["value"] >= 0 for row in order.residency(tenant="default", session="s2"))


def test_an_abandoned_branch_stays_released_while_its_agent_calls_elsewhere(order, executor):
    """Releasing one invocation is not undone by another invocation of the same agent."""
    order.call_started("x", Identity(session="s1", agent="a", invocation="i1"), [], range(8))
    blocks = order.queue.popleft_n(2)
    order.blocks_allocated([b.block_id for b in blocks])
    order.blocks_stored("x", blocks)
    assert act(executor, "kv.release", session="s1", invocation="i1") == ("accepted", "")
    order.call_started("y", Identity(session="s1", agent="a", invocation="i2"), [], range(8))
    values = sorted(row["value"] for row in order.residency(tenant="default", session="s1"))
    assert values[0] == -1
    assert values[1] > 0


def test_score_orders_sessions_and_expires(order, executor, clock):
    """A score overrules the learned value until its ttl is over."""
    act(executor, "kv.score", "m1", session="s1", score=1.0, ttl_s=10)
    act(executor, "kv.score", "m2", session="s2", score=0.0, ttl_s=10)
    assert victims(order)[:6] == [1] * 6
    assert victims(order)[-6:] == [0] * 6
    clock.now = 11
    order.revalue()
    assert victims(order) == [0] * 6 + [1] * 6 + [2] * 6


def test_retain_is_budgeted_and_expires(order, executor, clock):
    """Retained blocks go last; beyond the server's share a retention is refused; after the ttl it is over."""
    assert act(executor, "kv.retain", "m1", session="s1", priority=90, ttl_s=5) == ("accepted", "")
    assert victims(order)[-6:] == [0] * 6
    status, reason = act(executor, "kv.retain", "m2", session="s2", ttl_s=5)
    assert status == "rejected"
    assert "10 of 40" in reason
    clock.now = 6
    order.revalue()
    assert victims(order) == [0] * 6 + [1] * 6 + [2] * 6


def test_a_retention_that_fits_in_part_is_clipped(order, executor):
    """When only some of the target's groups fit the budget, they are kept and the answer says clipped."""
    order.call_started("x", Identity(session="s1", agent="b"), [], range(24))
    blocks = order.queue.popleft_n(6)
    order.blocks_allocated([b.block_id for b in blocks])
    order.blocks_stored("x", blocks)
    assert act(executor, "kv.retain", session="s1", ttl_s=5)[0] == "clipped"


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("kv.release", {"session": "nobody"}),
        ("kv.score", {"agent": "nobody", "score": 1}),
        ("kv.retain", {"session": "s1", "agent": "nobody", "ttl_s": 1}),
        ("kv.prefetch", {"agent": "nobody"}),
        ("signal.run_ended", {"session": "nobody"}),
        ("signal.branch_abandoned", {"session": "nobody", "invocations": ["i"]}),
        ("signal.agent_unreachable", {"session": "nobody", "agent": "a"}),
        ("signal.tool_started", {"session": "nobody", "tool": "t"}),
        ("signal.tool_ended", {"session": "nobody", "tool": "t"}),
        ("kv.release", {"session": "s1", "tenant": "another"}),
    ],
)
def test_the_unknown_is_missing(executor, kind, payload):
    """An action about a session or agent the engine never saw, or another tenant's, is answered missing."""
    assert act(executor, kind, **payload)[0] == "missing"


def test_an_action_without_a_target_is_rejected(executor):
    """Naming neither a session nor an agent would mean everybody: refused."""
    assert act(executor, "kv.release") == ("rejected", "name a session or an agent")


def test_an_unknown_type_is_rejected(executor):
    """A newer client's action is refused by name, not an error."""
    assert act(executor, "kv.teleport") == ("rejected", "unknown action type agentrt.kv.teleport")


def test_a_repeated_message_has_no_second_effect(order, executor):
    """The same message_id gets the same answer, and counters do not move."""
    first = act(executor, "signal.tool_started", "m7", session="s1", tool="t")
    assert act(executor, "signal.tool_started", "m7", session="s1", tool="t") == first
    assert order.sessions.get(("default", "s1")).tools == 1


def test_signals_change_what_goes_first(order, executor):
    """A run that ended goes before sessions that may go on; a session waiting on a tool goes last."""
    act(executor, "signal.run_ended", "m1", session="s3")
    act(executor, "signal.tool_started", "m2", session="s1", tool="t")
    assert victims(order) == [2] * 6 + [1] * 6 + [0] * 6
    act(executor, "signal.agent_unreachable", "m3", session="s2", agent="a")
    assert victims(order)[-6:] == [0] * 6


def test_prefetch_needs_a_cold_anchor_and_an_idle_engine(order):
    """Missing before any session shared it, deferred while busy, and the request to run comes only once."""
    load = [1, 0]
    executor = ActionExecutor(order, load=lambda: tuple(load))
    hits = [b for b in order.queue.get_all_free_blocks() if b.block_hash and b.block_hash[0] == 0][::-1][:3]
    for block in hits:
        order.queue.remove(block)
    order.call_started("y", Identity(session="s9", agent="a"), hits, range(24))
    order.call_ended("y")
    order.queue.append_n(hits[::-1])
    action = {"action_id": "1", "action_type": "agentrt.kv.prefetch", "payload": {"agent": "a"}}
    assert act(executor, "kv.prefetch", "m0", agent="a") == ("accepted", "already resident")
    hits[1].block_hash = None
    assert act(executor, "kv.prefetch", "m1", agent="a")[0] == "deferred"
    load[:] = [0, 0]
    [outcome] = executor.execute("m2", [action])
    assert outcome["prefetch"] == {
        "token_ids": list(range(12)),
        "cache_salt": None,
        "agent": ["default", "default", "a"],
    }
    [again] = executor.execute("m2", [action])
    assert "prefetch" not in again


def test_on_stock_lru_every_action_is_rejected(order, executor):
    """After a fault the engine says so instead of pretending."""
    order.fault("test")
    assert act(executor, "kv.release", session="s1") == ("rejected", "the engine is on stock LRU")
