"""Which handlers are told of a graph's runs."""

from typing import Any

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.runnables.config import var_child_runnable_config


def bound_handlers(graph: Any) -> list[BaseCallbackHandler]:
    """Handlers bound to a graph."""
    callbacks = (getattr(graph, "config", None) or {}).get("callbacks")
    return list(getattr(callbacks, "handlers", callbacks) or [])


def with_handlers(graph: Any, config: Any, handlers: list[BaseCallbackHandler]) -> Any:
    """The configuration of one run, with these handlers told of that run beside all that would be told anyway."""
    given = (config or {}).get("callbacks")
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
