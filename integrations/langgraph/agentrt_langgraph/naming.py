"""Which agent a task stands for: its name, its path from the root, and its visit.

A hand-written node is an agent of its own name. The nodes of an agent loop (`create_agent`, or nodes with
names like `model` and `tools`) together are one agent, named by the best evidence there is.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from agentrt.identity import START
from agentrt_langgraph.edges import predecessors
from agentrt_langgraph.names import (
    AGENT_KEY,
    GENERIC_NODES,
    LC_AGENT_NAME,
    LOOP_INTEGRATIONS,
    ROOT,
    SESSION_KEYS,
    TOOL_NODES,
    UNNAMED_GRAPH,
    agent_of_graph,
    bounded,
    join_path,
)
from agentrt_langgraph.records import GraphRun, Task

_LOOP_NODES = frozenset({"model", "tools"})


def resolve(task: Task) -> Task:
    """Fill in `label`, `path`, `invocation` and `is_loop`, once; return the task."""
    if task.label is not None:
        return task
    asking = _asking(task)
    if asking is not None:
        task.label, task.path = asking.label, asking.path
        task.invocation, task.is_loop = asking.invocation, asking.is_loop
        return task
    task.label, task.is_loop = _label(task)
    task.path = bounded(join_path(_prefix(task.in_graph), task.label))
    ns = task.ns or ""
    task.invocation = bounded((ns.rpartition("|")[0] or task.in_graph.turn.root) if task.is_loop else ns or ROOT)
    return task


def rename(task: Task, agent: str) -> None:
    """Let metadata on the task's first call name the task."""
    task.label = agent
    task.path = bounded(join_path(_prefix(task.in_graph), agent))


def give_name(task: Task, agent: str) -> None:
    """Let the node's own code name the task: the outermost to say so, and before its first call."""
    if not task.called and task.given_name is None:
        task.given_name, task.label = agent, None


def scoped_path(task: Task, names: Iterable[str]) -> list[tuple[str, str]]:
    """Steps from a task's agent to the one that scopes of these names inside it stand for, as (outer, inner) paths."""
    steps, path = [], resolve(task).path
    for name in names:
        inner = bounded(join_path(path, name))
        if inner != path:
            steps.append((path, inner))
            path = inner
    return steps


def _prefix(graph: GraphRun) -> str:
    """The agent that runs this graph."""
    if graph.enclosing is None:
        return graph.turn.caller
    if graph.scoped:
        steps = scoped_path(graph.enclosing, graph.scoped)
        if steps:
            return steps[-1][1]
    return resolve(graph.enclosing).path


def describe_graph(graph: GraphRun) -> None:
    """Decide, once per graph run, whether it is one agent's loop, and what that agent is called."""
    metadata, enclosing = graph.metadata, graph.enclosing
    caller = graph.turn.caller if enclosing is None else ""
    outer = metadata if caller else graph.outer_metadata  # a caller elsewhere sends its own metadata along
    override = metadata.get(AGENT_KEY)
    if override and override != outer.get(AGENT_KEY):
        graph.agent, graph.is_loop = str(override), True
        return
    agent_name = metadata.get(LC_AGENT_NAME)
    inherited = agent_name == outer.get(LC_AGENT_NAME)
    # Both keys are inherited by whatever runs below: they count only where they are fresh.
    graph.is_loop = metadata.get("ls_integration") in LOOP_INTEGRATIONS and (
        (enclosing is None and not caller) or graph.name != UNNAMED_GRAPH or not inherited
    )
    if agent_name and (not inherited or graph.name == agent_name):
        graph.agent = str(agent_name)
    else:
        tool = graph.tool.name if graph.tool is not None else None
        node = enclosing.name if enclosing is not None else caller.rpartition("/")[2] or None
        graph.agent = agent_of_graph(graph.name, tool, node)


def _label(task: Task) -> tuple[str, bool]:
    graph = task.in_graph
    if _is_named(task):
        return task.given_name or str(task.metadata[AGENT_KEY]), False
    if not (graph.is_loop or task.name in GENERIC_NODES or _inherits_loop(task)):
        return task.name, False
    if graph.agent is not None:
        return graph.agent, True
    return ("agent" if task.name == START else task.name), True


def _inherits_loop(task: Task) -> bool:
    return task.name in _LOOP_NODES and task.in_graph.metadata.get("ls_integration") in LOOP_INTEGRATIONS


def _asking(task: Task) -> Task | None:
    """A node that only runs tools stands for the agent that asked for them, the visit before it."""
    if task.name not in TOOL_NODES or _is_named(task):
        return None
    if task.in_graph.agent is not None and (task.in_graph.is_loop or _inherits_loop(task)):
        return None
    asking = next((source for source in predecessors(task).tasks if source.name not in TOOL_NODES), None)
    return resolve(asking) if asking is not None else None


def _is_named(task: Task) -> bool:
    own = task.metadata.get(AGENT_KEY)
    return task.given_name is not None or (bool(own) and own != task.in_graph.metadata.get(AGENT_KEY))


def session_name(metadata: Mapping[str, Any]) -> str | None:
    """The conversation as the user named it; None where they did not."""
    for key in SESSION_KEYS:
        value = metadata.get(key)
        if value is not None and value != "":
            return bounded(str(value))
    return None
