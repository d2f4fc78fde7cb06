"""Which visits filled a join: LangGraph's barrier, replayed over the supersteps seen.

A join `add_edge(["a", "b"], "c")` wakes `c` once each source has run since it last did; the first run of each
counts. `c` may also run for other reasons meanwhile, which leaves a half-filled join as it is.
"""

from agentrt_langgraph.records import MAX_SUPERSTEPS, GraphRun, Task
from agentrt_langgraph.sends import path_order

JOIN = "join:"


class Barrier:
    """One join of one graph run."""

    __slots__ = ("_fired", "_replayed", "_seen", "_target", "_wanted")

    def __init__(self, trigger: str) -> None:
        """`trigger` is the join's channel, as `langgraph_triggers` lists it: `join:a+b:c`."""
        sources, _, self._target = trigger.removeprefix(JOIN).rpartition(":")
        self._wanted = frozenset(sources.split("+"))
        self._seen: dict[str, Task] = {}
        self._replayed = -1
        self._fired: dict[int, list[Task]] = {}

    def sources(self, graph: GraphRun, step: int) -> list[Task]:
        """Those that filled the join for this superstep; none where it did not wake its target then."""
        for earlier, superstep in graph.supersteps.items():
            if self._replayed < earlier < step:
                self._replay(earlier, superstep)
        if step > self._replayed:
            return list(self._seen.values()) if len(self._seen) == len(self._wanted) else []
        return self._fired.get(step, [])

    def _replay(self, step: int, superstep: list[Task]) -> None:
        if len(self._seen) == len(self._wanted) and any(t.name == self._target and not t.is_sent for t in superstep):
            self._fired[step] = list(self._seen.values())
            self._seen = {}
            if len(self._fired) > MAX_SUPERSTEPS:
                del self._fired[next(iter(self._fired))]
        for task in sorted(superstep, key=path_order) if len(superstep) > 1 else superstep:
            if task.name in self._wanted:
                self._seen.setdefault(task.name, task)
        self._replayed = step
