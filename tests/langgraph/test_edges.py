"""Dispatches against an independent truth: the channel writes LangGraph itself hands to its checkpointer."""

import asyncio
import operator
from collections import Counter
from dataclasses import replace
from typing import Annotated, Any, TypedDict

import pytest
from agentrt_langgraph import AgentRTCallbackHandler, instrument, uninstall
from agentrt_langgraph.trackers import tracker_of
from langchain_core.language_models import FakeListChatModel
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, Send

from agentrt.events import Dispatched, RunEnded
from tests.identity.runs import observe
from tests.identity.score import broken_limits, edge_sets

LLM = FakeListChatModel(responses=["ok"])
GRAPHS = 200


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


@pytest.fixture(scope="module")
def observations():
    """Random graphs of all kinds, each run once under both modes."""
    seen = [observe(f"{seed}/{index}") for seed in ("fixed", "other") for index in range(GRAPHS // 2)]
    uninstall()
    return seen


def test_dispatches_equal_the_channel_writes(observations):
    """On random graphs of every kind, sets and counts of dispatches are within the limits of both modes."""
    assert len(observations) == GRAPHS
    assert {(seen.kind, seen.is_async) for seen in observations} == {
        (kind, is_async) for kind in ("flat", "subgraphs", "parent_command", "defer") for is_async in (True, False)
    }
    assert broken_limits(observations) == []


def test_the_check_can_fail(observations):
    """A dispatch left out and one made up each cost one; dispatches told backwards break every limit they can."""
    perfect = edge_sets(observations, "static")
    richest = max(observations, key=lambda seen: len(seen.truth))
    rest = [seen for seen in observations if seen is not richest]
    edge, *others = richest.truth
    left_out = replace(richest, told={"static": Counter(others)})
    made_up = replace(richest, told={"static": richest.truth + Counter({("nobody", "noone"): 1})})
    backwards = [
        replace(seen, told={mode: Counter({pair[::-1]: n for pair, n in seen.truth.items()}) for mode in seen.told})
        for seen in observations
    ]
    assert edge in richest.told["static"]
    assert edge_sets([*rest, left_out], "static").fn == perfect.fn + 1
    assert edge_sets([*rest, made_up], "static").fp == perfect.fp + 1
    assert len(broken_limits(backwards)) == 4


def caller(result: Any = None) -> Any:
    """A node that calls a model and returns this, or what this makes of the state."""

    def node(state: State) -> Any:
        LLM.invoke("h")
        value = result(state) if callable(result) else result
        return {"x": ["1"]} if value is None else value

    return node


def helper(result: Any = None) -> Any:
    """A node that calls no model."""
    return lambda state: {"x": ["1"]} if result is None else result


@pytest.fixture(params=["static", "callbacks"])
def dispatches(request, runtime):
    """Runs a graph, and gives its dispatches as sorted (source, target, how, weight)."""

    def observe_run(graph: Any) -> list[tuple[str, str, str, float]]:
        if request.param == "static":
            instrument(graph, runtime).invoke({"x": []})
        else:
            graph.invoke({"x": []}, {"callbacks": [AgentRTCallbackHandler(runtime)]})
        told = [event.dispatch for event in runtime.of(Dispatched)]
        return sorted(("START" if d.source == "__start__" else d.source, d.target, d.how, d.weight) for d in told)

    return observe_run


def edges(found: list[tuple[str, str, str, float]]) -> list[tuple[str, str]]:
    return [(source, target) for source, target, _, _ in found]


def test_two_nodes_sending_to_one(dispatches):
    """Each visit of a node follows the task that sent it, not every task that sent anything."""
    graph = StateGraph(State)
    for name, notes in (("a", ["a1", "a2"]), ("b", ["b1"])):
        graph.add_node(name, caller(Command(goto=[Send("c", {"note": note}) for note in notes])))
        graph.add_edge(START, name)
    graph.add_node("c", caller())
    found = dispatches(graph.compile())
    assert [d for d in found if d[1] == "c"] == [
        ("a", "c", "next", 1.0),
        ("a", "c", "next", 1.0),
        ("b", "c", "next", 1.0),
    ]


def test_a_command_and_a_router_that_both_send(dispatches):
    """A node's own packets are numbered before those of its routers, and after those of nodes before it by name."""
    graph = StateGraph(State)
    graph.add_node("a", caller())
    graph.add_conditional_edges("a", lambda _: [Send("c", {}), Send("d", {})], ["c", "d"])
    graph.add_node("b", caller(Command(goto=[Send("d", {})])))
    graph.add_conditional_edges("b", lambda _: [Send("c", {})], ["c"])
    for name in ("c", "d"):
        graph.add_node(name, caller())
    for name in ("b", "a"):
        graph.add_edge(START, name)
    found = dispatches(graph.compile())
    assert [d for d in found if d[1] in "cd"] == [
        ("a", "c", "next", 1.0),
        ("a", "d", "next", 1.0),
        ("b", "c", "next", 1.0),
        ("b", "d", "next", 1.0),
    ]


def test_a_packet_does_not_explain_an_edge(dispatches):
    """A node that runs twice in a superstep, once sent and once by an edge, follows one task each time."""
    graph = StateGraph(State)
    graph.add_node("a", caller(Command(goto=[Send("c", {})])))
    graph.add_node("b", caller(Command(goto="c")))
    graph.add_node("c", caller())
    graph.add_edge(START, "a")
    graph.add_edge(START, "b")
    found = dispatches(graph.compile())
    assert [d for d in found if d[1] == "c"] == [("a", "c", "next", 1.0), ("b", "c", "next", 1.0)]


def test_a_deferred_node_follows_whoever_named_it(dispatches):
    """A deferred node runs last; its sources are those that named it, however long ago."""
    graph = StateGraph(State)
    graph.add_node("a", caller(Command(goto=["b", "late"])))
    graph.add_node("b", caller(Command(goto="c")))
    graph.add_node("c", caller(Command(goto="late")))
    graph.add_node("d", caller(Command(goto=END)))
    graph.add_node("late", caller(), defer=True)
    graph.add_edge(START, "a")
    graph.add_edge(START, "d")
    found = dispatches(graph.compile())
    assert [d for d in found if d[1] == "late"] == [("a", "late", "next", 1.0), ("c", "late", "next", 1.0)]


def test_a_deferred_node_by_edges(runtime):
    """With the structure known, edges into a deferred node and joins of deferred nodes count from where they left."""
    graph = StateGraph(State)
    for name in "abc":
        graph.add_node(name, caller())
    graph.add_node("late", caller(), defer=True)
    graph.add_node("first", caller(), defer=True)
    graph.add_edge(START, "a")
    graph.add_edge(START, "first")
    graph.add_edge("a", "late")
    graph.add_edge("a", "b")
    graph.add_edge("b", "c")
    instrument(graph.compile(), runtime).invoke({"x": []})
    assert runtime.edges() == {("START", "a"), ("START", "first"), ("a", "late"), ("a", "b"), ("b", "c")}


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("sends", [False, True])
def test_hand_over_from_inside(runtime, sends, is_async):
    """A hand-over follows the agent inside; edges and routers of the node around it are its own."""
    goto = [Send("c", {"x": []})] if sends else "c"
    inner = StateGraph(State)
    inner.add_node("i", caller())
    inner.add_node("h", helper(Command(goto=goto, graph=Command.PARENT)))
    inner.add_edge(START, "i")
    inner.add_edge("i", "h")
    graph = StateGraph(State)
    graph.add_node("a", inner.compile())
    for name in "cde":
        graph.add_node(name, caller())
    graph.add_edge(START, "a")
    graph.add_edge("a", "d")
    graph.add_conditional_edges("a", lambda _: "go", {"go": "e"})
    observed = instrument(graph.compile(), runtime)
    if is_async:
        asyncio.run(observed.ainvoke({"x": []}))
    else:
        observed.invoke({"x": []})
    assert runtime.edges() == {("START", "a"), ("a", "a/i"), ("a/i", "c"), ("a", "d"), ("a", "e")}
    assert runtime.open_runs() == 0


def test_two_inside_hand_over_at_once(runtime):
    """Where two tasks inside hand over in one superstep, one wins: the dispatch names that one alone."""
    inner = StateGraph(State)
    for name in ("i", "j"):
        inner.add_node(name, caller(Command(goto=f"to_{name}", graph=Command.PARENT)))
        inner.add_edge(START, name)
    graph = StateGraph(State)
    graph.add_node("a", inner.compile(), destinations=("to_i", "to_j"))
    for name in ("to_i", "to_j"):
        graph.add_node(name, caller())
    graph.add_edge(START, "a")
    instrument(graph.compile(), runtime).invoke({"x": []})
    out = {(source, target) for source, target in runtime.edges() if target.startswith("to_")}
    assert out in ({("a/i", "to_i")}, {("a/j", "to_j")})


def test_a_router_beside_an_edge(dispatches):
    """A node that routes and also has an edge hands over both ways."""
    graph = StateGraph(State)
    for name in "abc":
        graph.add_node(name, caller())
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    graph.add_conditional_edges("a", lambda _: ["c"], ["c", END])
    assert edges(dispatches(graph.compile())) == [("START", "a"), ("a", "b"), ("a", "c")]


def test_two_routers_that_use_one_label(dispatches):
    """A label means what its own router's path map says, also where two routers of a node share it."""
    graph = StateGraph(State)
    for name in "abc":
        graph.add_node(name, caller())

    def first(_: State) -> str:
        return "yes"

    def second(_: State) -> str:
        return "yes"

    graph.add_edge(START, "a")
    graph.add_conditional_edges("a", first, {"yes": "b", "no": END})
    graph.add_conditional_edges("a", second, {"yes": "c", "no": END})
    assert edges(dispatches(graph.compile())) == [("START", "a"), ("a", "b"), ("a", "c")]


def test_one_graph_twice_in_a_node(dispatches):
    """A graph that a node runs twice is two runs: nothing leads from the first into the second."""
    inner = StateGraph(State)
    inner.add_node("i", caller())
    inner.add_node("j", caller())
    inner.add_edge(START, "i")
    inner.add_edge("i", "j")
    compiled = inner.compile()

    def twice(_: State) -> Any:
        compiled.invoke({"x": []})
        compiled.invoke({"x": []})
        return {"x": []}

    graph = StateGraph(State)
    graph.add_node("a", twice)
    graph.add_edge(START, "a")
    assert edges(dispatches(graph.compile())) == [
        ("START", "a"),
        ("a", "a/i"),
        ("a", "a/i"),
        ("a/i", "a/j"),
        ("a/i", "a/j"),
    ]


def test_a_join_that_fills_twice(dispatches):
    """A join wakes its node once per filling, with the sources of that filling."""
    turns = iter(["a", "a", END])
    graph = StateGraph(State)
    graph.add_node("a", caller(lambda _: Command(goto="b")))
    graph.add_node("b", caller())
    graph.add_node("c", caller(lambda _: Command(goto=next(turns))))
    graph.add_edge(START, "a")
    graph.add_edge(["a", "b"], "c")
    found = Counter(edges(dispatches(graph.compile())))
    assert found == {("START", "a"): 1, ("a", "b"): 3, ("a", "c"): 3, ("b", "c"): 3, ("c", "a"): 2}


def test_a_retried_node_hands_over_once(dispatches):
    """What the attempts of a node say is one saying: the last."""
    attempts = iter([ValueError("again"), None])

    def flaky(_: State) -> Any:
        LLM.invoke("h")
        error = next(attempts)
        if error is not None:
            raise error
        return Command(goto=[Send("c", {}), "b"])

    graph = StateGraph(State)
    policy = RetryPolicy(max_attempts=2, initial_interval=0.001, retry_on=ValueError)
    graph.add_node("a", flaky, retry_policy=policy)
    graph.add_node("b", caller())
    graph.add_node("c", caller())
    graph.add_edge(START, "a")
    assert edges(dispatches(graph.compile())) == [("START", "a"), ("a", "b"), ("a", "c")]


def test_what_one_run_teaches(runtime):
    """Without the structure, an edge that was once not taken is none: what follows whom shows by the end of a run."""
    graph = StateGraph(State)
    again = iter(["a", END])
    for name in "abd":
        graph.add_node(name, caller())
    graph.add_node("c", caller(lambda _: Command(goto=next(again))))
    graph.add_edge(START, "a")
    graph.add_edge(START, "b")
    graph.add_edge("a", "c")
    graph.add_edge("b", "d")
    graph.compile().invoke({"x": []}, {"callbacks": [AgentRTCallbackHandler(runtime)]})
    assert runtime.edges() == {("START", "a"), ("START", "b"), ("a", "c"), ("b", "d"), ("c", "a")}
    assert isinstance(runtime.events[-1], RunEnded)


def test_what_a_label_means(runtime):
    """Without the path map, a router's label is taken for the node that followed it each time."""
    graph = StateGraph(State)
    ways = iter(["left", "right", "left"])
    again = iter([["a", "b"], ["a", "b"], END])
    graph.add_node("a", caller())
    graph.add_node("b", caller(Command(goto=END)))
    graph.add_conditional_edges("a", lambda _: next(ways), {"left": "c", "right": "d"})
    for name in "cd":
        graph.add_node(name, caller(lambda _: Command(goto=next(again))))
    graph.add_edge(START, "a")
    graph.add_edge(START, "b")
    graph.compile().invoke({"x": []}, {"callbacks": [AgentRTCallbackHandler(runtime)]})
    into = {(source, target) for source, target in runtime.edges() if target in "cd"}
    assert into == {("a", "c"), ("a", "d")}


def test_long_runs_wait_for_little(runtime):
    """However long a run whose structure is not known, few of its dispatches wait for its end."""
    waiting = []

    def loop(_: State) -> Any:
        LLM.invoke("h")
        graphs = [run.graph for run in tracker_of(runtime).open_runs._runs.values() if run.graph is not None]
        waiting.extend(len(graph.outbox.undecided) for graph in graphs)
        return Command(goto=["a", "b"] if len(waiting) < 400 else END)

    graph = StateGraph(State)
    graph.add_node("a", loop)
    graph.add_node("b", caller())
    graph.add_edge(START, "a")
    config = {"callbacks": [AgentRTCallbackHandler(runtime)], "recursion_limit": 1000}
    graph.compile().invoke({"x": []}, config)
    assert len(waiting) >= 400
    assert max(waiting) <= 260
    assert runtime.open_runs() == 0
