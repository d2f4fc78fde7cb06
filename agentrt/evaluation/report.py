"""Figures of a comparison: one result per mode, their ratios, as JSON and as a table."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from agentrt.evaluation.measure import CallRecord, LoadResult

if TYPE_CHECKING:
    from rich.table import Table

STOCK, AGENTRT = "stock", "agentrt"

COMPARED = ("hit_rate", "prefill_tokens", "ttft_mean_s", "ttft_p50_s", "ttft_p99_s", "sessions_per_min")
"""What every comparison shows, in this order, each with its ratio agentrt / stock."""

_TITLES = {
    "hit_rate": ("hit rate", "{:.1%}"),
    "prefill_tokens": ("prefill tokens", "{:,.0f}"),
    "ttft_mean_s": ("TTFT mean", "{:.3f} s"),
    "ttft_p50_s": ("TTFT p50", "{:.3f} s"),
    "ttft_p99_s": ("TTFT p99", "{:.3f} s"),
    "sessions_per_min": ("sessions per minute", "{:.1f}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeResult:
    """One mode's figures over all its passes. None: nothing was measured that could tell."""

    hit_rate: float | None
    """Prompt tokens served from cache / prompt tokens."""
    prefill_tokens: int
    """Prompt tokens that had to be computed."""
    ttft_mean_s: float | None
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    sessions_per_min: float
    """Sessions that completed, per minute of wall time."""
    session_p50_s: float | None
    calls: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    failed_calls: int
    failed_sessions: int
    calls_without_usage: int
    """Calls that succeeded, but whose server did not say how many tokens they had; missing in the token figures."""
    wall_s: float
    errors: list[str] = field(default_factory=list)
    """Distinct failures, first seen first, at most ten."""

    @classmethod
    def of(cls, passes: Sequence[LoadResult]) -> "ModeResult":
        """Sum up one mode's passes."""
        calls = [call for result in passes for call in result.calls]
        sessions = [session for result in passes for session in result.sessions]
        done = [session for session in sessions if session.error is None]
        told = [call for call in calls if call.prompt_tokens is not None]
        prompt, cached = sum(c.prompt_tokens or 0 for c in told), sum(c.cached_tokens or 0 for c in told)
        ttfts = sorted(ttfts_s(calls))
        wall_s = sum(result.wall_s for result in passes)
        return cls(
            hit_rate=cached / prompt if prompt else None,
            prefill_tokens=prompt - cached,
            ttft_mean_s=sum(ttfts) / len(ttfts) if ttfts else None,
            ttft_p50_s=percentile(ttfts, 50),
            ttft_p99_s=percentile(ttfts, 99),
            sessions_per_min=60 * len(done) / wall_s if wall_s > 0 else 0.0,
            session_p50_s=percentile(sorted(s.ended_s - s.started_s for s in done), 50),
            calls=len(calls),
            prompt_tokens=prompt,
            cached_tokens=cached,
            output_tokens=sum(c.output_tokens or 0 for c in told),
            failed_calls=sum(c.error is not None for c in calls),
            failed_sessions=len(sessions) - len(done),
            calls_without_usage=sum(c.prompt_tokens is None and c.error is None for c in calls),
            wall_s=wall_s,
            errors=list(dict.fromkeys(e for e in [*(c.error for c in calls), *(s.error for s in sessions)] if e))[:10],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Stock against agentrt, on one engine, with the settings that a number is meaningless without."""

    stock: ModeResult
    agentrt: ModeResult
    engine: Mapping[str, Any]
    settings: Mapping[str, Any]
    why: Sequence[str] = ()
    pairs: Sequence[Mapping[str, float | None]] = ()
    """Ratios of each pair of passes, where there was more than one; their spread is the noise."""

    def ratios(self) -> dict[str, float | None]:
        """Every compared figure of agentrt divided by stock's."""
        return ratios_of(self.stock, self.agentrt)

    def to_json(self) -> dict[str, Any]:
        """The whole comparison as plain data."""
        return {
            "modes": {STOCK: asdict(self.stock), AGENTRT: asdict(self.agentrt)},
            "ratios": self.ratios(),
            "engine": dict(self.engine),
            "settings": dict(self.settings),
            "why": list(self.why),
            "pairs": [dict(pair) for pair in self.pairs],
        }

    def table(self) -> "Table":
        """The comparison for people; needs rich (extra `demo`)."""
        from rich.table import Table  # noqa: PLC0415 - optional

        table = Table(title="software_team, stock and agentrt in turn", title_justify="left")
        for column in ("", STOCK, AGENTRT, "ratio"):
            table.add_column(column, justify="left" if not column else "right")
        ratios = self.ratios()
        for name in COMPARED:
            title, form = _TITLES[name]
            stock, ours, ratio = getattr(self.stock, name), getattr(self.agentrt, name), ratios[name]
            table.add_row(title, _shown(form, stock), _shown(form, ours), _shown("{:.2f}x", ratio))
        if self.stock.failed_sessions or self.agentrt.failed_sessions:
            table.add_row("failed sessions", str(self.stock.failed_sessions), str(self.agentrt.failed_sessions), "")
        return table


def ratios_of(stock: ModeResult, ours: ModeResult) -> dict[str, float | None]:
    """Divide ours by stock; None where either is missing or stock is 0."""
    return {name: _ratio(getattr(stock, name), getattr(ours, name)) for name in COMPARED}


def ttfts_s(calls: Iterable[CallRecord]) -> list[float]:
    """Times to first token of the calls that had one and succeeded."""
    return [call.ttft_s for call in calls if call.ttft_s is not None and call.error is None]


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The percentile of ascending values, linear between neighbours; None of nothing."""
    if not ordered:
        return None
    place = (len(ordered) - 1) * percent / 100
    below, above = math.floor(place), math.ceil(place)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _ratio(stock: float | None, ours: float | None) -> float | None:
    return None if stock is None or ours is None or stock == 0 else ours / stock


def _shown(form: str, value: float | None) -> str:
    return "-" if value is None else form.format(value)
