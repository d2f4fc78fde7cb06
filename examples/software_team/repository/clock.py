"""Time, passed in, so that a test can replace it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime


def monotonic_s() -> float:
    """Seconds that only ever go forward; compare them, never print them."""
    return time.monotonic()


def today_utc() -> date:
    """The day as our customers' contracts mean it, whatever the server's time zone."""
    return datetime.now(tz=UTC).date()


@dataclass
class ManualClock:
    """A clock for tests: it stands still until it is moved, and then everything due happens in order."""

    now_s: float = 0.0
    due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def call_at(self, at_s: float, action: Callable[[], None]) -> None:
        """Note what should happen at a time, however late it is read."""
        self.due.append((at_s, action))
        self.due.sort(key=lambda entry: entry[0])

    def advance(self, by_s: float) -> None:
        """Move on, step by step, and run each action with the clock at its own time."""
        end_s = self.now_s + by_s
        while self.due and self.due[0][0] <= end_s:
            self.now_s, action = self.due.pop(0)
            action()
        self.now_s = end_s
