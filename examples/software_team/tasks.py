"""Requests a product owner could bring: short and long ones, with and without something to design."""

from pathlib import Path

TASKS: tuple[str, ...] = tuple(
    " ".join(paragraph.split())
    for paragraph in (Path(__file__).parent / "tasks.md").read_text(encoding="utf-8").split("\n\n")
)
