"""Precision and recall of dispatches, as sets of edges and as counts."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.identity.runs import MODES, Observation
from tests.identity.truth import Edge

SET_LIMITS = {"static": 0.995, "callbacks": 0.95}
"""Precision and recall of edge sets, by what is known of the graph."""

COUNT_LIMITS = {"without_send": 0.99, "with_send": 0.97}
"""Precision and recall of edge counts where the structure is known."""


@dataclass
class Score:
    """True positives, false positives and false negatives."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    @property
    def precision(self) -> float:
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else 1.0

    @property
    def recall(self) -> float:
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else 1.0

    def add(self, truth: Counter[Edge], told: Counter[Edge]) -> None:
        self.tp += (truth & told).total()
        self.fp += (told - truth).total()
        self.fn += (truth - told).total()

    def holds(self, limit: float) -> bool:
        return self.precision >= limit and self.recall >= limit

    def to_json(self) -> dict[str, Any]:
        return {
            "precision": round(self.precision, 5),
            "recall": round(self.recall, 5),
            "tp": self.tp,
            "fp": self.fp,
            "fn": self.fn,
        }


def edge_sets(observations: Iterable[Observation], mode: str) -> Score:
    """Whether an edge was seen at all, graph by graph."""
    score = Score()
    for seen in observations:
        score.add(Counter(set(seen.truth)), Counter(set(seen.told[mode])))
    return score


def edge_counts(observations: Iterable[Observation], mode: str) -> Score:
    """How often it was seen."""
    score = Score()
    for seen in observations:
        score.add(seen.truth, seen.told[mode])
    return score


def report(observations: list[Observation]) -> dict[str, Any]:
    """Scores by mode, and by kind of graph."""
    kinds = sorted({seen.kind for seen in observations})
    return {mode: _mode(observations, mode, kinds) for mode in MODES}


def _mode(observations: list[Observation], mode: str, kinds: list[str]) -> dict[str, Any]:
    parts = {
        "all": observations,
        "sync": [seen for seen in observations if not seen.is_async],
        "async": [seen for seen in observations if seen.is_async],
    } | {kind: [seen for seen in observations if seen.kind == kind] for kind in kinds}
    counted = {
        "without_send": [seen for seen in observations if not seen.has_sends],
        "with_send": [seen for seen in observations if seen.has_sends],
    }
    return {
        "sets": {name: edge_sets(part, mode).to_json() for name, part in parts.items()},
        "counts": {name: edge_counts(part, mode).to_json() for name, part in counted.items()},
    }


def broken_limits(observations: list[Observation]) -> list[str]:
    """The limits that do not hold, in words."""
    broken = [
        f"edge sets, {mode}: below {limit}"
        for mode, limit in SET_LIMITS.items()
        if not edge_sets(observations, mode).holds(limit)
    ]
    for name, limit in COUNT_LIMITS.items():
        part = [seen for seen in observations if seen.has_sends == (name == "with_send")]
        if not edge_counts(part, "static").holds(limit):
            broken.append(f"edge counts, static, {name}: below {limit}")
    return broken
