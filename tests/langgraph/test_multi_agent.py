"""Supervisor, swarm, deep agents, ReAct loops and agents as tools: the real packages, sync and async."""

import asyncio
from typing import Any

import pytest
from agentrt_langgraph import instrument
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool, StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, create_react_agent, tools_condition
from langgraph_supervisor import create_supervisor
from langgraph_swarm import create_handoff_tool, create_swarm

from agentrt.events import (
    BranchAbandoned,
    CallEnded,
    CallStarted,
    Dispatched,
    RunEnded,
    RunStarted,
    StructureDeclared,
    ToolStarted,
)
from agentrt.identity import START as ENTRY

# Deprecated by LangGraph, and what the supervisor package is built on.
pytestmark = pytest.mark.filterwarnings("ignore:create_react_agent has been moved")

MESSAGES = {"messages": [{"role": "user", "content": "hi"}]}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


ADD = ("add", {"a": 1, "b": 2})


@pytest.fixture(params=["sync", "async"])
def run(request, runtime):
    """Runs a graph to its end, checks what holds for every run that ends well, and returns the runtime."""

    def go(graph: Any, given: Any = MESSAGES, config: Any = None) -> Any:
        observed = instrument(graph, runtime)
        if request.param == "async":
            assert asyncio.run(observed.ainvoke(given, config))
        else:
            assert observed.invoke(given, config)
        assert runtime.open_runs() == 0
        assert len(runtime.of(CallStarted)) == len(runtime.of(CallEnded))
        assert len(runtime.of(RunStarted)) == len(runtime.of(RunEnded))
        assert not any(getattr(e, "failed", False) or getattr(e, "interrupted", False) for e in runtime.events)
        assert runtime.of(BranchAbandoned) == []
        assert {event.session for event in runtime.of(CallStarted)} <= {e.session for e in runtime.of(RunEnded)}
        assert set(runtime.agents()) <= declared(runtime)
        return runtime

    return go


def dispatches(runtime: Any) -> dict[tuple[str, str], str]:
    return {(e.dispatch.source, e.dispatch.target): e.dispatch.how for e in runtime.of(Dispatched)}


def visits(runtime: Any) -> dict[str, list[int]]:
    """How many calls each invocation of an agent made."""
    found: dict[str, dict[str, int]] = {}
    for event in runtime.of(CallStarted):
        counts = found.setdefault(event.identity.agent, {})
        counts[event.identity.invocation] = counts.get(event.identity.invocation, 0) + 1
    return {agent: sorted(counts.values()) for agent, counts in found.items()}


def parents(runtime: Any) -> set[tuple[str, str | None]]:
    return {(e.identity.agent, e.identity.parent) for e in runtime.of(CallStarted)}


def declared(runtime: Any) -> set[str]:
    """Agents that the graph was known to reach before it ran."""
    return {edge.target for event in runtime.of(StructureDeclared) for edge in event.edges}


def agent_tool(name: str, agent: Any) -> StructuredTool:
    """An agent as a tool, in both modes."""

    def ask(q: str) -> str:
        return str(agent.invoke({"messages": q})["messages"][-1].content)

    async def aask(q: str) -> str:
        return str((await agent.ainvoke({"messages": q}))["messages"][-1].content)

    return StructuredTool.from_function(ask, aask, name=name, description="Ask it.")


def workers(chat: Any) -> list[Any]:
    return [create_agent(chat("alice"), [add], name="alice"), create_agent(chat("bob"), [add], name="bob")]


def test_supervisor(run, chat, server, call):
    """A supervisor hands to its workers and gets back; each turn of it is a visit, a worker's loop is one."""
    server.script("boss", call(("transfer_to_alice", {})), call(("transfer_to_bob", {})))
    server.script("alice", call(ADD))
    seen = run(create_supervisor(workers(chat), model=chat("boss")).compile())
    assert seen.agents() == ["supervisor", "alice", "alice", "supervisor", "bob", "supervisor"]
    assert dispatches(seen) == {
        (ENTRY, "supervisor"): "entry",
        ("supervisor", "alice"): "next",
        ("alice", "supervisor"): "next",
        ("supervisor", "bob"): "next",
        ("bob", "supervisor"): "next",
    }
    assert visits(seen) == {"supervisor": [1, 1, 1], "alice": [2], "bob": [1]}


def test_nested_supervisors(run, chat, server, call):
    """A supervised team is an agent of its graph's name; those inside carry it as a prefix."""
    alice, bob = workers(chat)
    server.script("top", call(("transfer_to_research", {})))
    server.script("lead", call(("transfer_to_alice", {})))
    research = create_supervisor([alice], model=chat("lead"), supervisor_name="lead").compile(name="research")
    seen = run(create_supervisor([research, bob], model=chat("top"), supervisor_name="top").compile(name="firm"))
    assert seen.agents() == ["top", "research/lead", "research/alice", "research/lead", "top"]
    assert dispatches(seen) == {
        (ENTRY, "top"): "entry",
        ("top", "research"): "next",
        ("research", "research/lead"): "call",
        ("research/lead", "research/alice"): "next",
        ("research/alice", "research/lead"): "next",
        ("research", "top"): "next",
    }
    assert {event.identity.workload for event in seen.of(CallStarted)} == {"firm"}


def test_swarm(run, chat, server, call):
    """Agents of a swarm hand over both ways; the next turn of the thread enters where the last one ended."""
    alice = create_agent(chat("alice"), [add, create_handoff_tool(agent_name="bob")], name="alice")
    bob = create_agent(chat("bob"), [create_handoff_tool(agent_name="alice")], name="bob")
    graph = create_swarm([alice, bob], default_active_agent="alice").compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    server.script("alice", call(("transfer_to_bob", {})))
    run(graph, MESSAGES, config)
    server.script("bob", call(("transfer_to_alice", {})))
    seen = run(graph, MESSAGES, config)
    assert seen.agents() == ["alice", "bob", "bob", "alice"]
    assert dispatches(seen) == {
        (ENTRY, "alice"): "entry",
        ("alice", "bob"): "next",
        (ENTRY, "bob"): "entry",
        ("bob", "alice"): "next",
    }
    assert visits(seen) == {"alice": [1, 1], "bob": [1, 1]}
    assert {event.session.session for event in seen.of(CallStarted)} == {"t"}


def test_hand_off_without_declared_destinations(run, chat, server, call):
    """Whom an agent's tools hand over to is read from the tools, where the node does not say."""
    server.script("alice", call(("transfer_to_bob", {})))
    graph = StateGraph(MessagesState)
    graph.add_node("alice", create_agent(chat("alice"), [create_handoff_tool(agent_name="bob")], name="alice"))
    graph.add_node("bob", create_agent(chat("bob"), [], name="bob"))
    graph.add_edge(START, "alice")
    seen = run(graph.compile())
    assert dispatches(seen) == {(ENTRY, "alice"): "entry", ("alice", "bob"): "next"}


def test_deep_agents(run, chat, server, call):
    """Sub-agents of a deep agent are its children, called by its `task` tool, each call a visit."""
    critic, anyone = ({"description": "do", "subagent_type": kind} for kind in ("critic", "general-purpose"))
    server.script("lead", call(("task", critic), ("task", critic), ("task", anyone)))
    server.script("critic", call(ADD))
    spec = {"name": "critic", "description": "c", "system_prompt": "you", "tools": [add], "model": chat("critic")}
    seen = run(create_deep_agent(model=chat("lead"), tools=[add], name="lead", subagents=[spec]))
    assert dispatches(seen) == {
        (ENTRY, "lead"): "entry",
        ("lead", "lead/critic"): "call",
        ("lead", "lead/general-purpose"): "call",
    }
    assert visits(seen) == {"lead": [2], "lead/critic": [1, 2], "lead/general-purpose": [1]}
    assert ("lead/critic", "lead") in parents(seen)
    assert ("lead/critic", "add") in {(e.identity.agent, e.tool) for e in seen.of(ToolStarted)}


def test_react_agent(run, chat, server, call):
    """LangGraph's own ReAct agent is one agent by its name, in one visit."""
    server.script("m", call(ADD, ADD))
    seen = run(create_react_agent(chat(), [add], name="solver"))
    assert dispatches(seen) == {(ENTRY, "solver"): "entry"}
    assert visits(seen) == {"solver": [2]}
    assert [(e.identity.agent, e.tool) for e in seen.of(ToolStarted)] == [("solver", "add")] * 2


def react_loop(chat: Any, tools: list[Any], node: str) -> Any:
    """The loop as tutorials write it."""
    model = chat("loop").bind_tools(tools)

    def think(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node(node, think)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, node)
    graph.add_conditional_edges(node, tools_condition)
    graph.add_edge("tools", node)
    return graph


@pytest.mark.parametrize(
    ("node", "name", "agent"), [("solver", None, "solver"), ("solver", "team", "solver"), ("agent", "team", "team")]
)
def test_agents_called_by_a_hand_written_loop(run, chat, server, call, node, name, agent):
    """A tool's agent is a child of the agent that asked for it, however the loop's nodes are called."""
    server.script("loop", call(("ask", {"q": "1"}), ("ask", {"q": "2"})))
    tools = [agent_tool("ask", create_agent(chat("inner"), [add], name="researcher"))]
    seen = run(react_loop(chat, tools, node).compile(name=name))
    assert dispatches(seen) == {(ENTRY, agent): "entry", (agent, f"{agent}/researcher"): "call"}
    assert parents(seen) == {(agent, None), (f"{agent}/researcher", agent)}
    assert {e.identity.agent for e in seen.of(ToolStarted)} == {agent}


def test_agents_as_tools_on_two_levels(run, chat, server, call):
    """Agents called by tools of agents called by tools: siblings are visits of their own."""
    deepest = create_agent(chat("z"), [add], name="deepest")
    middle = create_agent(chat("y"), [agent_tool("dig", deepest)], name="middle")
    server.script("x", call(("ask", {"q": "1"}), ("ask", {"q": "2"})))
    server.script("y", call(("dig", {"q": "1"}), ("dig", {"q": "2"})))
    server.script("z", call(ADD))
    seen = run(create_agent(chat("x"), [agent_tool("ask", middle)], name="top"))
    assert dispatches(seen) == {
        (ENTRY, "top"): "entry",
        ("top", "top/middle"): "call",
        ("top/middle", "top/middle/deepest"): "call",
    }
    assert visits(seen) == {"top": [2], "top/middle": [1, 2], "top/middle/deepest": [1, 2]}


def test_agents_without_names(run, chat, server, call):
    """A nameless agent is called after its model node, the one that its tool calls after the tool."""
    inner = create_agent(chat("y"), [add])
    server.script("x", call(("ask", {"q": "1"})))
    seen = run(create_agent(chat("x"), [agent_tool("ask", inner)]))
    assert dispatches(seen) == {(ENTRY, "model"): "entry", ("model", "model/ask"): "call"}


def test_an_agent_in_a_tool_class(run, chat, server, call):
    """An agent that a tool object holds is found before the first run."""

    class Ask(BaseTool):
        name: str = "ask"
        description: str = "Ask it."
        agent: Any

        def _run(self, q: str) -> str:
            return str(self.agent.invoke({"messages": q})["messages"][-1].content)

    tool_object = Ask(agent=create_agent(chat("inner"), [add], name="researcher"))
    server.script("x", call(("ask", {"q": "1"})))
    seen = run(create_agent(chat("x"), [tool_object], name="top"))
    assert seen.agents() == ["top", "top/researcher", "top"]


def test_one_graph_as_two_nodes(run, chat):
    """The same compiled graph in two nodes is two agents, told apart by the nodes."""
    agent = create_agent(chat("alice"), [add], name="alice")
    graph = StateGraph(MessagesState)
    graph.add_node("draft", agent)
    graph.add_node("final", agent)
    graph.add_edge(START, "draft")
    graph.add_edge("draft", "final")
    seen = run(graph.compile())
    assert set(dispatches(seen)) == {
        (ENTRY, "draft"),
        ("draft", "draft/alice"),
        ("draft", "final"),
        ("final", "final/alice"),
    }


def test_graphs_called_in_one_node(run, chat):
    """One graph called twice in a node is one agent in two visits; another graph there is another agent."""
    alice, bob = workers(chat)

    def work(_: MessagesState) -> Any:
        return [alice.invoke(MESSAGES), alice.invoke(MESSAGES), bob.invoke(MESSAGES)][-1]

    async def awork(_: MessagesState) -> Any:
        return (await asyncio.gather(alice.ainvoke(MESSAGES), alice.ainvoke(MESSAGES), bob.ainvoke(MESSAGES)))[-1]

    graph = StateGraph(MessagesState)
    graph.add_node("work", RunnableLambda(work, awork))
    graph.add_edge(START, "work")
    seen = run(graph.compile())
    assert visits(seen) == {"work/alice": [1, 1], "work/bob": [1]}
    assert set(dispatches(seen)) == {(ENTRY, "work"), ("work", "work/alice"), ("work", "work/bob")}
