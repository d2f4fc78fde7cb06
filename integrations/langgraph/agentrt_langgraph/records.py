"""What is remembered of a run while it is open. Plain data; `tracker.py` fills it, `edges.py` and `naming.py` read it.

    Tree         everything under one outermost run, so that it can be forgotten as a whole
    └── Run      anything LangChain reports: a graph, a chain, a retriever
        ├── Task     one visit of a graph node (a new checkpoint namespace)
        ├── ToolRun  a tool
        └── Call     an LLM request

A `Run` that turns out to run a graph gets a `GraphRun`; an outermost graph also opens a `Turn` of its session.
"""

from asyncio import AbstractEventLoop
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrt.ambient import Scope, names_since, scope
from agentrt.identity import Identity, SessionKey
from agentrt_langgraph.names import ROOT, run_id_text
from agentrt_langgraph.outbox import Naming, Outbox, Predecessors, is_sent
from agentrt_langgraph.structure import EMPTY, Binding, Structure
from agentrt_langgraph.threads import Progress

NAMESPACE = "langgraph_checkpoint_ns"
MAX_SUPERSTEPS = 256
"""Supersteps of one graph run that are remembered: predecessors are looked for no further back."""

MAX_INVOCATIONS = 1000
"""Invocations remembered per task and graph, newest kept: what one `BranchAbandoned` may name."""


@dataclass(slots=True)
class SessionMemory:
    """What outlives a run of a named session: its call counter, and dispatches that a resume would repeat."""

    calls: int = 0
    replayable: frozenset[Hashable] = frozenset()


@dataclass(slots=True, kw_only=True)
class Turn:
    """One run of an outermost graph: a turn of its session."""

    session: SessionKey
    workload: str
    resumable: bool
    memory: SessionMemory
    dispatched: dict[Hashable, None]
    """Visits whose dispatch was told: retries and resumes repeat them."""
    guests: dict[SessionKey, SessionMemory] = field(default_factory=dict)
    """Other sessions that calls of this run named by metadata."""
    pending: dict[str, None] = field(default_factory=dict)
    """Invocations that failed; abandoned as soon as the run is seen to go on."""
    interrupted: bool = False
    scope: Scope | None = None
    """What the user's code had entered around the whole run: it says nothing about the run."""
    caller: str = ""
    """The agent in another process that asked for this run."""
    root: str = ROOT
    """The visit of an agent that is the whole graph."""
    progress: Progress | None = None
    """Where its thread can be sent back: what this run adds to it."""


class Tree:
    """All open runs under one outermost run."""

    __slots__ = ("members",)

    def __init__(self) -> None:
        self.members: dict[Hashable, Run] = {}


class Run:
    """One open run. A run without parent is outermost."""

    # Defaults live on the class: nodes come by the thousand, and most of these are never set.
    graph: "GraphRun | None" = None
    told_binding: "Binding | None" = None
    """Of exactly this run's graph; `bindings` may be those of graphs around it."""
    raw_calls: tuple[Hashable, ...] = ()
    is_router = False
    loop: "AbstractEventLoop | None" = None
    has_input = False
    """It was given new input, rather than told to go on."""

    def __init__(self, key: Hashable, parent: "Run | None", name: str, metadata: Mapping[str, Any]) -> None:
        self.key = key
        self.parent = parent
        self.name = name
        self.metadata = metadata
        self.ns: str | None = metadata.get(NAMESPACE)
        if parent is None:
            self.tree = Tree()
            self.task: Task | None = None
            self.tool: ToolRun | None = None
            self.bindings: tuple[Binding, ...] = ()
        else:
            self.tree = parent.tree
            self.task = parent.task
            self.tool = parent.tool
            self.bindings = parent.bindings


class GraphRun:
    """A graph in progress. Holds no reference to its run, so that closed runs need no garbage collector."""

    __slots__ = (
        "agent",
        "binding",
        "enclosing",
        "invocations",
        "is_loop",
        "metadata",
        "name",
        "outbox",
        "outer_metadata",
        "parent_agent",
        "scoped",
        "structure",
        "supersteps",
        "tool",
        "turn",
    )

    def __init__(self, run: Run, turn: Turn, binding: Binding | None) -> None:
        outer = run.parent
        self.enclosing = run.task
        self.scoped = names_since(scope(), run.task.scope) if run.task is not None else ()
        """Scopes that the enclosing task had entered around this graph."""
        self.tool = run.tool if run.tool is not None and run.tool.task is run.task else None
        self.metadata = run.metadata
        self.outer_metadata: Mapping[str, Any] = outer.metadata if outer is not None else {}
        self.turn = turn
        self.binding = binding
        self.name = binding.graph_name if binding is not None else run.name
        self.structure = self._structure()
        self.supersteps: dict[int, list[Task]] = {}
        self.outbox = Outbox()
        self.invocations: dict[str, None] = {}
        self.agent: str | None = None
        self.is_loop = False
        self.parent_agent: str | None = None

    def _structure(self) -> Structure:
        if self.binding is not None:
            return self.binding.structure
        if self.enclosing is None:
            return EMPTY
        around = self.enclosing.in_graph.structure
        return around.child(self.enclosing.name, self.tool.name if self.tool is not None else None, self.name)

    def add(self, task: "Task") -> None:
        """Remember a task for those that follow it."""
        if task.step is None:
            return
        if self.outbox.named:
            self.outbox.answer(task, task.step)
        superstep = self.supersteps.get(task.step)
        if superstep is not None:
            superstep.append(task)
            return
        self.supersteps[task.step] = [task]
        if len(self.supersteps) > MAX_SUPERSTEPS:
            for forgotten in self.supersteps.pop(next(iter(self.supersteps))):
                forgotten.sources, forgotten.named_by = None, ()  # else every task would keep all before it alive

    def forget(self) -> None:
        """The run is over: cut the references between its tasks, so that they are freed at once."""
        self.supersteps.clear()
        self.outbox.clear()


class Task(Run):
    """One visit of a node: it has its own checkpoint namespace."""

    goto: list[Hashable] | None = None
    """Nodes it named; labels, where a router's path map is not known. None: it did not say."""
    sends: list[tuple[str, tuple[str, ...]]] | None = None
    """Targets of its `Send`s, in order, each with the agents inside it that made them."""
    named_by: Sequence[Naming] = ()
    woken_by_join = False
    handing: dict[int, tuple[str, ...]] | None = None
    """Hand-overs on their way out of it, by exception: the agents behind them."""
    over = False
    called = False
    """It, or something inside it, called a model: it counts as an agent."""
    dispatched = False
    given_name: str | None = None
    """By `wrap_node`."""
    label: str | None = None
    path = ""
    invocation = ""
    is_loop = False
    parent_agent: str | None = None
    sources: "Predecessors | None" = None
    origins: list[str] | None = None

    def __init__(
        self,
        key: Hashable,
        parent: Run,
        name: str,
        metadata: Mapping[str, Any],
        in_graph: GraphRun,
    ) -> None:
        super().__init__(key, parent, name, metadata)
        self.task = self
        self.in_graph = in_graph
        self.scope = scope()
        """What surrounds it: scopes entered since are its own."""
        self.step: int | None = metadata.get("langgraph_step")

    @property
    def is_sent(self) -> bool:
        """It was started by a `Send`, not by an edge."""
        return is_sent(self.metadata)


class ToolRun(Run):
    """A tool in progress; `identity` is None outside graphs."""

    identity: Identity | None = None
    arguments_digest: str | None = None
    started_s = 0.0

    def __init__(self, key: Hashable, parent: Run, name: str, metadata: Mapping[str, Any]) -> None:
        super().__init__(key, parent, name, metadata)
        self.tool = self
        self.tool_run_id = run_id_text(key)


class Call(Run):
    """An LLM request in progress, under a task."""

    def __init__(self, key: Hashable, parent: Run, metadata: Mapping[str, Any], identity: Identity) -> None:
        # What `Run` does, written out: there is one for every request.
        self.key, self.parent, self.name, self.metadata = key, parent, "", metadata
        self.ns = parent.ns
        self.tree, self.task, self.tool, self.bindings = parent.tree, parent.task, parent.tool, parent.bindings
        self.identity = identity
        self.session = identity.session_key
        self.call_id = run_id_text(key)
