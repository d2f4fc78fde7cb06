"""Names that mean something to LangGraph, LangChain or us, and what a name may look like on the wire."""

import hashlib
import json
from collections.abc import Hashable
from uuid import UUID

from agentrt.identity import MAX_NAME_CHARS

AGENT_KEY = "agentrt_agent"
"""Metadata key that names the agent of a node, a graph or a model."""

LC_AGENT_NAME = "lc_agent_name"
"""Metadata key under which `create_agent(name=...)` leaves the agent's name."""

ROOT = "root"
"""The visit of an agent that is a whole outermost graph: every run of its thread continues it."""

UNNAMED_GRAPH = "LangGraph"
TOOL_NODES = frozenset({"tools", "tool"})
GENERIC_NODES = frozenset(
    {"agent", "model", "call_model", "llm", "chatbot", "generate", "__start__", UNNAMED_GRAPH, *TOOL_NODES}
)
"""Node names that say nothing about the role: the graph's own name is better."""

LOOP_INTEGRATIONS = frozenset({"langchain_create_agent", "deepagents"})
"""Values of the metadata key `ls_integration` that mean: this graph is one agent's loop."""

SESSION_KEYS = ("agentrt_session", "thread_id", "session_id", "conversation_id", "langfuse_session_id")
"""Metadata keys that name the conversation, best first."""


def bounded(name: str) -> str:
    """The name, or a shortened one with a digest where it would not fit into a label."""
    if len(name) <= MAX_NAME_CHARS and (name.isascii() or len(json.dumps(name)) <= MAX_NAME_CHARS):
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    kept = name[: MAX_NAME_CHARS // 2] if name.isascii() else ""
    return f"{kept}~{digest}"


def join_path(prefix: str, name: str) -> str:
    """One level deeper in an agent path; a node that merely wraps an agent of its own name adds none."""
    if not prefix or prefix.rpartition("/")[2] == name:
        return prefix or name
    return f"{prefix}/{name}"


def agent_of_graph(name: str | None, tool: str | None, node: str | None) -> str | None:
    """What a graph inside a node is called: by its own name, else by its tool, else by its node, if that says more."""
    if name and name not in GENERIC_NODES:
        return name
    if node is None or node in GENERIC_NODES:
        return tool
    return node


def run_key(run_id: UUID | None) -> int | None:
    """What a run is found by: an integer, which hashes ten times faster than LangChain's UUID."""
    return run_id.int if run_id is not None else None


def run_id_text(key: Hashable) -> str:
    """A run's id as text, from its key."""
    if not isinstance(key, int):
        return str(key)
    digits = f"{key:032x}"  # what str(UUID(int=key)) does, at a third of its price
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
