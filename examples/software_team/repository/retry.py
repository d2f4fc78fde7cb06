"""Call again what may work the next time, with growing pauses and an end."""

import random
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def pauses_s(*, first_s: float, factor: float, most_s: float, attempts: int, rng: random.Random) -> list[float]:
    """The pauses between attempts: each longer than the one before, with jitter, so that callers spread out."""
    pauses, pause_s = [], first_s
    for _ in range(attempts - 1):
        pauses.append(min(pause_s, most_s) * rng.uniform(0.5, 1.0))
        pause_s *= factor
    return pauses


def retry(
    call: Callable[[], Result],
    *,
    on: type[Exception] | tuple[type[Exception], ...],
    waits_s: list[float],
    sleep: Callable[[float], None],
) -> Result:
    """The first result, or the last error when every attempt failed; other errors leave at once."""
    for wait_s in waits_s:
        try:
            return call()
        except on:
            sleep(wait_s)
    return call()
