"""A circuit breaker: an engine that fails several times in a row is left alone for a while.

    closed ──failures in a row──► open ──reset_s──► half-open ──success──► closed
                                   ▲                    │
                                   └──────failure───────┘

Half-open admits one call at a time.
"""

import threading
import time
from collections.abc import Callable


class Breaker:
    """Thread-safe. Every admitted call must be followed by `succeeded()` or `failed()`."""

    def __init__(self, *, failures: int = 3, reset_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.reset_s = reset_s
        self._limit = failures
        self._clock = clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._opened_at: float | None = None
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether the engine is being left alone, or about to be tried again."""
        return self._opened_at is not None

    def admit(self) -> bool:
        """Whether a call may be made now."""
        with self._lock:
            if self._opened_at is None:
                return True
            if self._trying or self._clock() - self._opened_at < self.reset_s:
                return False
            self._trying = True
            return True

    def succeeded(self) -> bool:
        """The engine answered. True when this closed the circuit."""
        with self._lock:
            reconnected = self._opened_at is not None
            self._in_a_row = 0
            self._opened_at = None
            self._trying = False
            return reconnected

    def failed(self) -> bool:
        """The engine did not answer. True when this opened the circuit for the first time."""
        with self._lock:
            was_open = self._opened_at is not None
            self._in_a_row += 1
            self._trying = False
            if was_open or self._in_a_row >= self._limit:
                self._opened_at = self._clock()
            return self._opened_at is not None and not was_open
