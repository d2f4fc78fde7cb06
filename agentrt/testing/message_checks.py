"""Checks of the control plane's messages, good and bad; part of `EngineTests`."""

import httpx
import pytest

from agentrt.act import OutcomeStatus
from agentrt.engines.base import Engine
from agentrt.engines.wire import PAYLOADS, PREFIX, PROTOCOL_VERSION, Action
from agentrt.errors import ActionRefused
from agentrt.testing.traffic import Traffic


class MessageChecks:
    """Needs the fixtures of `EngineTests`."""

    api_key: str | None = None
    """Set it when the engine's server wants one."""

    @pytest.mark.parametrize("action_type", sorted(set(PAYLOADS) - {"agentrt.signal.prior"}))
    def test_unknown_names_are_missing(self, traffic: Traffic, action_type: str) -> None:
        """An action on a session or agent nobody heard of is answered `missing`, and says what it missed."""
        needed = {name for name, field in PAYLOADS[action_type].model_fields.items() if field.is_required()}
        values = {
            "agent": traffic.name("agent"),
            "session": traffic.name("session"),
            "ttl_s": 1.0,
            "score": 0.5,
            "tool": "grep",
            "invocations": ["i"],
        }
        target = {"agent"} if "agent" in needed else {"session"}
        outcome = traffic.act(action_type, **{name: values[name] for name in needed | target})
        assert outcome.status is OutcomeStatus.MISSING
        assert all(values[name] in outcome.reason for name in target)  # type: ignore[operator]
        assert traffic.engine.residency(session=traffic.name("session")) == []

    def test_a_prior_is_taken(self, traffic: Traffic) -> None:
        """Edges of a workload nobody has seen yet are not missing: that is what a prior is for."""
        edges = [{"source": "planner", "target": "coder", "weight": 0.5}]
        outcome = traffic.act("agentrt.signal.prior", workload=traffic.name("workload"), edges=edges)
        assert outcome.status is OutcomeStatus.ACCEPTED

    def test_an_unknown_action_is_rejected(self, traffic: Traffic) -> None:
        """A type from the future is `rejected` by itself; the message's other actions are carried out."""
        caller = traffic.identity()
        traffic.cached(traffic.prompt(2), caller)
        outcomes = traffic.act_all(
            [("agentrt.kv.defrost", {"x": 1}), ("agentrt.kv.release", {"session": caller.session})]
        )
        assert [outcome.status for outcome in outcomes] == [OutcomeStatus.REJECTED, OutcomeStatus.ACCEPTED]
        assert "agentrt.kv.defrost" in outcomes[0].reason

    def test_a_repeated_message_has_no_second_effect(self, engine: Engine, traffic: Traffic) -> None:
        """The same `message_id` gets the same answer, and `actions_*` in the status counts it once."""
        caller = traffic.identity()
        traffic.cached(traffic.prompt(2), caller)
        actions = [
            ("agentrt.kv.release", {"session": caller.session}),
            ("agentrt.kv.release", {"session": traffic.name("session")}),
        ]
        message_id = traffic.name("message")
        before = _actions_counted(engine)
        answers = [traffic.act_all(actions, message_id=message_id) for _ in range(3)]
        assert answers[0] == answers[1] == answers[2]
        assert [o.status for o in answers[0]] == [OutcomeStatus.ACCEPTED, OutcomeStatus.MISSING]
        assert _actions_counted(engine) == before + 2

    def test_a_malformed_action_is_refused_by_its_field(self, traffic: Traffic) -> None:
        """The refusal names the field by its path, and none of the message's actions is carried out."""
        good = ("agentrt.kv.release", {"session": traffic.name("session")})
        before = _actions_counted(traffic.engine)
        for payload, field in (
            ({"session": "s", "ttl_s": -1}, "actions.1.payload.ttl_s"),
            ({"session": "s", "ttl_s": 1e9}, "actions.1.payload.ttl_s"),
            ({"session": "s"}, "actions.1.payload.ttl_s"),
            ({"session": "x" * 300, "ttl_s": 1}, "actions.1.payload.session"),
            ({"session": "s", "ttl_s": 1, "colour": "red"}, "actions.1.payload.colour"),
        ):
            with pytest.raises(ActionRefused, match=field):
                traffic.act_all([good, ("agentrt.kv.retain", payload)])
        assert _actions_counted(traffic.engine) == before

    def test_an_oversized_message_is_refused(self, engine: Engine) -> None:
        """More actions than any setting allows are refused as a whole."""
        action = Action(action_id="a", action_type="agentrt.kv.release", payload={"session": "s"})
        with pytest.raises(ActionRefused, match=r"actions|body"):
            engine.execute([action] * 10_001)

    def test_another_protocol_version_is_refused(self, engine: Engine) -> None:
        """A message of another protocol is answered 409, with both versions in the text."""
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        message = {"protocol_version": "999", "message_id": "m", "actions": []}
        answer = httpx.post(f"{engine.base_url}{PREFIX}/actions", json=message, headers=headers, timeout=30)
        assert answer.status_code == 409
        assert "999" in answer.json()["error"]["message"]
        assert f"protocol {PROTOCOL_VERSION}" in answer.json()["error"]["message"]


def _actions_counted(engine: Engine) -> int:
    return sum(count for name, count in engine.status().counters.items() if name.startswith("actions_"))
