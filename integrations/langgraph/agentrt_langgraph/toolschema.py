"""Whether a tool reads more than the arguments a model writes, so that equal arguments need not mean equal results."""

import inspect
import weakref
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

from langchain_core.tools import BaseTool

_INJECTED = ("RunnableConfig", "ToolRuntime", "Injected")
MAX_TOOLS = 1_000
_known: dict[int, tuple[weakref.ref[BaseTool], bool]] = {}


def reads_context(tool: BaseTool) -> bool:
    """Whether LangGraph injects state, store, runtime, call id or configuration into it. In doubt, yes.

    What a tool's body fetches by itself (a global, a file, `get_store()`) cannot be seen.
    """
    known = _known.get(id(tool))
    if known is not None and known[0]() is tool:
        return known[1]
    try:
        answer = _has_hidden_fields(tool) or any(_takes_context(function) for function in _functions(tool))
    except Exception:  # a schema that cannot be read says nothing
        answer = True
    if len(_known) >= MAX_TOOLS:
        _known.clear()
    _known[id(tool)] = (weakref.ref(tool), answer)
    return answer


def _has_hidden_fields(tool: BaseTool) -> bool:
    """Fields of the input that the model is not shown."""
    if isinstance(tool.args_schema, dict):
        return False  # JSON schema, as MCP tools have: all of it is shown
    taken = getattr(tool.get_input_schema(), "model_fields", {})
    return not set(taken) <= set(getattr(tool.tool_call_schema, "model_fields", {}))


def _functions(tool: BaseTool) -> Iterator[Callable[..., Any]]:
    own = [function for function in (getattr(tool, "func", None), getattr(tool, "coroutine", None)) if function]
    yield from own or (tool._run, tool._arun)  # noqa: SLF001 - what a subclass of BaseTool defines


def _takes_context(function: Callable[..., Any]) -> bool:
    try:
        annotations = get_type_hints(inspect.unwrap(function), include_extras=True)
    except NameError:  # names of another scope
        annotations = getattr(function, "__annotations__", {})
    return any(name in str(annotation) for annotation in annotations.values() for name in _INJECTED)
