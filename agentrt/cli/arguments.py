"""Types of command-line arguments; a wrong value ends in one line that names what is allowed."""

import argparse
from collections.abc import Callable
from typing import Any

Commands = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `add_subparsers()` returns; the class has no public name."""


def whole(least: int, most: int) -> Callable[[str], int]:
    """An integer between two bounds, both allowed."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return value

    return parse


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def add_command(commands: Any, name: str, *, summary: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Add a subcommand whose help shows its defaults and ends in examples."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser
