"""A run that another process asked for: who called it, as far as the run's metadata tells.

`RemoteGraph` sends the metadata of the node it runs as, and that holds the node's checkpoint namespace; a server that
runs the graph with this metadata thereby says where in the caller's graph it is. The session follows from the thread
id in the same way. Names come from nodes: agents that the caller named otherwise need `agentrt_parent`.
"""

from collections.abc import Mapping
from typing import Any

from agentrt_langgraph.names import AGENT_KEY, GENERIC_NODES, bounded, join_path
from agentrt_langgraph.records import NAMESPACE, Turn

PARENT_KEY = "agentrt_parent"
"""Metadata key that names the calling agent, by its whole path."""


def join_caller(turn: Turn, metadata: Mapping[str, Any], first_ns: str) -> None:
    """Note who asked for this outermost run. `first_ns` is the namespace of its first visit."""
    ns = metadata.get(NAMESPACE)
    if isinstance(ns, str) and ns and not first_ns.startswith(f"{ns}|"):  # else the graph around it runs here, unseen
        turn.root = bounded(ns)
        turn.caller = _agent_of(ns, metadata)
    named = metadata.get(PARENT_KEY)
    if isinstance(named, str) and named:
        turn.caller = bounded(named)


def _agent_of(ns: str, metadata: Mapping[str, Any]) -> str:
    """The path of the nodes in a namespace, the innermost by the name that its metadata gives it."""
    nodes = [part.partition(":")[0] for part in ns.split("|")]
    override = metadata.get(AGENT_KEY)
    if override:
        nodes[-1] = str(override)
    path = ""
    for node in nodes:
        if node not in GENERIC_NODES and not node.isdigit():
            path = join_path(path, node)
    return bounded(path)
