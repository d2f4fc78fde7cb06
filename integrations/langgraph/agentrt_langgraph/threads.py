"""Threads across runs: what a run leaves behind when it does not go on where its thread ended.

The outermost graph counts supersteps through all runs of a thread, so a run that begins at or before the last one
remembered was sent back: by a checkpoint id, by `update_state`, or because the thread was deleted. What is known of the
checkpoint it goes on from, by the superstep its first visit has:

* the visit's namespace is a known one: LangGraph repeats that superstep, and only what came after it is left;
* otherwise at least one checkpoint was written first (a fork), so the superstep before is left as well;
* new input to a `StateGraph` writes exactly two, whether sent back or not: it also tells when a pause or a failed
  superstep was given up for it. The next turn of a conversation leaves nothing behind by this rule.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from itertools import islice
from typing import TypeVar

MAX_THREADS = 10_000
MAX_VISITS = 256
"""Visits of one thread, and invocations in them, that are remembered; the newest."""

MAX_INVOCATIONS = 200_000
"""Invocations remembered of all threads together, about 50 MB; the threads of the least recent runs leave first."""

_Key = TypeVar("_Key", str, int)


class Progress:
    """What one run of a thread adds to it. `input_steps`: supersteps that its input is known to take."""

    __slots__ = ("input_steps", "invocations", "steps", "thread")

    def __init__(self, thread: Hashable, input_steps: int) -> None:
        self.thread = thread
        self.input_steps = input_steps
        self.steps: dict[str, int] = {}
        """Superstep of each visit of the outermost graph, by namespace."""
        self.invocations: dict[str, str] = {}
        """That visit's namespace, by invocation."""

    def visited(self, ns: str, step: int) -> None:
        """A visit of the outermost graph began."""
        self.steps[ns] = step
        if len(self.steps) > MAX_VISITS:
            del self.steps[next(iter(self.steps))]

    def called(self, invocation: str, ns: str) -> None:
        """A model was called in a visit of the outermost graph."""
        self.invocations[invocation] = ns
        if len(self.invocations) > MAX_VISITS:
            del self.invocations[next(iter(self.invocations))]


class Thread:
    """Finished visits of one thread of one graph."""

    __slots__ = ("invocations", "last", "steps")

    def __init__(self) -> None:
        self.steps: dict[int, int] = {}
        """Superstep by namespace. Hashes: they are only compared."""
        self.invocations: dict[str, int] = {}
        """Namespace of the outermost visit by invocation."""
        self.last = -1

    def left_behind(self, ns: str, step: int, *, input_steps: int) -> tuple[str, ...]:
        """Forget and return the invocations that a run does not continue whose first visit this is.

        `input_steps`: supersteps that its input is known to have taken; 0 where it had none.
        """
        if hash(ns) in self.steps:
            first = step + 1
        elif input_steps or step <= self.last:
            first = step - max(input_steps, 1)
        else:
            return ()
        if first > self.last:
            return ()
        left = {known for known, at in self.steps.items() if at >= first}
        gone = tuple(invocation for invocation, visit in self.invocations.items() if visit in left)
        self._keep({known: at for known, at in self.steps.items() if known not in left})
        for invocation in gone:
            del self.invocations[invocation]
        return gone

    def add(self, steps: Mapping[str, int], invocations: Mapping[str, str]) -> None:
        """Remember the visits of a run that ended."""
        new = {hash(ns): step for ns, step in steps.items()}
        self._keep({known: at for known, at in self.steps.items() if known not in new} | new)
        for invocation, ns in invocations.items():
            self.invocations.pop(invocation, None)
            self.invocations[invocation] = hash(ns)
        _drop_oldest(self.invocations, MAX_VISITS)

    def _keep(self, steps: dict[int, int]) -> None:
        _drop_oldest(steps, MAX_VISITS)
        self.steps = steps
        self.last = max(steps.values(), default=-1)


class Threads:
    """Memory of threads, bounded in number and in all."""

    def __init__(self) -> None:
        self._threads: OrderedDict[Hashable, Thread] = OrderedDict()
        self._remembered = 0

    def __len__(self) -> int:
        return len(self._threads)

    def get(self, key: Hashable) -> Thread:
        """What is remembered of a thread; empty for a new one."""
        thread = self._threads.get(key)
        if thread is None:
            thread = self._threads[key] = Thread()
            self._make_room()
        else:
            self._threads.move_to_end(key)
        return thread

    def add(self, progress: Progress) -> None:
        """A run ended."""
        thread = self.get(progress.thread)
        before = len(thread.invocations)
        thread.add(progress.steps, progress.invocations)
        self._remembered += len(thread.invocations) - before
        self._make_room()

    def left_behind(self, progress: Progress, ns: str, step: int) -> tuple[str, ...]:
        """See `Thread.left_behind`."""
        thread = self._threads.get(progress.thread)
        gone = thread.left_behind(ns, step, input_steps=progress.input_steps) if thread is not None else ()
        self._remembered -= len(gone)
        return gone

    def _make_room(self) -> None:
        while len(self._threads) > MAX_THREADS or (self._remembered > MAX_INVOCATIONS and self._threads):
            _, oldest = self._threads.popitem(last=False)
            self._remembered -= len(oldest.invocations)


def _drop_oldest(entries: dict[_Key, int], most: int) -> None:
    for key in list(islice(entries, max(0, len(entries) - most))):
        del entries[key]
