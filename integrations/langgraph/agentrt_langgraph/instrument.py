"""The ways in: one graph, every graph a function builds, or every graph of the process."""

import functools
import inspect
import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from langchain_core.tracers import context as tracer_context
from langchain_core.tracers.context import register_configure_hook

from agentrt_langgraph import inject, tools
from agentrt_langgraph.attach import attach, bound_handlers
from agentrt_langgraph.handler import AgentRTCallbackHandler
from agentrt_langgraph.names import UNNAMED_GRAPH, bounded
from agentrt_langgraph.port import RuntimePort
from agentrt_langgraph.prior import declared_edges
from agentrt_langgraph.records import Binding
from agentrt_langgraph.structure import EMPTY, Structure, read_structure
from agentrt_langgraph.tracker import Tracker
from agentrt_langgraph.trackers import tracker_of

logger = logging.getLogger("agentrt")

Graph = TypeVar("Graph")
Builder = TypeVar("Builder", bound=Callable[..., Any])


def instrument(graph: Graph, runtime: RuntimePort, *, workload: str | None = None) -> Graph:
    """A graph that behaves as this one, observed by the runtime. The original stays untouched.

    `workload` names the deployed graph in learned state and defaults to the graph's own name. Raises
    TypeError for anything but a compiled graph.
    """
    if not hasattr(graph, "with_config") or not hasattr(graph, "get_subgraphs"):
        hint = "; call .compile() first" if hasattr(graph, "compile") else ""
        raise TypeError(f"instrument() takes a compiled LangGraph graph, not {type(graph).__name__}{hint}")
    if runtime.settings.disabled or _is_instrumented(graph, runtime):
        return graph
    tracker = tracker_of(runtime)  # kept until the handler keeps it
    binding = _bind(graph, tracker, workload)
    return cast("Graph", attach(graph, AgentRTCallbackHandler(runtime, binding=binding)))


def instrumented(runtime: RuntimePort, *, workload: str | None = None) -> Callable[[Builder], Builder]:
    """Decorate a function, sync or async, that builds a graph: it then returns an instrumented one."""

    def decorate(build: Builder) -> Builder:
        if inspect.iscoroutinefunction(build):

            @functools.wraps(build)
            async def build_async(*args: Any, **kwargs: Any) -> Any:
                return instrument(await build(*args, **kwargs), runtime, workload=workload)

            return cast("Builder", build_async)

        @functools.wraps(build)
        def build_sync(*args: Any, **kwargs: Any) -> Any:
            return instrument(build(*args, **kwargs), runtime, workload=workload)

        return cast("Builder", build_sync)

    return decorate


_lock = threading.Lock()
_installed: dict[int, tuple[RuntimePort, ContextVar[Any]]] = {}


def install(runtime: RuntimePort) -> None:
    """Observe every graph of this process, existing and future. Idempotent.

    Prefer `instrument`: it also knows a graph's declared edges, its name, and whether it can be resumed.
    """
    if runtime.settings.disabled:
        return
    with _lock:
        if id(runtime) in _installed:
            return
        # A default, unlike a value, is seen by every thread and context.
        handler = AgentRTCallbackHandler(runtime)
        hook: ContextVar[Any] = ContextVar("agentrt_handler", default=handler)
        register_configure_hook(hook, inheritable=True)
        _installed[id(runtime)] = (runtime, hook)


def uninstall() -> None:
    """Undo every `install`, and take our hooks out of the OpenAI client and LangGraph's `ToolNode`. Idempotent.

    Graphs instrumented one by one stay observed; their requests are labelled, and tool gates asked, again after
    the next `instrument` or `install`.
    """
    with _lock:
        ours = {id(hook) for _, hook in _installed.values()}
        _installed.clear()
        # LangChain has no public way back.
        hooks = getattr(tracer_context, "_configure_hooks", [])
        hooks[:] = [entry for entry in hooks if id(entry[0]) not in ours]
        inject.disable()
        tools.disable()


def _is_instrumented(graph: Any, runtime: RuntimePort) -> bool:
    return any(isinstance(h, AgentRTCallbackHandler) and h.runtime is runtime for h in bound_handlers(graph))


def _bind(graph: Any, tracker: Tracker, workload: str | None) -> Binding:
    """What is known of this graph, read and declared once per graph object and runtime."""
    with _lock:
        known = tracker.bindings.setdefault(graph, {})
        binding = known.get(workload)
        if binding is None:
            binding = known[workload] = _read(graph, tracker.runtime, workload)
            edges = declared_edges(binding.structure)
            if edges:
                tracker.reports.structure(tracker.runtime.settings.tenant, binding.workload, edges)
        return binding


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
        resumable=getattr(graph, "checkpointer", None) not in (None, False),
    )
