"""What is known of a graph object before it runs: read once, declared once, remembered as long as the graph lives."""

import threading
from collections.abc import Hashable
from typing import Any

from langgraph.graph import StateGraph

from agentrt_langgraph.names import AGENT_KEY, LC_AGENT_NAME, UNNAMED_GRAPH, bounded
from agentrt_langgraph.port import RuntimePort
from agentrt_langgraph.prior import declared_edges
from agentrt_langgraph.structure import EMPTY, Binding, Structure, read_structure
from agentrt_langgraph.tracker import Tracker

MAX_VARIANTS = 64
"""Copies of one graph that differ in name, checkpointer or agent; beyond that the first is read again."""

_lock = threading.RLock()


def bind(graph: Any, tracker: Tracker, workload: str | None = None) -> Binding:
    """What is known of this graph, for one runtime. Copies that `with_config` makes of a graph share it."""
    builder = getattr(graph, "builder", None)
    anchor = builder if isinstance(builder, StateGraph) else graph
    variant = _variant(graph, builder, workload)
    with _lock:
        known = tracker.bindings.setdefault(anchor, {})
        binding = known.get(variant)
        if binding is None:
            if len(known) >= MAX_VARIANTS:
                del known[next(iter(known))]
            binding = known[variant] = _read(graph, tracker.runtime, workload)
        return binding


def declare(binding: Binding, tracker: Tracker) -> None:
    """Tell the runtime of the graph's edges, once. Graphs that only run inside others are no workload of their own."""
    with _lock:
        if binding.declared:
            return
        binding.declared = True
        edges = declared_edges(binding.structure)
        if edges:
            tracker.reports.structure(tracker.runtime.settings.tenant, binding.workload, edges)


def _variant(graph: Any, builder: Any, workload: str | None) -> Hashable:
    """What may differ between graphs of one builder: it can be changed and compiled again."""
    metadata = (getattr(graph, "config", None) or {}).get("metadata") or {}
    return (
        workload,
        getattr(graph, "name", None),
        _is_resumable(graph),
        *(str(metadata.get(key)) for key in (AGENT_KEY, LC_AGENT_NAME, "ls_integration")),
        *(len(getattr(builder, part, ())) for part in ("nodes", "edges", "branches", "waiting_edges")),
    )


def _read(graph: Any, runtime: RuntimePort, workload: str | None) -> Binding:
    name = getattr(graph, "name", None) or UNNAMED_GRAPH
    structure: Structure = EMPTY
    try:
        structure = read_structure(graph)
    except Exception as error:
        runtime.fault("read_structure", error)
    return Binding(
        workload=bounded(workload or (name if name != UNNAMED_GRAPH else "default")),
        graph_name=name,
        structure=structure,
        resumable=_is_resumable(graph),
    )


def _is_resumable(graph: Any) -> bool:
    return getattr(graph, "checkpointer", None) not in (None, False)
