"""Attaches a handler to a copy of a graph, so that callbacks given at the call do not replace it.

LangGraph merges callbacks bound by `with_config` with those of the call only since 1.2.4. Before, a call's own
callbacks (every `astream_events` brings some), and those of a surrounding graph, and the bound ones replaced
each other; there the copy gets a subclass of its type that puts our handler beside the others.
"""

import functools
import re
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from typing import Any, cast

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.runnables.config import var_child_runnable_config

try:  # told of interrupts only as a subclass of this, which is newer than the oldest LangGraph we support
    from langgraph.callbacks import GraphCallbackHandler as LifecycleHandler
except ImportError:
    LifecycleHandler = BaseCallbackHandler  # type: ignore[misc,assignment]

__all__ = ["LifecycleHandler", "attach", "bound_handlers", "with_handlers"]

MERGES_SINCE = (1, 2, 4)


def attach(graph: Any, handler: BaseCallbackHandler) -> Any:
    """A copy of the graph with the handler bound to it."""
    observed = graph.with_config(callbacks=[handler])
    if not _merges() and hasattr(observed, "stream") and hasattr(observed, "astream"):
        graph_type, handler_type = cast("Any", type(observed)), cast("Any", type(handler))
        observed.__class__ = _merging(graph_type, handler_type)
    return observed


def bound_handlers(graph: Any) -> list[BaseCallbackHandler]:
    """Handlers bound to a graph."""
    callbacks = (getattr(graph, "config", None) or {}).get("callbacks")
    return list(getattr(callbacks, "handlers", callbacks) or [])


@functools.cache
def _merges() -> bool:
    numbers = re.findall(r"\d+", version("langgraph"))[:3]
    return tuple(map(int, numbers)) >= MERGES_SINCE


@functools.cache
def _merging(graph_type: Any, handler_type: Any) -> type[Any]:
    """The graph's type, with our handler added to the callbacks of each run. All ways to run go through these two."""

    class Merging(graph_type):  # type: ignore[misc]
        def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002
            return super().stream(input, _merged(self, config, handler_type), **kwargs)  # type: ignore[no-any-return]

        def astream(self, input: Any, config: Any = None, **kwargs: Any) -> AsyncIterator[Any]:  # noqa: A002
            return super().astream(input, _merged(self, config, handler_type), **kwargs)  # type: ignore[no-any-return]

    Merging.__name__, Merging.__qualname__ = graph_type.__name__, graph_type.__qualname__
    Merging.__module__ = graph_type.__module__
    return Merging


def with_handlers(graph: Any, config: Any, handlers: list[BaseCallbackHandler]) -> Any:
    """The configuration of one run, with these handlers told of that run beside all that would be told anyway."""
    given = (config or {}).get("callbacks")
    if not given and not _merges():
        # There, what is given at the call replaces what is bound, and that replaces what surrounds it.
        given = (graph.config or {}).get("callbacks") or (var_child_runnable_config.get() or {}).get("callbacks")
    if isinstance(given, BaseCallbackManager):
        told = given.copy()
    elif bound_handlers(graph) or (var_child_runnable_config.get() or {}).get("callbacks"):
        # LangGraph puts lists together in the order in which they were given, and managers in any.
        return {**(config or {}), "callbacks": [*(given or ()), *handlers]}
    else:
        told = BaseCallbackManager(list(given or ()), inheritable_handlers=list(given or ()))
    for handler in handlers:
        told.add_handler(handler, inherit=False)  # so that what runs inside costs nothing more
    return {**(config or {}), "callbacks": told}


def _merged(graph: Any, config: Any, handler_type: type[BaseCallbackHandler]) -> Any:
    given = (config or {}).get("callbacks") or (var_child_runnable_config.get() or {}).get("callbacks")
    if not given:
        return config
    ours = [handler for handler in bound_handlers(graph) if isinstance(handler, handler_type)]
    if isinstance(given, list):
        return {**(config or {}), "callbacks": [*given, *(handler for handler in ours if handler not in given)]}
    merged = given.copy()
    for handler in ours:
        if handler not in merged.handlers:
            merged.add_handler(handler, inherit=True)
    return {**(config or {}), "callbacks": merged}
