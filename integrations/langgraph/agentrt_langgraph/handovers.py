"""What a task says: the nodes it names, the `Send`s it makes, and hand-overs to the graph around it."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from langgraph.errors import ParentCommand
from langgraph.types import Command, Send

from agentrt_langgraph.edges import origin_agents
from agentrt_langgraph.outbox import Named, Naming, Outbox
from agentrt_langgraph.records import Run, Task

MAX_NAMED = 1024
"""Names remembered per graph run that no node has answered to: labels of routers, mostly."""

MAX_NAMINGS = 4096
"""Tasks remembered that named the same node without its running: labels again, or a wide fan into a deferred node."""


def task_ended(task: Task, output: object) -> None:
    """The task succeeded with this output; its routers, which run before that, have spoken already."""
    task.over = True
    if output is not None and not isinstance(output, dict):
        for item in output if isinstance(output, (list, tuple)) else (output,):
            if isinstance(item, Command) and item.graph is None:
                _take(task, _goto(item))
    if task.goto is not None:
        _name_all(task, task.goto)
    _name_deferred(task)


def router_ended(router: Run, output: object) -> None:
    """A conditional edge chose."""
    task = router.task
    if task is None:
        return
    routes = task.in_graph.structure.routes_of(task.name, router.name)
    chosen = output if isinstance(output, (list, tuple)) else (output,)
    # A part of a chain that is a node looks like a router, and may return anything.
    named = [
        item if isinstance(item, Send) else routes.get(item, item)
        for item in chosen
        if isinstance(item, (Send, Hashable))
    ]
    _take(task, named, routed=True)
    if task.over:  # LangGraph runs the routers of a node once more when something inside it hands over
        _name_all(task, [item for item in named if not isinstance(item, Send)])


def task_handed_over(task: Task, error: ParentCommand) -> None:
    """A hand-over passes through the tasks it leaves, innermost first; the one it is meant for obeys it."""
    command = error.args[0] if error.args else None
    if not isinstance(command, Command):
        return
    inside = (task.handing or {}).get(id(error))
    if command.graph in (task.ns, task.name):
        task.over = True
        if task.ns is not None:
            task.in_graph.outbox.obeyed[task.ns] = task
        _take(task, _goto(command), inside or ())
        _name_all(task, [item for item in _goto(command) if not isinstance(item, Send)], inside or ())
        _name_deferred(task)
    elif task.in_graph.enclosing is not None:
        around = task.in_graph.enclosing
        agents = tuple(origin_agents(task)) if inside is None else inside
        around.handing = {**(around.handing or {}), id(error): agents}


def _goto(command: Command[Any]) -> Sequence[Any]:
    return command.goto if isinstance(command.goto, (list, tuple)) else (command.goto,)


def _take(task: Task, named: Iterable[Any], inside: tuple[str, ...] = (), *, routed: bool = False) -> None:
    """Keep what was named. A task's own `Send`s are numbered before those of its routers."""
    goto: list[Hashable] = []
    sends: list[tuple[str, tuple[str, ...]]] = []
    for item in named:
        if isinstance(item, Send):
            sends.append((item.node, inside))
        else:
            goto.append(item)
    task.goto = [*(task.goto or ()), *goto]
    if sends:
        earlier = task.sends or []
        task.sends = earlier + sends if routed else sends + earlier


def _name_all(task: Task, targets: Iterable[Hashable], inside: tuple[str, ...] = ()) -> None:
    for target in targets:
        _name(task.in_graph.outbox, task, target, inside)


def _name_deferred(task: Task) -> None:
    """An edge that is always taken, to a node that waits until nothing else is left to do, counts from now."""
    structure = task.in_graph.structure
    if structure.deferred:
        _name_all(task, structure.edges.get(task.name, frozenset()) & structure.deferred)


def _name(outbox: Outbox, task: Task, target: Hashable, inside: tuple[str, ...]) -> None:
    """Remember who named a node until it runs: one superstep later, or, where it is deferred, at the end."""
    named = outbox.named.get(target)
    if named is None:
        named = outbox.named[target] = Named()
        if len(outbox.named) > MAX_NAMED:
            del outbox.named[next(iter(outbox.named))]
    named.pending.append(Naming(task.step or 0, task, inside))
    if len(named.pending) > MAX_NAMINGS:
        del named.pending[0]
