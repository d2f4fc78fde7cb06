"""Filler text: plain words in a seeded order, about four characters a token like any prose."""

import random

_TEXT = (
    "the plan covers each module and its tests so that a change in one part does not break another we read the "
    "input first check its shape then build the result step by step while errors are kept close to where they "
    "happen a small function with one clear purpose is easier to review than a long one with many branches the "
    "next step is to write the missing case run it again and compare with what was expected before moving on "
    "results look stable under load memory stays flat and latency follows the queue as it should"
)
_WORDS = _TEXT.split()


def words(rng: random.Random, count: int) -> str:
    """`count` words."""
    return " ".join(rng.choices(_WORDS, k=count))


def sentences(rng: random.Random, count: int) -> str:
    """`count` words in sentences of about twelve."""
    parts = []
    while count > 0:
        length = min(rng.randint(8, 16), count)
        parts.append(words(rng, length).capitalize() + ".")
        count -= length
    return " ".join(parts)
