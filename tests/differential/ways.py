"""Ways to run a graph, and everything a user sees of it."""

import asyncio
import contextlib
import copy
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from langgraph.callbacks import GraphCallbackHandler

from agentrt.engines.wire import LABEL_HEADER, LABEL_KEY, SESSION_HEADER
from tests.differential.cases import Case, Kit, Rewind, Update
from tests.differential.normal import Normal

MODES = ["values", "updates", "messages", "debug", "custom", "tasks", "checkpoints"]
OUR_HEADERS = {LABEL_HEADER.lower(), SESSION_HEADER.lower()}


class Listener(GraphCallbackHandler):
    """The user's own handler: writes down all it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []


def _listen(name: str) -> Callable[..., None]:
    def told(self: Listener, *args: Any, **kwargs: Any) -> None:
        self.told.append((name, args, kwargs))

    return told


for _name in dir(GraphCallbackHandler):
    if _name.startswith("on_"):
        setattr(Listener, _name, _listen(_name))


class Session:
    """One graph on one or two threads, step by step."""

    def __init__(self, case: Case, graph: Any, callbacks: list[Any], way: str) -> None:
        self.case = case
        # What follows a stream that was left depends on how far it had come.
        self.steps = case.steps[:1] if way in LEFT else case.steps
        self.graph = graph
        self.outcomes: list[Any] = []
        self.chunks: list[Any] = []
        given = {"callbacks": callbacks} if callbacks else {}
        configurable = case.config.get("configurable", {})
        self.configs: list[Any] = [
            {**copy.deepcopy(case.config), **given, "configurable": {"thread_id": f"thread-{i}", **configurable}}
            for i in range(2 if way in SEVERAL else 1)
        ]

    @property
    def config(self) -> Any:
        return self.configs[0]

    def saved(self) -> bool:
        return getattr(self.graph, "checkpointer", None) is not None

    def drive(self, way: Callable[["Session", Any], Any]) -> None:
        """All steps, synchronously."""
        for step in self.steps:
            if isinstance(step, Update):
                for config in self.configs:
                    self.graph.update_state(config, step.values, as_node=step.as_node)
            elif isinstance(step, Rewind):
                for i, config in enumerate(self.configs):
                    self.configs[i] = {**config, **list(self.graph.get_state_history(config))[step.back].config}
            else:
                given = [step(self.graph.get_state(c)) if callable(step) else copy.deepcopy(step) for c in self.configs]
                self._keep(lambda given=given: way(self, given))

    async def adrive(self, way: Callable[["Session", Any], Awaitable[Any]]) -> None:
        """The same, asynchronously."""
        for step in self.steps:
            if isinstance(step, Update):
                for config in self.configs:
                    await self.graph.aupdate_state(config, step.values, as_node=step.as_node)
            elif isinstance(step, Rewind):
                for i, config in enumerate(self.configs):
                    past = [state async for state in self.graph.aget_state_history(config)]
                    self.configs[i] = {**config, **past[step.back].config}
            else:
                states = [await self.graph.aget_state(c) if callable(step) else None for c in self.configs]
                given = [step(state) if callable(step) else copy.deepcopy(step) for state in states]
                try:
                    self.outcomes.append(await way(self, given))
                except (Exception, asyncio.CancelledError) as error:
                    self.outcomes.append(error)

    def _keep(self, act: Callable[[], Any]) -> None:
        try:
            self.outcomes.append(act())
        except (Exception, asyncio.CancelledError) as error:
            self.outcomes.append(error)


def invoke(session: Session, given: list[Any]) -> Any:
    return session.graph.invoke(given[0], session.config, **session.case.call)


def stream(session: Session, given: list[Any]) -> None:
    options = {"stream_mode": MODES, "subgraphs": True, **session.case.call}
    for chunk in session.graph.stream(given[0], session.config, **options):
        session.chunks.append(chunk)


def leave_stream(session: Session, given: list[Any]) -> None:
    options = {"stream_mode": "updates", "subgraphs": True, **session.case.call}
    with contextlib.closing(session.graph.stream(given[0], session.config, **options)) as chunks:
        session.chunks.append(next(chunks, None))


def batch(session: Session, given: list[Any]) -> Any:
    return session.graph.batch(given, session.configs, return_exceptions=True, **session.case.call)


async def ainvoke(session: Session, given: list[Any]) -> Any:
    return await session.graph.ainvoke(given[0], session.config, **session.case.call)


async def astream(session: Session, given: list[Any]) -> None:
    options = {"stream_mode": MODES, "subgraphs": True, **session.case.call}
    async for chunk in session.graph.astream(given[0], session.config, **options):
        session.chunks.append(chunk)


async def astream_events(session: Session, given: list[Any]) -> None:
    async for event in session.graph.astream_events(given[0], session.config, version="v2", **session.case.call):
        session.chunks.append(event)


async def leave_astream(session: Session, given: list[Any]) -> None:
    options = {"stream_mode": "updates", "subgraphs": True, **session.case.call}
    async with contextlib.aclosing(session.graph.astream(given[0], session.config, **options)) as chunks:
        session.chunks.append(await anext(chunks, None))


async def abatch(session: Session, given: list[Any]) -> Any:
    return await session.graph.abatch(given, session.configs, return_exceptions=True, **session.case.call)


WAYS: dict[str, Callable[[Session, Any], Any]] = {
    way.__name__: way
    for way in (invoke, stream, leave_stream, batch, ainvoke, astream, astream_events, leave_astream, abatch)
}
SEVERAL = {"batch", "abatch"}
LEFT = {"leave_stream", "leave_astream"}
LISTENED = {"invoke", "astream"}
"""The user's own handler is attached to some ways, and not to others."""


def observe(case: Case, way: str, kit: Kit, wrap: Callable[[Any], Any], handlers: list[Any]) -> dict[str, Any]:
    """Run a case in one way; everything that a user of the graph sees, by kind, as plain data."""
    listener = Listener()
    callbacks = [*handlers, *([listener] if way in LISTENED else [])]
    session = Session(case, wrap(case.build(kit)), callbacks, way)
    act = WAYS[way]
    states: list[Any] = []
    if inspect.iscoroutinefunction(act):

        async def main() -> None:
            await session.adrive(act)
            if session.saved() and way not in LEFT:
                states.extend([[s async for s in session.graph.aget_state_history(c)] for c in session.configs])

        asyncio.run(main())
    else:
        session.drive(act)
        if session.saved() and way not in LEFT:
            states.extend(list(session.graph.get_state_history(c)) for c in session.configs)
    return _seen(session, kit, listener, states, whole=way not in LEFT | SEVERAL)


def _seen(session: Session, kit: Kit, listener: Listener, states: list[Any], *, whole: bool) -> dict[str, Any]:
    normal = Normal(unordered=session.case.unordered or not whole)
    seen = {
        "outcomes": normal(session.outcomes),
        "chunks": normal.events(session.chunks),
        "states": [normal.kept(history) for history in states],
    }
    if whole:
        saver = session.graph.checkpointer
        seen["saved"] = normal.kept(saver.list(None)) if hasattr(saver, "list") else []
        seen["told"] = normal.events(listener.told)
        seen["models"] = normal.events(kit.seen)
        seen["requests"] = normal.events(_sent(request) for request in kit.server.requests)
    return seen


def _sent(request: Any) -> Any:
    """What the server got, less what agentrt adds, by name."""
    body = {key: value for key, value in request.body.items() if key != "vllm_xargs"}
    xargs = {key: value for key, value in (request.body.get("vllm_xargs") or {}).items() if key != LABEL_KEY}
    left_out = {*OUR_HEADERS, "host", "content-length", "x-stainless-read-timeout"}
    headers = {name: value for name, value in request.headers.items() if name not in left_out}
    return request.path, headers, body, xargs
