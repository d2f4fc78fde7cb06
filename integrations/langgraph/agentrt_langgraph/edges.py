"""Who handed to whom: predecessors of a task within its graph run.

`langgraph_triggers` is not evidence: it lists every channel a node subscribes to, not the one that fired.
What is: a `Command`, `Send` or route that names the task; an edge that is always taken; a join whose sources
all ran since it last fired. Where none of these is seen, every task of the superstep before may be the source.
"""

from collections.abc import Iterator

from agentrt_langgraph.inference import Inferred
from agentrt_langgraph.joins import JOIN, Barrier
from agentrt_langgraph.outbox import PUSH, Predecessors
from agentrt_langgraph.records import GraphRun, Task
from agentrt_langgraph.sends import sender
from agentrt_langgraph.structure import EMPTY

MAX_HELPER_CHAIN = 50


def predecessors(task: Task) -> Predecessors:
    """The tasks that handed to this one; empty at the start of its graph run."""
    if task.sources is None:
        task.sources = _predecessors(task)
    return task.sources


def _predecessors(task: Task) -> Predecessors:
    last = next(_supersteps_before(task), None)
    if last is None:
        return Predecessors([], "entry")
    triggers = task.metadata.get("langgraph_triggers") or ()
    if PUSH in triggers and task.is_sent:
        return sender(task, last) or _guess([other for other in last if _sends_to(other, task)] or last)
    named, structure = task.named_by, task.in_graph.structure
    joins = [trigger for trigger in triggers if trigger.startswith(JOIN)]
    if len(last) == 1 and not named and not joins and task.name not in structure.deferred:
        return Predecessors(last, "next" if _declares(last[0], task) else "superstep")  # a plain line of nodes
    sources = dict.fromkeys(naming.task for naming in named if not naming.inside)
    sources.update(dict.fromkeys(other for other in last if _declares(other, task)))
    for trigger in joins:
        joined = _joined_by(trigger, task)
        task.woken_by_join |= bool(joined)
        sources.update(dict.fromkeys(joined))
    agents = tuple(agent for naming in named for agent in naming.inside)
    if sources or agents:
        return Predecessors(list(sources), "next", agents=agents)
    if task.name in structure.deferred:
        return Predecessors([], "entry")  # it waited since the graph began
    return _guess([other for other in last if other.goto is None] or last)


def _guess(possible: list[Task]) -> Predecessors:
    return Predecessors(possible, "superstep", 1.0 / len(possible))


def is_open(task: Task, depth: int = 0) -> bool:
    """Whether more may have led to a task than was seen: edges of a graph that is not known, from several tasks."""
    graph = task.in_graph
    if graph.structure is not EMPTY or graph.is_loop:
        return False
    if not task.is_sent:
        last = next(_supersteps_before(task), ())
        if len(last) > 1:
            return True
    helpers = [source for source in predecessors(task).tasks if not source.called]
    return depth < MAX_HELPER_CHAIN and any(is_open(helper, depth + 1) for helper in helpers)


def settle(graph: GraphRun, *, complete: bool) -> None:
    """The run is over: decide again, from all of it, what led to each task."""
    inferred = Inferred(graph, complete=complete)
    before: list[Task] = []
    for tasks in graph.supersteps.values():
        for task in tasks:
            task.origins = None
            if len(before) > 1 and not task.is_sent:
                task.sources = _settled(task, before, inferred)
        before = tasks


def _settled(task: Task, before: list[Task], inferred: Inferred) -> Predecessors:
    seen = predecessors(task)
    rest = inferred.sources(task, before)
    if seen.how != "superstep":
        return seen._replace(tasks=list(dict.fromkeys([*seen.tasks, *rest])))
    return _guess(rest) if rest else seen


def origin_agents(task: Task, depth: int = 0) -> list[str]:
    """The agents behind a task: itself, or, when it called no model, those before it."""
    if task.called:
        return [task.path]
    if task.origins is None:
        if depth >= MAX_HELPER_CHAIN:
            return []
        task.origins = agents_behind(predecessors(task), depth + 1)
    return task.origins


def agents_behind(sources: Predecessors, depth: int = 0) -> list[str]:
    """The agents that handed over, each once."""
    if len(sources.tasks) == 1 and not sources.agents:
        return origin_agents(sources.tasks[0], depth)
    agents = dict.fromkeys(sources.agents)
    for source in sources.tasks:
        agents.update(dict.fromkeys(origin_agents(source, depth)))
    return list(agents)


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


def _sends_to(source: Task, task: Task) -> bool:
    return any(target == task.name for target, _ in source.sends or ())


def _declares(source: Task, task: Task) -> bool:
    """The edge is always taken, or was possible and taken: agent loops route without tracing it."""
    structure = task.in_graph.structure
    if task.name in structure.edges.get(source.name, ()):
        return True
    return source.goto is None and source.name in structure.routed and task.name in structure.targets(source.name)


def _joined_by(trigger: str, task: Task) -> list[Task]:
    graph = task.in_graph
    barrier = graph.outbox.barriers.get(trigger)
    if barrier is None:
        barrier = graph.outbox.barriers[trigger] = Barrier(trigger)
    return barrier.sources(graph, task.step or 0)
