"""Who acts, and what happens, for agents that have our middleware and no callback handler.

A middleware sees single model and tool calls, not runs. What follows from that: a run ends when its outermost agent
answers without calling a tool, or raises; and a conversation that nobody named is known by its first message.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage
from langgraph.errors import GraphBubbleUp

from agentrt.events import CallEnded, CallStarted, Dispatched, RunEnded, RunStarted, ToolEnded, ToolStarted
from agentrt.identity import START, Dispatch, Identity, SessionKey
from agentrt.tools import ToolCall, arguments_digest
from agentrt_langgraph.names import AGENT_KEY, LC_AGENT_NAME, agent_of_graph, bounded, join_path
from agentrt_langgraph.naming import session_name
from agentrt_langgraph.records import NAMESPACE
from agentrt_langgraph.tracker import Tracker

MAX_PROPOSED = 10_000
_UNNAMED = "model"
"""What the handler, too, calls an agent without a name: its node."""


@dataclass(frozen=True, slots=True)
class _Outer:
    """The agent whose tool runs in this context."""

    tracker: Tracker
    identity: Identity
    metadata: Mapping[str, Any]
    tool: str


_outer: ContextVar[_Outer | None] = ContextVar("agentrt_outer", default=None)


class Standalone:
    """Stands in for the handler. `agent` names the agent, whatever metadata says. Its events never raise."""

    def __init__(self, tracker: Tracker, agent: str | None) -> None:
        self._tracker = tracker
        self.runtime = tracker.runtime
        self.reports = tracker.reports
        self._agent = agent
        self._proposed: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Tool calls that a model made in this process and nobody was asked about, newest last."""

    def identity(self, config: Mapping[str, Any], messages: Sequence[Any], *, calls: bool) -> Identity:
        """Who acts in the node of this configuration; with `calls`, one call of the session is counted."""
        metadata = config.get("metadata") or {}
        outer, path = self._around(), ""
        workload, parent = metadata.get("agentrt_workload"), None
        if outer is not None:
            path = parent = outer.identity.agent
            workload = workload or outer.identity.workload
        name = self._name(metadata, outer)
        session = SessionKey(self._tracker.sessions.tenant(metadata), _conversation(config, messages, outer))
        return Identity(
            session=session.session,
            agent=bounded(join_path(path, name)),
            workload=bounded(str(workload or (name if name != _UNNAMED else "default"))),
            tenant=session.tenant,
            invocation=bounded(_namespace(metadata) or "root"),
            parent=parent,
            step=self._tracker.step(session, calls=calls),
        )

    @contextlib.contextmanager
    def call(self, identity: Identity, messages: Sequence[Any], *, resumable: bool) -> Iterator[list[Any]]:
        """Tell of the model call inside the block, which puts the response it got into the list."""
        response: list[Any] = []
        if not (messages and isinstance(messages[-1], ToolMessage)):
            self._emit(self._visit, identity, resumable)
        self._emit(self._call_started, identity)
        try:
            yield response
        except BaseException as error:
            failed = not isinstance(error, GraphBubbleUp)
            self._emit(self._call_ended, identity, None, failed)
            if failed:
                self._emit(self._run_ended, identity, resumable, failed)
            raise
        answer = _answer(response)
        self._emit(self._propose, identity, answer)
        self._emit(self._call_ended, identity, answer, False)
        if answer is None or not answer.tool_calls:
            self._emit(self._run_ended, identity, resumable, False)

    @contextlib.contextmanager
    def tool(self, identity: Identity, tool_call: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[None]:
        """Tell of the tool inside the block; agents that it runs find their caller."""
        metadata = config.get("metadata") or {}
        token = _outer.set(_Outer(self._tracker, identity, metadata, str(tool_call.get("name"))))
        started: list[ToolStarted] = []
        self._emit(self._tool_started, identity, tool_call, started)
        failed = True
        try:
            yield
            failed = False
        except GraphBubbleUp:
            failed = False
            raise
        finally:
            _outer.reset(token)
            for event in started:
                self._emit(self._tool_ended, event, failed)

    def is_new(self, call: ToolCall) -> bool:
        """Whether the call was made in this process, and nobody was asked about it."""
        return (call.identity.session, call.tool_call_id) in self._proposed

    def asked(self, session: str, tool_call_id: object) -> None:
        """A human is being asked about this call."""
        self._proposed.pop((session, str(tool_call_id)), None)

    def _propose(self, identity: Identity, answer: AIMessage | None) -> None:
        for call in answer.tool_calls if answer is not None else ():
            self._proposed[identity.session, str(call["id"] or "")] = None
        while len(self._proposed) > MAX_PROPOSED:
            self._proposed.popitem(last=False)

    def _around(self) -> _Outer | None:
        outer = _outer.get()
        return outer if outer is not None and outer.tracker is self._tracker else None

    def _name(self, metadata: Mapping[str, Any], outer: _Outer | None) -> str:
        """As said; else by metadata, where it is not merely the calling agent's; else by the tool or node around it."""
        if self._agent is not None:
            return self._agent
        for key in (AGENT_KEY, LC_AGENT_NAME):
            name = metadata.get(key)
            if name and (outer is None or name != outer.metadata.get(key)):
                return str(name)
        nodes = [part.partition(":")[0] for part in _namespace(metadata).split("|") if ":" in part]  # else a counter
        tool = outer.tool if outer is not None else None
        return agent_of_graph(None, tool, nodes[-1] if nodes else None) or _UNNAMED

    def _emit(self, tell: Any, *args: Any) -> None:
        try:
            tell(*args)
        except Exception as error:
            self.runtime.fault("middleware", error)

    def _visit(self, identity: Identity, resumable: bool) -> None:  # noqa: FBT001 - passed on by `_emit`
        session, now = identity.session_key, self.runtime.clock()
        edge = Dispatch(source=START, target=identity.agent, how="entry")
        if identity.parent is not None:
            edge = Dispatch(source=identity.parent, target=identity.agent, how="call")
        else:
            started = RunStarted(at_s=now, session=session, workload=identity.workload, resumable=resumable)
            self.runtime.emit(started)
        self.runtime.emit(Dispatched(at_s=now, session=session, workload=identity.workload, dispatch=edge))

    def _run_ended(self, identity: Identity, resumable: bool, failed: bool) -> None:  # noqa: FBT001
        if identity.parent is None:
            ended = RunEnded(
                at_s=self.runtime.clock(),
                session=identity.session_key,
                workload=identity.workload,
                resumable=resumable,
                failed=failed,
            )
            self.runtime.emit(ended)

    def _call_started(self, identity: Identity) -> None:
        now, call_id = self.runtime.clock(), _call_id(identity)
        self.runtime.emit(CallStarted(at_s=now, session=identity.session_key, identity=identity, call_id=call_id))

    def _call_ended(self, identity: Identity, answer: AIMessage | None, failed: bool) -> None:  # noqa: FBT001
        usage = answer.usage_metadata if answer is not None else None
        ended = CallEnded(
            at_s=self.runtime.clock(),
            session=identity.session_key,
            identity=identity,
            call_id=_call_id(identity),
            failed=failed,
            prompt_tokens=usage["input_tokens"] if usage else None,
            cached_tokens=usage.get("input_token_details", {}).get("cache_read") if usage else None,
            output_tokens=usage["output_tokens"] if usage else None,
        )
        self.runtime.emit(ended)

    def _tool_started(self, identity: Identity, tool_call: Mapping[str, Any], started: list[ToolStarted]) -> None:
        event = ToolStarted(
            at_s=self.runtime.clock(),
            session=identity.session_key,
            identity=identity,
            tool=str(tool_call.get("name")),
            tool_run_id=f"call:{tool_call.get('id')}",
            arguments_digest=arguments_digest(tool_call.get("args"), identity.tenant),
        )
        started.append(event)
        self.runtime.emit(event)

    def _tool_ended(self, started: ToolStarted, failed: bool) -> None:  # noqa: FBT001
        now = self.runtime.clock()
        ended = ToolEnded(
            at_s=now,
            session=started.session,
            identity=started.identity,
            tool=started.tool,
            tool_run_id=started.tool_run_id,
            duration_s=max(0.0, now - started.at_s),
            failed=failed,
            arguments_digest=started.arguments_digest,
        )
        self.runtime.emit(ended)


def _namespace(metadata: Mapping[str, Any]) -> str:
    """The checkpoint namespace of the agent, which is that around its node's."""
    return str(metadata.get(NAMESPACE) or "").rpartition("|")[0]


def _conversation(config: Mapping[str, Any], messages: Sequence[Any], outer: _Outer | None) -> str:
    """The session's name. LangGraph 1.1 may repeat an earlier run's thread in metadata, not in `configurable`."""
    metadata = config.get("metadata") or {}
    said = metadata.get("agentrt_session") or (outer.identity.session if outer is not None else None)
    if said is None:
        first = getattr(messages[0], "id", None) if messages else None
        said = (config.get("configurable") or {}).get("thread_id") or session_name(metadata) or first
    return bounded(str(said or "unnamed"))


def _answer(response: Sequence[Any]) -> AIMessage | None:
    """The model's message in whatever a handler of LangChain's middleware returned."""
    for one in response:
        inner = getattr(one, "model_response", one)
        for message in getattr(inner, "result", None) or (inner,):
            if isinstance(message, AIMessage):
                return message
    return None


def _call_id(identity: Identity) -> str:
    return f"{identity.session}:{identity.step}"
