"""The roles' system prompts, and the words that decide where the work goes next.

A prompt is static text: it is the part of every request that all conversations of a role share. Which verdicts a
role may give is written in its prompt alone, on the line `Reply with one of: PASS (0.55), FAIL (0.45)`.
"""

import hashlib
import re
from pathlib import Path

ROLES = ("planner", "architect", "coder", "tester", "reviewer", "documenter")

_FOLDER = Path(__file__).parent / "roles"
_VERDICT_LINE = re.compile(r"^Reply with one of:(.*)$", re.MULTILINE)
_VERDICT = re.compile(r"([A-Z]+)\s*\(([0-9.]+)\)")
_LINES_SEARCHED = 3
"""Models like to open with a pleasantry or a heading; a verdict deeper in the text is prose."""

PROMPTS: dict[str, str] = {role: (_FOLDER / f"{role}.md").read_text(encoding="utf-8").strip() for role in ROLES}


def verdicts_of(role: str) -> dict[str, float]:
    """The verdicts a role may give, with how often the team expects each; empty when it decides nothing."""
    line = _VERDICT_LINE.search(PROMPTS[role])
    return {word: float(share) for word, share in _VERDICT.findall(line.group(1))} if line else {}


def verdict_in(role: str, reply: str, *, key: str) -> str:
    """The verdict in a reply, or, when there is none, one drawn by a hash of `key`.

    The draw follows the shares in the prompt, so that a model that cannot answer (or a random one) still gives
    conversations of varied length, and the same ones every time.
    """
    verdicts = verdicts_of(role)
    for line in [line for line in reply.splitlines() if line.strip()][:_LINES_SEARCHED]:
        words = [word for word in re.findall(r"[A-Z]+", line) if word in verdicts]
        if len(set(words)) == 1:
            return str(words[0])
    return _drawn(verdicts, key)


def _drawn(verdicts: dict[str, float], key: str) -> str:
    digest = hashlib.sha256(key.encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64 * sum(verdicts.values())
    for word, share in verdicts.items():
        point -= share
        if point < 0:
            return word
    return next(reversed(verdicts))
