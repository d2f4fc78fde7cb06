"""Opens and closes runs, and reports what that means: a turn begins, a branch is given up, a run is over."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from langgraph.errors import GraphBubbleUp, ParentCommand
from langgraph.types import Command

from agentrt.identity import START
from agentrt_langgraph.calls import Caller
from agentrt_langgraph.handovers import task_handed_over
from agentrt_langgraph.naming import describe_graph
from agentrt_langgraph.records import NAMESPACE, Call, GraphRun, Run, Task, ToolRun
from agentrt_langgraph.remote import join_caller
from agentrt_langgraph.reports import Reports
from agentrt_langgraph.runs import OpenRuns
from agentrt_langgraph.turns import Sessions
from agentrt_langgraph.usage import NO_USAGE, Usage


class Lifecycle:
    """Not thread-safe: the tracker holds its lock."""

    def __init__(self, open_runs: OpenRuns, sessions: Sessions, reports: Reports) -> None:
        self._open_runs = open_runs
        self._sessions = sessions
        self._reports = reports
        self.caller = Caller(sessions, reports)

    def open(
        self,
        key: Hashable,
        parent: Run | None,
        name: str,
        metadata: Mapping[str, Any],
        *,
        tags: Sequence[str] | None,
        given: object = None,
    ) -> Run:
        """A runnable began."""
        ns = metadata.get(NAMESPACE)
        run: Run
        if parent is not None and ns is not None and ns != parent.ns:
            around = parent.graph
            obeyed = around.outbox.obeyed.get(ns) if around is not None and around.outbox.obeyed else None
            if obeyed is None:
                run = self._open_task(key, parent, name, metadata)
            else:  # LangGraph runs a node's routers beside it, under its name, after a hand-over from inside it
                run = Run(key, parent, name, metadata)
                run.task, run.is_router = obeyed, True
        else:
            run = Run(key, parent, name, metadata)
            if given is not None and run.task is None and not isinstance(given, Command):
                run.has_input = True
            # The function behind a conditional edge runs beside the node's own body, which is step 1.
            if tags and parent is not None and parent is parent.task:
                run.is_router = any(tag.startswith("seq:step:") and tag != "seq:step:1" for tag in tags)
        crowded_out = self._open_runs.add(run)
        if crowded_out is not None:
            self.close(crowded_out, GeneratorExit())
        if parent is None:
            for orphan in self._open_runs.orphans():
                self.close(orphan, GeneratorExit())
        return run

    def _open_task(self, key: Hashable, parent: Run, name: str, metadata: Mapping[str, Any]) -> Task:
        """A node begins: only it has a new namespace."""
        graph = parent.graph or self._open_graph(parent, metadata)
        task = Task(key, parent, name, metadata, graph)
        turn = graph.turn
        if name != START:
            graph.add(task)
            if turn.progress is not None and graph.enclosing is None and task.ns is not None and task.step is not None:
                left = self._sessions.visit(turn.progress, parent, task.ns, task.step)
                turn.pending.update(dict.fromkeys(left))
        if turn.pending:
            self._reports.abandon(turn)
        return task

    def _open_graph(self, run: Run, first_task: Mapping[str, Any]) -> GraphRun:
        """A run turns out to run a graph: its first task begins."""
        inherited = run.parent.bindings if run.parent is not None else ()
        binding = run.told_binding or next((bound for bound in run.bindings if bound not in inherited), None)
        if run.task is None:
            if binding is None:
                run.name = self._sessions.root_name(run.name)
            turn = self._sessions.open_turn(run, binding)
            join_caller(turn, run.metadata, first_task[NAMESPACE])
            self._reports.run_started(turn, turn.session)
        else:
            turn = run.task.in_graph.turn
        run.graph = GraphRun(run, turn, binding)
        describe_graph(run.graph)
        return run.graph

    def open_call(self, key: Hashable, parent: Run, task: Task, metadata: Mapping[str, Any]) -> Call:
        """An LLM request of this task is about to be sent."""
        call = Call(key, parent, metadata, self.caller.of_call(task, metadata))
        self._open_runs.add(call)
        self._open_runs.touch(parent)
        self._reports.call_started(call)
        return call

    def close(self, run: Run, error: BaseException | None) -> None:
        """A runnable ended, or raised."""
        if run.parent is None or (run.graph is not None and run.graph.enclosing is None):
            self._end_members(run)
        self.forget(run)
        graph = run.graph
        if graph is None:
            return
        failed = error is not None and not isinstance(error, GraphBubbleUp)
        if graph.outbox.undecided:
            self.caller.settle(graph, complete=error is None and not graph.turn.interrupted)
        graph.forget()
        if graph.enclosing is not None:
            if failed:
                graph.turn.pending.update(graph.invocations)
            return
        if graph.turn.pending and not failed:
            self._reports.abandon(graph.turn)
        self._reports.run_ended(graph.turn, failed=failed)
        self._sessions.close_turn(graph.turn, failed=failed)

    def _end_members(self, run: Run) -> None:
        """End what is still open below a run that is over: its own end may come too late, or never."""
        for member in [other for other in run.tree.members.values() if other is not run]:
            if not _is_below(member, run):
                continue
            if isinstance(member, Call):
                self.end_call(member, NO_USAGE, failed=True)
            elif isinstance(member, ToolRun):
                self.forget(member)
                self._reports.tool_ended(member, failed=True)
            elif member.graph is not None and member.graph.enclosing is None:
                self.close(member, GeneratorExit())
            else:
                self.forget(member)

    def end_call(self, call: Call, usage: Usage, *, failed: bool) -> None:
        """An LLM request ended."""
        self._open_runs.discard(call)
        self._reports.call_ended(call, usage, failed=failed)

    def forget(self, run: Run) -> None:
        """A run is over; raw requests made directly under it are too, at the latest."""
        self._open_runs.discard(run)
        for key in run.raw_calls:
            call = self._open_runs.get(key)
            if isinstance(call, Call):
                self.end_call(call, NO_USAGE, failed=False)


def _is_below(member: Run, run: Run) -> bool:
    above = member.parent
    while above is not None and above is not run:
        above = above.parent
    return above is run


def task_failed(task: Task, error: BaseException) -> None:
    """Tell hand-overs and interrupts, which travel as exceptions, from failures."""
    turn = task.in_graph.turn
    if isinstance(error, ParentCommand):
        task_handed_over(task, error)
    elif isinstance(error, GraphBubbleUp):
        turn.interrupted = True
    elif task.called and not task.is_loop:
        turn.pending[task.invocation] = None
