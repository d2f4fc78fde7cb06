"""Lets raw threads belong to the run that starts them, for those who ask for it.

`asyncio.to_thread`, LangChain and LangGraph copy the context into the threads they use; `threading.Thread`,
`ThreadPoolExecutor.submit` and, through it, `loop.run_in_executor` do not, so that calls made there belong to nobody.
"""

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any

from agentrt_langgraph.ambient import ambient_run
from agentrt_langgraph.patches import Patch
from agentrt_langgraph.trackers import live_trackers

_lock = threading.Lock()
_active = False
_submitting: ContextVar[bool] = ContextVar("agentrt_submitting", default=False)
"""A pool may start a worker now, which serves others after this run: it is no part of it."""


def propagate_threads() -> None:
    """Let threads and pool jobs that are started inside an observed run carry its context. Idempotent.

    Wraps `ThreadPoolExecutor.submit` and `threading.Thread.start` for the whole process until `uninstall()`. Outside
    observed runs they do what they did. Inside, all context variables are copied along, as `asyncio.to_thread` does
    it. What runs after the run is over belongs to nobody, as before. Process pools are not covered.
    """
    global _active  # noqa: PLW0603 - one patch per process, whoever asks
    with _lock:
        _active = True
        for patch in _patches:
            patch.apply()


def disable() -> None:
    """Undo it, except below somebody else's wrapper, where ours does nothing any more. Idempotent."""
    global _active  # noqa: PLW0603 - as above
    with _lock:
        _active = False
        for patch in _patches:
            patch.undo()


def _in_observed_run() -> bool:
    if not _active:
        return False
    key = ambient_run()
    return key is not None and any(tracker.open_runs.get(key) is not None for tracker in live_trackers())


def _wrap_submit(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def submit(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not args or not _in_observed_run():
            return original(self, *args, **kwargs)
        context = copy_context()
        token = _submitting.set(True)
        try:
            return original(self, context.run, *args, **kwargs)
        finally:
            _submitting.reset(token)

    return submit


def _wrap_start(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def start(self: threading.Thread) -> None:
        if not _in_observed_run() or _submitting.get():
            original(self)
            return
        context, own = copy_context(), self.__dict__
        before = own.get("run")

        def restore() -> None:
            own.pop("run", None)  # kept, the thread would hold itself
            if before is not None:
                own["run"] = before

        def run() -> None:
            restore()
            context.run(self.run)

        own["run"] = run
        try:
            original(self)
        except BaseException:
            restore()
            raise

    return start


_patches = (Patch(ThreadPoolExecutor, "submit", _wrap_submit), Patch(threading.Thread, "start", _wrap_start))
