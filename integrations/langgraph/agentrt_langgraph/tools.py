"""Intercepts the tool calls of LangGraph's `ToolNode`, whoever built the node and when, for runtimes with gates.

The class is wrapped where a node reads its calls and where it runs one of them. The public `wrap_tool_call` misses
nodes that exist already, and its mere presence changes which exceptions of a tool reach the graph: it is used only
where the class is not as we know it.

All calls of a node are asked about in order, in the node's own thread, before any of them runs: LangGraph numbers
interrupts by their order, and the answer to one question must not be taken by another call.
"""

import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.prebuilt import ToolNode

from agentrt.identity import Identity
from agentrt_langgraph.composed import compose
from agentrt_langgraph.gating import Gated, GateSource, decide
from agentrt_langgraph.naming import session_name
from agentrt_langgraph.patches import Patch
from agentrt_langgraph.standin import aanswered, answered

_PARSE, _RUN, _ARUN = "_parse_input", "_run_one", "_arun_one"
_PARAMETERS = {_PARSE: ["self", "input"], _RUN: ["self", "call", "input_type", "tool_runtime"]}
_PARAMETERS[_ARUN] = _PARAMETERS[_RUN]
UNKNOWN = "unknown"


class CallerSource(GateSource, Protocol):
    """Knows who acts in the current context."""

    def current_identity(self) -> Identity | None:
        """The caller; None when this runtime follows nothing here."""


_lock = threading.Lock()
_sources: tuple[weakref.ref[Any], ...] = ()
_patches: list[Patch] = []
_decided: ContextVar[dict[int, tuple[Any, Gated]] | None] = ContextVar("agentrt_decided", default=None)
"""By id of the call's dictionary, which is what the node hands on; the dictionary itself, to be sure of that."""
_gated: ContextVar[Gated | None] = ContextVar("agentrt_gated", default=None)
"""The call that runs in this context."""


def enable(source: CallerSource) -> None:
    """Ask this runtime's gates from now on. Idempotent; without gates nothing is touched. Never raises."""
    global _sources  # noqa: PLW0603 - one patch per process, whoever asks
    if not source.runtime.tool_gates:
        return
    with _lock:
        alive = [ref for ref in _sources if ref() is not None]
        if not any(ref() is source for ref in alive):
            alive.append(weakref.ref(source))
        _sources = tuple(alive)
        try:
            if not any(patch.stands for patch in _patches):
                _patches[:] = _interception()
            for patch in _patches:
                patch.apply()
        except Exception as error:
            source.runtime.fault("tools", error)


def disable() -> None:
    """Take our interception out of `ToolNode`. Idempotent."""
    global _sources  # noqa: PLW0603 - as above
    with _lock:
        for patch in _patches:
            patch.undo()
        _sources = ()


def is_gated(source: GateSource, tool_call_id: object) -> bool:
    """Whether this runtime was asked already about the call that runs in this context."""
    gated = _gated.get()
    if gated is None or gated.call.tool_call_id != tool_call_id:
        return False
    return any(other.runtime is source.runtime for other, _ in gated.asked)


def _interception() -> list[Patch]:
    if not _as_expected():
        decided = partial(_decide, may_ask=False)
        return [Patch(ToolNode, "__init__", partial(compose, decide=decided, is_wanted=lambda: bool(_sources)))]
    return [Patch(ToolNode, name, wrap) for name, wrap in ((_PARSE, _parse), (_RUN, _run), (_ARUN, _arun))]


def _as_expected() -> bool:
    methods = {name: ToolNode.__dict__.get(name) for name in _PARAMETERS}
    return (
        all(callable(m) and list(inspect.signature(m).parameters) == _PARAMETERS[n] for n, m in methods.items())
        and not inspect.iscoroutinefunction(methods[_RUN])
        and inspect.iscoroutinefunction(methods[_ARUN])
    )


def _parse(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def parse(self: Any, *args: Any, **kwargs: Any) -> Any:
        parsed = original(self, *args, **kwargs)
        decided = {}
        for call in _calls(parsed):
            gated = _decide(call, _tool(self, call))
            if gated is not None:
                decided[id(call)] = (call, gated)
        _decided.set(decided or None)
        return parsed

    return parse


def _run(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def run(self: Any, call: Any, input_type: Any, tool_runtime: Any) -> Any:
        return answered(_taken(self, call), lambda: original(self, call, input_type, tool_runtime))

    return run


def _arun(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def run(self: Any, call: Any, input_type: Any, tool_runtime: Any) -> Any:
        return await aanswered(_taken(self, call), lambda: original(self, call, input_type, tool_runtime))

    return run


def _calls(parsed: Any) -> list[Any]:
    return list(parsed[0]) if isinstance(parsed, tuple) and parsed else []


def _tool(node: Any, call: Any) -> Any:
    return node.tools_by_name.get(call.get("name"))


def _taken(node: Any, call: Any) -> Gated | None:
    """What was decided about this call when the node read it; decided now if it was not."""
    known = (_decided.get() or {}).get(id(call))
    gated = known[1] if known is not None and known[0] is call else _decide(call, _tool(node, call), may_ask=False)
    _gated.set(gated)  # each call runs in a context of its own
    return gated


def _decide(call: Any, tool: Any, *, may_ask: bool = True) -> Gated | None:
    config = var_child_runnable_config.get()
    callers = list(_callers(config)) if config else []
    return decide(callers, call, tool, may_ask=may_ask) if callers else None


def _callers(config: Any) -> Iterator[tuple[CallerSource, Identity]]:
    """The runtimes that watch the code now executing, and who acts as each sees it."""
    callbacks = config.get("callbacks")
    handlers = getattr(callbacks, "handlers", callbacks) or ()
    for ref in _sources:
        source: CallerSource | None = ref()
        if source is None:
            continue
        identity = None
        try:
            identity = source.current_identity()
        except Exception as error:
            source.runtime.fault("tool_gates", error)
        # A run that made room for newer ones is still watched: it carries our handler.
        if identity is None and any(getattr(handler, "runtime", None) is source.runtime for handler in handlers):
            identity = _stranger(source, config.get("metadata") or {})
        if identity is not None:
            yield source, identity


def _stranger(source: CallerSource, metadata: Any) -> Identity:
    tenant = source.runtime.settings.tenant
    return Identity(session=session_name(metadata) or UNKNOWN, agent=UNKNOWN, tenant=tenant)
