"""The run that surrounds the code now executing, as LangChain's own configuration tells it."""

from collections.abc import Hashable

# `ensure_config()` is the documented way to read this variable; it also copies callbacks, tags and metadata,
# which would be a third of what labelling a request costs.
from langchain_core.runnables.config import var_child_runnable_config

from agentrt_langgraph.names import run_key


def ambient_run() -> Hashable:
    """Key of the innermost run whose code is executing here; None outside any."""
    config = var_child_runnable_config.get()
    if not config:
        return None
    return run_key(getattr(config.get("callbacks"), "parent_run_id", None))
