"""Figures for people: a table in plain text, and what was left out of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass
class Skipped:
    """What an import could not use. A short report is read; a silent one is believed."""

    limit: int = 20
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, line_number: int, line: str, reason: str) -> None:
        """Count it, and keep the first few with the reason and the place."""
        self.count += 1
        if len(self.examples) < self.limit:
            self.examples.append(f"line {line_number}: {reason}: {line[:60]!r}")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their longest cell; numbers to the right, words to the left."""
    cells = [tuple(map(str, header)), *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join("  ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def _padded(cell: str, width: int) -> str:
    is_number = cell.replace(".", "", 1).replace("-", "", 1).isdigit()
    return cell.rjust(width) if is_number else cell.ljust(width)
