"""Whatever happens inside agentrt, the user's graph behaves as if it were not there."""

import asyncio
import copy
import itertools
import operator
from typing import Annotated, Any, TypedDict

import pytest
from agentrt_langgraph import AgentRTCallbackHandler, install, instrument
from agentrt_langgraph.trackers import tracker_of
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from agentrt.events import CallStarted, RunStarted


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


INPUT: State = {"x": []}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def graph(chat):
    """A node with a model, then an agent with a tool, as a sub-graph."""
    model = chat("first")
    agent = create_agent(chat("second"), [add], name="adder")

    def first(_: State) -> State:
        return {"x": [str(model.invoke("h").content)]}

    def second(_: State) -> State:
        answer = agent.invoke({"messages": "1+2?"})
        return {"x": [str(message.content) for message in answer["messages"]]}

    built = StateGraph(State)
    built.add_node("first", first)
    built.add_node("second", second)
    built.add_edge(START, "first")
    built.add_edge("first", "second")
    return built.compile(checkpointer=InMemorySaver())


@pytest.fixture
def outcomes(server, call):
    """Runs a graph in every way there is; returns all that the user sees."""
    threads = itertools.count()

    def collect(graph: Any) -> list[Any]:
        def fresh() -> Any:
            server.script("second", call(("add", {"a": 1, "b": 2})))
            return {"configurable": {"thread_id": str(next(threads))}}

        async def drive() -> list[Any]:
            chunks = [chunk async for chunk in graph.astream(INPUT, fresh(), stream_mode="updates")]
            events = [e["event"] async for e in graph.astream_events(INPUT, fresh(), version="v2")]
            return [await graph.ainvoke(INPUT, fresh()), chunks, events]

        return [
            graph.invoke(INPUT, fresh()),
            list(graph.stream(INPUT, fresh(), stream_mode="values")),
            [str(part[0].content) for part in graph.stream(INPUT, fresh(), stream_mode="messages")],
            *asyncio.run(drive()),
        ]

    return collect


def test_results_are_the_same(graph, outcomes, runtime):
    """Invoke, streams and events give the same with and without agentrt."""
    plain = outcomes(graph)
    assert outcomes(instrument(graph, runtime)) == plain
    assert runtime.agents().count("second/adder") == 12


def test_the_original_is_untouched(graph, runtime):
    """`instrument` returns a copy of the same type; the original stays unobserved."""
    before = dict(vars(graph))
    observed = instrument(graph, runtime)
    assert isinstance(observed, type(graph))
    assert vars(graph) == before
    graph.invoke(INPUT, {"configurable": {"thread_id": "1"}})
    assert runtime.of(RunStarted) == []


METHODS = [name for name in vars(AgentRTCallbackHandler) if name.startswith("on_")]


@pytest.mark.parametrize("method", METHODS)
def test_a_handler_method_that_raises_changes_nothing(method, graph, outcomes, runtime, monkeypatch):
    """Even a handler method that raises leaves every result as it was."""
    plain = outcomes(graph)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(AgentRTCallbackHandler, method, broken)
    assert outcomes(instrument(graph, runtime)) == plain


INSIDE = [
    "chain_started",
    "chain_ended",
    "call_started",
    "call_ended",
    "tool_started",
    "tool_ended",
    "request_identity",
]


@pytest.mark.parametrize("method", INSIDE)
def test_a_fault_inside_is_counted_and_goes_no_further(method, graph, outcomes, server, new_runtime, monkeypatch):
    """A fault of the tracker is told to the runtime, not to the user."""
    plain = outcomes(graph)
    broken = new_runtime(server.url)
    observed = instrument(graph, broken)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(tracker_of(broken), method, fail)
    assert outcomes(observed) == plain
    assert broken.faults
    assert {str(error) for _, error in broken.faults} == {"ours"}


@pytest.mark.parametrize("method", ["emit", "plan", "carries", "clock"])
def test_a_broken_runtime_is_no_ones_problem(method, graph, outcomes, server, new_runtime):
    """A runtime that raises where it promised not to costs the user nothing."""
    plain = outcomes(graph)
    broken = new_runtime(server.url)
    observed = instrument(graph, broken)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("ours")

    tracker = tracker_of(broken)
    setattr(broken, method, fail)
    tracker.reports._emit, tracker.reports._clock = broken.emit, broken.clock
    assert outcomes(observed) == plain
    assert broken.faults


def test_an_instrumented_graph_can_be_copied(runtime):
    """`deepcopy` of an instrumented graph works as of any other, and the copy has the same handler."""
    built = StateGraph(State)
    built.add_node("a", lambda _: {"x": ["1"]})
    built.add_edge(START, "a")
    observed = instrument(built.compile(), runtime)
    (handler,) = observed.config["callbacks"]
    assert copy.deepcopy(observed).config["callbacks"] == [handler]
    assert copy.copy(handler) is handler


def test_attached_in_every_way_at_once(graph, runtime):
    """A handler told of the same run several times counts it once."""
    install(runtime)
    handler = AgentRTCallbackHandler(runtime)
    observed = instrument(graph, runtime).with_config(callbacks=[handler, handler])
    config = {"callbacks": [handler, AgentRTCallbackHandler(runtime)], "configurable": {"thread_id": "1"}}
    observed.invoke(INPUT, config)
    assert len(runtime.of(RunStarted)) == 1
    assert runtime.agents() == ["first", "second/adder"]
    assert len({event.call_id for event in runtime.of(CallStarted)}) == 2
    assert runtime.open_runs() == 0
