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

from agentrt_langgraph import completions, inject, pregel, raw_threads, tools
from agentrt_langgraph.bindings import bind, declare
from agentrt_langgraph.handler import AgentRTCallbackHandler, is_instrumented
from agentrt_langgraph.port import RuntimePort
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
    if runtime.settings.disabled or is_instrumented(graph, runtime):
        return graph
    tracker = tracker_of(runtime)
    binding = bind(graph, tracker, workload)
    declare(binding, tracker)
    return cast("Graph", graph.with_config(callbacks=[AgentRTCallbackHandler(runtime, binding=binding)]))


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


def install(runtime: RuntimePort, *, structure: bool = True, propagate_threads: bool = False) -> None:
    """Observe every graph of this process, existing and future, as `instrument` does for one. Idempotent.

    `structure`: know of each run which graph it is of, its declared edges, name, checkpointer and pauses, by wrapping
    the public `Pregel.stream` and `astream`; without it nothing in LangGraph is wrapped, and names and edges are
    inferred. `propagate_threads`: see `agentrt_langgraph.propagate_threads`. A second call may add either.
    """
    if runtime.settings.disabled:
        return
    with _lock:
        if id(runtime) not in _installed:
            # A default, unlike a value, is seen by every thread and context.
            handler = AgentRTCallbackHandler(runtime)
            hook: ContextVar[Any] = ContextVar("agentrt_handler", default=handler)
            register_configure_hook(hook, inheritable=True)
            _installed[id(runtime)] = (runtime, hook)
        if structure:
            pregel.enable(tracker_of(runtime))
        if propagate_threads:
            raw_threads.propagate_threads()


def uninstall() -> None:
    """Undo every `install`, and take all our hooks out of LangGraph, the OpenAI client and threads. Idempotent.

    Graphs instrumented one by one stay observed; their requests are labelled, and tool gates asked, again after
    the next `instrument` or `install`.
    """
    with _lock:
        ours = {id(hook) for _, hook in _installed.values()}
        _installed.clear()
        # LangChain has no public way back.
        hooks = getattr(tracer_context, "_configure_hooks", [])
        hooks[:] = [entry for entry in hooks if id(entry[0]) not in ours]
        pregel.disable()
        raw_threads.disable()
        inject.disable()
        tools.disable()
        completions.disable(AgentRTCallbackHandler)
