"""What a node's code refers to: the graphs it or its tools will call, and whom its tools hand over to.

LangGraph looks for the first graph that a node function names; a node may call several, and those behind tools it does
not look for. The evidence is the same as LangGraph's: closure cells, and the globals and attributes that the code
names. Nothing is executed, so what is chosen while running is not found.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

from langchain_core.tools import BaseTool
from langgraph.types import Command

MAX_LOOKED_AT = 1000
"""Objects looked at per node: a closure may reach far."""

MAX_DEPTH = 6
MAX_ITEMS = 100
"""Items looked at of each list or mapping."""

_HANDOFF = "__handoff_destination"
"""Key in a tool's metadata by which langgraph-supervisor and langgraph-swarm name the agent it hands over to."""

_LIBRARIES = frozenset({*sys.stdlib_module_names, "langchain", "langchain_core", "langgraph", "openai", "pydantic"})
"""Packages whose globals hold no graph of the user's."""

_INSIDE = (
    "func",
    "afunc",
    "coroutine",
    "bound",
    "steps",
    "steps__",
    "tools_by_name",
    "keywords",
    "args",
    "__wrapped__",
)
"""Attributes under which LangChain and `functools` keep what a wrapper wraps."""

AGENT_MARK = "__agentrt_agent__"
"""Attribute under which `wrap_node` leaves the agent's name on what it wrapped."""

_Named = frozenset[str]


def is_graph(thing: object) -> bool:
    """A compiled graph."""
    return callable(getattr(type(thing), "get_subgraphs", None))  # by type: asking a lazy object would load it


def graphs_in(code: object) -> Iterator[tuple[str | None, Any]]:
    """Graphs that a node's code refers to, each with the tool that calls it, if one does."""
    return ((tool, thing) for tool, thing in _reachable(code) if is_graph(thing))


def tools_of(code: object) -> list[Any]:
    """The tools of a `ToolNode`."""
    tools = getattr(code, "tools_by_name", None) if hasattr(type(code), "tools_by_name") else None
    return list(tools.values()) if isinstance(tools, Mapping) else []


def handoffs_in(code: object) -> frozenset[str]:
    """Agents that the tools of a tool node hand over to, as their metadata says."""
    found = ((getattr(tool, "metadata", None) or {}).get(_HANDOFF) for tool in tools_of(code))
    return frozenset(str(agent) for agent in found if agent)


def wrapped_name(runnable: object) -> str | None:
    """The agent that `wrap_node` gave to a node, by what LangGraph made of it."""
    for held in (runnable, getattr(runnable, "func", None), getattr(runnable, "afunc", None)):
        name = getattr(held, "__dict__", {}).get(AGENT_MARK)
        if name is not None:
            return str(name)
    return None


def names_commands(code: object) -> bool:
    """Whether a node's code refers to `Command`: where it goes next is then unknown, unless declared."""
    return any(thing is Command for _, thing in _reachable(code))


def _reachable(code: object) -> Iterator[tuple[str | None, Any]]:
    """Everything the code refers to, nearest first, with the tool on the way to it."""
    seen: set[int] = set()
    waiting: list[tuple[str | None, Any, int, _Named]] = [(None, code, 0, frozenset())]
    for tool, thing, depth, names in waiting:  # grows while it is walked
        if id(thing) in seen:
            continue
        if len(seen) >= MAX_LOOKED_AT:
            return
        seen.add(id(thing))
        yield tool, thing
        if depth >= MAX_DEPTH or is_graph(thing):
            continue
        # Proxies may load what they stand for when they are looked at, and fail: such an object holds no graph for us.
        with suppress(Exception):
            if isinstance(thing, (type, str, bytes, int, float, type(None))):
                continue
            inside = thing.name if isinstance(thing, BaseTool) else tool
            if isinstance(thing, FunctionType):
                names = _names(thing.__code__)  # noqa: PLW2901
            waiting.extend([(inside, part, depth + 1, names) for part in _parts(thing, names)])


def _parts(thing: Any, names: _Named) -> Iterator[Any]:
    """What one object refers to; of an object's attributes, those that the code around it names."""
    if isinstance(thing, Mapping):
        yield from list(thing.values())[:MAX_ITEMS]
    elif isinstance(thing, (list, tuple, set, frozenset)):
        yield from list(thing)[:MAX_ITEMS]
    elif isinstance(thing, FunctionType):
        yield from _cells(thing)
        yield getattr(thing, "__wrapped__", None)
        if (thing.__module__ or "").partition(".")[0] not in _LIBRARIES:
            yield from (thing.__globals__[name] for name in names if name in thing.__globals__)
    elif isinstance(thing, MethodType):
        yield thing.__func__
        yield thing.__self__
        yield from _attributes(thing.__self__, _names(getattr(thing.__func__, "__code__", None)))
    elif tools_of(thing):
        yield from tools_of(thing)
    elif isinstance(thing, BaseTool):
        yield type(thing)._run  # noqa: SLF001 - a tool written as a class has its code there
        yield from list(vars(thing).values())[:MAX_ITEMS]
    else:
        yield from (vars(thing)[name] for name in _INSIDE if name in getattr(thing, "__dict__", ()))
        if isinstance(thing, partial):
            yield from (thing.func, thing.args, thing.keywords)
        yield from _attributes(thing, names)


def _cells(function: FunctionType) -> Iterable[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not yet bound
            continue


def _attributes(owner: object, names: _Named) -> Iterable[Any]:
    own = getattr(owner, "__dict__", None) or {}
    return [own[name] for name in names if name in own]


def _names(code: CodeType | None) -> _Named:
    """Globals and attributes that code refers to, nested functions included."""
    if code is None:
        return frozenset()
    inner = (_names(const) for const in code.co_consts if isinstance(const, CodeType))
    return frozenset(code.co_names).union(*inner)
