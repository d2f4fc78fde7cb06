"""Time to next call: an online histogram of idle gaps, with survival.

Bins are logarithmic (0.05 s x 1.35^b, 40 bins: 50 ms to 2 h), so that one learner serves tools of a tenth of a second
and people of half an hour. Old gaps fade, so that a change of workload is followed.
"""

import math
from itertools import accumulate

_FIRST_S = 0.05
_RATIO = 1.35
_BINS = 40
_FADE_AT = 2048.0
"""Counts are halved at this total."""


class Gaps:
    """Distribution of seconds between the end of a session's call and its next call."""

    def __init__(self) -> None:
        # One pseudo-observation spread over all bins: everything is possible before the first gap.
        self._counts = [1.0 / _BINS] * _BINS
        self._total = 1.0
        self._at_least: list[float] | None = None

    def learn_one(self, gap_s: float) -> None:
        """Count one gap."""
        self._counts[_bin(gap_s)] += 1.0
        self._total += 1.0
        self._at_least = None
        if self._total > _FADE_AT:
            self._counts = [n / 2 for n in self._counts]
            self._total /= 2

    def survival(self, idle_s: float) -> float:
        """P(gap > idle_s), for a session that does go on."""
        if self._at_least is None:
            tails = list(accumulate(reversed(self._counts)))
            self._at_least = [*reversed(tails), 0.0]
        here = _bin(idle_s)
        low = _FIRST_S * _RATIO**here if here else 0.0
        width = _FIRST_S * _RATIO ** (here + 1) - low
        inside = min(max((idle_s - low) / width, 0.0), 1.0)
        tail = self._at_least[here] * (1 - inside) + self._at_least[here + 1] * inside
        return min(tail / self._total, 1.0)

    def quantile(self, p: float) -> float:
        """The gap not exceeded with probability `p`, seconds (upper edge of its bin)."""
        wanted, seen = p * self._total, 0.0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return _FIRST_S * _RATIO ** (index + 1)
        return _FIRST_S * _RATIO**_BINS


def _bin(seconds: float) -> int:
    if seconds <= _FIRST_S:
        return 0
    return min(int(math.log(seconds / _FIRST_S) / math.log(_RATIO)), _BINS - 1)
