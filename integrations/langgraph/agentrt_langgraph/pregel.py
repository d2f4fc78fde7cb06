"""Tells the trackers which graph object each run is of, for `install`: callbacks only tell a name.

Every way to run a graph, also as a node or in a tool, goes through the public `Pregel.stream` or `astream`. Both are
wrapped to add one callback handler to that run; what they return is LangGraph's own generator.
"""

# ruff: noqa: ARG002 - LangChain passes arguments by keyword: their names are its own, used or not

import functools
import threading
from collections.abc import Callable
from typing import Any, Self
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langgraph.callbacks import GraphCallbackHandler
from langgraph.pregel import Pregel

from agentrt_langgraph.attach import with_handlers
from agentrt_langgraph.bindings import bind, declare
from agentrt_langgraph.handler import is_instrumented
from agentrt_langgraph.names import run_key
from agentrt_langgraph.patches import Patch
from agentrt_langgraph.structure import Binding
from agentrt_langgraph.tracker import Tracker


class GraphNotice(GraphCallbackHandler):
    """Says of one run which graph it is of, and when it pauses. It is told nothing else."""

    raise_error = False
    run_inline = True
    ignore_llm = ignore_chat_model = ignore_agent = ignore_retriever = True
    ignore_retry = ignore_custom_event = True
    ignore_chain = False

    def __init__(self, tracker: Tracker, binding: Binding) -> None:
        super().__init__()
        self._tracker = tracker
        self._binding = binding

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """The graph began: the first that is heard, since whatever begins later is inside it."""
        self.ignore_chain = True
        try:
            outermost = self._tracker.graph_started(
                run_id.int,
                run_key(parent_run_id),
                kwargs.get("name") or "",
                metadata,
                tags,
                binding=self._binding,
                given=inputs,
            )
            if outermost and not self._binding.declared:
                declare(self._binding, self._tracker)
        except Exception as error:
            self._tracker.runtime.fault("on_chain_start", error)

    def on_interrupt(self, event: Any) -> None:
        """The graph paused, or one inside it."""
        try:
            self._tracker.interrupted(run_key(event.run_id))
        except Exception as error:
            self._tracker.runtime.fault("on_interrupt", error)

    def on_resume(self, event: Any) -> None:
        """Seen as a run of the same session."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


_lock = threading.Lock()
_trackers: tuple[Tracker, ...] = ()


def enable(tracker: Tracker) -> None:
    """Tell this tracker of every graph that begins to run. Idempotent."""
    global _trackers  # noqa: PLW0603 - one patch per process, whoever asks
    with _lock:
        if tracker not in _trackers:
            _trackers = (*_trackers, tracker)
        for patch in _patches:
            patch.apply()


def disable() -> None:
    """Tell nobody any more, and put LangGraph's methods back, unless somebody wrapped them after us. Idempotent."""
    global _trackers  # noqa: PLW0603 - as above
    with _lock:
        _trackers = ()
        for patch in _patches:
            patch.undo()


def _wrap(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _trackers:
            args, kwargs = _with_notices(self, args, kwargs)
        return original(self, *args, **kwargs)

    return run


def _with_notices(graph: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of `stream(input, config, ...)`, with our handlers in the configuration. Never raises."""
    trackers = _trackers
    try:
        notices = [notice for tracker in trackers if (notice := _notice(graph, tracker)) is not None]
        if not notices:
            return args, kwargs
        if len(args) > 1:
            return (args[0], with_handlers(graph, args[1], notices), *args[2:]), kwargs
        return args, {**kwargs, "config": with_handlers(graph, kwargs.get("config"), notices)}
    except Exception as error:
        for tracker in trackers:
            tracker.runtime.fault("pregel", error)
        return args, kwargs


def _notice(graph: Any, tracker: Tracker) -> BaseCallbackHandler | None:
    if is_instrumented(graph, tracker.runtime):
        return None  # it brings what its user said of it
    return GraphNotice(tracker, bind(graph, tracker))


_patches = tuple(Patch(Pregel, method, _wrap) for method in ("stream", "astream"))
