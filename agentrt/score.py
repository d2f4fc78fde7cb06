"""Score, the third primitive: a value per item for a decision somebody is about to take.

One policy may own a kind of decision; where several vote, each vote is rank-normalised (so that scales
do not matter) and summed with weights. Nobody votes: the engine's own order stands.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class DecisionKind(StrEnum):
    """The questions agentrt answers."""

    KV_ORDER = "kv_order"
    REQUEST_ORDER = "request_order"
    REPLICA = "replica"
    TOOL_REUSE = "tool_reuse"
    ADMISSION = "admission"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One candidate of a decision, with whatever features its kind defines."""

    id: str
    features: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A question: order these items. Higher scores are kept, served or chosen first."""

    kind: DecisionKind


def merge(votes: Mapping[str, Sequence[float]], weights: Mapping[str, float] | None = None) -> list[float] | None:
    """Merge scores per policy name into one list, or None when nobody voted.

    A single vote passes through unchanged. Several are rank-normalised to [0, 1] (equal scores share a rank)
    and summed with their weights. Raises ValueError for a vote that is not finite or not aligned.
    """
    if not votes:
        return None
    lengths = {len(scores) for scores in votes.values()}
    if len(lengths) > 1:
        raise ValueError(f"votes differ in length: {sorted(lengths)}")
    if any(not math.isfinite(score) for scores in votes.values() for score in scores):
        raise ValueError("scores must be finite")
    if len(votes) == 1:
        return list(next(iter(votes.values())))
    weights = weights or {}
    totals = [0.0] * lengths.pop()
    for name in sorted(votes):
        for index, rank in enumerate(_ranks(votes[name])):
            totals[index] += weights.get(name, 1.0) * rank
    return totals


def _ranks(scores: Sequence[float]) -> list[float]:
    distinct = {score: rank for rank, score in enumerate(sorted(set(scores)))}
    top = max(len(distinct) - 1, 1)
    return [distinct[score] / top for score in scores]
