"""Beside OpenInference, Langfuse and LangSmith, in either order: they see what they saw, and agents are right."""

import asyncio
import contextlib
import json
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypedDict

import pytest
from agentrt_langgraph import AgentRTCallbackHandler, install, instrument, uninstall
from langchain.agents import create_agent
from langchain_core.tools import tool
from langfuse import Langfuse
from langfuse.langchain import CallbackHandler
from langgraph.graph import START, StateGraph
from langsmith import Client
from langsmith.run_helpers import tracing_context
from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

Neighbour = tuple[list[Any], Callable[[], Any]]
"""Callbacks to pass to each call, and what was traced since last asked."""


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def _tree(exporter: InMemorySpanExporter) -> Counter[Any]:
    """Spans by name and by the name of their parent; forgets them."""
    spans = exporter.get_finished_spans()
    exporter.clear()
    names = {span.context.span_id: span.name for span in spans}
    return Counter((span.name, names.get(span.parent.span_id) if span.parent else None) for span in spans)


@contextlib.contextmanager
def openinference() -> Iterator[Neighbour]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        yield [], lambda: _tree(exporter)
    finally:
        instrumentor.uninstrument()


@pytest.fixture(scope="session")
def langfuse_spans() -> Iterator[tuple[Any, InMemorySpanExporter]]:
    """A Langfuse client that keeps its spans."""
    exporter = InMemorySpanExporter()
    client = Langfuse(
        public_key="pk",
        secret_key="sk",
        host="http://127.0.0.1:9",
        tracer_provider=TracerProvider(),
        span_exporter=exporter,
    )
    yield client, exporter
    client.shutdown()


@contextlib.contextmanager
def _langfuse(client: Any, exporter: InMemorySpanExporter) -> Iterator[Neighbour]:
    def spans() -> Any:
        client.flush()
        return _tree(exporter)

    yield [CallbackHandler(public_key="pk")], spans


class _Session:
    """The HTTP session of a LangSmith client: takes what is sent."""

    def __init__(self) -> None:
        self.runs: list[Any] = []

    def request(self, method: str, _: str, **kwargs: Any) -> Any:
        self.runs += [json.loads(kwargs["data"])] if method == "POST" else []
        return type(
            "Response", (), {"status_code": 202, "raise_for_status": lambda _: None, "text": "", "json": dict}
        )()

    def close(self) -> None:
        pass

    def mount(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def langsmith() -> Iterator[Neighbour]:
    session: Any = _Session()
    client = Client("http://127.0.0.1:9", api_key="k", session=session, auto_batch_tracing=False, info={})

    def runs() -> Any:
        told, session.runs = session.runs, []
        names = {run["id"]: run["name"] for run in told}
        return Counter((run["name"], names.get(run.get("parent_run_id"))) for run in told)

    with tracing_context(enabled=True, client=client):
        yield [], runs


@pytest.fixture(params=["openinference", "langfuse", "langsmith"])
def neighbour(request) -> Callable[[], Any]:
    """Another observer of LangChain, to enter and leave."""
    match request.param:
        case "openinference":
            return openinference
        case "langfuse":
            client, exporter = request.getfixturevalue("langfuse_spans")
            return lambda: _langfuse(client, exporter)
        case _:
            return langsmith


@pytest.fixture
def graph(chat) -> Any:
    """A node that calls a model, then an agent with a tool as a node."""
    model = chat("first")

    def first(_: State) -> State:
        return {"x": [str(model.invoke("h").content)]}

    adder = create_agent(chat("second"), [add], name="adder")
    built = StateGraph(State)
    built.add_node("first", first)
    built.add_node("second", lambda _: {"x": [str(adder.invoke({"messages": "1+2?"})["messages"][-1].content)]})
    built.add_edge(START, "first")
    built.add_edge("first", "second")
    return built.compile()


@pytest.fixture
def run(server, call) -> Callable[..., Any]:
    """Runs the graph; returns the agents that the server was told."""

    def go(graph: Any, mode: str, callbacks: list[Any]) -> Any:
        server.reset()
        server.script("second", call(("add", {"a": 1, "b": 2})))
        config = {"callbacks": callbacks} if callbacks else {}
        given = {"x": []}, config
        result = graph.invoke(*given) if mode == "invoke" else asyncio.run(graph.ainvoke(*given))
        assert result == {"x": ["ok", "ok"]}
        return [request.label and request.label["agent"] for request in server.requests]

    return go


AGENTS = ["first", "second/adder", "second/adder"]


@contextlib.contextmanager
def _install(graph: Any, runtime: Any) -> Iterator[tuple[Any, list[Any]]]:
    install(runtime)
    try:
        yield graph, []
    finally:
        uninstall()


@contextlib.contextmanager
def _instrument(graph: Any, runtime: Any) -> Iterator[tuple[Any, list[Any]]]:
    yield instrument(graph, runtime), []


@contextlib.contextmanager
def _handler(graph: Any, runtime: Any) -> Iterator[tuple[Any, list[Any]]]:
    yield graph, [AgentRTCallbackHandler(runtime)]


WAYS_IN = [_install, _instrument, _handler]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
@pytest.mark.parametrize("way_in", WAYS_IN, ids=lambda way: way.__name__.strip("_"))
def test_agentrt_first(way_in, mode, graph, neighbour, run, runtime):
    """Installed before its neighbour, and outliving it."""
    with way_in(graph, runtime) as (observed, ours):
        with neighbour() as (theirs, traced):
            assert run(observed, mode, [*ours, *theirs]) == AGENTS
            with_us = traced()
        assert run(observed, mode, ours) == AGENTS
    uninstall()
    with neighbour() as (theirs, traced):
        assert run(graph, mode, theirs) == [None] * 3
        assert traced() == with_us
    assert with_us.total() > 5
    assert runtime.agents() == AGENTS * 2


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
@pytest.mark.parametrize("way_in", WAYS_IN, ids=lambda way: way.__name__.strip("_"))
def test_agentrt_last(way_in, mode, graph, neighbour, run, runtime):
    """Installed after its neighbour, and leaving before it."""
    with neighbour() as (theirs, traced):
        run(graph, mode, theirs)
        before = traced()
        with way_in(graph, runtime) as (observed, ours):
            assert run(observed, mode, [*theirs, *ours]) == AGENTS
            assert traced() == before
        uninstall()
        assert run(graph, mode, theirs) == [None] * 3
        assert traced() == before
    assert before.total() > 5
    assert runtime.agents() == AGENTS


def test_all_of_them_at_once(graph, run, runtime, langfuse_spans):
    """Three neighbours and we, each attached in its own way, see the same run."""
    observed = instrument(graph, runtime)
    with openinference() as (_, spans), _langfuse(*langfuse_spans) as (theirs, fused), langsmith() as (_, runs):
        assert run(observed, "invoke", theirs) == AGENTS
        totals = [spans().total(), fused().total(), runs().total()]
    assert min(totals) > 5
    assert runtime.agents() == AGENTS
