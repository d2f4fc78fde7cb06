"""Agents, sessions, invocations and dispatches, derived from real graphs without annotation."""

import operator
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypedDict

import pytest
from agentrt_langgraph import AgentRTCallbackHandler, instrument
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, RetryPolicy, Send, interrupt

from agentrt.events import CallStarted, Dispatched, RunStarted, ToolStarted


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


LLM = FakeListChatModel(responses=["ok"])
INPUT: State = {"x": []}
MESSAGES = {"messages": [{"role": "user", "content": "hi"}]}


def calls(name: str) -> Callable[[State], State]:
    """A node that calls a model once."""

    def node(state: State) -> State:
        LLM.invoke(name)
        return {"x": [name]}

    return node


def graph_of(*names: str) -> Any:
    graph = StateGraph(State)
    for name in names:
        graph.add_node(name, calls(name))
    return graph


def diamond() -> Any:
    graph = graph_of(*"abcd")
    graph.add_edge(START, "a")
    graph.add_conditional_edges("a", lambda _: ["b", "c"], ["b", "c"])
    graph.add_edge(["b", "c"], "d")
    return graph.compile()


@pytest.fixture(params=["instrument", "handler"])
def run(request, runtime):
    """Runs a graph observed by the runtime; returns the runtime."""

    def go(graph: Any, given: Any, config: dict[str, Any] | None = None) -> Any:
        config = dict(config or {})
        if request.param == "instrument":
            graph = instrument(graph, runtime)
        else:
            config["callbacks"] = [AgentRTCallbackHandler(runtime)]
        graph.invoke(given, config)
        assert runtime.open_runs() == 0
        return runtime

    return go


def test_linear(run):
    """Nodes in a line are agents of their own names, each dispatched by the one before."""
    graph = graph_of("plan", "write")
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "write")
    seen = run(graph.compile(), INPUT)
    assert seen.agents() == ["plan", "write"]
    assert seen.edges() == {("START", "plan"), ("plan", "write")}
    assert [event.identity.step for event in seen.of(CallStarted)] == [0, 1]
    assert [event.identity.parent for event in seen.of(CallStarted)] == [None, "plan"]


def test_parallel_branches_and_join(run):
    """A join is dispatched by every branch that fed it."""
    seen = run(diamond(), INPUT)
    assert sorted(seen.agents()) == ["a", "b", "c", "d"]
    assert seen.edges() == {("START", "a"), ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")}


def test_router_with_path_map(runtime):
    """A router's labels are translated by its path map."""
    graph = graph_of("a", "b", "c")
    graph.add_edge(START, "a")
    graph.add_conditional_edges("a", lambda _: "go", {"go": "b", "stop": END})
    graph.add_conditional_edges("b", lambda _: True, {True: "c", False: END})
    instrument(graph.compile(), runtime).invoke(INPUT)
    assert runtime.edges() == {("START", "a"), ("a", "b"), ("b", "c")}
    assert {event.dispatch.how for event in runtime.of(Dispatched)} == {"entry", "next"}


def test_parallel_chains_do_not_cross(runtime):
    """With declared edges, two chains side by side are told apart."""
    graph = graph_of(*"abcd")
    for source, target in ((START, "a"), (START, "b"), ("a", "c"), ("b", "d")):
        graph.add_edge(source, target)
    instrument(graph.compile(), runtime).invoke(INPUT)
    assert runtime.edges() == {("START", "a"), ("START", "b"), ("a", "c"), ("b", "d")}


def test_ambiguous_sources_share_the_weight(runtime):
    """Without declared edges, tasks of the superstep before share the belief."""
    graph = graph_of(*"abc")
    for source, target in ((START, "a"), (START, "b"), ("a", "c")):
        graph.add_edge(source, target)
    graph.compile().invoke(INPUT, {"callbacks": [AgentRTCallbackHandler(runtime)]})
    into_c = [event.dispatch for event in runtime.of(Dispatched) if event.dispatch.target == "c"]
    assert [(d.how, d.weight) for d in into_c] == [("superstep", 0.5), ("superstep", 0.5)]


def test_command_loop(run):
    """`Command(goto=...)` is followed round a loop."""

    def a(state: State) -> Command[Literal["b", "__end__"]]:
        LLM.invoke("a")
        return Command(goto="b" if len(state["x"]) < 3 else END, update={"x": ["a"]})

    def b(_: State) -> Command[Literal["a"]]:
        LLM.invoke("b")
        return Command(goto="a", update={"x": ["b"]})

    graph = StateGraph(State)
    graph.add_node("a", a)
    graph.add_node("b", b)
    graph.add_edge(START, "a")
    seen = run(graph.compile(), INPUT)
    assert seen.agents() == ["a", "b", "a", "b", "a"]
    assert seen.edges() == {("START", "a"), ("a", "b"), ("b", "a")}
    assert len(seen.of(Dispatched)) == 5


def test_send_fan_out(run):
    """Siblings of a `Send` are one agent in separate invocations."""
    graph = graph_of("plan", "worker", "join")
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda _: [Send("worker", INPUT)] * 3, ["worker"])
    graph.add_edge("worker", "join")
    seen = run(graph.compile(), INPUT)
    assert seen.agents() == ["plan", "worker", "worker", "worker", "join"]
    assert seen.edges() == {("START", "plan"), ("plan", "worker"), ("worker", "join")}
    workers = [e.identity for e in seen.of(CallStarted) if e.identity.agent == "worker"]
    assert len({identity.invocation for identity in workers}) == 3


def test_subgraph(run):
    """Agents inside a subgraph carry its node's name as a prefix."""
    graph = StateGraph(State)
    graph.add_node("team", diamond())
    graph.add_node("z", calls("z"))
    graph.add_edge(START, "team")
    graph.add_edge("team", "z")
    seen = run(graph.compile(), INPUT)
    assert sorted(seen.agents()) == ["team/a", "team/b", "team/c", "team/d", "z"]
    assert seen.edges() == {
        ("START", "team"),
        ("team", "team/a"),
        ("team/a", "team/b"),
        ("team/a", "team/c"),
        ("team/b", "team/d"),
        ("team/c", "team/d"),
        ("team", "z"),
    }


def test_helper_nodes_are_transparent(run):
    """A node that calls no model is skipped in dispatches."""
    graph = graph_of("a", "b")
    graph.add_node("helper", lambda _: {})
    graph.add_edge(START, "a")
    graph.add_edge("a", "helper")
    graph.add_edge("helper", "b")
    seen = run(graph.compile(), INPUT)
    assert seen.edges() == {("START", "a"), ("a", "b")}


def test_text_output_of_a_node_is_no_route(run):
    """A runnable inside a node that happens to answer a node's name is not taken for a router."""
    names = FakeListChatModel(responses=["c"]) | StrOutputParser()

    def a(_: State) -> State:
        return {"x": [names.invoke("who?")]}

    graph = graph_of("b", "c")
    graph.add_node("a", a)
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    graph.add_edge("b", "c")
    seen = run(graph.compile(), INPUT)
    assert seen.edges() == {("START", "a"), ("a", "b"), ("b", "c")}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def test_named_agent(run, chat, server, call):
    """All turns of a named agent's loop are one agent in one invocation."""
    server.script("m", call(("add", {"a": 1, "b": 2})))
    seen = run(create_agent(chat(), [add], name="calc"), MESSAGES)
    assert seen.agents() == ["calc", "calc"]
    assert seen.edges() == {("START", "calc")}
    assert len({event.identity.invocation for event in seen.of(CallStarted)}) == 1
    assert [(e.identity.agent, e.tool) for e in seen.of(ToolStarted)] == [("calc", "add")]


def test_unnamed_agent(run, chat, server, call):
    """An agent without any name is called after its model node."""
    server.script("m", call(("add", {"a": 1, "b": 2})))
    seen = run(create_agent(chat(), [add]), MESSAGES)
    assert seen.agents() == ["model", "model"]
    assert seen.edges() == {("START", "model")}


def test_agent_as_tool(run, chat, server, call):
    """A sub-agent called by a tool is a child of its caller; parallel calls are separate invocations."""
    inner = create_agent(chat("inner"), [add], name="researcher")

    @tool
    def research(q: str) -> str:
        """Research."""
        return str(inner.invoke({"messages": q})["messages"][-1].content)

    server.script("inner", call(("add", {"a": 1, "b": 2})))
    server.script("outer", call(("research", {"q": "x"}), ("research", {"q": "y"})))
    seen = run(create_agent(chat("outer"), [research], name="boss"), MESSAGES)
    assert sorted(seen.agents()) == ["boss"] * 2 + ["boss/researcher"] * 3
    assert seen.edges() == {("START", "boss"), ("boss", "boss/researcher")}
    inner_calls = [e.identity for e in seen.of(CallStarted) if e.identity.agent == "boss/researcher"]
    assert len({identity.invocation for identity in inner_calls}) == 2
    assert {identity.parent for identity in inner_calls} == {"boss"}


def test_unnamed_agent_in_a_tool(run, chat, server, call):
    """A nameless sub-agent is called after its tool, not after the name it inherits in metadata."""
    unnamed = create_agent(chat("inner"), [])

    @tool
    def ask(q: str) -> str:
        """Ask."""
        return str(unnamed.invoke({"messages": q})["messages"][-1].content)

    server.script("outer", call(("ask", {"q": "x"})))
    seen = run(create_agent(chat("outer"), [ask], name="boss"), MESSAGES)
    assert sorted(seen.agents()) == ["boss", "boss", "boss/ask"]
    assert seen.edges() == {("START", "boss"), ("boss", "boss/ask")}


def test_hand_over_to_the_parent_graph(run, chat, server, call):
    """A hand-over by `Command(graph=PARENT)` is a dispatch, and no failure."""

    @tool
    def transfer_to_bob() -> Any:
        """Hand over to bob."""
        return Command(goto="bob", graph=Command.PARENT, update={"messages": []})

    server.script("a", call(("transfer_to_bob", {})))
    alice = create_agent(chat("a"), [transfer_to_bob], name="alice")
    bob = create_agent(chat("b"), [], name="bob")
    graph = StateGraph(MessagesState)
    graph.add_node("alice", alice, destinations=("bob",))
    graph.add_node("bob", bob)
    graph.add_edge(START, "alice")
    seen = run(graph.compile(), MESSAGES)
    assert seen.agents() == ["alice", "bob"]
    assert seen.edges() == {("START", "alice"), ("alice", "bob")}
    assert all(not getattr(event, "failed", False) for event in seen.events)


def test_hand_written_tool_loop(run, chat, server, call):
    """Tools of a hand-written loop run under the agent that asked for them."""
    model = chat().bind_tools([add])
    server.script("m", call(("add", {"a": 1, "b": 2})))
    graph = StateGraph(MessagesState)
    graph.add_node("solver", lambda s: {"messages": [model.invoke(s["messages"])]})
    graph.add_node("tools", ToolNode([add]))
    graph.add_edge(START, "solver")
    graph.add_conditional_edges("solver", tools_condition)
    graph.add_edge("tools", "solver")
    seen = run(graph.compile(), MESSAGES)
    assert seen.agents() == ["solver", "solver"]
    assert [(e.identity.agent, e.tool) for e in seen.of(ToolStarted)] == [("solver", "add")]
    assert seen.edges() == {("START", "solver")}


def test_a_loop_keeps_its_parent(run, chat, server, call):
    """Every turn of a hand-written loop has the parent of its first."""
    model = chat().bind_tools([add])
    server.script("m", call(("add", {"a": 1, "b": 2})), call(("add", {"a": 1, "b": 2})))
    graph = StateGraph(MessagesState)
    graph.add_node("planner", lambda _: LLM.invoke("p") and {})
    graph.add_node("solver", lambda s: {"messages": [model.invoke(s["messages"])]})
    graph.add_node("tools", ToolNode([add]))
    graph.add_edge(START, "planner")
    graph.add_edge("planner", "solver")
    graph.add_conditional_edges("solver", tools_condition)
    graph.add_edge("tools", "solver")
    seen = run(graph.compile(), MESSAGES)
    parents = [(event.identity.agent, event.identity.parent) for event in seen.of(CallStarted)]
    assert parents == [("planner", None)] + [("solver", "planner")] * 3


def test_functional_api(run):
    """Tasks of the functional API are agents under their entrypoint."""

    @task
    def one(x: int) -> str:
        return str(LLM.invoke(str(x)).content)

    @task
    def two(x: int) -> str:
        return one(x).result()

    @entrypoint()
    def flow(x: int) -> str:
        _ = [future.result() for future in [one(i) for i in range(2)]]
        return two(9).result()

    seen = run(flow, 1)
    assert sorted(seen.agents()) == ["flow/one", "flow/one", "flow/two/one"]
    assert ("flow/two", "flow/two/one") in seen.edges()


def test_retry_is_told_once(run):
    """A retried node is dispatched once and keeps its invocation."""
    attempts = []

    def flaky(_: State) -> State:
        LLM.invoke("flaky")
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("again")
        return {"x": []}

    graph = StateGraph(State)
    policy = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=4, retry_on=ValueError)
    graph.add_node("flaky", flaky, retry_policy=policy)
    graph.add_edge(START, "flaky")
    seen = run(graph.compile(), INPUT)
    assert seen.agents() == ["flaky"] * 3
    assert len(seen.of(Dispatched)) == 1
    assert len({event.identity.invocation for event in seen.of(CallStarted)}) == 1


def test_interrupt_and_resume(run):
    """A resumed node keeps its invocation and is not dispatched again; the session goes on counting."""

    def ask(_: State) -> State:
        LLM.invoke("q")
        answer = interrupt("?")
        LLM.invoke("r")
        return {"x": [answer]}

    graph = graph_of("plan")
    graph.add_node("ask", ask)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "ask")
    compiled = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    run(compiled, INPUT, config)
    seen = run(compiled, Command(resume="yes"), config)
    assert seen.agents() == ["plan", "ask", "ask", "ask"]
    assert [event.identity.step for event in seen.of(CallStarted)] == [0, 1, 2, 3]
    assert len(seen.of(Dispatched)) == 2
    assert len({e.identity.invocation for e in seen.of(CallStarted) if e.identity.agent == "ask"}) == 1


def test_a_new_turn_is_dispatched_again(run):
    """The next turn of a thread starts from START again, in the same session."""
    graph = graph_of("a")
    graph.add_edge(START, "a")
    compiled = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    run(compiled, INPUT, config)
    seen = run(compiled, INPUT, config)
    assert len(seen.of(Dispatched)) == 2
    assert {event.session.session for event in seen.events if hasattr(event, "session")} == {"t"}


def test_batch_runs_are_separate_sessions(runtime):
    """Without a thread id, every run is its own session."""
    graph = graph_of("a", "b")
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    instrument(graph.compile(), runtime).batch([INPUT] * 4)
    assert len({event.session for event in runtime.of(RunStarted)}) == 4
    assert sorted(event.identity.step for event in runtime.of(CallStarted)) == [0] * 4 + [1] * 4


def test_metadata_overrides(run):
    """A node's metadata names its agent; the run's metadata names session, tenant and workload."""
    graph = StateGraph(State)
    graph.add_node("a", calls("a"), metadata={"agentrt_agent": "planner"})
    graph.add_edge(START, "a")
    metadata = {"agentrt_session": "s", "agentrt_tenant": "acme", "agentrt_workload": "w"}
    seen = run(graph.compile(), INPUT, {"metadata": metadata, "configurable": {"thread_id": "t"}})
    identity = seen.of(CallStarted)[0].identity
    assert (identity.agent, identity.session, identity.tenant, identity.workload) == ("planner", "s", "acme", "w")
    assert seen.edges() == {("START", "planner")}


def test_override_on_a_model(run):
    """Metadata on a model names the agent of its calls: the first names the node, others are its children."""
    planner = LLM.with_config(metadata={"agentrt_agent": "planner"})
    critic = LLM.with_config(metadata={"agentrt_agent": "critic", "agentrt_session": "other"})

    def node(_: State) -> State:
        planner.invoke("p")
        critic.invoke("c")
        return {}

    graph = StateGraph(State)
    graph.add_node("step", node)
    graph.add_edge(START, "step")
    seen = run(graph.compile(), INPUT, {"configurable": {"thread_id": "t"}})
    assert [(e.identity.agent, e.identity.session) for e in seen.of(CallStarted)] == [
        ("planner", "t"),
        ("critic", "other"),
    ]
    assert seen.edges() == {("START", "planner"), ("planner", "critic")}


def test_override_on_a_graph(run):
    """Metadata on a graph makes all of it one agent."""
    graph = graph_of("a", "b")
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    seen = run(graph.compile().with_config(metadata={"agentrt_agent": "solo"}), INPUT)
    assert seen.agents() == ["solo", "solo"]
    assert seen.edges() == {("START", "solo")}


def test_run_names_do_not_leak_into_identity(runtime):
    """A `run_name` per request changes neither agent nor workload of an instrumented graph."""
    graph = StateGraph(State)
    graph.add_node("agent", calls("agent"))
    graph.add_edge(START, "agent")
    compiled = instrument(graph.compile(name="helpdesk"), runtime)
    for number in range(3):
        compiled.invoke(INPUT, {"run_name": f"req-{number}"})
    assert set(runtime.agents()) == {"helpdesk"}
    assert {event.workload for event in runtime.of(RunStarted)} == {"helpdesk"}


def test_workload_by_attachment(runtime):
    """`instrument(..., workload=...)` names the deployed graph."""
    graph = graph_of("a")
    graph.add_edge(START, "a")
    instrument(graph.compile(), runtime, workload="mine").invoke(INPUT)
    assert runtime.of(CallStarted)[0].identity.workload == "mine"


def test_long_names_still_fit_a_label(runtime):
    """Ids longer than a label allows are shortened the same way each time, and stay distinct."""
    graph = graph_of("a")
    graph.add_edge(START, "a")
    compiled = instrument(graph.compile(), runtime)
    for session in ("x" * 300 + "1", "x" * 300 + "2", "ü" * 200, "x" * 300 + "1"):
        compiled.invoke(INPUT, {"configurable": {"thread_id": session}})
    identities = [event.identity for event in runtime.of(CallStarted)]
    assert len({identity.session for identity in identities}) == 3
    assert all(type(identity).from_label(identity.to_label()) == identity for identity in identities)
    assert identities[3].step == 1
