"""The run that surrounds the code now executing, as LangChain's own configuration tells it."""

from collections.abc import Hashable

from langchain_core.runnables import ensure_config


def ambient_run() -> Hashable:
    """Key of the innermost run whose code is executing here; None outside any."""
    run_id = getattr(ensure_config().get("callbacks"), "parent_run_id", None)
    return run_id.int if run_id is not None else None
