"""Wraps a method of somebody else's class, together with others who do the same, and puts it back."""

from collections.abc import Callable
from typing import Any

Method = Callable[..., Any]


class Patch:
    """One wrapped method. The wrapper must pass calls on unchanged when it is not wanted: it may have to stay.

    Not thread-safe: the module that owns it holds a lock.
    """

    def __init__(self, owner: type, name: str, wrap: Callable[[Method], Method]) -> None:
        self._owner = owner
        self._name = name
        self._wrap = wrap
        self._ours: Method | None = None
        self._original: Method | None = None

    @property
    def stands(self) -> bool:
        """Whether our wrapper is in place, if only below somebody else's."""
        return self._ours is not None

    def apply(self) -> None:
        """Wrap the method, unless our wrapper is in place already, perhaps below somebody else's."""
        found = self._owner.__dict__[self._name]
        while found is not None:
            if found is self._ours:
                return
            found = getattr(found, "__wrapped__", None)
        self._original = self._owner.__dict__[self._name]
        self._ours = self._wrap(self._original)
        setattr(self._owner, self._name, self._ours)

    def undo(self) -> None:
        """Put the original back, unless somebody wrapped ours: theirs is not ours to remove."""
        if self._ours is not None and self._owner.__dict__[self._name] is self._ours:
            setattr(self._owner, self._name, self._original)
            self._ours = self._original = None
