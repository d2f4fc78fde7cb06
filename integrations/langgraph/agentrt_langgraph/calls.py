"""Who makes a call: the identity of an LLM request or tool, and the dispatches that led to it."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from agentrt.ambient import Scope, names_since, scope
from agentrt.identity import START, Dispatch, Identity, SessionKey
from agentrt_langgraph.edges import agents_behind, inherited_parent, is_open, predecessors, settle
from agentrt_langgraph.names import AGENT_KEY, ROOT, TOOL_NODES, bounded
from agentrt_langgraph.naming import rename, resolve, scoped_path, session_name
from agentrt_langgraph.records import MAX_INVOCATIONS, GraphRun, SessionMemory, Task, Turn
from agentrt_langgraph.reports import Reports
from agentrt_langgraph.turns import TENANT_KEY, Sessions

MAX_UNDECIDED = 256
"""Visits of one graph run whose dispatch waits for more evidence."""

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
        here = scope()
        scoped = names_since(here, task.scope) if here is not task.scope else ()
        if not task.called:
            if agent is not None and not scoped:
                resolve(task)
                rename(task, agent)
            _mark_called(task)
            self._dispatch(task, turn)
        path, parent = task.path, task.parent_agent
        if scoped:
            path, parent = self._enter(task, scoped if agent is None else (*scoped, agent))
        elif agent is not None and agent != task.label:
            path, parent = self._second_agent(task, turn, agent)
        session, memory = turn.session, turn.memory
        if overridden or here is not turn.scope:
            session, memory = self._session(task, metadata, here)
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
        self._session(task, task.metadata, scope())
        return self.of_task(task)

    def of_task(self, task: Task) -> Identity:
        """Identity of whatever happens in this task, without any effect."""
        turn, acting, here = task.in_graph.turn, resolve(_acting(task)), scope()
        path, parent = acting.path, acting.parent_agent
        for outer, inner in scoped_path(acting, names_since(here, task.scope)):
            path, parent = inner, outer
        session = _session_key(task, task.metadata, here)
        guest = turn.memory if session == turn.session else turn.guests.get(session)
        return Identity(
            session=session.session,
            agent=path,
            workload=turn.workload,
            tenant=session.tenant,
            invocation=acting.invocation,
            parent=parent,
            step=guest.calls if guest is not None else self._sessions.calls(session),
        )

    def _session(self, task: Task, metadata: Mapping[str, Any], here: Scope | None) -> tuple[SessionKey, SessionMemory]:
        """The session of a call or tool, begun if it is another than its run's."""
        turn, session = task.in_graph.turn, _session_key(task, metadata, here)
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
            self._enter(graph.enclosing, graph.scoped)
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
            if is_open(task):
                dispatches = [dispatch for dispatch in dispatches if dispatch.how != "superstep"]
                graph.outbox.undecided.append((task, frozenset(dispatch.source for dispatch in dispatches)))
                if len(graph.outbox.undecided) > MAX_UNDECIDED:
                    self.settle(graph, complete=False)
            self._reports.dispatched(turn, dispatches)

    def settle(self, graph: GraphRun, *, complete: bool) -> None:
        """Tell the dispatches that only the whole of a graph run explains: it is over, or has grown too long."""
        settle(graph, complete=complete)
        for task, told in graph.outbox.undecided:
            late = [dispatch for dispatch in _dispatches(task) if dispatch.source not in told]
            self._reports.dispatched(graph.turn, late)
        graph.outbox.undecided.clear()

    def _enter(self, task: Task, names: Iterable[str]) -> tuple[str, str | None]:
        """Agent and parent inside scopes of these names; the first time, each scope counts as a call of the next."""
        turn, path, parent = task.in_graph.turn, task.path, task.parent_agent
        for outer, inner in scoped_path(task, names):
            visit = (inner, task.ns)
            if visit not in turn.dispatched:
                turn.dispatched[visit] = None
                self._reports.dispatched(turn, [Dispatch(source=outer, target=inner, how="call")])
            path, parent = inner, outer
        return path, parent

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


def _session_key(task: Task, metadata: Mapping[str, Any], here: Scope | None) -> SessionKey:
    """Whose call it is: as its own metadata says, else a scope, else what it inherited, else the run."""
    turn = task.in_graph.turn
    said = not _OVERRIDES.isdisjoint(metadata)
    name, tenant = (session_name(metadata), metadata.get(TENANT_KEY)) if said else (None, None)
    if here is not None and here is not turn.scope:
        around = turn.scope
        session_around, tenant_around = (around.session, around.tenant) if around is not None else (None, None)
        if here.session not in (None, session_around) and name in (None, session_name(task.metadata)):
            name = here.session
        if here.tenant not in (None, tenant_around) and tenant in (None, task.metadata.get(TENANT_KEY)):
            tenant = here.tenant
    return SessionKey(bounded(str(tenant)) if tenant else turn.session.tenant, name or turn.session.session)


def _acting(task: Task) -> Task:
    """A node that only runs tools acts for the agent that asked."""
    if task.called or task.in_graph.is_loop or task.name not in TOOL_NODES:
        return task
    return next((source for source in predecessors(task).tasks if source.called), task)


def _mark_called(task: Task) -> None:
    """The task, and all around it, now count as agents; each remembers the visits inside it."""
    invocation = resolve(task).invocation
    inner: Task | None = task
    progress = task.in_graph.turn.progress
    while inner is not None:
        inner.called = True
        graph = inner.in_graph
        if graph.enclosing is None and progress is not None and inner.ns is not None and invocation != ROOT:
            progress.called(invocation, inner.ns)
        graph.invocations[invocation] = None
        if len(graph.invocations) > MAX_INVOCATIONS:
            del graph.invocations[next(iter(graph.invocations))]
        inner = graph.enclosing


def _dispatches(task: Task) -> list[Dispatch]:
    """Edges into this task, and, on the task, its parent agent."""
    sources = predecessors(task)
    how, weight = sources.how, sources.weight
    own, enclosing = task.path, task.in_graph.enclosing
    agents = agents_behind(sources)
    others = [agent for agent in agents if agent != own]
    if others:
        task.parent_agent = others[0]
    elif agents:
        task.parent_agent = inherited_parent(task)  # it follows itself
    elif enclosing is not None:
        caller, callers_parent = enclosing.path, enclosing.parent_agent
        for outer, inner in scoped_path(enclosing, task.in_graph.scoped):
            caller, callers_parent = inner, outer
        inside_own = caller == own
        task.parent_agent = callers_parent if inside_own else caller
        others, how, weight = ([] if inside_own else [caller]), "call", 1.0
    elif task.in_graph.turn.caller:
        task.parent_agent = task.in_graph.turn.caller
        others, how, weight = ([] if task.parent_agent == own else [task.parent_agent]), "call", 1.0
    else:
        others, how, weight = [START], "entry", 1.0
    if how == "superstep":
        weight = 1.0 / max(1, len(agents))
    return [_dispatch_of(agent, own, how, weight) for agent in others]


@lru_cache(4096)
def _dispatch_of(source: str, target: str, how: str, weight: float) -> Dispatch:
    """The same edges are taken again and again."""
    return Dispatch(source=source, target=target, how="call" if target.startswith(f"{source}/") else how, weight=weight)
