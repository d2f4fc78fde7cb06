"""The load generator drives real graphs and loses no failure."""

import threading

import pytest

from agentrt.errors import ConfigError
from agentrt.evaluation.load import LoadGenerator, LoadPlan
from agentrt.evaluation.report import ModeResult


def _inputs(number: int) -> dict[str, str]:
    return {"text": "fail" if number == 2 else f"hello {number}"}


@pytest.mark.parametrize("drive", ["threads", "asyncio"])
def test_every_session_is_recorded(graph, drive):
    """Each conversation leaves one record, failed ones with their error, and its calls carry agent and session."""
    plan = LoadPlan(sessions=6, concurrency=3, drive=drive, name="talk")
    result = LoadGenerator(graph, _inputs, plan).run()
    assert {s.session for s in result.sessions} == {f"talk-{n}" for n in range(6)}
    assert [(s.session, s.error) for s in result.sessions if s.error] == [("talk-2", "ValueError: no answer to fail")]
    assert {(c.session, c.agent) for c in result.calls} == {(f"talk-{n}", "writer") for n in range(6)}
    summary = ModeResult.of([result])
    assert (summary.calls, summary.failed_calls, summary.failed_sessions) == (6, 1, 1)
    assert summary.errors == ["ValueError: no answer to fail"]
    assert summary.hit_rate == 0.75
    assert summary.prefill_tokens == 5 * 25


def test_no_more_sessions_run_at_once_than_asked():
    """`concurrency` bounds the live conversations."""
    inside, most, lock, both = 0, 0, threading.Lock(), threading.Barrier(2, timeout=10)

    class Graph:
        def invoke(self, *_: object) -> None:
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            both.wait()
            with lock:
                inside -= 1

    LoadGenerator(Graph(), lambda _: {}, LoadPlan(sessions=8, concurrency=2)).run()
    assert most == 2


def test_ttft_ends_at_the_first_chunk(graph, ticks):
    """Time to first token runs from the call's start to the first chunk, not to the last."""
    result = LoadGenerator(graph, _inputs, LoadPlan(sessions=1, concurrency=1), clock=ticks).run()
    (call,) = result.calls
    assert call.ttft_s == 1.0
    assert call.ended_s == call.started_s + 2.0


def test_missing_usage_is_counted(graph):
    """A server that reports no usage leaves no hit rate, and the calls it hid are counted."""
    result = LoadGenerator(graph, lambda _: {"text": "silent"}, LoadPlan(sessions=3, concurrency=1)).run()
    summary = ModeResult.of([result])
    assert summary.hit_rate is None
    assert summary.calls_without_usage == 3
    assert summary.failed_calls == 0


def test_poisson_arrivals_are_seeded():
    """The same seed starts conversations at the same times, in order, at about the rate asked for."""
    plan = LoadPlan(sessions=2000, concurrency=4, seed=3, arrivals="poisson", rate_per_s=10.0)
    offsets = plan.offsets_s()
    assert offsets == plan.offsets_s()
    assert offsets == sorted(offsets)
    assert 0.9 < offsets[-1] / 200 < 1.1
    assert LoadPlan(sessions=3, concurrency=1).offsets_s() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"sessions": 0, "concurrency": 1},
        {"sessions": 1, "concurrency": 0},
        {"sessions": 1, "concurrency": 1, "arrivals": "poisson"},
    ],
)
def test_plans_that_mean_nothing_are_refused(wrong):
    """A plan without sessions, concurrency or rate is a ConfigError."""
    with pytest.raises(ConfigError, match=r"at least 1|rate above 0"):
        LoadPlan(**wrong)


def test_progress_is_told_after_each_session(graph):
    """The caller sees every conversation end."""
    seen = []
    plan = LoadPlan(sessions=4, concurrency=2)
    LoadGenerator(graph, _inputs, plan, on_progress=lambda result: seen.append(len(result.sessions))).run()
    assert len(seen) == 4
    assert max(seen) == 4
