"""A comparison as a picture: how long callers waited, and what was served from cache."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from agentrt.errors import ConfigError
from agentrt.evaluation.report import AGENTRT, STOCK

_COLOURS = {STOCK: "#8c8c8c", AGENTRT: "#1f77b4"}


def check_picture_path(path: Path) -> None:
    """Refuse a path that matplotlib cannot write, before an hour of measuring; raise ConfigError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional

    formats = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in formats:
        raise ConfigError(f"--picture {path}: the name must end in one of {', '.join(sorted(formats))}")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--picture {path}: there is no folder {path.absolute().parent}")


def draw(path: Path, *, ttfts_s: Mapping[str, Sequence[float]], hit_rates: Mapping[str, float | None]) -> None:
    """Draw the distribution of time to first token and the hit rate of both modes into a file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter  # noqa: PLC0415

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    waits, hits = figure.subplots(1, 2, width_ratios=(2.2, 1))
    for mode in (STOCK, AGENTRT):
        ordered = sorted(ttfts_s[mode])
        share = [100 * (rank + 1) / len(ordered) for rank in range(len(ordered))]
        waits.step([1000 * wait_s for wait_s in ordered], share, where="post", label=mode, color=_COLOURS[mode])
        rate = 100 * (hit_rates[mode] or 0.0)
        bar = hits.bar([mode], [rate], color=_COLOURS[mode])
        hits.bar_label(bar, labels=[f"{rate:.1f} %"])
    waits.set(xlabel="time to first token (ms)", ylabel="calls at or below (%)", ylim=(0, 100), xscale="log")
    waits.xaxis.set_major_formatter(ScalarFormatter())
    waits.xaxis.set_minor_formatter(NullFormatter())
    waits.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    waits.grid(alpha=0.3)
    waits.legend(loc="lower right")
    hits.set(ylabel="prompt tokens served from cache (%)", ylim=(0, 100))
    figure.savefig(path, dpi=150)
