"""The embedded engine as its user holds it: started, asked, broken, closed."""

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from agentrt.act import OutcomeStatus
from agentrt.engines.embedded import CostModel, EmbeddedEngine
from agentrt.engines.wire import Action
from agentrt.errors import ActionRefused, ConfigError, EngineError, EngineUnreachable
from agentrt.identity import AgentKey, Identity
from agentrt.testing import HTTPCompletions, Traffic

RELEASE = Action(action_id="a", action_type="agentrt.kv.release", payload={"session": "s"})


def test_it_says_that_it_is_no_model(caplog):
    """One log line at the start tells where it is and that nothing real answers."""
    with caplog.at_level(logging.INFO, logger="agentrt"), EmbeddedEngine() as engine:
        pass
    [line] = [r.message for r in caplog.records if "embedded engine at" in r.message]
    assert engine.base_url in line
    assert "no model" in line


def test_a_closed_engine_is_unreachable():
    """Every question to a closed engine is EngineUnreachable, and closing twice is closing once."""
    engine = EmbeddedEngine()
    engine.close()
    engine.close()
    for ask in (engine.capabilities, engine.status, engine.residency, lambda: engine.execute([RELEASE])):
        with pytest.raises(EngineUnreachable, match="closed"):
            ask()


def test_closing_answers_those_who_wait():
    """A request in flight when the engine closes gets a 503 at once, not a cut connection."""
    with EmbeddedEngine(cost=CostModel(step_s=3600)) as engine, ThreadPoolExecutor(1) as threads:
        url = f"{engine.base_url}/v1/completions"
        waiting = threads.submit(httpx.post, url, json={"prompt": "x"}, timeout=60)
        started = time.monotonic()
        while not engine.status().running:
            assert time.monotonic() < started + 20
        engine.close()
        answer = waiting.result(20)
    assert answer.status_code == 503
    assert "closing" in answer.json()["error"]["message"]
    assert time.monotonic() < started + 20


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"num_blocks": 0}, "num_blocks=0: at least 1"),
        ({"block_size_tokens": -1}, "block_size_tokens=-1"),
        ({"max_model_len": 0}, "max_model_len=0"),
        ({"time_scale": -1.0}, "time_scale=-1.0"),
        ({"time_scale": float("nan")}, "time_scale=nan"),
        ({"port": 70_000}, "cannot listen on 127.0.0.1:70000"),
        ({"host": "no.such.host.invalid"}, "cannot listen on no.such.host.invalid"),
    ],
)
def test_settings_without_meaning_are_config_errors(setting, said):
    """Each is refused at construction, by name."""
    with pytest.raises(ConfigError, match=said):
        EmbeddedEngine(**setting)


def test_a_taken_port_is_a_config_error():
    """The message names the address and a way out."""
    with EmbeddedEngine() as engine:
        port = int(engine.base_url.rsplit(":", 1)[1])
        with pytest.raises(ConfigError, match=f"{port}.*give a free port, or 0"):
            EmbeddedEngine(port=port)


def test_messages_are_held_to_the_rules_of_the_wire():
    """In process as over HTTP: bad ids, payloads and sizes are ActionRefused; nothing to do is no message."""
    with EmbeddedEngine() as engine:
        assert engine.execute([]) == []
        with pytest.raises(ActionRefused, match="message_id"):
            engine.execute([RELEASE], message_id="")
        big = Action(action_id="a", action_type="x", payload={"a": "x" * 300_000})
        with pytest.raises(ActionRefused, match="AGENTRT_MAX_BODY_BYTES"):
            engine.execute([big])
        assert engine.execute([RELEASE])[0].status is OutcomeStatus.MISSING


def test_it_can_be_asked_from_many_threads():
    """Calls from any thread are carried out one by one in the engine's own loop."""
    with EmbeddedEngine() as engine, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: engine.execute([RELEASE])[0].status, range(200)))
        assert set(answers) == {OutcomeStatus.MISSING}
        assert engine.status().counters["actions_missing"] == 200


def test_asking_it_from_its_own_thread_is_an_error():
    """A call that would wait for itself for ever raises instead."""
    with EmbeddedEngine() as engine:
        caught = []
        done = threading.Event()

        def ask():
            try:
                engine.status()
            except EngineError as error:
                caught.append(str(error))
            done.set()

        async def inside():
            asyncio.get_running_loop().call_soon(ask)

        engine._thread.call(inside(), timeout_s=10)
        assert done.wait(10)
    assert "another thread" in caught[0]


def test_without_order_it_is_a_stock_server():
    """`order=False` says so, ignores identities, rejects actions, and evicts by LRU."""
    with EmbeddedEngine(order=False, num_blocks=64, time_scale=0) as engine:
        assert (engine.capabilities().order, engine.capabilities().actions) == ("lru", [])
        assert "order=False" in engine.capabilities().degraded[0]
        complete = HTTPCompletions(engine.base_url)
        traffic = Traffic(engine, complete)
        prompt, caller = traffic.prompt(4), Identity(session="s", agent="a")
        assert [traffic.cached(prompt, caller) for _ in range(2)] == [0, 64]
        assert engine.residency(session="s") == []
        assert engine.execute([RELEASE])[0].status is OutcomeStatus.REJECTED
        traffic.fill()
        assert traffic.cached(prompt, caller) == 0
        assert (engine.status().order, engine.status().sessions, engine.status().faults) == ("lru", 0, 0)
        complete.close()


def test_a_fault_in_the_order_degrades_to_lru(caplog):
    """Requests go on as if nothing had been; capabilities and status say what happened, the log once."""
    with EmbeddedEngine(num_blocks=64, time_scale=0) as engine:
        complete = HTTPCompletions(engine.base_url)
        traffic = Traffic(engine, complete)
        engine._loop.scheduler._pool._order.ownership.touch = None
        prompt = traffic.prompt(4)
        assert [traffic.cached(prompt, traffic.identity()) for _ in range(3)] == [0, 64, 64]
        assert engine.status().faults == 1
        assert engine.capabilities().order == "lru"
        assert "failed" in engine.capabilities().degraded[0]
        complete.close()
    assert sum("stock LRU" in r.message for r in caplog.records) == 1


def test_a_busy_engine_defers_a_prefetch():
    """While requests run, warming an anchor is put off, and the answer says why."""
    with EmbeddedEngine(cost=CostModel(step_s=0.005)) as engine, ThreadPoolExecutor(1) as threads:
        complete = HTTPCompletions(engine.base_url)
        traffic = Traffic(engine, complete)
        head = traffic.tokens(3)
        for _ in range(2):
            traffic.cached(traffic.prompt(4, head=head), traffic.identity(agent="coder"))
        assert traffic.act("agentrt.kv.prefetch", agent="coder", workload=traffic.workload).reason == "already resident"
        pool = engine._loop.scheduler._pool
        [key] = [AgentKey(a.tenant, a.workload, a.agent) for a in engine.status().anchors]
        pool._evict(pool._order.anchor_chain(key)._blocks[0])
        busy = threads.submit(traffic.cached, traffic.prompt(4), max_tokens=100)
        while not engine.status().running:
            assert not busy.done()
        outcome = traffic.act("agentrt.kv.prefetch", agent="coder", workload=traffic.workload)
        assert (outcome.status, "1 running" in outcome.reason) == (OutcomeStatus.DEFERRED, True)
        busy.result(30)
        complete.close()
