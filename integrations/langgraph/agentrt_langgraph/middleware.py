"""Middleware for `create_agent`: identity on requests and gates on tools, by LangChain's public interfaces alone."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp

from agentrt.identity import Identity
from agentrt_langgraph import inject, tools
from agentrt_langgraph.fields import addition
from agentrt_langgraph.gating import Gated, GateSource, can_resume, decide
from agentrt_langgraph.port import RuntimePort
from agentrt_langgraph.standalone import Standalone
from agentrt_langgraph.standin import aanswered, answered
from agentrt_langgraph.tools import UNKNOWN
from agentrt_langgraph.trackers import tracker_of


class AgentRTMiddleware(AgentMiddleware[Any, Any, Any]):
    """Labels an agent's requests and asks the runtime's tool gates: `create_agent(..., middleware=[this])`.

    Needs no handler and patches nothing. Put it first, so that it is outside of yours. `agent` names the agent;
    else `create_agent(name=...)` does, or the tool that runs it. Where a handler of the runtime watches the same run,
    each request is labelled, and each call asked about, once.

    Only requests of chat models with the OpenAI client are labelled, and only towards the runtime's engine.
    """

    def __init__(self, runtime: RuntimePort, *, agent: str | None = None) -> None:
        super().__init__()
        self._runtime = runtime
        self._tracker = tracker_of(runtime)
        self._standalone = Standalone(self._tracker, agent)

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Call the model, with our fields on the request."""
        labelled, told = self._prepared(request)
        with told as answer:
            response = handler(labelled)
            answer.append(response)
        return response

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Call the model, with our fields on the request."""
        labelled, told = self._prepared(request)
        with told as answer:
            response = await handler(labelled)
            answer.append(response)
        return response

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Run the tool, unless a gate answers in its place."""
        gated, told = self._asked(request)

        def run() -> Any:
            with told:
                return handler(request)

        return answered(gated, run)

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run the tool, unless a gate answers in its place."""
        gated, told = self._asked(request)

        async def run() -> Any:
            with told:
                return await handler(request)

        return await aanswered(gated, run)

    def _prepared(self, request: Any) -> tuple[Any, AbstractContextManager[list[Any]]]:
        """The request to send, and what to put around the call. Never raises."""
        told: AbstractContextManager[list[Any]] = contextlib.nullcontext([])
        if self._runtime.settings.disabled:
            return request, told
        try:
            identity = self._tracker.current_identity()
            if identity is not None:  # a handler watches, and tells of the call
                return request if inject.labels(self._tracker) else self._labelled(request, identity), told
            messages = _messages(request)
            identity = self._standalone.identity(get_config(), messages, calls=True)
            told = self._standalone.call(identity, messages, resumable=can_resume())
            return self._labelled(request, identity), told
        except Exception as error:
            self._runtime.fault("middleware", error)
            return request, told

    def _labelled(self, request: Any, identity: Identity) -> Any:
        """The request with our fields, if it goes to the runtime's engine; the user's own values win.

        A model's own `extra_body` is replaced by one given with the call: it is carried over.
        """
        model, given = request.model, request.model_settings or {}
        url = _base_url(model)
        if url is None or not self._runtime.carries(url):
            return request
        own = {**(getattr(model, "model_kwargs", None) or {}), **_set(model, "extra_body")}
        body, headers = ({**own, **given}.get(key) or {} for key in ("extra_body", "extra_headers"))
        sent_headers = (*(getattr(model, "default_headers", None) or {}), *headers)
        added = addition(identity, self._runtime.plan(identity), {**own, **given, **body}, sent_headers)
        settings = dict(given)
        if added.headers:
            settings["extra_headers"] = {**headers, **added.headers}
        if added.body:
            settings["extra_body"] = {**body, **added.body}
        return request.override(model_settings=settings)

    def _asked(self, request: Any) -> tuple[Gated | None, AbstractContextManager[None]]:
        """What the gates say, and what to put around the tool. Raises only interrupts."""
        told: AbstractContextManager[None] = contextlib.nullcontext()
        if self._runtime.settings.disabled:
            return None, told
        source: GateSource = self._tracker
        try:
            identity = self._tracker.current_identity()
            if identity is None:
                source, config = self._standalone, get_config()
                identity = self._standalone.identity(config, _messages(request), calls=False)
                told = self._standalone.tool(identity, request.tool_call, config)
        except Exception as error:
            self._runtime.fault("middleware", error)
            identity = Identity(session=UNKNOWN, agent=UNKNOWN, tenant=self._runtime.settings.tenant)
        if not self._runtime.tool_gates or tools.is_gated(self._tracker, request.tool_call["id"]):
            return None, told
        try:
            return decide([(source, identity)], request.tool_call, request.tool), told
        except GraphBubbleUp:
            self._standalone.asked(identity.session, request.tool_call["id"])
            raise


def _messages(request: Any) -> Sequence[Any]:
    """The whole conversation of the agent, before any middleware shortened it."""
    state = request.state
    found = state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", None)
    return found if isinstance(found, Sequence) else ()


def _set(model: Any, field: str) -> dict[str, Any]:
    value = getattr(model, field, None)
    return {} if value is None else {field: value}


def _base_url(model: Any) -> str | None:
    """Where a chat model of the OpenAI client sends; None for any other model."""
    for client in ("root_client", "root_async_client"):
        url = getattr(getattr(model, client, None), "base_url", None)
        if url is not None:
            return str(url)
    return None
