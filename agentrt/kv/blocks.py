"""What the queue knows of blocks and their owners: an id, a hash, and a value per group."""

from collections import OrderedDict
from typing import Any, Protocol


class Block(Protocol):
    """What an engine's block shows us: its dense id, and what it caches (None for nothing)."""

    @property
    def block_id(self) -> int:
        """Dense id, from 0."""

    @property
    def block_hash(self) -> Any:
        """Hash of the cached prefix, or None."""


class FreeGroup:
    """Free cached blocks of one owner, oldest first, with the value that orders owners."""

    __slots__ = ("free", "value")

    def __init__(self, value: float) -> None:
        self.value = value
        self.free: OrderedDict[int, int] = OrderedDict()
        """block_id -> time of freeing (a counter)."""

    def __lt__(self, other: "FreeGroup") -> bool:
        return False  # heap entries may tie on (value, time); their order does not matter
