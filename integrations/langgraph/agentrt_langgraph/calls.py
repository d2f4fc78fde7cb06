"""Who makes a call: the identity of an LLM request or tool, and the dispatches that led to it."""

from collections.abc import Mapping
from typing import Any

from agentrt.identity import START, Dispatch, Identity, SessionKey
from agentrt_langgraph.edges import inherited_parent, origin_agents, predecessors
from agentrt_langgraph.names import TOOL_NODES
from agentrt_langgraph.naming import AGENT_KEY, rename, resolve, session_name
from agentrt_langgraph.records import MAX_INVOCATIONS, SessionMemory, Task, Turn
from agentrt_langgraph.reports import Reports
from agentrt_langgraph.turns import TENANT_KEY, Sessions

_OVERRIDES = frozenset({AGENT_KEY, "agentrt_session", TENANT_KEY})


class Caller:
    """Gives every call its identity, and tells each dispatch once, when the target first calls."""

    def __init__(self, sessions: Sessions, reports: Reports) -> None:
        self._sessions = sessions
        self._reports = reports

    def of_call(self, task: Task, metadata: Mapping[str, Any]) -> Identity:
        """Identity of an LLM request under this task; counts one call of the session."""
        turn = task.in_graph.turn
        if turn.pending:
            self._reports.abandon(turn)
        overridden = not _OVERRIDES.isdisjoint(metadata)
        agent = _override(task, metadata) if overridden else None
        if not task.called:
            if agent is not None:
                resolve(task)
                rename(task, agent)
            _mark_called(task)
            self._dispatch(task, turn)
        path, parent = task.path, task.parent_agent
        if agent is not None and agent != task.label:
            path, parent = self._second_agent(task, turn, agent)
        session, memory = turn.session, turn.memory
        if overridden:
            session, memory = self._session(turn, metadata)
        step = memory.calls
        memory.calls = step + 1
        return Identity(
            session=session.session,
            agent=path,
            workload=turn.workload,
            tenant=session.tenant,
            invocation=task.invocation,
            parent=parent,
            step=step,
        )

    def of_tool(self, task: Task) -> Identity:
        """Identity a tool runs under: the agent that asked for it. Counts no call."""
        turn = task.in_graph.turn
        if turn.pending:
            self._reports.abandon(turn)
        return self.of_task(task)

    def of_task(self, task: Task) -> Identity:
        """Identity of whatever happens in this task, without any effect."""
        turn, acting = task.in_graph.turn, resolve(_acting(task))
        return Identity(
            session=turn.session.session,
            agent=acting.path,
            workload=turn.workload,
            tenant=turn.session.tenant,
            invocation=acting.invocation,
            parent=acting.parent_agent,
            step=turn.memory.calls,
        )

    def _session(self, turn: Turn, metadata: Mapping[str, Any]) -> tuple[SessionKey, SessionMemory]:
        """The session that a call's own metadata names."""
        name = session_name(metadata) or turn.session.session
        session = SessionKey(self._sessions.tenant(metadata), name)
        if session == turn.session:
            return session, turn.memory
        memory = turn.guests.get(session)
        if memory is None:
            memory = turn.guests[session] = self._sessions.memory(session)
            self._reports.run_started(turn, session)
        return session, memory

    def _dispatch(self, task: Task, turn: Turn) -> None:
        """Tell who handed to this task, outermost first."""
        if task.dispatched:
            return
        task.dispatched = True
        graph = task.in_graph
        if graph.enclosing is not None:
            self._dispatch(graph.enclosing, turn)
        if graph.is_loop and graph.parent_agent is not None and task.is_loop:
            task.parent_agent = graph.parent_agent or None
            return
        dispatches = _dispatches(task)
        if graph.is_loop and task.is_loop:
            graph.parent_agent = task.parent_agent or ""
        # One visit is told once: a retry repeats its namespace, a resume too, and a loop keeps its invocation.
        visit = (task.path, task.invocation if graph.is_loop else task.ns)
        if visit not in turn.dispatched:
            turn.dispatched[visit] = None
            self._reports.dispatched(turn, dispatches)

    def _second_agent(self, task: Task, turn: Turn, agent: str) -> tuple[str, str]:
        """A call that names another agent than its task's: the task dispatched it."""
        head = task.path.rpartition("/")[0]
        path = f"{head}/{agent}" if head else agent
        visit = (path, task.ns)
        if visit not in turn.dispatched:
            turn.dispatched[visit] = None
            self._reports.dispatched(turn, [Dispatch(source=task.path, target=path, how="call")])
        return path, task.path


def _override(task: Task, metadata: Mapping[str, Any]) -> str | None:
    """The agent named by a call's own metadata, not merely inherited from its node or graph."""
    name = metadata.get(AGENT_KEY)
    return str(name) if name and name != task.metadata.get(AGENT_KEY) else None


def _acting(task: Task) -> Task:
    """A node that only runs tools acts for the agent that asked."""
    if task.called or task.in_graph.is_loop or task.name not in TOOL_NODES:
        return task
    return next((source for source in predecessors(task).tasks if source.called), task)


def _mark_called(task: Task) -> None:
    """The task, and all around it, now count as agents; each remembers the visits inside it."""
    invocation = resolve(task).invocation
    inner: Task | None = task
    while inner is not None:
        inner.called = True
        graph = inner.in_graph
        graph.invocations[invocation] = None
        if len(graph.invocations) > MAX_INVOCATIONS:
            del graph.invocations[next(iter(graph.invocations))]
        inner = graph.enclosing


def _dispatches(task: Task) -> list[Dispatch]:
    """Edges into this task, and, on the task, its parent agent."""
    sources, how, weight = predecessors(task)
    own, enclosing = task.path, task.in_graph.enclosing
    if len(sources) == 1:
        agents = origin_agents(sources[0])
    else:
        agents = list(dict.fromkeys(agent for source in sources for agent in origin_agents(source)))
    others = [agent for agent in agents if agent != own]
    if others:
        task.parent_agent = others[0]
    elif agents:
        task.parent_agent = inherited_parent(task)  # it follows itself
    elif enclosing is not None:
        inside_own = enclosing.path == own
        task.parent_agent = enclosing.parent_agent if inside_own else enclosing.path
        others, how, weight = ([] if inside_own else [enclosing.path]), "call", 1.0
    else:
        others, how, weight = [START], "entry", 1.0
    if how == "superstep":
        weight = 1.0 / max(1, len(agents))
    return [
        Dispatch(
            source=agent,
            target=own,
            how="call" if own.startswith(f"{agent}/") else how,
            weight=weight,
        )
        for agent in others
    ]
