"""A software team of six agents on LangGraph, with hand-offs, a review loop and tools."""

from .graph import build_graph, chat_model
from .tasks import TASKS

__all__ = ["TASKS", "build_graph", "chat_model"]
