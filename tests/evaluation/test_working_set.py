"""The live working set counts what live sessions would find again, once."""

import pytest

from agentrt.evaluation.measure import CallRecord, LoadResult, SessionRecord
from agentrt.evaluation.working_set import live_working_set_tokens


def _call(session: str, at_s: float, *segments: tuple[int, int]) -> CallRecord:
    tokens = sum(length for _, length in segments)
    return CallRecord(session=session, agent="a", started_s=at_s, prompt_tokens=tokens, segments=segments)


def _session(name: str, start_s: float, end_s: float) -> SessionRecord:
    return SessionRecord(session=name, started_s=start_s, ended_s=end_s)


def test_shared_prefixes_count_once():
    """Two live sessions with one system prompt hold it once, and their own parts each."""
    calls = [_call("x", 0.0, (1, 100), (2, 30)), _call("y", 0.0, (1, 100), (3, 50))]
    result = LoadResult(calls=calls, sessions=[_session("x", 0, 10), _session("y", 0, 10)])
    assert live_working_set_tokens(result) == pytest.approx(180)


def test_ended_sessions_count_no_more():
    """The mean is over time: a session that ended half way counts half."""
    calls = [_call("x", 0.0, (1, 100)), _call("y", 0.0, (2, 100))]
    result = LoadResult(calls=calls, sessions=[_session("x", 0, 5), _session("y", 0, 10)])
    assert live_working_set_tokens(result) == pytest.approx(150)


def test_only_the_latest_prompt_of_an_agent_counts():
    """A prompt that grew replaces the one before."""
    calls = [_call("x", 0.0, (1, 100)), _call("x", 5.0, (1, 100), (2, 100))]
    assert live_working_set_tokens(LoadResult(calls=calls, sessions=[_session("x", 0, 10)])) == pytest.approx(150)


def test_nothing_ran():
    """An empty pass has no working set."""
    assert live_working_set_tokens(LoadResult()) == 0.0
