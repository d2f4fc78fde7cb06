"""Sessions across runs: which conversation a run belongs to, and what is remembered of it."""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from itertools import islice
from typing import Any

from agentrt.ambient import scope
from agentrt.identity import SessionKey
from agentrt_langgraph.names import UNNAMED_GRAPH, bounded, run_id_text
from agentrt_langgraph.naming import session_name
from agentrt_langgraph.records import Run, SessionMemory, Turn
from agentrt_langgraph.structure import Binding
from agentrt_langgraph.threads import Progress, Threads

logger = logging.getLogger("agentrt")

MAX_SESSIONS = 10_000
MAX_ROOT_NAMES = 100
"""Names of outermost runs that are kept where nothing is known of the graph; later ones count as unnamed."""

MAX_REPLAYABLE = 256
"""A resume repeats the last superstep; more than this many visits of one need no remembering."""

_INPUT_STEPS = 2
"""Supersteps that new input takes in a `StateGraph`: it is stored, and START passes it on."""

TENANT_KEY = "agentrt_tenant"
_SERVER_KEYS = ("assistant_id", "graph_id")
"""Set by LangGraph Server, which brings its own checkpointer at run time."""


class Sessions:
    """Memory of sessions the user named, bounded: least recently begun leave first."""

    def __init__(self, default_tenant: str) -> None:
        self._default_tenant = default_tenant
        self._memories: OrderedDict[SessionKey, SessionMemory] = OrderedDict()
        self._threads = Threads()
        self._root_names: set[str] = set()
        self._warned = False

    def root_name(self, name: str) -> str:
        """The name of an outermost run that may be `run_name`, other with each request: a bounded number of them."""
        if name in self._root_names or name == UNNAMED_GRAPH:
            return name
        if len(self._root_names) < MAX_ROOT_NAMES:
            self._root_names.add(name)
            return name
        if not self._warned:
            self._warned = True
            logger.warning(
                "agentrt: more than %d names of runs seen, %r is the first beyond; further ones count as unnamed. "
                "Use instrument() or install(), which know a graph's own name, instead of the bare handler",
                MAX_ROOT_NAMES,
                name,
            )
        return UNNAMED_GRAPH

    def __len__(self) -> int:
        return len(self._memories)

    def open_turn(self, run: Run, binding: Binding | None) -> Turn:
        """The turn that this outermost graph run is."""
        metadata = run.metadata
        name = session_name(metadata)
        session = SessionKey(self.tenant(metadata), name or run_id_text(run.key))
        memory = self.memory(session) if name is not None else SessionMemory()
        turn = Turn(
            session=session,
            workload=_workload(run, binding),
            resumable=_resumable(run, binding, named=name is not None),
            memory=memory,
            dispatched=dict.fromkeys(memory.replayable),
            scope=scope(),
        )
        thread_id = metadata.get("thread_id")
        if thread_id is not None and turn.resumable:
            nodes = binding.structure.nodes if binding is not None else None
            thread = (session, turn.workload, nodes, str(thread_id))
            turn.progress = Progress(thread, _INPUT_STEPS if run.has_input and nodes else 0)
        return turn

    def visit(self, progress: Progress, run: Run, ns: str, step: int) -> tuple[str, ...]:
        """A visit of the outermost graph began; returns the invocations that the run turns out not to continue.

        `run` is the graph's: without a binding, a graph may have no checkpointer and count supersteps anew with each
        run, so that only a checkpoint id of the user's shows that it was sent back.
        """
        gone: tuple[str, ...] = ()
        if not progress.steps and (run.told_binding or run.bindings or "checkpoint_id" in run.metadata):
            gone = self._threads.left_behind(progress, ns, step)
        progress.visited(ns, step)
        return gone

    def close_turn(self, turn: Turn, *, failed: bool) -> None:
        """Keep what a resume would repeat; a turn that is done repeats nothing."""
        replayable = islice(reversed(turn.dispatched), MAX_REPLAYABLE) if failed or turn.interrupted else ()
        turn.memory.replayable = frozenset(replayable)
        if turn.progress is not None and turn.progress.steps:
            self._threads.add(turn.progress)

    def memory(self, session: SessionKey) -> SessionMemory:
        """What is remembered of a session; empty for a new one."""
        memory = self._memories.get(session)
        if memory is None:
            memory = self._memories[session] = SessionMemory()
            if len(self._memories) > MAX_SESSIONS:
                self._memories.popitem(last=False)
        else:
            self._memories.move_to_end(session)
        return memory

    def calls(self, session: SessionKey) -> int:
        """Calls counted for a session so far."""
        memory = self._memories.get(session)
        return memory.calls if memory is not None else 0

    def tenant(self, metadata: Mapping[str, Any]) -> str:
        """Owner of a run's data: metadata, else the setting."""
        tenant = metadata.get(TENANT_KEY)
        return bounded(str(tenant)) if tenant else self._default_tenant


def _workload(run: Run, binding: Binding | None) -> str:
    """The deployed graph. A `run_name` may differ with each request, so a bound or served name comes first."""
    name = (
        run.metadata.get("agentrt_workload")
        or (binding.workload if binding is not None else None)
        or run.metadata.get("graph_id")
        or (run.name if run.name != UNNAMED_GRAPH else None)
        or "default"
    )
    return bounded(str(name))


def _resumable(run: Run, binding: Binding | None, *, named: bool) -> bool:
    """Whether the session may go on later. Where that cannot be known, a named session may."""
    if run.ns is not None or any(key in run.metadata for key in _SERVER_KEYS):
        return True  # inside a graph that we do not see, or on a server
    return binding.resumable if binding is not None else named
