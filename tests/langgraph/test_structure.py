"""What a graph declares before its first run."""

import operator
from typing import Annotated, Any, Literal, TypedDict

import pytest
from agentrt_langgraph import instrument
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
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


def test_a_node_that_returns_commands_unannounced(declared):
    """A node whose code names `Command` and declares no target may go anywhere; one that ends there goes nowhere."""

    def jump(_: State) -> Any:
        return Command(goto="b")

    graph = graph_of("b")
    graph.add_node("jump", jump)
    graph.add_edge(START, "jump")
    edges = declared(graph)
    assert edges["jump", "b"] == edges["jump", END] == pytest.approx(1 / 3)
    assert not any(source == "b" for source, _ in edges)


ELSEWHERE = create_agent(FakeListChatModel(responses=["ok"]), [], name="elsewhere")


def test_agents_that_functions_refer_to(declared, chat):
    """Agents in closures, globals, containers and nested functions are found; what is only computed is not."""
    team = {"first": create_agent(chat(), [], name="first"), "second": create_agent(chat(), [], name="second")}

    def ask(name: str) -> Any:
        return [team[name].invoke({}) for _ in range(2)]

    def node(_: State) -> State:
        return {"x": [str(ask("first")), str(ELSEWHERE.invoke({"messages": []}))]}

    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    edges = declared(graph)
    assert {target for source, target in edges if source == "node"} == {
        "node/first",
        "node/second",
        "node/elsewhere",
    }
    assert edges["node", "node/first"] == pytest.approx(1 / 3)


def test_graphs_that_call_each_other(declared, chat):
    """Agents that call each other, and themselves, are declared once along each path."""
    agents: dict[str, Any] = {}

    @tool
    def ask(name: str) -> str:
        """Ask an agent."""
        return str(agents[name].invoke({}))

    for name in ("a", "b", "c"):
        agents[name] = create_agent(chat(), [ask], name=name)
    edges = declared(agents["a"])
    assert {("a", "a/b"), ("a", "a/c")} <= set(edges)
    assert len(edges) < 50


def test_a_graph_that_cannot_be_read(new_runtime):
    """A graph whose structure cannot be read is observed without it, and the fault is told."""
    runtime = new_runtime("")
    graph = graph_of("a")
    graph.add_edge(START, "a")
    compiled = graph.compile()
    compiled.builder = object()
    instrument(compiled, runtime).invoke({"x": []})
    assert [where for where, _ in runtime.faults] == ["read_structure"]


def test_objects_that_do_not_like_to_be_looked_at(declared):
    """A lazy object that a node refers to is asked for nothing, and one that fails costs only itself."""
    touched = []

    class Lazy:
        def __getattr__(self, name: str) -> Any:
            touched.append(name)
            raise RuntimeError(name)

    class Broken:
        @property
        def __class__(self) -> Any:
            raise RuntimeError

    lazy, broken, inner = Lazy(), Broken(), graph_of("x")
    inner.add_edge(START, "x")
    team = inner.compile(name="team")

    def node(_: State) -> State:
        return lazy.chat or broken.chat or team.invoke({})

    graph = StateGraph(State)
    graph.add_node("a", node)
    graph.add_edge(START, "a")
    assert declared(graph) == {(START, "a"): 1, ("a", "a/x"): 1}
    assert set(touched) <= {"chat"}  # LangGraph itself follows the attributes that code names
