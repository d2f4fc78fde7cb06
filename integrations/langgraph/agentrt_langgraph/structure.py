"""What a compiled graph declares before its first run: its edges, and the agents they join."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentrt.identity import END, START, Dispatch
from agentrt_langgraph.names import GENERIC_NODES, LOOP_INTEGRATIONS, TOOL_NODES, UNNAMED_GRAPH, join_path

MAX_FREE_ROUTES = 64
"""A router without a path map may go anywhere; in larger graphs that says nothing and is left out."""

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
    nodes: tuple[str, ...] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Nodes named by `add_node(..., metadata={"agentrt_agent": ...})`."""
    children: Mapping[str, "Structure"] = field(default_factory=dict)
    agent: str | None = None
    """The whole graph is one agent loop of this name."""
    is_loop: bool = False

    def targets(self, node: str) -> frozenset[str]:
        """Where conditional edges of this node may lead."""
        declared = frozenset(self.routes.get(node, {}).values())
        return declared | frozenset(self.nodes) if node in self.free else declared


EMPTY = Structure()


def read_structure(graph: Any, *, depth: int = 0) -> Structure:
    """Read a compiled graph. What it does not declare stays empty: edges are then inferred from order.

    `get_graph()` would be the public way, but it draws a router without path map as an edge to END; the
    builder tells the two apart. Its attributes are unprefixed and were the same from LangGraph 1.0 to 1.2.
    """
    builder = getattr(graph, "builder", None)
    if builder is None:
        return EMPTY
    metadata = (getattr(graph, "config", None) or {}).get("metadata") or {}
    name = getattr(graph, "name", None)
    edges: dict[str, set[str]] = {}
    for source, target in builder.edges:
        edges.setdefault(source, set()).add(target)
    routes, free = _routes(builder)
    return Structure(
        edges={source: frozenset(targets) for source, targets in edges.items()},
        joins=tuple((frozenset(sources), target) for sources, target in builder.waiting_edges),
        routes=routes,
        free=free,
        nodes=tuple(builder.nodes),
        overrides=dict(_overrides(builder)),
        children=_children(graph, depth),
        agent=metadata.get("agentrt_agent") or metadata.get("lc_agent_name") or _unless_generic(name),
        is_loop="agentrt_agent" in metadata or metadata.get("ls_integration") in LOOP_INTEGRATIONS,
    )


def _routes(builder: Any) -> tuple[dict[str, dict[Hashable, str]], frozenset[str]]:
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
    return routes, frozenset(free)


def _overrides(builder: Any) -> Iterator[tuple[str, str]]:
    for node, spec in builder.nodes.items():
        name = (getattr(spec, "metadata", None) or {}).get("agentrt_agent")
        if name:
            yield node, str(name)


def _children(graph: Any, depth: int) -> dict[str, Structure]:
    """Graphs inside nodes, also those a node function refers to. Depth is bounded: graphs may call themselves."""
    if depth >= MAX_DEPTH:
        return {}
    found = {name: read_structure(child, depth=depth + 1) for name, child in graph.get_subgraphs()}
    return {name: child for name, child in found.items() if child.nodes}


def _unless_generic(name: object) -> str | None:
    return name if isinstance(name, str) and name and name != UNNAMED_GRAPH else None


def declared_edges(structure: Structure, prefix: str = "") -> tuple[Dispatch, ...]:
    """The structure's edges between agents, as a prior: weight 1 where always taken, else shared evenly.

    Nodes that only run tools are left out; an edge through one joins the agents on both sides.
    """
    edges: dict[tuple[str, str], float] = {}
    for source, target, weight in _edges(structure, prefix):
        if source != target:
            edges[source, target] = max(weight, edges.get((source, target), 0.0))
    return tuple(
        Dispatch(source=source, target=target, how="static", weight=weight)
        for (source, target), weight in edges.items()
    )


def _edges(structure: Structure, prefix: str) -> Iterator[tuple[str, str, float]]:
    for node in (START, *structure.nodes):
        if node in TOOL_NODES:
            continue
        for target, weight in _successors(structure, node).items():
            yield _agent(structure, node, prefix), _agent(structure, target, prefix), weight
    for node, child in structure.children.items():
        inside = _agent(structure, node, prefix)
        for source, target, weight in _edges(child, inside):
            if target != END:
                yield (inside if source == START else source), target, weight


def _successors(structure: Structure, node: str, through: frozenset[str] = frozenset()) -> dict[str, float]:
    """Agents' nodes that may follow this one, with weights."""
    always = {*structure.edges.get(node, ()), *(t for sources, t in structure.joins if node in sources)}
    maybe = structure.targets(node) - always
    if node in structure.free and len(structure.nodes) > MAX_FREE_ROUTES:
        maybe = frozenset()
    weights = dict.fromkeys(always, 1.0) | dict.fromkeys(maybe, 1.0 / max(1, len(maybe)))
    for tools in TOOL_NODES & weights.keys() - through:
        share = weights.pop(tools)
        for target, weight in _successors(structure, tools, through | {tools}).items():
            if target != node:
                weights.setdefault(target, share * weight)
    return {target: weight for target, weight in weights.items() if target not in TOOL_NODES}


def _agent(structure: Structure, node: str, prefix: str) -> str:
    """The agent path a node will have at run time, as far as it can be known before."""
    if node in (START, END):
        return node
    if node in structure.overrides:
        return join_path(prefix, structure.overrides[node])
    if structure.is_loop or node in GENERIC_NODES:
        return join_path(prefix, structure.agent or prefix.rpartition("/")[2] or node)
    return join_path(prefix, node)
