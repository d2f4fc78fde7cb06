"""What the tasks of one graph run said to each other, kept until a node answers: names, `Send`s and joins."""

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from agentrt_langgraph.joins import Barrier
    from agentrt_langgraph.records import Task

PUSH = "__pregel_push"


class Predecessors(NamedTuple):
    """Tasks that handed to one task, how that is known (see `Dispatch.how`), and the weight of each.

    `agents` handed to it from inside a task.
    """

    tasks: "list[Task]"
    how: str
    weight: float = 1.0
    agents: tuple[str, ...] = ()


class Naming(NamedTuple):
    """A task named a node, by `Command` or router, in this superstep; the agents inside it, where they did."""

    step: int
    task: "Task"
    inside: tuple[str, ...]


class Named:
    """Who named one node, and whom of these it has answered to."""

    __slots__ = ("answered", "pending", "step")

    def __init__(self) -> None:
        self.pending: list[Naming] = []
        self.step: int | None = None
        """The superstep in which it last ran because it was named."""
        self.answered: list[Naming] = []
        """Those it ran for then."""


class Sent(NamedTuple):
    """The `Send`s that make up a superstep, in LangGraph's order: target, task, and the agents inside it."""

    step: int | None
    packets: "list[tuple[str, Task, tuple[str, ...]]]"


class Outbox:
    """Of one graph run. Empty for graphs that only have edges."""

    __slots__ = ("barriers", "named", "obeyed", "sent", "undecided")

    def __init__(self) -> None:
        self.barriers: dict[str, Barrier] = {}
        """Joins, by their trigger."""
        self.named: dict[Hashable, Named] = {}
        """Nodes named by a `Command` or router."""
        self.obeyed: dict[str, Task] = {}
        """Tasks that ended by a hand-over from inside, by namespace."""
        self.sent: Sent | None = None
        self.undecided: list[tuple[Task, frozenset[str]]] = []
        """Tasks whose sources may be more than those told: whoever led to them by rules not known yet."""

    def answer(self, task: "Task", step: int) -> None:
        """A node runs that was named; unless it was started by a `Send`, that is why."""
        named = self.named.get(task.name)
        if named is None or task.is_sent:
            return
        if named.step != step:  # else a retry: the same visit again
            named.step = step
            # Tasks of its own superstep may have ended before it began: they name its next visit.
            named.answered = [naming for naming in named.pending if naming.step < step]
            named.pending = [naming for naming in named.pending if naming.step >= step]
        task.named_by = named.answered

    def clear(self) -> None:
        """Cut the references between tasks, so that they are freed at once."""
        self.named.clear()
        self.barriers.clear()
        self.obeyed.clear()
        self.undecided.clear()
        self.sent = None


def is_sent(metadata: Mapping[str, Any]) -> bool:
    """A task was started by a `Send`. Tasks of the functional API are pushed too, but by a path, not a number."""
    path = metadata.get("langgraph_path")
    return path is not None and len(path) > 1 and path[0] == PUSH and isinstance(path[1], int)
