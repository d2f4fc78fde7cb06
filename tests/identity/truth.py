"""The truth about dispatches, from what LangGraph itself writes. Shares no code with agentrt.

A visit is one task: it has its own checkpoint namespace. What woke it is read from the channel writes that
LangGraph hands to its checkpointer, by the rules of those channels:

- `branch:to:X` wakes X in the next superstep, or, where X is deferred, once the run has nothing else to do: all
  writers since X last ran this way woke it.
- `join:A+B:X` wakes X once A and B both wrote since it last did; the first write of each counts. A join that
  never fills wakes nobody.
- a `Send` wakes a visit of its own. Its writer is named in what was sent: random graphs say so.
- a hand-over to the parent graph appears among the writes of the task around it, with the update it came with,
  which names the visit inside that handed over. That visit is the source.

A dispatch is one agent waking one visit of another; waking it through two channels is still one dispatch. Visits
that called no model, neither themselves nor inside them, are no agents: whoever woke them stands in for them.
A visit that nobody in its graph woke is dispatched by the visit around it, or by START. Following oneself is no
dispatch.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver

START = "START"
Edge = tuple[str, str]


@dataclass(eq=False)
class Visit:
    """One task."""

    ns: str
    node: str
    step: int
    path: tuple[Any, ...]
    sender: str | None
    called: bool = False
    writes: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def task_id(self) -> str:
        return self.ns.rpartition(":")[2]

    @property
    def graph_ns(self) -> str:
        """Namespace of the graph run it belongs to."""
        return self.ns.rpartition("|")[0]

    @property
    def pushed(self) -> bool:
        return self.path[0] == "__pregel_push"

    @property
    def agent(self) -> str:
        """Names from the outermost graph to here; a bare number tells two runs of graphs in one node apart."""
        return "/".join(part.partition(":")[0] for part in self.ns.split("|") if ":" in part)

    @property
    def order(self) -> tuple[int, str]:
        """LangGraph applies the writes of a superstep in the order of task paths, numbers padded."""
        return self.step, ", ".join(f"{part:010d}" if type(part) is int else str(part) for part in self.path)


class Witness(BaseCallbackHandler):
    """Which tasks ran, where and when, and which of them called a model."""

    run_inline = True

    def __init__(self) -> None:
        self.visits: dict[str, Visit] = {}
        self.calls: set[str] = set()

    def on_chain_start(self, serialized: Any, inputs: Any, *, metadata: Any = None, **kwargs: Any) -> None:
        ns = (metadata or {}).get("langgraph_checkpoint_ns")
        if ns is None or ns in self.visits or metadata["langgraph_node"] == "__start__":
            return
        sender = inputs.get("sender") if isinstance(inputs, dict) else None
        self.visits[ns] = Visit(
            ns, metadata["langgraph_node"], metadata["langgraph_step"], tuple(metadata["langgraph_path"]), sender
        )

    def on_chat_model_start(self, serialized: Any, messages: Any, *, metadata: Any = None, **kwargs: Any) -> None:
        self.calls.add(metadata["langgraph_checkpoint_ns"])


class Writes(InMemorySaver):
    """A checkpointer that keeps every write of every task; of a task written twice, the last."""

    def __init__(self) -> None:
        super().__init__()
        self.of_task: dict[str, list[tuple[str, Any]]] = {}

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        kept = [(channel, value) for channel, value in writes if not channel.startswith("__error")]
        if kept:
            self.of_task[task_id] = kept
        super().put_writes(config, writes, task_id, task_path)


class Truth:
    """Dispatches of one run."""

    def __init__(self, witness: Witness, writes: Writes) -> None:
        self.visits = witness.visits
        for visit in self.visits.values():
            visit.writes = writes.of_task.get(visit.task_id, [])
        for ns in witness.calls:
            visit: Visit | None = self.visits[ns]
            while visit is not None:
                visit.called = True
                visit = self._around(visit)
        self._graphs: defaultdict[str, list[Visit]] = defaultdict(list)
        for visit in sorted(self.visits.values(), key=lambda v: v.order):
            self._graphs[visit.graph_ns].append(visit)
        self._sources: dict[str, list[Visit]] = defaultdict(list)
        self._origins: dict[str, set[str]] = {}
        for ns in sorted(self._graphs, key=len, reverse=True):  # hand-overs need the graphs inside first
            self._replay(self._graphs[ns])

    @cached_property
    def counts(self) -> Counter[Edge]:
        """How often each dispatch happened."""
        return Counter(edge for visit in self.visits.values() if visit.called for edge in self._into(visit))

    def _around(self, visit: Visit) -> Visit | None:
        """The visit whose node ran this one's graph."""
        ns = visit.graph_ns
        while ns and ns not in self.visits:
            ns = ns.rpartition("|")[0]
        return self.visits[ns] if ns else None

    def _replay(self, graph: list[Visit]) -> None:
        """Run the channels of one graph run over its visits, superstep by superstep."""
        branches: defaultdict[str, list[Visit]] = defaultdict(list)
        joins: defaultdict[str, dict[str, Visit]] = defaultdict(dict)
        for step in sorted({visit.step for visit in graph}):
            superstep = [visit for visit in graph if visit.step == step]
            for visit in superstep:
                if visit.pushed:
                    self._sources[visit.ns].append(self._behind(self.visits[visit.sender or ""], visit.graph_ns))
                    continue
                self._sources[visit.ns] += branches.pop(visit.node, [])
                for channel, seen in joins.items():
                    wanted, target = _join(channel)
                    if target == visit.node and seen.keys() == wanted:
                        self._sources[visit.ns] += seen.values()
                        joins[channel] = {}
            for visit in superstep:
                for channel, writer in self._writers(visit):
                    if channel.startswith("branch:to:"):
                        branches[channel.removeprefix("branch:to:")].append(writer)
                    elif channel.startswith("join:"):
                        joins[channel].setdefault(visit.node, writer)

    def _writers(self, visit: Visit) -> Iterator[tuple[str, Visit]]:
        """Channels this visit wrote, each with the visit behind the write: itself, or one inside that handed over.

        Edges and routers of the node around a hand-over are taken as well, by the node itself. Where all inside
        are helpers, the node stands in for them.
        """
        handed: dict[str, Visit] = {}
        for channel, value in visit.writes:
            if channel == "handover":
                source = self._behind(self.visits[value[0]], visit.graph_ns)
                handed = {f"branch:to:{target}": source for target in value[1:]}
            else:
                yield channel, handed.pop(channel, visit)

    def _behind(self, visit: Visit, graph_ns: str) -> Visit:
        """The visit behind a hand-over or `Send` into this graph: itself, or the one around it."""
        while visit.graph_ns != graph_ns and not self._origin(visit):
            around = self._around(visit)
            assert around is not None
            visit = around
        return visit

    def _origin(self, visit: Visit) -> set[str]:
        """The agents a visit stands for."""
        if visit.called:
            return {visit.agent}
        if visit.ns not in self._origins:
            self._origins[visit.ns] = {a for source in self._sources[visit.ns] for a in self._origin(source)}
        return self._origins[visit.ns]

    def _into(self, visit: Visit) -> Iterator[Edge]:
        agents = {agent for source in self._sources[visit.ns] for agent in self._origin(source)}
        around = self._around(visit)
        if agents:
            yield from ((agent, visit.agent) for agent in agents if agent != visit.agent)
        else:
            yield around.agent if around is not None else START, visit.agent


def _join(channel: str) -> tuple[set[str], str]:
    wanted, _, target = channel.removeprefix("join:").rpartition(":")
    return set(wanted.split("+")), target
