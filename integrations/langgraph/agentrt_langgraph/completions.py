"""Lets other handlers hear of completion models in async runs, where LangChain would leave them out because of ours.

`AsyncCallbackManager.on_llm_start` tells handlers that run inline, or the others, never both. Ours must run inline,
or identity could not follow the request; so the others, `astream_events` among them, would miss these calls. Here it
tells the others as if ours were not there, and then ours. Chat models are told differently, and are not affected.
"""

import functools
import threading
from typing import Any

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler

from agentrt_langgraph.patches import Patch

_lock = threading.Lock()
_ours: type[BaseCallbackHandler] | None = None


def enable(ours: type[BaseCallbackHandler]) -> None:
    """Tell handlers of this type apart from the others, from now on. Idempotent."""
    global _ours  # noqa: PLW0603 - one patch per process, whoever asks
    with _lock:
        ours.run_inline = True
        _ours = ours
        _patch.apply()


def disable(ours: type[BaseCallbackHandler]) -> None:
    """Undo `enable`. Handlers still attached no longer run inline: no request is labelled that would need it."""
    global _ours  # noqa: PLW0603 - as above
    with _lock:
        ours.run_inline = False
        _ours = None
        _patch.undo()


def _wrapped(original: Any) -> Any:
    @functools.wraps(original)
    async def on_llm_start(self: Any, serialized: Any, prompts: Any, *args: Any, **kwargs: Any) -> Any:
        ours = _ours
        own = [handler for handler in self.handlers if isinstance(handler, ours)] if ours is not None else []
        if not own or len(own) == len(self.handlers):
            return await original(self, serialized, prompts, *args, **kwargs)
        others = self.copy()
        for handler in own:
            others.remove_handler(handler)
        managers = await original(others, serialized, prompts, *args, **kwargs)
        told = {"parent_run_id": self.parent_run_id, "tags": self.tags, "metadata": self.metadata}
        for prompt, manager in zip(prompts, managers, strict=False):
            manager.handlers, manager.inheritable_handlers = self.handlers, self.inheritable_handlers
            for handler in own:
                _tell(handler, serialized, [prompt], run_id=manager.run_id, **told)
        return managers

    return on_llm_start


_patch = Patch(AsyncCallbackManager, "on_llm_start", _wrapped)


def _tell(handler: Any, *args: Any, **kwargs: Any) -> None:
    try:
        handler.on_llm_start(*args, **kwargs)
    except Exception as error:
        handler.runtime.fault("on_llm_start", error)
