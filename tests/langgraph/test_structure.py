"""What a graph declares before its first run."""

import operator
from typing import Annotated, Any, Literal, TypedDict

import pytest
from agentrt_langgraph import instrument
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from agentrt.events import StructureDeclared


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


def graph_of(*names: str) -> Any:
    graph = StateGraph(State)
    for name in names:
        graph.add_node(name, lambda _: {})
    return graph


@pytest.fixture
def declared(runtime):
    """Edges that a graph declares, with their weights."""

    def read(graph: Any) -> dict[tuple[str, str], float]:
        instrument(graph.compile() if hasattr(graph, "compile") else graph, runtime)
        (event,) = runtime.of(StructureDeclared)
        assert {dispatch.how for dispatch in event.edges} == {"static"}
        return {(d.source, d.target): d.weight for d in event.edges}

    return read


def test_edges_and_joins(declared):
    """Edges that are always taken weigh 1, joins included."""
    graph = graph_of("a", "b", "c")
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    graph.add_edge(["a", "b"], "c")
    graph.add_edge("c", END)
    assert declared(graph) == {(START, "a"): 1, ("a", "b"): 1, ("a", "c"): 1, ("b", "c"): 1, ("c", END): 1}


def test_routes_share_the_weight(declared):
    """Declared routes share one belief, evenly; a router without a map may go anywhere."""
    graph = graph_of("a", "b")
    graph.add_edge(START, "a")
    graph.add_conditional_edges("a", lambda _: "go", {"go": "b", "stop": END})
    graph.add_conditional_edges("b", lambda _: "a")
    edges = declared(graph)
    assert (edges["a", "b"], edges["a", END]) == (0.5, 0.5)
    assert edges["b", "a"] == 0.5


def test_commands(declared):
    """Targets of an annotated `Command` are declared."""

    def a(_: State) -> Command[Literal["b", "c"]]:
        return Command(goto="b")

    graph = graph_of("b", "c")
    graph.add_node("a", a)
    graph.add_edge(START, "a")
    assert declared(graph) == {(START, "a"): 1, ("a", "b"): 0.5, ("a", "c"): 0.5}


def test_agents_inside(declared, chat):
    """Sub-graphs are read too: an agent's loop is one agent, its tools none."""

    @tool
    def look(q: str) -> str:
        """Look."""
        return q

    inner = graph_of("x", "y")
    inner.add_edge(START, "x")
    inner.add_edge("x", "y")
    graph = StateGraph(State)
    graph.add_node("team", inner.compile())
    graph.add_node("alice", create_agent(chat(), [look], name="alice"))
    graph.add_node("lead", lambda _: {}, metadata={"agentrt_agent": "boss"})
    graph.add_edge(START, "lead")
    graph.add_edge("lead", "team")
    graph.add_edge("team", "alice")
    assert declared(graph) == {
        (START, "boss"): 1,
        ("boss", "team"): 1,
        ("team", "alice"): 1,
        ("team", "team/x"): 1,
        ("team/x", "team/y"): 1,
    }


def test_a_graph_that_cannot_be_read(new_runtime):
    """A graph whose structure cannot be read is observed without it, and the fault is told."""
    runtime = new_runtime("")
    graph = graph_of("a")
    graph.add_edge(START, "a")
    compiled = graph.compile()
    compiled.builder = object()
    instrument(compiled, runtime).invoke({"x": []})
    assert [where for where, _ in runtime.faults] == ["read_structure"]
