"""What a compiled graph declares before its first run: its edges, and the graphs inside its nodes and tools."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentrt_langgraph.names import AGENT_KEY, LC_AGENT_NAME, LOOP_INTEGRATIONS, agent_of_graph
from agentrt_langgraph.references import graphs_in, handoffs_in, names_commands, tools_of, wrapped_name

MAX_DEPTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """Edges of one graph by node name, and the structures of the graphs inside its nodes."""

    edges: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Always taken, joins apart."""
    joins: tuple[tuple[frozenset[str], str], ...] = ()
    routes: Mapping[str, Mapping[Hashable, str]] = field(default_factory=dict)
    """What a router may return, and the node that means. Empty where it is not declared."""
    free: frozenset[str] = frozenset()
    """Nodes whose router declares nothing."""
    commanding: frozenset[str] = frozenset()
    """Nodes that declare nothing at all, and whose code returns commands."""
    routers: Mapping[tuple[str, str], Mapping[Hashable, str]] = field(default_factory=dict)
    """The same by node and name of the router: two routers of one node may use one label differently."""
    routed: frozenset[str] = frozenset()
    """Nodes with a router."""
    deferred: frozenset[str] = frozenset()
    """Nodes that wait until nothing else is left to do."""
    nodes: tuple[str, ...] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Nodes named by `add_node(..., metadata={"agentrt_agent": ...})` or `wrap_node`."""
    children: Mapping[tuple[str, str | None], tuple["Structure", ...]] = field(default_factory=dict)
    """Graphs inside a node, by node and by the tool that calls them (None: the node itself)."""
    handoffs: frozenset[str] = frozenset()
    """Nodes of the graph around this one, to which its tools hand over."""
    name: str | None = None
    agent: str | None = None
    """The whole graph is one agent loop of this name."""
    is_loop: bool = False

    def targets(self, node: str) -> frozenset[str]:
        """Where conditional edges of this node may lead."""
        declared = frozenset(self.routes.get(node, {}).values())
        return declared | frozenset(self.nodes) if node in self.free else declared

    def child(self, node: str, tool: str | None, name: str) -> "Structure":
        """The graph of this name inside a node, or the only one there."""
        inside = self.children.get((node, tool)) or self.children.get((node, None)) or ()
        if len(inside) > 1:
            inside = tuple(child for child in inside if name in (child.name, child.agent))
        return inside[0] if len(inside) == 1 else EMPTY

    def routes_of(self, node: str, router: str) -> Mapping[Hashable, str]:
        """What this router of the node may return, and the node that means."""
        return self.routers.get((node, router)) or self.routes.get(node) or _NO_ROUTES


_NO_ROUTES: Mapping[Hashable, str] = {}
EMPTY = Structure()


@dataclass(slots=True, kw_only=True)
class Binding:
    """What `instrument` and `install` know about a graph and callbacks do not say."""

    workload: str
    graph_name: str
    structure: Structure
    resumable: bool
    declared: bool = field(default=False, compare=False)
    """The runtime was told its edges."""


def read_structure(graph: Any) -> Structure:
    """Read a compiled graph. What it does not declare stays empty: edges are then inferred from order.

    `get_graph()` would be the public way, but it draws a router without path map as an edge to END; the
    builder tells the two apart. Its attributes are unprefixed and were the same from LangGraph 1.0 to 1.2.
    """
    return _read(graph, {}, 0)


def _read(graph: Any, known: dict[int, Structure], depth: int) -> Structure:
    """Depth is bounded, and each graph is read once: graphs may call each other, and themselves."""
    builder = getattr(graph, "builder", None)
    if builder is None or depth > MAX_DEPTH:
        return EMPTY
    if id(graph) in known:
        return known[id(graph)]
    known[id(graph)] = EMPTY
    metadata = (getattr(graph, "config", None) or {}).get("metadata") or {}
    name = getattr(graph, "name", None)
    is_loop = AGENT_KEY in metadata or metadata.get("ls_integration") in LOOP_INTEGRATIONS
    children = _children(graph, known, depth, only_tools=is_loop)
    edges: dict[str, set[str]] = {}
    for source, target in builder.edges:
        edges.setdefault(source, set()).add(target)
    routes, free = _routes(builder, children)
    declaring = {*edges, *routes, *free, *(node for sources, _ in builder.waiting_edges for node in sources)}
    structure = known[id(graph)] = Structure(
        edges={source: frozenset(targets) for source, targets in edges.items()},
        joins=tuple((frozenset(sources), target) for sources, target in builder.waiting_edges),
        routes=routes,
        free=free,
        commanding=frozenset(
            node for node, spec in builder.nodes.items() if node not in declaring and names_commands(spec.runnable)
        ),
        routers={
            (source, router): branch.ends
            for source, branches in builder.branches.items()
            for router, branch in branches.items()
            if branch.ends is not None
        },
        routed=frozenset(source for source, branches in builder.branches.items() if branches),
        deferred=frozenset(node for node, spec in builder.nodes.items() if getattr(spec, "defer", False)),
        nodes=tuple(builder.nodes),
        overrides=dict(_overrides(builder)),
        children=children,
        handoffs=frozenset().union(*(handoffs_in(spec.runnable) for spec in builder.nodes.values())),
        name=name,
        agent=metadata.get(AGENT_KEY) or metadata.get(LC_AGENT_NAME) or agent_of_graph(name, None, None),
        is_loop=is_loop,
    )
    return structure


def _routes(
    builder: Any, children: Mapping[tuple[str, str | None], tuple[Structure, ...]]
) -> tuple[dict[str, dict[Hashable, str]], frozenset[str]]:
    routes: dict[str, dict[Hashable, str]] = {}
    free = set()
    for source, branches in builder.branches.items():
        for branch in branches.values():
            if branch.ends is None:
                free.add(source)
            else:
                routes.setdefault(source, {}).update(branch.ends)
    for node, spec in builder.nodes.items():
        ends = getattr(spec, "ends", None)
        if ends:
            routes.setdefault(node, {}).update({end: end for end in ends})
    for (node, _), inside in children.items():
        handed = {target for child in inside for target in child.handoffs if target in builder.nodes}
        if handed:
            routes.setdefault(node, {}).update({target: target for target in handed})
    return routes, frozenset(free)


def _overrides(builder: Any) -> Iterator[tuple[str, str]]:
    for node, spec in builder.nodes.items():
        name = wrapped_name(spec.runnable) or (getattr(spec, "metadata", None) or {}).get(AGENT_KEY)
        if name:
            yield node, str(name)


def _children(
    graph: Any, known: dict[int, Structure], depth: int, *, only_tools: bool
) -> dict[tuple[str, str | None], tuple[Structure, ...]]:
    """Graphs inside nodes: those LangGraph finds, and those that functions and tools refer to.

    The other nodes of an agent's loop refer to its tools only to describe them to the model.
    """
    found: dict[tuple[str, str | None], dict[int, Structure]] = {}
    for node, child in graph.get_subgraphs():
        found.setdefault((node, None), {})[id(child)] = _read(child, known, depth + 1)
    for node, spec in graph.builder.nodes.items():
        if only_tools and not tools_of(spec.runnable):
            continue
        for tool, child in graphs_in(spec.runnable):
            found.setdefault((node, tool), {}).setdefault(id(child), _read(child, known, depth + 1))
    kept = {place: tuple(child for child in inside.values() if child.nodes) for place, inside in found.items()}
    return {place: inside for place, inside in kept.items() if inside}
