"""What the order hears of vLLM's scheduler, and what happens when one of its own hooks raises."""

import logging
from types import SimpleNamespace

import msgspec
import pytest
from agentrt_vllm.hooks import PREFETCH_ID, _identity

from agentrt.identity import Identity

HOOKS = {
    "call_started": "allocate_slots",
    "blocks_stored": "cache_full_blocks",
    "blocks_allocated": "get_new_blocks",
    "block_evicted": "evict",
    "call_ended": "free",
    "tick": "schedule",
}


def caller(session, agent="planner", **fields):
    return Identity(session=session, agent=agent, **fields)


def residency(simulation, **query):
    groups = simulation.call("residency", **{"tenant": "default", "agent": None, "session": None, **query})["groups"]
    return {(group["kind"], group["agent"], group["session"]): group["blocks"] for group in groups}


def act(simulation, action_type, **payload):
    actions = [{"action_id": "1", "action_type": action_type, "payload": {"tenant": "default", **payload}}]
    (outcome,) = simulation.call("execute", message_id=f"{action_type}{payload}", actions=actions)["outcomes"]
    return outcome


def test_blocks_belong_to_the_caller_named_in_the_label(extended, prompt):
    """The full blocks of a labelled request are its session's; what two sessions share becomes the agent's anchor."""
    simulation = extended()
    simulation.serve(prompt(320, 1) + prompt(320, 2), caller("s1"))
    assert residency(simulation) == {("context", "planner", "s1"): 20}
    simulation.serve(prompt(320, 1) + prompt(320, 3), caller("s2"))
    assert residency(simulation) == {
        ("anchor", "planner", None): 10,
        ("context", "planner", "s1"): 10,
        ("context", "planner", "s2"): 10,
    }
    assert simulation.call("status")["anchors"][0]["known_blocks"] == 10


def test_a_request_without_a_label_owns_nothing(extended, prompt):
    """Unknown traffic leaves no owner groups behind."""
    simulation = extended()
    simulation.serve(prompt(640, 1))
    assert residency(simulation) == {}
    assert simulation.call("status")["groups"] == 0


def test_a_session_that_ended_gives_way_to_one_that_goes_on(stock, extended, prompt):
    """Where stock LRU loses the older live session, the one that ended goes first, though it is more recent."""
    simulations = stock(num_blocks=64), extended(num_blocks=64)
    for simulation in simulations:
        simulation.serve(prompt(900, 1), caller("live"))
        simulation.serve(prompt(900, 2), caller("ended"))
    assert act(simulations[1], "agentrt.signal.run_ended", session="ended")["outcome"] == "accepted"
    hits = []
    for simulation in simulations:
        simulation.serve(prompt(640, 3), caller("new"))
        hits.append(simulation.serve(prompt(900, 1), caller("live")))
    assert hits[0] < hits[1] == 896


def test_preempted_requests_are_admitted_again_and_leave_nothing_behind(extended, prompt):
    """With too few blocks for what is running, requests are preempted and resumed; nothing leaks, nothing faults."""
    simulation = extended(num_blocks=48)
    for index in range(12):
        simulation.add(prompt(300, index), caller(f"s{index}"), max_tokens=120)
    simulation.run()
    assert simulation.preemptions > 0
    assert_nothing_left(simulation)
    assert simulation.call("status")["counters"]["labelled_calls"] == 12


def test_aborted_requests_leave_nothing_behind(extended, prompt):
    """A client that goes away, running or still waiting, ends its call."""
    simulation = extended(num_blocks=48)
    for index in range(12):
        simulation.add(prompt(300, index), caller(f"s{index}"), max_tokens=120)
    for _ in range(5):
        simulation.step()
    for request_id in list(simulation.scheduler.requests):
        simulation.abort(request_id)
    simulation.run()
    assert_nothing_left(simulation)


def test_the_asynchronous_scheduler_is_served_as_well(extended, prompt):
    """With steps in flight, as on a GPU, labelled traffic under pressure neither faults nor leaks."""
    simulation = extended(num_blocks=48, on_gpu=True)
    for turn in range(6):
        for index in range(6):
            simulation.add(prompt(200, 99) + prompt(150 + 10 * turn, index), caller(f"s{index}"), max_tokens=40)
        simulation.run()
    assert simulation.scheduler.__class__.__name__ == "AgentRTAsyncScheduler"
    assert_nothing_left(simulation)
    assert residency(simulation)["anchor", "planner", None] == 6


def test_a_prefetch_warms_the_anchor_and_teaches_nothing(vllm, extended, prompt):
    """Blocks of our own prefetch belong to the agent's anchor; it is no session and no call."""
    simulation = extended()
    head = prompt(320, 1)
    for session in ("s1", "s2"):
        simulation.serve(head + prompt(64, 5), caller(session))
    simulation.scheduler.reset_prefix_cache()
    before = simulation.call("status")
    assert before["anchors"][0]["resident_blocks"] == 0
    prefetch = act(simulation, "agentrt.kv.prefetch", agent="planner")["prefetch"]
    assert prefetch["token_ids"] == head + prompt(64, 5)[: len(prefetch["token_ids"]) - 320]
    request = vllm.Request(
        request_id=f"{PREFETCH_ID}1", prompt_token_ids=prefetch["token_ids"], pooling_params=None,
        sampling_params=vllm.SamplingParams(
            max_tokens=1, temperature=0, extra_args={"agentrt": caller("prefetch").to_label()}
        ),
        block_hasher=vllm.hasher,
    )  # fmt: skip
    simulation.scheduler.add_request(request)
    simulation.run()
    after = simulation.call("status")
    assert after["sessions"] == before["sessions"]
    assert after["counters"]["labelled_calls"] == before["counters"]["labelled_calls"]
    assert residency(simulation)["anchor", "planner", None] == len(prefetch["token_ids"]) // 32


def test_a_reset_prefix_cache_forgets_every_owner(extended, prompt):
    """After /reset_prefix_cache nobody owns anything, and the pool is whole."""
    simulation = extended()
    simulation.serve(prompt(900, 1), caller("s1"))
    assert simulation.scheduler.reset_prefix_cache() is True
    assert residency(simulation) == {}
    assert simulation.serve(prompt(900, 1), caller("s1")) == 0
    assert simulation.serve(prompt(900, 1), caller("s1")) == 896
    assert_nothing_left(simulation)


def test_answers_fit_in_msgpack(extended, prompt):
    """Every answer crosses vLLM's process boundary unchanged."""
    simulation = extended()
    simulation.serve(prompt(900, 1), caller("s1"))
    simulation.serve(prompt(900, 1), caller("s2"))
    simulation.scheduler.reset_prefix_cache()
    answers = [
        simulation.call("capabilities"),
        simulation.call("status"),
        simulation.call("residency", tenant="default", agent=None, session=None),
        {"outcomes": [act(simulation, "agentrt.kv.prefetch", agent="planner")]},
    ]
    assert answers[-1]["outcomes"][0]["prefetch"]["token_ids"]
    for answer in answers:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(answer)) == answer


@pytest.mark.parametrize(("method", "where"), HOOKS.items())
def test_a_hook_that_raises_ends_the_order_and_not_the_engine(
    stock, extended, prompt, monkeypatch, caplog, method, where
):
    """From a fault on the scheduler does what stock vLLM does; it is counted, logged once, and said."""
    simulations = stock(num_blocks=48), extended(num_blocks=48)
    order = simulations[1].scheduler.agentrt._order

    def broken(*args, **kwargs):
        raise RuntimeError("injected")

    monkeypatch.setattr(order, method, broken)
    with caplog.at_level(logging.ERROR, "agentrt"):
        hits = [
            [simulation.serve(prompt(200, 9) + prompt(300 + turn, turn % 5), caller("s")) for turn in range(30)]
            for simulation in simulations
        ]
    assert hits[0] == hits[1]
    assert sum(hits[1]) > 0
    status, capabilities = simulations[1].call("status"), simulations[1].call("capabilities")
    assert (status["order"], status["faults"]) == ("lru", 1)
    assert capabilities["order"] == "lru"
    assert "fault" in capabilities["degraded"][0]
    assert len([r for r in caplog.records if f"hook {where} failed" in r.getMessage()]) == 1
    assert act(simulations[1], "agentrt.kv.release", session="s")["outcome"] == "rejected"
    assert simulations[1].pool.get_num_free_blocks() == 48


@pytest.mark.parametrize("value", [float("nan"), "high"])
def test_a_value_that_is_none_ends_the_order_and_not_the_engine(extended, prompt, monkeypatch, value):
    """A score that cannot be compared drops the index; requests go on."""
    simulation = extended(num_blocks=48)
    order = simulation.scheduler.agentrt._order
    monkeypatch.setattr(order.values, "value_of", lambda group, now: value)
    for turn in range(10):
        simulation.serve(prompt(600, turn), caller(f"s{turn}"))
    assert simulation.serve(prompt(600, 9), caller("s9")) == 576
    assert simulation.call("status")["faults"] > 0
    assert simulation.call("capabilities")["order"] == "lru"


def test_a_request_without_sampling_parameters_is_unknown_traffic():
    """Pooling requests have no place for a label."""
    assert _identity(SimpleNamespace(sampling_params=None)) is None
    assert _identity(SimpleNamespace(sampling_params=SimpleNamespace(extra_args={"agentrt": "{"}))) is None


def assert_nothing_left(simulation):
    """Every block is free again, no call is open, and no fault occurred."""
    status = simulation.call("status")
    assert status["faults"] == 0
    assert status["order"] == "agentrt"
    assert status["running"] == status["waiting"] == 0
    assert simulation.pool.get_num_free_blocks() == status["total_blocks"]
    assert simulation.scheduler.agentrt._order._calls == {}
