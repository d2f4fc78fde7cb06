"""`agentrt doctor` names what is wrong and what to do about it."""

import json
import sys

import pytest


def test_a_healthy_server(agentrt, server, healthy):
    """Everything in order: exit code 0, and each check is told."""
    said = agentrt("doctor", "--base-url", server(healthy))
    assert said.code == 0
    for told in (
        "vllm 0.32.0, protocol 1",
        "agentrt orders 600 blocks",
        "serves tiny",
        "0 faults",
        "OpenAI client",
        "agentrt works at",
    ):
        assert told in said.out
    assert said.err == ""


def test_a_url_with_v1_is_the_same_server(agentrt, server, healthy):
    """People paste the chat URL; it works too."""
    assert agentrt("doctor", "--base-url", server(healthy) + "/v1/").code == 0


def test_json_findings(agentrt, server, healthy):
    """With --json the findings are data on stdout."""
    said = agentrt("doctor", "--json", "--base-url", server(healthy))
    report = json.loads(said.out)
    assert report["healthy"] is True
    assert {finding["outcome"] for finding in report["findings"]} == {"ok"}


def _capabilities(healthy, **changes):
    status, body = healthy["/v1/agentrt/capabilities"]
    return {**healthy, "/v1/agentrt/capabilities": (status, {**body, **changes})}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"/v1/agentrt/capabilities": (404, {})}, "VLLM_PLUGINS=agentrt vllm serve"),
        ({"/v1/agentrt/capabilities": (401, {})}, "export AGENTRT_API_KEY="),
        ({"/v1/agentrt/capabilities": (200, {"protocol_version": "9"})}, "protocol 9"),
        ({"/v1/agentrt/capabilities": (500, {})}, "read the server's log"),
        ({"/v1/agentrt/status": (503, {"error": {"message": "engine core died"}})}, "engine core died"),
    ],
)
def test_what_is_wrong_has_a_remedy(agentrt, server, healthy, changes, told):
    """A server without plugin, key, protocol or engine: exit code 1, and what to do."""
    said = agentrt("doctor", "--base-url", server({**healthy, **changes}))
    assert said.code == 1
    assert told in said.out
    assert "agentrt does not work at" in said.out


def test_nobody_there(agentrt, nobody):
    """A server that is not running is said in plain words."""
    said = agentrt("doctor", "--base-url", nobody)
    assert said.code == 1
    assert "start the server, or correct --base-url" in said.out


def test_degraded_order_is_a_failure(agentrt, server, healthy):
    """A plugin that stepped aside does not work, and its reasons are shown."""
    said = agentrt(
        "doctor", "--base-url", server(_capabilities(healthy, order="lru", degraded=["no free queue found"]))
    )
    assert said.code == 1
    assert "no free queue found" in said.out


def test_another_version_is_a_warning(agentrt, server, healthy):
    """Different releases of one protocol work together, with a warning."""
    said = agentrt("doctor", "--base-url", server(_capabilities(healthy, agentrt_version="0.0.9")))
    assert said.code == 0
    assert "agentrt 0.0.9 on the server" in said.out


def test_a_chat_api_behind_another_key_is_a_warning(agentrt, server, healthy):
    """The control plane works although the chat API refuses."""
    said = agentrt("doctor", "--base-url", server({**healthy, "/v1/models": (401, {})}))
    assert said.code == 0
    assert "GET /v1/models: 401" in said.out


def test_faults_are_a_warning(agentrt, server, healthy):
    """Faults of the plugin are shown."""
    status, body = healthy["/v1/agentrt/status"]
    said = agentrt("doctor", "--base-url", server({**healthy, "/v1/agentrt/status": (status, {**body, "faults": 3})}))
    assert said.code == 0
    assert "3 faults" in said.out


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "nonsense"])
def test_a_malformed_url_is_bad_usage(agentrt, url):
    """Something that is no URL: exit code 2, one line that shows what a URL looks like."""
    said = agentrt("doctor", "--base-url", url)
    assert (said.code, said.out) == (2, "")
    assert "looks like http://localhost:8000" in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(("labelling", "told"), [("fallback", "at the HTTP client"), ("absent", "pip install openai")])
def test_requests_that_are_labelled_otherwise(agentrt, server, healthy, monkeypatch, labelling, told):
    """Where the OpenAI client has no hook, or is missing, that is a warning: the server works all the same."""
    monkeypatch.setattr("agentrt_langgraph.inject.trial", lambda: labelling)
    said = agentrt("doctor", "--base-url", server(healthy))
    assert said.code == 0
    assert told in said.out


def test_without_langgraph_nothing_is_said_of_requests(agentrt, server, healthy, monkeypatch):
    """On a machine that only serves, the application's side is not looked at."""
    monkeypatch.setitem(sys.modules, "agentrt_langgraph", None)
    said = agentrt("doctor", "--base-url", server(healthy))
    assert said.code == 0
    assert "requests:" not in said.out
