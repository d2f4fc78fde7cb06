"""The open runs, and the outermost ones among them: what is found by key, and forgotten together."""

import asyncio
from asyncio import AbstractEventLoop
from collections import OrderedDict
from collections.abc import Hashable

from agentrt_langgraph.records import Run, Task

MAX_TREES = 4096
"""Outermost runs open at once. Abandoned async streams may never end: the oldest make room."""


class OpenRuns:
    """Registry of open runs. Not thread-safe: the tracker holds its lock."""

    def __init__(self) -> None:
        self._runs: dict[Hashable, Run] = {}
        self.get = self._runs.get
        """The open run with this key. The dictionary's own method: this is the most frequent step of all."""
        self._outermost: OrderedDict[Hashable, Run] = OrderedDict()
        self._loops: dict[AbstractEventLoop, int] = {}
        """Event loops in which outermost runs began, with how many are open."""

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: Run) -> Run | None:
        """Register a run; returns an outermost one that must be closed to make room, if any."""
        self._runs[run.key] = run
        run.tree.members[run.key] = run
        if run.parent is not None:
            return None
        self._outermost[run.key] = run
        run.loop = _running_loop()
        if run.loop is not None:
            self._loops[run.loop] = self._loops.get(run.loop, 0) + 1
        return next(iter(self._outermost.values())) if len(self._outermost) > MAX_TREES else None

    def discard(self, run: Run) -> None:
        """Forget a run, and cut its references to itself: it is then freed without the garbage collector."""
        if run.task is run:
            run.task = None
        if run.tool is run:
            run.tool = None
        self._runs.pop(run.key, None)
        run.tree.members.pop(run.key, None)
        if run.parent is None and self._outermost.pop(run.key, None) is not None and run.loop is not None:
            self._loops[run.loop] -= 1
            if not self._loops[run.loop]:
                del self._loops[run.loop]

    def orphans(self) -> list[Run]:
        """Outermost runs whose event loop is closed: a stream left just before that is never told to have ended."""
        if not any(loop.is_closed() for loop in self._loops):
            return []
        return [run for run in self._outermost.values() if run.loop is not None and run.loop.is_closed()]

    def touch(self, run: Run) -> None:
        """A tree that calls models is alive: it makes room last."""
        while run.parent is not None:
            run = run.parent
        if run.key in self._outermost:
            self._outermost.move_to_end(run.key)


def _running_loop() -> AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def follows_others(task: Task | None) -> bool:
    """Whether tasks of earlier supersteps ran in this run of the task's graph, or of a graph around it."""
    while task is not None:
        if task.step is not None and any(step < task.step for step in task.in_graph.supersteps):
            return True
        task = task.in_graph.enclosing
    return False
