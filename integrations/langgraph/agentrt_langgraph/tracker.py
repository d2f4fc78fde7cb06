"""Follows runs and tells the runtime what happens: the state machine behind the callback handler.

Everything is keyed by run id and checkpoint namespace, never by a stack: parallel branches, threads,
`asyncio.gather` and abandoned streams interleave freely. Work is dictionary work only, under one lock. The
lock is re-entrant because closing a generator runs callbacks, and the garbage collector may do that anywhere.
"""

import threading
from collections.abc import Hashable, Mapping, Sequence
from contextvars import ContextVar
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from agentrt.ambient import Current
from agentrt.identity import Identity, SessionKey
from agentrt.tools import arguments_digest
from agentrt_langgraph.ambient import ambient_run
from agentrt_langgraph.handovers import router_ended, task_ended
from agentrt_langgraph.lifecycle import Lifecycle, task_failed
from agentrt_langgraph.naming import give_name
from agentrt_langgraph.port import RuntimePort
from agentrt_langgraph.records import Call, Run, Task, ToolRun
from agentrt_langgraph.reports import Reports
from agentrt_langgraph.runs import OpenRuns, follows_others
from agentrt_langgraph.structure import Binding
from agentrt_langgraph.turns import Sessions
from agentrt_langgraph.usage import NO_USAGE, Usage

_NO_METADATA: Mapping[str, Any] = {}


class Tracker:
    """One per runtime. Safe under threads; methods may raise, callers guard."""

    def __init__(self, runtime: RuntimePort) -> None:
        self.runtime = runtime
        self.reports = Reports(runtime)
        self.sessions = Sessions(runtime.settings.tenant)
        self.open_runs = OpenRuns()
        self.bindings: WeakKeyDictionary[Any, dict[Hashable, Binding]] = WeakKeyDictionary()
        """What is known of graphs, see `bindings.py`."""
        self._lifecycle = Lifecycle(self.open_runs, self.sessions, self.reports)
        self._lock = threading.RLock()
        self._call_in_context: ContextVar[Hashable] = ContextVar("agentrt_call", default=None)
        self._unkeyed_calls = count()

    # --- graphs, nodes, and anything else that runs

    def chain_started(
        self,
        key: Hashable,
        parent_key: Hashable,
        name: str,
        metadata: Mapping[str, Any] | None,
        tags: Sequence[str] | None = None,
        *,
        binding: Binding | None = None,
        given: object = None,
    ) -> None:
        """A runnable began, with this input. The same run may be told twice, when a handler is attached twice."""
        with self._lock:
            run = self.open_runs.get(key)
            if run is None:
                parent = self.open_runs.get(parent_key)
                run = self._lifecycle.open(key, parent, name, metadata or _NO_METADATA, tags=tags, given=given)
            if binding is not None and binding not in run.bindings:
                run.bindings = (*run.bindings, binding)

    def graph_started(
        self,
        key: Hashable,
        parent_key: Hashable,
        name: str,
        metadata: Mapping[str, Any] | None,
        tags: Sequence[str] | None,
        *,
        binding: Binding,
        given: object,
    ) -> bool:
        """A run of this very graph began; returns whether it is an outermost one."""
        with self._lock:
            self.chain_started(key, parent_key, name, metadata, tags, given=given)
            run = self.open_runs.get(key)
            if run is not None:
                run.told_binding = binding
            return run is not None and run.task is None

    def chain_ended(self, key: Hashable, output: object) -> None:
        """A runnable ended."""
        with self._lock:
            run = self.open_runs.get(key)
            if run is None:
                return
            if isinstance(run, Task):
                if (output is not None and type(output) is not dict) or run.goto or run.in_graph.structure.deferred:
                    task_ended(run, output)
            elif run.is_router:
                router_ended(run, output)
            self._lifecycle.close(run, None)

    def chain_failed(self, key: Hashable, error: BaseException) -> None:
        """A runnable raised. Hand-overs and interrupts arrive as exceptions too."""
        with self._lock:
            run = self.open_runs.get(key)
            if run is None:
                return
            if isinstance(run, Task):
                task_failed(run, error)
            self._lifecycle.close(run, error)

    def interrupted(self, key: Hashable) -> None:
        """A graph paused, to be resumed later."""
        with self._lock:
            run = self.open_runs.get(key)
            if run is not None and run.graph is not None:
                run.graph.turn.interrupted = True

    # --- LLM requests

    def call_started(self, key: Hashable, parent_key: Hashable, metadata: Mapping[str, Any] | None) -> None:
        """An LLM request is about to be sent. Outside graphs it is none of our business."""
        with self._lock:
            parent = self.open_runs.get(parent_key)
            if parent is None or parent.task is None:
                return
            if self.open_runs.get(key) is None:
                self._lifecycle.open_call(key, parent, parent.task, metadata or _NO_METADATA)
        self._call_in_context.set(key)

    def call_ended(self, key: Hashable, usage: Usage = NO_USAGE, *, failed: bool = False) -> None:
        """An LLM request ended."""
        with self._lock:
            call = self.open_runs.get(key)
            if isinstance(call, Call):
                self._lifecycle.end_call(call, usage, failed=failed)

    def request_identity(self, request_key: str | None) -> Identity | None:
        """Whose request this is; None outside graphs. `request_key` is the same for its retries.

        A request without a LangChain run is a raw client's: it is told here as a call, and ends with the run
        around it.
        """
        around = self._around()
        with self._lock:
            call = self._call_here(around)
            if call is not None:
                return call.identity
            if around is None or around.task is None:
                return None
            key = f"raw-{request_key or next(self._unkeyed_calls)}"
            known = self.open_runs.get(key)
            if isinstance(known, Call):
                return known.identity
            around.raw_calls = (*around.raw_calls, key)
            return self._lifecycle.open_call(key, around, around.task, around.metadata).identity

    def current_identity(self) -> Identity | None:
        """Who is acting in this context; None outside graphs. Without any effect."""
        around = self._around()
        with self._lock:
            call = self._call_here(around)
            if call is not None:
                return call.identity
            return (
                self._lifecycle.caller.of_task(around.task) if around is not None and around.task is not None else None
            )

    def current(self) -> Current | None:
        """Who is acting in this context, and what a request would carry. Without any effect; never raises."""
        try:
            identity = self.current_identity()
            return Current(identity=identity, plan=self.runtime.plan(identity)) if identity is not None else None
        except Exception as error:
            self.runtime.fault("current", error)
            return None

    def name_node(self, agent: str) -> None:
        """The node whose code is executing here stands for this agent."""
        around = self._around()
        with self._lock:
            if around is not None and around.task is not None:
                give_name(around.task, agent)

    def step(self, session: SessionKey, *, calls: bool) -> int:
        """How many calls a session made before; with `calls`, one more is counted."""
        with self._lock:
            memory = self.sessions.memory(session)
            memory.calls += calls
            return memory.calls - calls

    # --- tools

    def is_new(self, call: object) -> bool:
        """Whether nodes ran before the one executing here, since the run began: then it was not resumed into.

        A sub-graph without checkpoints begins anew on resume, and LangGraph gives its first question the answer.
        """
        del call
        around = self._around()
        with self._lock:
            return around is not None and follows_others(around.task)

    def tool_started(
        self,
        key: Hashable,
        parent_key: Hashable,
        name: str,
        metadata: Mapping[str, Any] | None,
        arguments: object = None,
    ) -> None:
        """A tool began."""
        with self._lock:
            parent = self.open_runs.get(parent_key)
            if parent is None or self.open_runs.get(key) is not None:
                return
            tool = ToolRun(key, parent, name, metadata or _NO_METADATA)
            self.open_runs.add(tool)
            if parent.task is not None:
                tool.identity = self._lifecycle.caller.of_tool(parent.task)
                tool.arguments_digest = arguments_digest(arguments, tool.identity.tenant)
                self.reports.tool_started(tool)

    def tool_ended(self, key: Hashable, *, failed: bool = False) -> None:
        """A tool ended."""
        with self._lock:
            tool = self.open_runs.get(key)
            if isinstance(tool, ToolRun):
                self._lifecycle.forget(tool)
                self.reports.tool_ended(tool, failed=failed)

    # --- where am I

    def _around(self) -> Run | None:
        key = ambient_run()
        return self.open_runs.get(key) if key is not None else None

    def _call_here(self, around: Run | None) -> Call | None:
        """The LangChain call in flight in this context, unless a node below its task is running."""
        call = self.open_runs.get(self._call_in_context.get())
        if not isinstance(call, Call):
            return None
        inner = around.task if around is not None else None
        if inner is not None and inner is not call.task:
            while inner is not None:
                inner = inner.in_graph.enclosing
                if inner is call.task:
                    return None
        return call
