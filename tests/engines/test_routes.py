"""The control plane answers well-formed messages, names the fault of all others, and never breaks."""

import asyncio
import json
import logging

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from agentrt.act import OutcomeStatus
from agentrt.config import Settings
from agentrt.engines.reports import Capabilities, EngineStatus, Residency, ResidencyReply
from agentrt.engines.routes import control_routes
from agentrt.engines.wire import PREFIX, PROTOCOL_VERSION, ActionOutcome

RETAIN = {
    "action_id": "a",
    "action_type": "agentrt.kv.retain",
    "payload": {"session": "s", "agent": "coder", "ttl_s": 5},
}


class Backend:
    """Records what reaches it; raises `error` when set."""

    def __init__(self):
        self.error = None
        self.executed = []
        self.asked = []

    async def capabilities(self):
        self._maybe_raise()
        return Capabilities(
            protocol_version=PROTOCOL_VERSION,
            engine="embedded",
            engine_version="0",
            agentrt_version="0",
            order="agentrt",
            block_size_tokens=16,
            num_blocks=8,
        )

    async def status(self):
        self._maybe_raise()
        return EngineStatus(
            order="lru",
            running=1,
            waiting=2,
            total_blocks=8,
            free_blocks=3,
            cached_blocks=1,
            groups=1,
            sessions=1,
            faults=0,
        )

    async def residency(self, *, tenant, agent, session):
        self._maybe_raise()
        self.asked.append((tenant, agent, session))
        group = Residency(kind="anchor", tenant=tenant, agent=agent, blocks=2, free_blocks=1, value=0.5)
        return ResidencyReply(groups=[group])

    async def execute(self, message_id, actions):
        self._maybe_raise()
        self.executed.append((message_id, actions))
        return [ActionOutcome(action_id=a["action_id"], outcome=OutcomeStatus.ACCEPTED) for a in actions]

    def _maybe_raise(self):
        if self.error is not None:
            raise self.error


class Plane:
    """A client of the routes over `backend`, without a network."""

    def __init__(self, **settings):
        self.backend = Backend()
        self._app = Starlette(routes=control_routes(lambda: self.backend, Settings.load(**settings)))

    def request(self, method, path, **kwargs):
        async def ask():
            transport = httpx.ASGITransport(self._app)
            if "json" in kwargs:  # httpx does not escape, and some tests send half a surrogate pair
                kwargs["content"] = json.dumps(kwargs.pop("json"))
            async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
                return await client.request(method, PREFIX + path, **kwargs)

        return asyncio.run(ask())

    def send(self, *actions, **fields):
        message = {"protocol_version": PROTOCOL_VERSION, "message_id": "m", "actions": list(actions)}
        return self.request("POST", "/actions", json={**message, **fields})


@pytest.fixture
def plane():
    return Plane()


def test_reads_are_answered(plane):
    """Capabilities, status and residency come back as the backend's models."""
    assert plane.request("GET", "/capabilities").json()["protocol_version"] == PROTOCOL_VERSION
    assert plane.request("GET", "/status").json()["free_blocks"] == 3
    answer = plane.request("GET", "/residency", params={"agent": "coder", "tenant": "t"})
    assert answer.json()["groups"][0]["agent"] == "coder"
    assert plane.backend.asked == [("t", "coder", None)]


def test_actions_reach_the_backend_validated(plane):
    """Defaults are filled in before the backend sees an action, and each gets its outcome in order."""
    answer = plane.send(RETAIN, {**RETAIN, "action_id": "b"})
    assert answer.status_code == 200
    assert [o["action_id"] for o in answer.json()["outcomes"]] == ["a", "b"]
    assert {o["outcome"] for o in answer.json()["outcomes"]} == {"accepted"}
    [(message_id, actions)] = plane.backend.executed
    assert message_id == "m"
    assert actions[0]["payload"]["priority"] == 50
    assert actions[0]["payload"]["tenant"] == "default"


def test_unknown_action_type_passes_without_its_payload(plane):
    """A type from the future is the executor's to reject; its payload is dropped unread."""
    assert plane.send({"action_id": "a", "action_type": "agentrt.kv.defrost", "payload": {"x": 1}}).is_success
    [(_, [action])] = plane.backend.executed
    assert action["action_type"] == "agentrt.kv.defrost"
    assert action["payload"] == {}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000, b"9" * 5_000])
def test_not_json_is_400(plane, body):
    """What is no JSON is answered 400."""
    answer = plane.request("POST", "/actions", content=body)
    assert answer.status_code == 400
    assert "not JSON" in answer.json()["error"]["message"]


def test_another_protocol_version_is_409(plane):
    """The refusal names both versions and what to do, whatever else the message holds."""
    answer = plane.send({"shape": "of the future"}, protocol_version="9")
    assert answer.status_code == 409
    message = answer.json()["error"]["message"]
    assert f"protocol {PROTOCOL_VERSION}" in message
    assert "protocol 9" in message
    assert "same agentrt version" in message


def test_oversized_body_is_413():
    """A body over the limit is refused, whether or not its length was announced."""
    plane = Plane(max_body_bytes=1024)

    async def chunks():
        for _ in range(100):
            yield b" " * 512

    for content in (b" " * 2000, chunks()):
        answer = plane.request("POST", "/actions", content=content)
        assert answer.status_code == 413
        assert "1024 bytes" in answer.json()["error"]["message"]
    assert plane.backend.executed == []


def test_too_many_actions_are_413():
    """More actions than allowed are refused as a whole, with the field named."""
    plane = Plane(max_actions=2)
    answer = plane.send(RETAIN, RETAIN, RETAIN)
    assert answer.status_code == 413
    assert answer.json()["error"]["field"] == "actions"
    assert plane.backend.executed == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"message_id": ""}, "message_id"),
        ({"message_id": "x" * 257}, "message_id"),
        ({"protocol_version": 1}, "protocol_version"),
        ({"actions": []}, "actions"),
        ({"actions": "retain"}, "actions"),
        ({"actions": [7]}, "actions.0"),
        ({"actions": [{**RETAIN, "action_version": "2.0"}]}, "actions.0.action_version"),
        ({"actions": [{**RETAIN, "payload": {"ttl_s": 5000}}]}, "actions.0.payload.ttl_s"),
        ({"actions": [{**RETAIN, "payload": {"ttl_s": True, "agent": 5}}]}, "actions.0.payload.agent"),
        ({"actions": [RETAIN, {**RETAIN, "payload": {"ttl_s": 5, "colour": 1}}]}, "actions.1.payload.colour"),
        ({"surprise": 1}, "surprise"),
        ({"actions": [{**RETAIN, "payload": {"ttl_s": 5, "\ud800": 1}}]}, "actions.0.payload"),
        (
            {"actions": [{**RETAIN, "payload": {"ttl_s": 5, "session": "\ud800"}}]},
            "actions.0.payload.session",
        ),
    ],
)
def test_malformed_is_422_with_the_field_named(plane, fields, field):
    """The first field at fault is named by its path, and nothing is carried out."""
    answer = plane.send(RETAIN, **fields)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == field
    assert plane.backend.executed == []


def test_malformed_query_is_422(plane):
    """An agent name beyond the limit is refused before the engine is asked."""
    answer = plane.request("GET", "/residency", params={"agent": "x" * 300})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "agent"


@pytest.mark.parametrize("path", ["/capabilities", "/status", "/residency"])
def test_a_backend_that_raises_is_503(plane, path, caplog):
    """The client learns the kind of fault and no more; the log has it once."""
    plane.backend.error = RuntimeError("secret path /etc")
    with caplog.at_level(logging.ERROR, logger="agentrt"):
        answers = [plane.request("GET", path) for _ in range(3)]
        sent = plane.send(RETAIN)
    assert {a.status_code for a in answers} | {sent.status_code} == {503}
    assert "secret" not in answers[0].text
    assert "RuntimeError" in answers[0].json()["error"]["message"]
    assert len(caplog.records) == 2  # one per route, not one per request


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
ACTION = st.fixed_dictionaries(
    {},
    optional={
        "action_id": st.text() | JSON,
        "action_type": st.sampled_from(["agentrt.kv.retain", "agentrt.signal.prior", "x"]) | JSON,
        "payload": st.dictionaries(st.sampled_from(["session", "agent", "ttl_s", "edges", "zzz"]), JSON) | JSON,
    },
)


@given(st.lists(ACTION | JSON, max_size=3) | JSON, JSON)
def test_no_json_breaks_the_plane(actions, message_id):
    """Whatever JSON arrives is answered 200, 400, 409, 413 or 422, as JSON."""
    body = {"protocol_version": PROTOCOL_VERSION, "message_id": message_id, "actions": actions}
    answer = Plane().request("POST", "/actions", content=json.dumps(body))
    assert answer.status_code in {200, 400, 409, 413, 422}
    assert isinstance(answer.json(), dict)
