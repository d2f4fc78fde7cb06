"""Edges of a graph whose structure is not known, worked out from one whole run of it.

Callbacks tell what tasks name: `Command`s, routes, `Send`s, joins. They do not tell edges that are always taken,
nor what a router's labels mean. But such a rule is followed each time: an edge from `a` to `b` cannot exist if
`a` once ran and `b` did not follow. What runs without having been named must be explained by rules that were
never broken; of these the ones that explain most are believed, and of equals all, each a part.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator
from typing import NamedTuple

from agentrt.identity import END
from agentrt_langgraph.records import GraphRun, Task

MIXED = 0.2
"""Belief in an edge from a node that also routes, beside one from a node that does not."""


class Rule(NamedTuple):
    """What makes nodes follow: a node having run, or a label its router returned."""

    source: str
    label: Hashable = None


class Step(NamedTuple):
    """One superstep, and which nodes edges may have started in it."""

    before: list[Task]
    tasks: list[Task]
    pulled: frozenset[str]


class Inferred:
    """What is believed of one graph run."""

    def __init__(self, graph: GraphRun, *, complete: bool) -> None:
        """`complete`: the run came to its end, so that the last tasks are known to have had no followers."""
        self._names = {task.name for tasks in graph.supersteps.values() for task in tasks}
        self._steps = list(_steps(graph, complete=complete))
        self._kept = self._unbroken()
        self._believed: defaultdict[Rule, set[str]] = defaultdict(set)
        self._explain()

    def sources(self, task: Task, before: list[Task]) -> list[Task]:
        """Tasks of the superstep before that are believed to have led to this one by a rule."""
        return [
            other for other in before if any(task.name in self._believed.get(rule, ()) for rule in self._rules(other))
        ]

    def _rules(self, task: Task) -> Iterator[Rule]:
        yield Rule(task.name)
        for item in task.goto or ():
            if item != END and item not in self._names:
                yield Rule(task.name, item)

    def _unbroken(self) -> dict[Rule, frozenset[str]]:
        """For each rule, the nodes that followed every time."""
        kept: dict[Rule, frozenset[str]] = {}
        for step in self._steps:
            for rule in {rule for task in step.before for rule in self._rules(task)}:
                followed = kept.get(rule)
                kept[rule] = step.pulled if followed is None else followed & step.pulled
        return kept

    def _explain(self) -> None:
        """Believe the fewest rules that explain every task that nothing named."""
        open_tasks: dict[tuple[int, str], set[Rule]] = {}
        routing = {t.name for step in self._steps for t in step.before if t.goto is not None or t.sends}
        for number, step in enumerate(self._steps):
            for target in step.pulled:
                if _explained(step.tasks, target):
                    continue
                rules = {r for task in step.before for r in self._rules(task) if target in self._kept[r]}
                if rules:
                    open_tasks[number, target] = rules
        while open_tasks:
            gains: defaultdict[tuple[Rule, str], float] = defaultdict(float)
            for (_, target), rules in open_tasks.items():
                for rule in rules:
                    mixed = rule.label is None and rule.source in routing
                    gains[rule, target] += MIXED if mixed else 1.0
            best = max(gains.values())
            chosen = {edge for edge, gain in gains.items() if gain == best}
            for rule, target in chosen:
                self._believed[rule].add(target)
            open_tasks = {
                (number, target): rules
                for (number, target), rules in open_tasks.items()
                if not any((rule, target) in chosen for rule in rules)
            }


def _steps(graph: GraphRun, *, complete: bool) -> Iterator[Step]:
    before: list[Task] = []
    for tasks in graph.supersteps.values():
        if before:
            yield Step(before, tasks, frozenset(task.name for task in tasks if not task.is_sent))
        before = tasks
    if complete and before:
        yield Step(before, [], frozenset())


def _explained(tasks: list[Task], target: str) -> bool:
    """Something that was seen led to this node."""
    return any(task.name == target and not task.is_sent and (task.named_by or task.woken_by_join) for task in tasks)
