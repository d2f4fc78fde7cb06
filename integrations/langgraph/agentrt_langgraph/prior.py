"""The declared edges between agents, with the paths they will have at run time: the prior before the first run."""

from collections.abc import Iterator
from itertools import islice

from agentrt.identity import END, START, Dispatch
from agentrt_langgraph.names import GENERIC_NODES, TOOL_NODES, agent_of_graph, bounded, join_path
from agentrt_langgraph.structure import Structure

MAX_FREE_ROUTES = 64
"""A router without a path map may go anywhere; in larger graphs that says nothing and is left out."""

MAX_EDGES = 10_000
"""What one declaration may hold on the wire."""


def declared_edges(structure: Structure) -> tuple[Dispatch, ...]:
    """The structure's edges between agents, as a prior: weight 1 where always taken, else shared evenly.

    Nodes that only run tools are left out; an edge through one joins the agents on both sides.
    """
    edges: dict[tuple[str, str], float] = {}
    for source, target, weight in islice(_edges(structure, "", structure.agent), MAX_EDGES):
        if source != target:
            edges[source, target] = max(weight, edges.get((source, target), 0.0))
    return tuple(
        Dispatch(source=source, target=target, how="static", weight=weight)
        for (source, target), weight in edges.items()
    )


def _edges(structure: Structure, prefix: str, agent: str | None) -> Iterator[tuple[str, str, float]]:
    for node in (START, *structure.nodes):
        if node in TOOL_NODES:
            continue
        for target, weight in _successors(structure, node).items():
            yield _path(structure, node, prefix, agent), _path(structure, target, prefix, agent), weight
    for (node, tool), inside in structure.children.items():
        called = (
            len(inside)
            if tool is None
            else 1
            + sum(len(others) for (place, by), others in structure.children.items() if place == node and by is not None)
        )
        for caller in _callers(structure, node, agent):
            path = _path(structure, caller, prefix, agent)
            for child in inside:
                yield from _edges_inside(child, path, child.agent or agent_of_graph(None, tool, node), 1.0 / called)


def _edges_inside(child: Structure, path: str, agent: str | None, share: float) -> Iterator[tuple[str, str, float]]:
    for source, target, weight in _edges(child, path, agent):
        if target != END:
            yield (path, target, weight * share) if source == START else (source, target, weight)


def _callers(structure: Structure, node: str, agent: str | None) -> list[str]:
    """The agents' nodes behind a node: itself, or, where it only runs tools, those that ask for them."""
    if node not in TOOL_NODES or (structure.is_loop and agent is not None):
        return [node]
    asking = [source for source in structure.nodes if source not in TOOL_NODES and node in _next(structure, source)]
    return asking or [node]


def _next(structure: Structure, node: str) -> dict[str, float]:
    """Nodes that may follow this one, with weights."""
    always = {*structure.edges.get(node, ()), *(t for sources, t in structure.joins if node in sources)}
    maybe = structure.targets(node) - always
    if node in structure.commanding:
        maybe = frozenset(structure.nodes) | {END}
    if (node in structure.free or node in structure.commanding) and len(structure.nodes) > MAX_FREE_ROUTES:
        maybe = frozenset()
    return dict.fromkeys(always, 1.0) | dict.fromkeys(maybe, 1.0 / max(1, len(maybe)))


def _successors(structure: Structure, node: str, through: frozenset[str] = frozenset()) -> dict[str, float]:
    """Agents' nodes that may follow this one, with weights."""
    weights = _next(structure, node)
    for tools in TOOL_NODES & weights.keys() - through:
        share = weights.pop(tools)
        for target, weight in _successors(structure, tools, through | {tools}).items():
            if target != node:
                weights.setdefault(target, share * weight)
    return {target: weight for target, weight in weights.items() if target not in TOOL_NODES}


def _path(structure: Structure, node: str, prefix: str, agent: str | None) -> str:
    """The agent path a node will have at run time, as far as it can be known before."""
    if node in (START, END):
        return node
    if node in structure.overrides:
        name = structure.overrides[node]
    elif structure.is_loop or node in GENERIC_NODES:
        name = agent or node
    else:
        name = node
    return bounded(join_path(prefix, name))
