"""What goes wrong stays on our side: keys, absence, and an order that fails under a running server."""

import time

import httpx
import pytest

from agentrt.engines.vllm import VLLMEngine
from agentrt.errors import KeyRefused, PluginAbsent
from agentrt.identity import Identity

pytestmark = pytest.mark.vllm

FAULTY_AGENT = "raise-in-call-started"
ROUTES = (("GET", "capabilities"), ("GET", "status"), ("GET", "residency"), ("POST", "actions"))


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_the_servers_api_key_guards_every_route(faulty_server, method, route):
    """Without vLLM's own --api-key no route of ours answers, whatever the method."""
    url = f"{faulty_server.base_url}/v1/agentrt/{route}"
    assert httpx.request(method, url, timeout=30).status_code == 401
    wrong = {"Authorization": "Bearer another"}
    assert httpx.request(method, url, headers=wrong, timeout=30).status_code == 401
    with faulty_server.client() as client:
        assert client.request(method, f"/v1/agentrt/{route}").status_code == (200 if method == "GET" else 400)


def test_a_refused_key_is_told_as_such(faulty_server):
    """The client says that the key was refused, and the right key is accepted."""
    with VLLMEngine(faulty_server.base_url, timeout_s=30) as keyless, pytest.raises(KeyRefused):
        keyless.check()
    with VLLMEngine(faulty_server.base_url, api_key=faulty_server.api_key, timeout_s=30) as engine:
        assert engine.check().engine == "vllm"


def test_an_order_that_fails_leaves_a_server_that_serves(faulty_server):
    """A hook that raises at run time: the request is answered, LRU goes on, prefix caching hits, and it is said."""
    prompt = list(range(100, 1000))
    caller = Identity(session="s", agent="planner").to_label()
    faulty_server.complete(prompt, label=caller)
    before = faulty_server.control("status")
    assert (before["order"], before["faults"]) == ("agentrt", 0)

    broken = faulty_server.complete(prompt, label=Identity(session="s", agent=FAULTY_AGENT).to_label())
    assert broken["cached_tokens"] == 896

    status, capabilities = faulty_server.control("status"), faulty_server.control("capabilities")
    assert (status["order"], status["faults"]) == ("lru", 1)
    assert capabilities["order"] == "lru"
    assert "fault" in capabilities["degraded"][0]
    for seed in range(8):  # more than the pool holds, labelled
        other = list(range(100 + seed, 1000 + seed))
        faulty_server.complete(other, label=caller)
        assert faulty_server.complete(other, label=caller)["cached_tokens"] == 896
    assert faulty_server.complete(prompt)["cached_tokens"] == 0, "the oldest prompt is gone: least recently used"
    assert faulty_server.control("status")["faults"] == 1
    assert faulty_server.log_path.read_text(errors="replace").count("eviction order failed") == 1


def test_status_waits_for_nothing_but_the_running_step(plugin_server):
    """An idle server answers a control call in milliseconds."""
    plugin_server.control("status")
    with plugin_server.client() as client:
        waits_s = []
        for _ in range(50):
            began = time.perf_counter()
            assert client.get("/v1/agentrt/status").status_code == 200
            waits_s.append(time.perf_counter() - began)
    assert sorted(waits_s)[25] < 0.1


def test_a_server_without_the_plugin_is_told_as_such(stock_server):
    """VLLM that was not started with VLLM_PLUGINS=agentrt answers 404, and the client says what to do."""
    with VLLMEngine(stock_server.base_url, timeout_s=30) as engine, pytest.raises(PluginAbsent, match="VLLM_PLUGINS"):
        engine.check()
