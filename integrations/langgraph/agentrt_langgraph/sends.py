"""Who made a `Send`. LangGraph numbers them, so the number tells.

The `Send`s that make up a superstep are those of the superstep before: task after task, in the order of the
tasks' paths; within a task its own first, then its routers'. A task started by a `Send` carries its place in that
list as `langgraph_path[1]`.
"""

from agentrt_langgraph.outbox import Predecessors, Sent
from agentrt_langgraph.records import Task


def sender(task: Task, before: list[Task]) -> Predecessors | None:
    """The task of the superstep before that sent this one; None where not all that was sent was seen."""
    sent = task.in_graph.outbox.sent
    if sent is None or sent.step != task.step:
        sent = task.in_graph.outbox.sent = Sent(task.step, _packets(before))
    place = task.metadata["langgraph_path"][1]
    if place >= len(sent.packets):
        return None
    target, source, inside = sent.packets[place]
    if target != task.name:
        return None
    return Predecessors([], "next", agents=tuple(inside)) if inside else Predecessors([source], "next")


def path_order(task: Task) -> str:
    """LangGraph applies what a superstep wrote in this order: numbers are padded, the rest is compared as text."""
    path = task.metadata.get("langgraph_path") or ()
    return ", ".join(f"{part:010d}" if type(part) is int else str(part) for part in path[:3])


def _packets(before: list[Task]) -> list[tuple[str, Task, tuple[str, ...]]]:
    attempts = {task.ns: task for task in before}  # of a task that was retried, the last
    return [
        (target, task, inside)
        for task in sorted(attempts.values(), key=path_order)
        for target, inside in task.sends or ()
    ]
