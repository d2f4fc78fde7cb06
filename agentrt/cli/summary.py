"""From the passes of a demo to one comparison: figures, settings, and why."""

from collections.abc import Sequence
from typing import Any

from agentrt.cli.passes import Demo, PassOutcome
from agentrt.cli.why import Evidence, gain_line
from agentrt.evaluation.measure import LoadResult
from agentrt.evaluation.report import AGENTRT, COMPARED, STOCK, Comparison, ModeResult, ratios_of
from agentrt.evaluation.working_set import live_working_set_tokens

LEAST_PRESSURE = 1.0
"""Pools beyond this share of the live working set hold it all."""


def compare(demo: Demo, outcomes: Sequence[PassOutcome]) -> Comparison:
    """Sum up passes that alternate stock, agentrt."""
    stock, ours = _loads(outcomes, STOCK), _loads(outcomes, AGENTRT)
    pairs = [
        ratios_of(ModeResult.of([before]), ModeResult.of([after])) for before, after in zip(stock, ours, strict=True)
    ]
    capabilities = outcomes[-1].capabilities
    working_set = sum(live_working_set_tokens(load) for load in stock) / len(stock)
    pool_tokens = capabilities.num_blocks * capabilities.block_size_tokens
    pressure = pool_tokens / working_set if working_set else None
    return Comparison(
        stock=ModeResult.of(stock),
        agentrt=ModeResult.of(ours),
        engine={**capabilities.model_dump(exclude={"actions"}), "model": demo.model, "base_url": demo.options.base_url},
        settings={**_settings(demo, repeat=len(pairs)), "working_set_tokens": working_set, "pool_share": pressure},
        why=_why(outcomes, pressure, pairs),
        pairs=pairs,
    )


def _settings(demo: Demo, *, repeat: int) -> dict[str, Any]:
    options = demo.options
    common = {
        "sessions": options.sessions,
        "concurrency": options.concurrency,
        "seed": options.seed,
        "repeat": repeat,
        "max_tokens": options.max_tokens,
        "use_tools": options.use_tools,
    }
    return common if options.base_url else {**common, "time_scale": options.time_scale}


def _why(
    outcomes: Sequence[PassOutcome], pressure: float | None, pairs: Sequence[dict[str, float | None]]
) -> list[str]:
    evidence = Evidence.total([outcome.evidence for outcome in outcomes if outcome.evidence is not None])
    lines = evidence.lines()
    gain = gain_line(_loads(outcomes, STOCK), _loads(outcomes, AGENTRT))
    if gain is not None:
        lines.append(gain)
    if pressure is not None:
        told = f"The pool holds {pressure:.2f} of the live working set"
        lines.append(
            f"{told}." if pressure < LEAST_PRESSURE else f"{told}: there is little to evict, and little to gain."
        )
    if len(pairs) > 1:
        lines.append(f"Ratios of the {len(pairs)} pairs, least to most: {_spread(pairs)}.")
    return lines


def _spread(pairs: Sequence[dict[str, float | None]]) -> str:
    told = []
    for name in COMPARED:
        values = sorted(value for pair in pairs if (value := pair[name]) is not None)
        if values:
            told.append(f"{name} {values[0]:.2f}-{values[-1]:.2f}")
    return ", ".join(told)


def _loads(outcomes: Sequence[PassOutcome], mode: str) -> list[LoadResult]:
    return [outcome.load for outcome in outcomes if outcome.mode == mode]
