"""Saying who acts: `agentrt.agent` inside nodes, and `wrap_node` around them."""

import asyncio
import functools
import operator
from typing import Annotated, Any, Literal, TypedDict

import agentrt_langgraph
import pytest
from agentrt_langgraph import AgentRTCallbackHandler, instrument, wrap_node
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command

import agentrt
from agentrt.events import CallStarted, Dispatched, RunEnded, RunStarted, StructureDeclared, ToolStarted


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


INPUT: State = {"x": []}
LLM = FakeListChatModel(responses=["ok"])


def line(**nodes: Any) -> StateGraph[Any]:
    """Nodes in a row."""
    graph = StateGraph(State)
    before = START
    for name, node in nodes.items():
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    return graph


def call(_: State) -> State:
    LLM.invoke("h")
    return {}


async def acall(_: State) -> State:
    await LLM.ainvoke("h")
    return {}


def go(graph: Any, config: Any = None) -> Any:
    """Run a graph the sync or the async way, as its nodes are."""
    nodes = graph.builder.nodes.values()
    if any(getattr(spec.runnable, "func", None) is None for spec in nodes):
        return asyncio.run(graph.ainvoke(INPUT, config))
    return graph.invoke(INPUT, config)


def sync_scopes(state: State) -> State:
    call(state)
    with agentrt.agent("plan"):
        call(state)
        with agentrt.agent("check"):
            call(state)
    return call(state)


async def async_scopes(state: State) -> State:
    await acall(state)
    async with agentrt.agent("plan"):
        await acall(state)
        async with agentrt.agent("check"):
            await acall(state)
    return await acall(state)


@pytest.mark.parametrize("node", [sync_scopes, async_scopes])
def test_scopes_name_what_is_inside(node, runtime):
    """Calls in a scope are its agent's, under the node's; afterwards the node's again. The outer dispatches."""
    go(instrument(line(work=node, after=node).compile(), runtime))
    inside = ["work", "work/plan", "work/plan/check", "work"]
    assert runtime.agents() == inside + [agent.replace("work", "after") for agent in inside]
    parents = [event.identity.parent for event in runtime.of(CallStarted)][:4]
    assert parents == [None, "work", "work/plan", None]
    assert runtime.edges() >= {("START", "work"), ("work", "work/plan"), ("work/plan", "work/plan/check")}
    assert len(runtime.of(Dispatched)) == len(runtime.edges()) == 6


def test_a_scope_repeated_is_one_agent(runtime):
    """Scopes of one name in one visit are one agent, dispatched once, also when the node has the same name."""

    def node(state: State) -> State:
        for _ in range(3):
            with agentrt.agent("plan"):
                call(state)
        with agentrt.agent("work"):
            return call(state)

    go(instrument(line(work=node).compile(), runtime))
    assert runtime.agents() == ["work/plan"] * 3 + ["work"]
    assert runtime.edges() == {("START", "work"), ("work", "work/plan")}


@pytest.mark.parametrize("node", [call, acall])
def test_a_sub_graph_in_a_scope(node, runtime):
    """A graph run in a scope is under the scope's agent, which its agents have as parent."""
    inner = line(inner=node).compile()

    async def anode(state: State) -> State:
        async with agentrt.agent("plan"), agentrt.agent("deep"):
            return await inner.ainvoke(state)

    def outer(state: State) -> State:
        with agentrt.agent("plan"), agentrt.agent("deep"):
            return inner.invoke(state)

    go(instrument(line(work=anode if node is acall else outer).compile(), runtime))
    (event,) = runtime.of(CallStarted)
    assert (event.identity.agent, event.identity.parent) == ("work/plan/deep/inner", "work/plan/deep")
    assert runtime.edges() == {
        ("START", "work"),
        ("work", "work/plan"),
        ("work/plan", "work/plan/deep"),
        ("work/plan/deep", "work/plan/deep/inner"),
    }


def test_scopes_inside_a_sub_graph(runtime):
    """Scopes in a sub-graph's node count from that node."""

    def inside(state: State) -> State:
        with agentrt.agent("check"):
            return call(state)

    inner = line(inner=inside).compile()

    def outer(state: State) -> State:
        with agentrt.agent("plan"):
            return inner.invoke(state)

    go(instrument(line(work=outer).compile(), runtime))
    assert runtime.agents() == ["work/plan/inner/check"]


def test_parallel_scopes_do_not_mix(runtime):
    """Gathered tasks and parallel nodes each keep their own scopes."""

    async def one(name: str) -> None:
        async with agentrt.agent(name):
            await asyncio.sleep(0)
            await acall(INPUT)
            await asyncio.sleep(0)
            await acall(INPUT)

    async def node(_: State) -> State:
        await asyncio.gather(one("p"), one("q"))
        return {}

    def threaded(state: State) -> State:
        with agentrt.agent("t"):
            LLM.batch(["1", "2"])
        return call(state)

    graph = StateGraph(State)
    for name, function in (("a", node), ("b", node)):
        graph.add_node(name, function)
        graph.add_edge(START, name)
    asyncio.run(instrument(graph.compile(), runtime).ainvoke(INPUT))
    assert sorted(runtime.agents()) == sorted(f"{n}/{s}" for n in "ab" for s in "pq" for _ in range(2))
    runtime.events.clear()
    graph = StateGraph(State)
    for name in "cd":
        graph.add_node(name, threaded)
        graph.add_edge(START, name)
    instrument(graph.compile(), runtime).invoke(INPUT)
    assert sorted(runtime.agents()) == ["c", "c/t", "c/t", "d", "d/t", "d/t"]


def test_tools_in_a_scope(runtime):
    """A tool run in a scope is the scope's agent's."""

    @tool
    def look(q: str) -> str:
        """Look."""
        return q

    def node(state: State) -> State:
        with agentrt.agent("plan", session="guest"):
            look.invoke({"q": "x"})
        return state

    go(instrument(line(work=node).compile(), runtime))
    (event,) = runtime.of(ToolStarted)
    assert (event.identity.agent, event.identity.session) == ("work/plan", "guest")
    assert [e.session.session for e in runtime.of(RunEnded)][1:] == ["guest"]


def test_sessions_and_tenants(runtime):
    """Calls in a scope with a session or tenant belong to it, with its own steps; it begins and ends with the run."""

    def node(state: State) -> State:
        call(state)
        with agentrt.agent("plan", session="guest", tenant="acme"):
            call(state)
            with agentrt.agent("deep"):
                call(state)
            LLM.with_config(metadata={"agentrt_session": "own"}).invoke("h")
        return call(state)

    go(instrument(line(work=node).compile(), runtime), {"configurable": {"thread_id": "t"}})
    keys = [(e.identity.tenant, e.identity.session, e.identity.step) for e in runtime.of(CallStarted)]
    own = ("acme", "own", 0)
    assert keys == [("default", "t", 0), ("acme", "guest", 0), ("acme", "guest", 1), own, ("default", "t", 1)]
    begun = {tuple(event.session) for event in runtime.of(RunStarted)}
    assert begun == {tuple(e.session) for e in runtime.of(RunEnded)}
    assert begun == {("default", "t"), ("acme", "guest"), ("acme", "own")}


def test_a_sub_graph_in_a_scope_with_a_session(runtime):
    """A session given around a sub-graph holds in it."""
    inner = line(inner=call).compile()

    def outer(state: State) -> State:
        with agentrt.agent("plan", session="guest"):
            return inner.invoke(state)

    go(instrument(line(work=outer, after=call).compile(), runtime))
    sessions = [event.identity.session for event in runtime.of(CallStarted)]
    assert sessions[0] == "guest"
    assert sessions[1] != "guest"


def test_around_a_graph_scopes_say_nothing(runtime):
    """A scope around a whole graph changes nothing about it; scopes inside still count."""
    graph = instrument(line(work=sync_scopes).compile(), runtime)
    graph.invoke(INPUT, {"configurable": {"thread_id": "t"}})
    plain = list(runtime.agents())
    runtime.events.clear()
    with agentrt.agent("around", session="s", tenant="t"):
        graph.invoke(INPUT, {"configurable": {"thread_id": "t2"}})
    assert runtime.agents() == plain
    assert {tuple(event.session) for event in runtime.of(CallStarted)} == {("default", "t2")}


def test_without_a_graph_scopes_are_harmless(runtime):
    """In plain code, and in graphs nobody observes, a scope does nothing."""
    with agentrt.agent("a"):
        assert agentrt.current() is None
        line(work=sync_scopes).compile().invoke(INPUT)
    assert runtime.events == []


def test_metadata_in_a_scope(runtime):
    """An agent named by a call's metadata is under the scope's."""

    def node(state: State) -> State:
        with agentrt.agent("plan"):
            LLM.with_config(metadata={"agentrt_agent": "meta"}).invoke("h")
        return call(state)

    go(instrument(line(work=node).compile(), runtime))
    assert runtime.agents() == ["work/plan/meta", "work"]


def test_current_in_a_scope(runtime):
    """`current()` tells agent, session and step of a scope, begins no session, and has the request's plan."""
    seen: list[Any] = []

    def node(state: State) -> State:
        seen.append(agentrt.current())
        with agentrt.agent("plan", session="guest"):
            seen.append(agentrt.current())
            call(state)
            seen.append(agentrt.current())
        return state

    assert agentrt_langgraph.current is agentrt.current
    go(instrument(line(work=node).compile(), runtime), {"configurable": {"thread_id": "t"}})
    told = [(here.identity.agent, here.identity.session, here.identity.step) for here in seen]
    assert told == [("work", "t", 0), ("work/plan", "guest", 0), ("work/plan", "guest", 1)]
    assert all(here.plan is runtime.answer for here in seen)
    assert agentrt.current() is None


def test_a_fault_while_asking_is_ours(new_runtime):
    """`current()` answers None when the runtime fails, and the fault is told."""
    broken = new_runtime("")
    seen: list[Any] = []

    def fail(_: Any) -> Any:
        raise RuntimeError("ours")

    broken.plan = fail
    instrument(line(work=lambda _: seen.append(agentrt.current())).compile(), broken).invoke(INPUT)
    assert seen == [None]
    assert [where for where, _ in broken.faults] == ["current"]


# --- wrap_node


class Caller:
    """A callable object as a node."""

    def __call__(self, state: State) -> State:
        return call(state)


class AsyncCaller:
    """A callable object with an async method."""

    async def __call__(self, state: State) -> State:
        return await acall(state)


def generating(state: State) -> Any:
    call(state)
    yield {"x": ["1"]}


NODES = [
    call,
    acall,
    Caller(),
    AsyncCaller(),
    functools.partial(call),
    generating,
    RunnableLambda(lambda _: "h") | LLM | (lambda _: {"x": []}),
]


@pytest.mark.parametrize("node", NODES, ids=lambda node: getattr(node, "__name__", type(node).__name__))
def test_wrapped_nodes(node, runtime):
    """Nodes of every kind act for the agent they are wrapped as; the node keeps its name."""
    graph = StateGraph(State)
    graph.add_node("n", wrap_node(node, "planner"))
    graph.add_edge(START, "n")
    observed = instrument(graph.compile(), runtime)
    result = asyncio.run(observed.ainvoke(INPUT))
    assert list(observed.nodes) == ["__start__", "n"]
    assert result["x"] in ([], ["1"])
    assert runtime.agents() == ["planner"]
    assert runtime.edges() == {("START", "planner")}
    (declared,) = runtime.of(StructureDeclared)
    assert [edge.target for edge in declared.edges] == ["planner"]


def test_wrapped_without_structure(runtime):
    """The bare handler knows the name as well, from the run itself."""
    graph = line(n=wrap_node(call, "planner"), m=wrap_node(call, "writer")).compile()
    graph.invoke(INPUT, {"callbacks": [AgentRTCallbackHandler(runtime)]})
    assert runtime.edges() == {("START", "planner"), ("planner", "writer")}


def test_a_wrapped_nodes_signature(runtime):
    """What LangGraph fills in still arrives, and declared destinations are still declared."""
    got: dict[str, Any] = {}

    def node(
        state: State, config: RunnableConfig, *, runtime: Runtime[Any], writer: Any = None
    ) -> Command[Literal["b", "__end__"]]:
        got.update(thread=config["configurable"]["thread_id"], runtime=runtime)
        return Command(goto="b")

    class Router:
        def __call__(self, state: State, runtime: Runtime[Any]) -> Command[Literal["c", "__end__"]]:
            got.update(inner=runtime)
            return Command(goto="c")

    graph = StateGraph(State)
    graph.add_node("a", wrap_node(node, "router"))
    graph.add_node("b", wrap_node(Router(), "second"))
    graph.add_node("c", call)
    graph.add_edge(START, "a")
    observed = instrument(graph.compile(checkpointer=InMemorySaver()), runtime)
    assert graph.nodes["a"].ends == ("b", "__end__")
    assert graph.nodes["b"].ends == ("c", "__end__")
    observed.invoke(INPUT, {"configurable": {"thread_id": "t"}})
    assert got["thread"] == "t"
    assert isinstance(got["runtime"], Runtime)
    assert isinstance(got["inner"], Runtime)
    (declared,) = runtime.of(StructureDeclared)
    edges = {(edge.source, edge.target) for edge in declared.edges}
    assert edges == {(START, "router"), ("router", "second"), ("router", END), ("second", "c"), ("second", END)}


@pytest.mark.parametrize("is_async", [False, True])
def test_a_wrapped_graph(is_async, runtime):
    """A compiled graph stays a sub-graph: seen by streams and `get_subgraphs`, its agents under the wrapped name."""
    inner = line(inner=acall if is_async else call).compile(name="team")
    outer = line(n=wrap_node(inner, "planner")).compile()
    assert [name for name, _ in outer.get_subgraphs()] == ["n"]
    observed = instrument(outer, runtime)

    async def drive() -> list[Any]:
        return [part async for part in observed.astream(INPUT, subgraphs=True)]

    parts = asyncio.run(drive()) if is_async else list(observed.stream(INPUT, subgraphs=True))
    assert [len(namespace) for namespace, _ in parts] == [1, 0]
    assert runtime.agents() == ["planner/inner"]
    (declared,) = runtime.of(StructureDeclared)
    assert {edge.target for edge in declared.edges} == {"planner", "planner/inner"}


def test_a_wrapped_nodes_session(runtime):
    """Session and tenant of a wrapped node hold for its calls, and the node's agent is no level of its own."""
    graph = line(n=wrap_node(call, "planner", session="guest", tenant="acme"), m=call).compile()
    go(instrument(graph, runtime), {"configurable": {"thread_id": "t"}})
    keys = [(e.identity.tenant, e.identity.session, e.identity.agent) for e in runtime.of(CallStarted)]
    assert keys == [("acme", "guest", "planner"), ("default", "t", "m")]


def test_scopes_in_a_wrapped_node(runtime):
    """Scopes inside a wrapped node are under its agent; wrapped twice, the outer name stands."""
    graph = line(n=wrap_node(wrap_node(sync_scopes, "inner"), "planner")).compile()
    go(instrument(graph, runtime))
    assert set(runtime.agents()) == {"planner", "planner/plan", "planner/plan/check"}


def test_a_wrapped_function_alone():
    """Outside any graph a wrapped function is the function."""
    wrapped = wrap_node(lambda state: {"x": [*state["x"], "1"]}, "planner")
    assert wrapped({"x": []}) == {"x": ["1"]}


@pytest.mark.parametrize(
    ("node", "agent", "error"), [(1, "a", TypeError), (call, "", ValueError), (call, "a/b", ValueError)]
)
def test_what_cannot_be_wrapped(node, agent, error):
    """What cannot be called, and names that cannot be an agent's, are refused at once."""
    with pytest.raises(error):
        wrap_node(node, agent)
