"""Who handed to whom: predecessors of a task within its graph run.

`langgraph_triggers` is not evidence: it lists every channel a node subscribes to, not the one that fired.
What is: a `Command`, `Send` or route that names the task; an edge that is always taken; a join whose sources
all ran since it last fired. Where none of these is seen, every task of the superstep before may be the source.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from langgraph.types import Command, Send

from agentrt_langgraph.records import Predecessors, Run, Task

MAX_HELPER_CHAIN = 50


def destinations(output: object) -> list[str] | None:
    """Nodes named by a node's `Command` or `Send` output; None when it names none."""
    if output is None or isinstance(output, dict):
        return None
    named: list[str] = []
    for item in output if isinstance(output, (list, tuple)) else (output,):
        if isinstance(item, Send):
            named.append(item.node)
        elif isinstance(item, Command) and item.graph is None:
            named.extend(goto_nodes(item))
    return named or None


def goto_nodes(command: Command[Any]) -> list[str]:
    """Node names in a command's `goto`."""
    goto = command.goto if isinstance(command.goto, (list, tuple)) else (command.goto,)
    return [item.node if isinstance(item, Send) else str(item) for item in goto]


def routed(router: Run, output: object) -> list[str]:
    """Nodes chosen by a conditional edge's function, translated by its path map where that is known."""
    task = router.task
    routes = task.in_graph.structure.routes.get(task.name, {}) if task is not None else {}
    chosen: list[str] = []
    for item in output if isinstance(output, (list, tuple)) else (output,):
        if isinstance(item, Send):
            chosen.append(item.node)
        elif isinstance(item, (str, int)) and item in routes:
            chosen.append(routes[item])
        elif isinstance(item, str):
            chosen.append(item)
    return chosen


def predecessors(task: Task) -> Predecessors:
    """The tasks that handed to this one; empty at the start of its graph run."""
    if task.sources is None:
        task.sources = _predecessors(task)
    return task.sources


def _predecessors(task: Task) -> Predecessors:
    last = next(_supersteps_before(task), None)
    if last is None:
        return Predecessors([], "entry")
    joins = [trigger for trigger in task.metadata.get("langgraph_triggers") or () if "join:" in trigger]
    if len(last) == 1 and not joins:  # a plain line of nodes, the usual case
        return Predecessors(last, "next" if _names(last[0], task) or _declares(last[0], task) else "superstep")
    named = [other for other in last if _names(other, task)]
    declared = [other for other in last if _declares(other, task)]
    joined = [other for trigger in joins for other in _joined_by(trigger, task, last)]
    sources = dict.fromkeys([*named, *declared, *joined])
    if sources:
        return Predecessors(list(sources), "next", _send_weight(task, len(named)))
    undirected = [other for other in last if other.goto is None] or last
    return Predecessors(undirected, "superstep", 1.0 / len(undirected))


def origin_agents(task: Task, depth: int = 0) -> list[str]:
    """The agents behind a task: itself, or, when it called no model, those before it."""
    if task.called:
        return [task.path]
    if task.origins is None:
        if depth >= MAX_HELPER_CHAIN:
            return []
        found = (origin_agents(source, depth + 1) for source in predecessors(task).tasks)
        task.origins = list(dict.fromkeys(agent for agents in found for agent in agents))
    return task.origins


def inherited_parent(task: Task, depth: int = 0) -> str | None:
    """The parent of the nearest visits before this one that called a model."""
    for source in predecessors(task).tasks:
        if source.called:
            parent = source.parent_agent
        else:
            parent = inherited_parent(source, depth + 1) if depth < MAX_HELPER_CHAIN else None
        if parent is not None:
            return parent
    return None


def _supersteps_before(task: Task) -> Iterator[list[Task]]:
    """Earlier supersteps of the graph run, newest first."""
    if task.step is None:
        return
    supersteps = task.in_graph.supersteps
    for step in reversed(supersteps):
        if step < task.step:
            yield supersteps[step]


def _names(source: Task, task: Task) -> bool:
    """The source said so: by `Command`, `Send` or its router."""
    return source.goto is not None and task.name in source.goto


def _declares(source: Task, task: Task) -> bool:
    """The edge is always taken, or was possible and taken: agent loops route without tracing it."""
    structure = task.in_graph.structure
    if task.name in structure.edges.get(source.name, ()):
        return True
    return source.goto is None and task.name in structure.targets(source.name)


def _joined_by(trigger: str, task: Task, last: list[Task]) -> Iterable[Task]:
    """The sources of a join, if all of them ran since it last fired and one of them just now."""
    step = task.step
    assert step is not None
    fired, before = task.in_graph.joins_fired.get(trigger, (-1, -1))
    since = fired if fired < step else before
    wanted = frozenset(trigger[len("join:") :].rpartition(":")[0].split("+"))
    ran: dict[str, Task] = {}
    for superstep in _supersteps_before(task):
        for other in superstep:
            if other.name in wanted and other.step is not None and other.step >= since:
                ran.setdefault(other.name, other)
    if len(ran) < len(wanted) or not any(other in last for other in ran.values()):
        return ()
    task.in_graph.joins_fired[trigger] = (step, since)
    return ran.values()


def _send_weight(task: Task, senders: int) -> float:
    """Several tasks that each `Send` to several visits of one node: which sent which is not told."""
    visits = sum(other.name == task.name for other in task.in_graph.supersteps.get(task.step or 0, ()))
    return 1.0 / senders if visits > 1 and senders > 1 else 1.0
