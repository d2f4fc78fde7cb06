"""The demo on the embedded engine: two real passes, compared."""

import json

import pytest

SMALL = ("--sessions", "14", "--concurrency", "7", "--time-scale", "0.5", "--max-tokens", "24", "--blocks", "520")
FIGURES = {"hit_rate", "prefill_tokens", "ttft_mean_s", "ttft_p50_s", "ttft_p99_s", "sessions_per_min"}


@pytest.fixture(autouse=True)
def _a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def test_json_of_a_small_run(agentrt, tmp_path):
    """--json prints one JSON object and nothing else; under pressure agentrt serves more from cache than stock."""
    picture = tmp_path / "demo.svg"
    said = agentrt("demo", "--json", *SMALL, "--picture", str(picture))
    assert said.code == 0
    assert said.err == ""
    data = json.loads(said.out)
    stock, ours = data["modes"]["stock"], data["modes"]["agentrt"]
    assert set(stock) >= FIGURES
    assert set(data["ratios"]) == FIGURES
    assert data["engine"]["engine"] == "embedded"
    assert data["settings"]["seed"] == 0
    # Replies depend on the prompt alone, so both passes held the same conversations.
    assert (stock["calls"], stock["prompt_tokens"]) == (ours["calls"], ours["prompt_tokens"])
    assert stock["failed_sessions"] == ours["failed_sessions"] == 0
    assert ours["hit_rate"] > stock["hit_rate"]
    assert ours["prefill_tokens"] < stock["prefill_tokens"]
    assert any("14 run ended" in line for line in data["why"])
    assert "stock" in picture.read_text(encoding="utf-8")


def test_the_table_of_alternating_passes(agentrt):
    """Without --json there is a table, the reasons, and with --repeat the spread; progress goes to stderr."""
    said = agentrt(
        "demo", "--sessions", "2", "--concurrency", "2", "--time-scale", "0.05", "--repeat", "2", "--max-tokens", "9"
    )
    assert said.code == 0
    for told in ("hit rate", "prefill tokens", "TTFT p99", "sessions per minute", "Ratios of the 2 pairs"):
        assert told in said.out
    assert "Engine: embedded" in said.err
    assert "agentrt 2" in said.err


def test_no_pressure_no_gain(agentrt):
    """With room for everything both modes compute the same, and the demo says so."""
    said = agentrt(
        "demo", "--json", "--sessions", "4", "--concurrency", "1", "--time-scale", "0.05", "--blocks", "8000"
    )
    data = json.loads(said.out)
    assert data["ratios"]["prefill_tokens"] == 1.0
    assert any("evicted nothing" in line for line in data["why"])
    assert any("little to gain" in line for line in data["why"])


def test_a_pool_too_small_for_any_prompt(agentrt):
    """When no conversation completes there is no comparison: exit code 1 and the server's reason."""
    said = agentrt("demo", "--sessions", "2", "--concurrency", "1", "--time-scale", "0.05", "--blocks", "64")
    assert (said.code, said.out) == (1, "")
    assert "no conversation completed in mode stock" in said.err
