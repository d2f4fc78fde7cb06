"""The run that surrounds the code now executing, as LangChain's own configuration tells it."""

from collections.abc import Hashable

from langchain_core.runnables import ensure_config


def ambient_run() -> Hashable:
    """Id of the innermost run whose code is executing here; None outside any."""
    manager = ensure_config().get("callbacks")
    return getattr(manager, "parent_run_id", None)
