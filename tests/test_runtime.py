import asyncio
import logging
import threading

import pytest

from agentrt import Runtime, Settings
from agentrt.act import OutcomeStatus, Proposal, ProposalKind, Target, Verdict
from agentrt.engines.reports import Anchor
from agentrt.engines.vllm import VLLMEngine
from agentrt.errors import ConfigError
from agentrt.events import (
    BranchAbandoned,
    CallStarted,
    Dispatched,
    RunEnded,
    RunStarted,
    StructureDeclared,
    ToolEnded,
    ToolStarted,
)
from agentrt.identity import Dispatch, Identity, SessionKey
from agentrt.policies import PrefixCache
from agentrt.policy import Policy

S1 = SessionKey("default", "s1")


def planner(session="s1", agent="planner"):
    return Identity(session=session, agent=agent, workload="team")


def run_of(runtime, session="s1", agents=("planner", "coder"), **ended):
    key, now = SessionKey("default", session), runtime.clock()
    runtime.emit(RunStarted(at_s=now, session=key, workload="team"))
    for source, target in zip(("__start__", *agents), agents, strict=False):
        edge = Dispatch(source=source, target=target)
        runtime.emit(Dispatched(at_s=now, session=key, workload="team", dispatch=edge))
        runtime.emit(CallStarted(at_s=now, session=key, identity=planner(session, target), call_id=target))
    runtime.emit(RunEnded(at_s=runtime.clock(), session=key, workload="team", **ended))


def types(engine):
    return [a.action_type for a in engine.actions]


def test_a_run_that_cannot_come_back_is_signalled_and_released(engine):
    """At the end of a run the engine is told, and the session's contexts are released, each with a ruling."""
    with Runtime(engine) as runtime:
        run_of(runtime)
        assert runtime.flush()
        assert types(engine) == ["agentrt.signal.run_ended", "agentrt.kv.release"]
        assert engine.actions[1].payload == {"tenant": "default", "session": "s1"}
        assert [(r.policy, r.verdict, r.outcome.status) for r in runtime.rulings] == [
            ("prefix_cache", Verdict.GRANTED, OutcomeStatus.ACCEPTED)
        ] * 2


@pytest.mark.parametrize("how", [{"resumable": True}, {"interrupted": True}])
def test_a_run_that_may_come_back_is_not_released(engine, how):
    """A checkpointer or an interrupt means that the session can go on: it is told, not released."""
    with Runtime(engine) as runtime:
        run_of(runtime, **how)
        assert runtime.flush()
    assert types(engine) == ["agentrt.signal.run_ended"]
    assert engine.actions[0].payload["resumable"] is True


def test_dispatches_are_kept_per_session(engine):
    """dispatches(session) gives that session's edges, oldest first, and nothing of another's."""
    with Runtime(engine) as runtime:
        run_of(runtime, "s1", ("planner", "coder"))
        run_of(runtime, "s2", ("writer",))
        assert runtime.flush()
        assert [(d.source, d.target) for d in runtime.dispatches("s1")] == [
            ("__start__", "planner"),
            ("planner", "coder"),
        ]
        assert runtime.dispatches("nobody") == ()
        assert runtime.dispatches("s1", tenant="other") == ()


def test_tools_and_branches_are_signalled_in_order(engine):
    """Tool signals keep their order and learn how long a tool takes; abandoned invocations are released."""
    with Runtime(engine) as runtime:
        for run_id in ("t1", "t2"):
            common = {"session": S1, "identity": planner(), "tool": "pytest", "tool_run_id": run_id}
            runtime.emit(ToolStarted(at_s=runtime.clock(), **common))
            runtime.emit(ToolEnded(at_s=runtime.clock(), duration_s=2.5, **common))
        runtime.emit(BranchAbandoned(at_s=runtime.clock(), session=S1, workload="team", invocations=("i1",)))
        assert runtime.flush()
    assert types(engine) == [
        "agentrt.signal.tool_started",
        "agentrt.signal.tool_ended",
        "agentrt.signal.tool_started",
        "agentrt.signal.tool_ended",
        "agentrt.signal.branch_abandoned",
        "agentrt.kv.release",
    ]
    assert "expected_s" not in engine.actions[0].payload
    assert engine.actions[2].payload["expected_s"] == 2.5
    assert engine.actions[5].payload["invocation"] == "i1"


def test_declared_edges_become_the_engines_prior(engine):
    """A graph's declared edges are sent once, as a prior of its workload."""
    edges = (Dispatch(source="a", target="b", how="static"),)
    with Runtime(engine) as runtime:
        runtime.emit(StructureDeclared(at_s=runtime.clock(), tenant="default", workload="team", edges=edges))
        assert runtime.flush()
    assert engine.actions[0].payload == {
        "tenant": "default",
        "workload": "team",
        "edges": [{"source": "a", "target": "b", "weight": 1.0}],
    }


def test_the_plan_tells_how_likely_the_agent_calls_again(engine):
    """Once transitions are known, a call carries the probability that its agent is needed again."""
    with Runtime(engine) as runtime:
        assert runtime.plan(planner()).fields() == {"priority": None, "reuse_p": None, "reuse_s": None}
        for i in range(20):
            run_of(runtime, f"past-{i}", ("planner", "coder", "tester", "coder", "tester"))
        runtime.emit(CallStarted(at_s=runtime.clock(), session=S1, identity=planner(agent="planner"), call_id="c"))
        assert runtime.flush()
        assert runtime.plan(planner(agent="coder")).reuse_p > 0.5
        assert runtime.plan(planner(agent="planner")).reuse_p < 0.3


def test_a_cold_likely_anchor_is_warmed_only_while_the_engine_is_idle(engine):
    """The predicted next agent's anchor is prefetched when cold, likely and the engine idle; never when busy."""
    cold = Anchor(tenant="default", workload="team", agent="coder", known_blocks=10, resident_blocks=0)
    settings = Settings(status_period_s=0.01)
    with Runtime(engine, settings=settings) as runtime:
        for i in range(20):
            run_of(runtime, f"past-{i}", ("planner", "coder"))
        assert runtime.flush()
        for running in (1, 0):
            engine.engine_status = engine.engine_status.model_copy(update={"running": running, "anchors": [cold]})
            before = len([t for t in types(engine) if t == "agentrt.kv.prefetch"])
            for _ in range(200):
                runtime.emit(CallStarted(at_s=runtime.clock(), session=S1, identity=planner(), call_id="c"))
                assert runtime.flush()
                warmed = [t for t in types(engine) if t == "agentrt.kv.prefetch"]
                if len(warmed) > before:
                    break
            assert bool(warmed) is (running == 0)
        [ruling] = [r for r in runtime.rulings if r.proposal.kind is ProposalKind.WARM]
        assert ruling.proposal.target.agent == "coder"
        assert ruling.proposal.cost_tokens == 160
        assert "cold" in ruling.why


class Raising(Policy):
    name = "raising"

    def observe(self, event, view):
        raise RuntimeError("mine")

    def act(self, view):
        raise RuntimeError("mine too")


def test_a_policy_that_raises_is_benched_logged_once_and_visible(engine, caplog):
    """A faulty policy loses its votes and is benched after five faults in a row; the others go on."""
    with Runtime(engine, [Raising(), PrefixCache()]) as runtime:
        for i in range(10):
            run_of(runtime, f"s{i}")
        assert runtime.flush()
        stats = runtime.stats()["policies"]
    assert stats["raising"]["benched"] is True
    assert stats["raising"]["faults"] >= 5
    assert stats["prefix_cache"]["granted"] == 20
    assert [r.levelno for r in caplog.records if "raised in" in r.message] == [logging.ERROR]


def test_two_policies_of_one_name_are_refused(engine):
    """Accounts are by name, so names are unique."""
    with pytest.raises(ConfigError, match="two policies are called 'raising'"):
        Runtime(engine, [Raising(), Raising()])


def test_a_dead_engine_costs_only_the_hints(engine, caplog):
    """Emitting goes on; rulings say `undelivered`; it is logged once; after its return actions arrive again."""
    engine.dead = True
    with Runtime(engine) as runtime:
        run_of(runtime, "s1")
        run_of(runtime, "s2")
        assert runtime.flush()
        assert {r.outcome.status for r in runtime.rulings} == {OutcomeStatus.UNDELIVERED}
        assert "no answer" in runtime.stats()["engine"]["last_error"]
        assert len([r for r in caplog.records if "said once" in r.message]) == 1
        engine.dead = False
        run_of(runtime, "s3")
        assert runtime.flush()
        assert runtime.stats()["engine"]["last_error"] is None
    assert {a.payload["session"] for a in engine.actions} == {"s3"}


def test_a_slow_engine_never_blocks_the_application(engine):
    """While the engine holds its answer, events, plans, stats and rulings are available at once."""
    engine.hold.clear()
    settings = Settings(queue_size=16, timeout_s=0.1)
    runtime = Runtime(engine, settings=settings)
    for i in range(200):
        run_of(runtime, f"s{i}")
        runtime.plan(planner(f"s{i}"))
    assert runtime.flush(0.01) is False
    stats = runtime.stats()
    assert stats["events"] + stats["events_dropped"] > 0
    engine.hold.set()
    runtime.close()
    statuses = {r.outcome.status for r in runtime.rulings if r.outcome}
    assert OutcomeStatus.UNDELIVERED in statuses or stats["events_dropped"] > 0


def test_emit_survives_anything(engine):
    """What is no event is counted as a fault at most; the loop goes on."""
    with Runtime(engine) as runtime:
        runtime.emit(CallStarted(at_s=0, session=S1, identity=None, call_id="x"))  # malformed on purpose
        run_of(runtime)
        assert runtime.flush()
        assert "agentrt.kv.release" in types(engine)
        assert sum(runtime.stats()["faults"].values()) == 1


def test_events_from_many_threads_are_all_observed(engine):
    """Sixteen threads emit at once; nothing is lost below the bound."""
    with Runtime(engine) as runtime:
        threads = [threading.Thread(target=run_of, args=(runtime, f"s{i}")) for i in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert runtime.flush()
        assert runtime.stats()["events"] >= 16 * 6
        assert all(len(runtime.dispatches(f"s{i}")) == 2 for i in range(16))


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1:8000/v1/", True),
        ("http://127.0.0.1:8001/v1", False),
        ("https://127.0.0.1:8000/v1", False),
        ("https://api.openai.com/v1", False),
        ("not a url", False),
        ("http://[::1]:8000", True),
        ("http://host:notaport", False),
    ],
)
def test_only_the_engines_own_host_is_carried(url, same):
    """Scheme, host and port must match; loopback names are one host."""
    runtime = Runtime(VLLMEngine("http://localhost:8000"))
    try:
        assert runtime.carries(url) is same
    finally:
        runtime.close()


def test_disabled_means_nothing_at_all(engine):
    """AGENTRT_DISABLED=1: no events, no carried requests, no actions."""
    with Runtime(engine, settings=Settings(disabled=True)) as runtime:
        run_of(runtime)
        assert runtime.flush()
        assert not runtime.carries(engine.base_url)
    assert engine.actions == []


def test_async_users_get_the_same(engine):
    """`async with` closes off the event loop and sends what was queued."""

    async def main():
        async with Runtime(engine) as runtime:
            run_of(runtime)

    asyncio.run(main())
    assert "agentrt.kv.release" in types(engine)


def test_a_url_makes_a_client_with_the_settings_of_its_breaker(caplog):
    """Runtime("http://...") leaves an engine that does not answer alone after as many failures as the settings say."""
    settings = Settings(breaker_failures=1, breaker_reset_s=600, timeout_s=0.2)
    with Runtime("http://127.0.0.1:9", settings=settings) as runtime:
        for i in range(3):
            run_of(runtime, f"s{i}")
            assert runtime.flush()
        assert "left alone" in runtime.stats()["engine"]["last_error"]
        assert {r.outcome.status for r in runtime.rulings} == {OutcomeStatus.UNDELIVERED}


def test_closing_twice_is_fine(engine):
    """close() is idempotent, and a closed runtime takes no more events."""
    runtime = Runtime(engine)
    runtime.close()
    runtime.close()
    run_of(runtime)
    assert engine.actions == []


class Asking(Policy):
    name = "asking"

    def __init__(self, proposals):
        self.proposals = proposals

    def act(self, view):
        asked, self.proposals = self.proposals, []
        return asked


def test_warming_is_budgeted(engine):
    """Proposals beyond the period's token budget are ruled over budget, and say so."""
    wish = {"action_type": "agentrt.kv.prefetch", "reason": "test", "expires_s": float("inf")}
    wishes = [
        Proposal(kind=ProposalKind.WARM, target=Target(agent=f"a{i}"), cost_tokens=60, value=i, **wish)
        for i in range(3)
    ]
    with Runtime(engine, [Asking(wishes)], settings=Settings(warm_budget_tokens=100)) as runtime:
        runtime.emit(RunStarted(at_s=runtime.clock(), session=S1, workload="team"))
        assert runtime.flush()
        verdicts = {r.proposal.target.agent: r.verdict for r in runtime.rulings}
    assert verdicts == {"a2": Verdict.GRANTED, "a1": Verdict.OVER_BUDGET, "a0": Verdict.OVER_BUDGET}
