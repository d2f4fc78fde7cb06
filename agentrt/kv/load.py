"""How hard the cache is pressed: its characteristic time, and how long ago a block was freed."""

from bisect import bisect_left
from collections import deque
from operator import itemgetter

_EMA = 0.3
_SHORTEST_S, _LONGEST_S = 0.05, 3600.0


class CacheLoad:
    """Measured once per round, from blocks allocated since the last one."""

    def __init__(self, num_blocks: int, now: float) -> None:
        self._num_blocks = num_blocks
        self._allocated = 0
        self._round_s = now
        self._rounds: deque[tuple[int, float]] = deque(maxlen=512)
        self.cache_time_s = 60.0
        """Mean time a block stays cached under the present load: the pool over the rate of allocation."""

    def allocated(self, blocks: int) -> None:
        """That many blocks were handed out."""
        self._allocated += blocks

    def round(self, free_time: int, now: float) -> None:
        """A round ends. `free_time` is the queue's count of frees so far."""
        elapsed_s, self._round_s = now - self._round_s, now
        if elapsed_s > 0 and self._allocated:
            current_s = min(max(self._num_blocks * elapsed_s / self._allocated, _SHORTEST_S), _LONGEST_S)
            self.cache_time_s += _EMA * (current_s - self.cache_time_s)
        self._allocated = 0
        self._rounds.append((free_time, now))

    def age_s(self, free_time: int, now: float) -> float:
        """Seconds since the free counted as `free_time`, to the resolution of a round."""
        later = bisect_left(self._rounds, free_time, key=itemgetter(0))
        return now - self._rounds[later][1] if later < len(self._rounds) else 0.0
