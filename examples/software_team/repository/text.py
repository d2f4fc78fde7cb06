"""Words as people type them: cleaned, compared, cut at sensible places."""

import unicodedata


def normalise(text: str) -> str:
    """Lower case, without accents, single spaces: equal results mean that a person would call them the same."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(part for part in parts if not unicodedata.combining(part))
    return " ".join(kept.split())


def edit_distance(left: str, right: str, *, limit: int) -> int:
    """How many letters must change, at most `limit` + 1: what is further away is not worth the time."""
    row = list(range(len(right) + 1))
    for i, letter in enumerate(left, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(right, start=1):
            cost = diagonal if letter == other else 1 + min(diagonal, row[j], row[j - 1])
            diagonal, row[j] = row[j], cost
        if min(row) > limit:
            return limit + 1
    return row[-1]


def cut(text: str, *, most_words: int) -> list[str]:
    """Pieces of at most that many words, cut between paragraphs where one is in reach, else between words."""
    pieces: list[str] = []
    current: list[str] = []
    for paragraph in text.split("\n\n"):
        words = paragraph.split()
        if current and len(current) + len(words) > most_words:
            pieces.append(" ".join(current))
            current = []
        current += words
        while len(current) > most_words:
            pieces.append(" ".join(current[:most_words]))
            current = current[most_words:]
    return [*pieces, " ".join(current)] if current else pieces
