"""The open runs, and the outermost ones among them: what is found by key, and forgotten together."""

from collections import OrderedDict
from collections.abc import Hashable

from agentrt_langgraph.records import Run

MAX_TREES = 4096
"""Outermost runs open at once. Abandoned async streams may never end: the oldest make room."""


class OpenRuns:
    """Registry of open runs. Not thread-safe: the tracker holds its lock."""

    def __init__(self) -> None:
        self._runs: dict[Hashable, Run] = {}
        self.get = self._runs.get
        """The open run with this key. The dictionary's own method: this is the most frequent step of all."""
        self._outermost: OrderedDict[Hashable, Run] = OrderedDict()

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: Run) -> Run | None:
        """Register a run; returns an outermost one that must be closed to make room, if any."""
        self._runs[run.key] = run
        run.tree.members[run.key] = run
        if run.parent is not None:
            return None
        self._outermost[run.key] = run
        return next(iter(self._outermost.values())) if len(self._outermost) > MAX_TREES else None

    def discard(self, run: Run) -> None:
        """Forget a run, and cut its references to itself: it is then freed without the garbage collector."""
        if run.task is run:
            run.task = None
        if run.tool is run:
            run.tool = None
        self._runs.pop(run.key, None)
        run.tree.members.pop(run.key, None)
        if run.parent is None:
            self._outermost.pop(run.key, None)

    def touch(self, run: Run) -> None:
        """A tree that calls models is alive: it makes room last."""
        while run.parent is not None:
            run = run.parent
        if run.key in self._outermost:
            self._outermost.move_to_end(run.key)
