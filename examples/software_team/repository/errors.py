"""One exception per thing that a caller can do about it, each with the value that was wrong."""


class BadInput(ValueError):  # noqa: N818 - reads as a statement
    """The input has no meaning. Show the value and what is expected; do not guess a result."""

    def __init__(self, value: object, expected: str) -> None:
        super().__init__(f"{value!r} is not {expected}")
        self.value = value
        self.expected = expected


class Conflict(Exception):  # noqa: N818
    """Somebody else changed it first: read it again, and write the change a second time."""

    def __init__(self, key: str, *, ours: int, theirs: int) -> None:
        super().__init__(f"{key}: we hold version {ours}, the store has version {theirs}")
        self.key, self.ours, self.theirs = key, ours, theirs


class Unavailable(Exception):  # noqa: N818
    """Something that we need does not answer under the present load; later it may. Worth a retry."""

    def __init__(self, what: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{what} does not answer")
        self.retry_after_s = retry_after_s
