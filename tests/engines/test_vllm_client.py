"""The vLLM client: every way a server can fail becomes an error that says what to do."""

import json
import socket
import threading
import time

import pytest
from pydantic import SecretStr

from agentrt.act import OutcomeStatus
from agentrt.engines.breaker import Breaker
from agentrt.engines.vllm import VLLMEngine
from agentrt.engines.wire import PREFIX, PROTOCOL_VERSION, Action
from agentrt.errors import (
    ActionRefused,
    ConfigError,
    EngineError,
    EngineUnreachable,
    KeyRefused,
    PluginAbsent,
    ProtocolMismatch,
)

CAPABILITIES = {
    "protocol_version": PROTOCOL_VERSION,
    "engine": "vllm",
    "engine_version": "0.32.0",
    "agentrt_version": "0.1.0",
    "order": "agentrt",
    "actions": [],
    "block_size_tokens": 32,
    "num_blocks": 64,
    "a_field_of_the_future": 1,
}
STATUS = {
    "order": "agentrt",
    "running": 0,
    "waiting": 0,
    "total_blocks": 64,
    "free_blocks": 64,
    "cached_blocks": 0,
    "groups": 0,
    "sessions": 0,
    "faults": 0,
}
RELEASE = Action(action_id="a", action_type="agentrt.kv.release", payload={"session": "s"})


def plugin(method, path, body):
    """A server that behaves."""
    if path.endswith("/capabilities"):
        return 200, json.dumps(CAPABILITIES).encode()
    if path.startswith(f"{PREFIX}/status?tenant="):
        return 200, json.dumps(STATUS).encode()
    if path.startswith(f"{PREFIX}/residency"):
        group = {"kind": "anchor", "agent": "coder", "blocks": 2, "free_blocks": 1, "value": 0.5}
        return 200, json.dumps({"groups": [group]}).encode()
    message = json.loads(body)
    outcomes = [{"action_id": a["action_id"], "outcome": "accepted"} for a in message["actions"]]
    return 200, json.dumps({"message_id": message["message_id"], "outcomes": outcomes}).encode()


@pytest.fixture
def server(scripted_server):
    return scripted_server(plugin)


@pytest.fixture
def connect():
    """Build clients with a short timeout and a breaker that stays closed; closed after the test."""
    clients = []

    def connect(url, *, failures=100, reset_s=0.0, **settings):
        settings.setdefault("timeout_s", 5.0)
        clients.append(VLLMEngine(url, breaker=Breaker(failures=failures, reset_s=reset_s), **settings))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def refused_url():
    """A URL on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_base_url_with_or_without_v1(server, connect, suffix):
    """The OpenAI base URL and the server's root mean the same engine."""
    engine = connect(server.url + suffix)
    assert engine.base_url == server.url
    assert engine.check().num_blocks == 64


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host", "http://", "http://h:99999", "http://h/?a=1", "http://u:p@h", None]
)
def test_malformed_url_is_a_config_error(url):
    """What is no URL is refused at construction, with an example of one."""
    with pytest.raises(ConfigError, match="looks like http://localhost:8000"):
        VLLMEngine(url)


def test_calls_are_answered(server, connect):
    """Status, residency and actions come back as models; one handshake serves all of them."""
    engine = connect(server.url)
    assert engine.status().total_blocks == 64
    assert engine.residency(agent="coder")[0].blocks == 2
    [outcome] = engine.execute([RELEASE], message_id="m")
    assert (outcome.action_id, outcome.status) == ("a", OutcomeStatus.ACCEPTED)
    assert server.asked == [
        f"GET {PREFIX}/capabilities",
        f"GET {PREFIX}/status?tenant=default",
        f"GET {PREFIX}/residency?tenant=default&agent=coder",
        f"POST {PREFIX}/actions",
    ]
    assert engine.execute([]) == []


@pytest.mark.parametrize("key", ["secret", SecretStr("secret")])
def test_the_key_travels_as_bearer(server, connect, key):
    """The API key goes where vLLM's --api-key looks for it."""
    connect(server.url, api_key=key).check()
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_nobody_listens(refused_url, connect):
    """A refused connection is EngineUnreachable, with the URL and a question worth asking."""
    with pytest.raises(EngineUnreachable, match="is the server running there"):
        connect(refused_url).check()


def test_unknown_host(connect):
    """A host that does not resolve is EngineUnreachable too."""
    with pytest.raises(EngineUnreachable):
        connect("http://engine.invalid:8000").check()


def test_a_slow_server_costs_one_timeout(server, connect, held):
    """A server that holds its answer back costs the timeout and no more."""
    with held() as released:
        server.answer = lambda *_: (released.wait(30), plugin(*_))[1]
        started = time.monotonic()
        with pytest.raises(EngineUnreachable, match="no answer from"):
            connect(server.url, timeout_s=0.2).status()
        assert time.monotonic() - started < 5


def test_a_dripping_server_costs_about_one_timeout(connect):
    """Bytes that keep coming, too slowly to ever end, do not keep the caller."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while not done.wait(0.01):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(EngineError, match="too slowly"):
                connect(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.2).check()
        finally:
            done.set()
            thread.join(5)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ((401, b'{"error":"Unauthorized"}'), KeyRefused, "--api-key"),
        ((403, b""), KeyRefused, "--api-key"),
        ((404, b'{"detail":"Not Found"}'), PluginAbsent, "VLLM_PLUGINS=agentrt"),
        ((200, b"<html>hello</html>"), PluginAbsent, "VLLM_PLUGINS=agentrt"),
        ((200, b""), PluginAbsent, "VLLM_PLUGINS=agentrt"),
        ((200, b'{"protocol_version": "2", "shape": "new"}'), ProtocolMismatch, "protocol 2, this client protocol 1"),
        ((200, json.dumps({**CAPABILITIES, "protocol_version": "0"}).encode()), ProtocolMismatch, "protocol 0"),
        ((503, b'{"error":{"message":"starting"}}'), EngineUnreachable, "starting"),
        ((500, b"\xff\x00"), EngineError, "500"),
        ((307, b""), EngineError, "307"),
    ],
)
def test_handshake_failures_say_what_to_do(server, connect, answer, error, said):
    """Each wrong server is told apart, by `check` and by the first ordinary call alike."""
    server.answer = lambda *_: answer
    for ask in (connect(server.url).check, connect(server.url).capabilities, connect(server.url).status):
        with pytest.raises(error) as caught:
            ask()
        assert said in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (422, {"message": "Field required", "field": "actions.0.payload.ttl_s"}, "actions.0.payload.ttl_s"),
        (413, {"message": "257 actions, 256 are allowed", "field": "actions"}, "256 are allowed"),
    ],
)
def test_refused_actions_name_the_field(server, connect, status, error, said):
    """A malformed or oversized message is ActionRefused, and the breaker does not count it."""
    engine = connect(server.url, failures=1, reset_s=60)
    body = json.dumps({"error": error}).encode()
    server.answer = lambda m, p, b: (status, body) if m == "POST" else plugin(m, p, b)
    for _ in range(3):
        with pytest.raises(ActionRefused, match=said):
            engine.execute([RELEASE])
    assert engine.status().total_blocks == 64


@pytest.mark.parametrize(
    "answer",
    [b"garbage", b'{"message_id": "m"}', b'{"message_id": "m", "outcomes": []}'],
)
def test_garbage_after_the_handshake_is_an_engine_error(server, connect, answer):
    """An answer that is none, or is about other actions, is not taken for one."""
    server.answer = lambda m, p, b: (200, answer) if m == "POST" else plugin(m, p, b)
    with pytest.raises(EngineError, match="answered"):
        connect(server.url).execute([RELEASE])


def test_an_endless_answer_is_cut_off(server, connect):
    """An answer of any size does not fill the memory."""
    server.answer = lambda *_: (200, b" " * (17 * 2**20))
    with pytest.raises(EngineError, match="too much"):
        connect(server.url).check()


def test_another_protocol_after_the_handshake(server, connect):
    """A server that changed its protocol under us is noticed at the next message."""
    engine = connect(server.url)
    engine.check()
    answer = json.dumps({"error": {"message": "this server speaks agentrt protocol 2"}}).encode()
    server.answer = lambda *_: (409, answer)
    with pytest.raises(ProtocolMismatch, match="protocol 2"):
        engine.execute([RELEASE])


def test_an_open_breaker_answers_at_once(server, connect):
    """After failures in a row the server is not asked at all; `check` still asks."""
    engine = connect(server.url, failures=2, reset_s=60)
    server.answer = lambda *_: (503, b"")
    for _ in range(2):
        with pytest.raises(EngineUnreachable, match="503"):
            engine.status()
    asked = len(server.asked)
    for ask in (engine.status, engine.capabilities, lambda: engine.execute([RELEASE])):
        with pytest.raises(EngineUnreachable, match="left alone"):
            ask()
    assert len(server.asked) == asked
    server.answer = plugin
    assert engine.check().num_blocks == 64
    assert engine.status().total_blocks == 64


def test_an_engine_that_vanishes_and_comes_back_is_greeted_again(scripted_server, connect):
    """While it is gone calls fail; when it is back the client shakes hands before anything else."""
    first = scripted_server(plugin)
    engine = connect(first.url)
    assert engine.status().total_blocks == 64
    first.close()
    with pytest.raises(EngineUnreachable):
        engine.status()
    second = scripted_server(plugin, port=first.port)
    assert engine.status().total_blocks == 64
    assert second.asked == [f"GET {PREFIX}/capabilities", f"GET {PREFIX}/status?tenant=default"]


def test_a_closed_client_raises_an_engine_error(server):
    """Asking after `close` is an EngineError like any other, since callers catch only those."""
    engine = VLLMEngine(server.url)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.status()


@pytest.mark.parametrize(
    ("actions", "message_id", "field"),
    [
        ([RELEASE], "x" * 300, "message_id"),
        ([RELEASE], "", "message_id"),
        ([Action(action_id="a", action_type="x", payload={"a": object()})], None, "payload"),
        ([Action(action_id="a", action_type="x", payload={"a": "\ud800"})], None, "payload"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_sending(server, connect, actions, message_id, field):
    """A message that is none is ActionRefused without asking the server."""
    with pytest.raises(ActionRefused, match=field):
        connect(server.url).execute(actions, message_id=message_id)
    assert server.asked == []
