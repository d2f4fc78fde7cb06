"""Figures, ratios, and what is said when there is nothing to say."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agentrt.errors import ConfigError
from agentrt.evaluation.measure import CallRecord, LoadResult, SessionRecord
from agentrt.evaluation.picture import check_picture_path, draw
from agentrt.evaluation.report import COMPARED, Comparison, ModeResult, percentile


def _load(*, cached: int, ttft_s: float, sessions: int = 2) -> LoadResult:
    calls = [
        CallRecord(
            session=f"s{n}",
            agent="coder",
            started_s=0.0,
            ended_s=1.0,
            ttft_s=ttft_s,
            prompt_tokens=100,
            cached_tokens=cached,
            output_tokens=7,
        )
        for n in range(sessions)
    ]
    done = [SessionRecord(session=f"s{n}", started_s=0.0, ended_s=3.0) for n in range(sessions)]
    return LoadResult(calls=calls, sessions=done, wall_s=6.0)


def _comparison() -> Comparison:
    return Comparison(
        stock=ModeResult.of([_load(cached=40, ttft_s=0.2)]),
        agentrt=ModeResult.of([_load(cached=80, ttft_s=0.1)]),
        engine={"engine": "embedded"},
        settings={"seed": 0},
        why=["because"],
    )


def test_percentiles_of_known_values():
    """Percentiles are linear between neighbours."""
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentile([float(n) for n in range(101)], 99) == 99.0
    assert percentile([5.0], 99) == 5.0
    assert percentile([], 50) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0, 100), st.floats(0, 100))
def test_percentiles_rise_and_stay_inside(values, one, other):
    """A higher percentile is never lower, and none leaves the range of the values."""
    ordered = sorted(values)
    low, high = (percentile(ordered, p) for p in sorted((one, other)))
    assert ordered[0] - 1e-6 <= low <= high + 1e-6 <= ordered[-1] + 2e-6


def test_figures_of_a_mode():
    """Hit rate, prefill, waits and throughput follow from the records; several passes add up."""
    one = ModeResult.of([_load(cached=40, ttft_s=0.2)])
    assert (one.hit_rate, one.prefill_tokens, one.prompt_tokens) == (0.4, 120, 200)
    assert (one.ttft_mean_s, one.ttft_p50_s, one.ttft_p99_s) == (0.2, 0.2, 0.2)
    assert (one.sessions_per_min, one.session_p50_s, one.output_tokens) == (20.0, 3.0, 14)
    two = ModeResult.of([_load(cached=40, ttft_s=0.2), _load(cached=80, ttft_s=0.2)])
    assert two.hit_rate == pytest.approx(0.6)
    assert (two.prefill_tokens, two.sessions_per_min) == (160, 20.0)


def test_failed_calls_leave_the_waits_alone():
    """A call that failed after its first chunk counts as a failure and not as a wait."""
    load = _load(cached=40, ttft_s=0.2)
    load.calls[0].error = "Boom: no"
    result = ModeResult.of([load])
    assert (result.failed_calls, result.errors) == (1, ["Boom: no"])
    assert result.ttft_mean_s == 0.2


def test_nothing_measured_is_not_zero():
    """An empty pass has no hit rate and no waits."""
    empty = ModeResult.of([LoadResult()])
    assert (empty.hit_rate, empty.ttft_mean_s, empty.session_p50_s) == (None, None, None)
    assert empty.sessions_per_min == 0.0


def test_ratios_are_ours_to_stock():
    """A ratio is agentrt / stock, and None where stock has nothing."""
    ratios = _comparison().ratios()
    assert list(ratios) == list(COMPARED)
    assert ratios["hit_rate"] == pytest.approx(2.0)
    assert ratios["prefill_tokens"] == pytest.approx(1 / 3)
    assert ratios["ttft_p99_s"] == pytest.approx(0.5)
    nothing = Comparison(stock=ModeResult.of([LoadResult()]), agentrt=_comparison().agentrt, engine={}, settings={})
    assert set(nothing.ratios().values()) == {None}


def test_json_has_what_was_promised():
    """The JSON holds both modes, the ratios and the engine, and survives a round trip."""
    data = json.loads(json.dumps(_comparison().to_json()))
    assert set(data["modes"]) == {"stock", "agentrt"}
    assert set(COMPARED) <= set(data["modes"]["stock"])
    assert set(data["ratios"]) == set(COMPARED)
    assert data["engine"] == {"engine": "embedded"}
    assert data["why"] == ["because"]


def test_the_table_shows_every_figure():
    """The table has a row per compared figure, with its ratio."""
    console = Console(width=100, file=io.StringIO())
    console.print(_comparison().table())
    text = console.file.getvalue()
    for told in ("hit rate", "40.0%", "80.0%", "2.00x", "TTFT p99", "0.100 s", "sessions per minute"):
        assert told in text


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_picture_is_drawn(tmp_path, suffix):
    """Both modes end up in a file of the kind the name asks for, even when one measured nothing."""
    path = tmp_path / f"demo.{suffix}"
    check_picture_path(path)
    draw(path, ttfts_s={"stock": [0.1, 0.3], "agentrt": []}, hit_rates={"stock": 0.4, "agentrt": None})
    assert path.stat().st_size > 1000


@pytest.mark.parametrize("name", ["demo.txt", "demo", "nowhere/demo.png"])
def test_paths_that_cannot_be_drawn_are_refused_first(tmp_path, name):
    """A wrong picture path is a ConfigError before anything runs."""
    with pytest.raises(ConfigError, match="--picture"):
        check_picture_path(tmp_path / name)
