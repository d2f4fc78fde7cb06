"""Hundreds of concurrent labelled requests: none missing, none with another's identity, none outside graphs."""

import asyncio
import concurrent.futures
import copy
import operator
from typing import Annotated, Any, TypedDict

import openai
import pytest
from agentrt_langgraph import install, instrument
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.types import Send

from agentrt.events import CallEnded, CallStarted

SESSIONS = 32


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]
    sid: str


@pytest.fixture
def sync_graph(server, chat):
    """Plan (invoke) -> 2 x work (raw client) beside talk (stream) -> join (invoke)."""
    model = chat()
    client = openai.OpenAI(base_url=server.url, api_key="x")

    def plan(state: State) -> State:
        model.invoke(f"{state['sid']}|plan")
        return {"x": ["1"]}

    def work(state: State) -> State:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": f"{state['sid']}|work"}])
        return {"x": ["1"]}

    def talk(state: State) -> State:
        list(model.stream(f"{state['sid']}|talk"))
        return {"x": ["1"]}

    def join(state: State) -> State:
        model.invoke(f"{state['sid']}|join")
        return {"x": ["1"]}

    yield _compile(plan, work, talk, join)
    client.close()


def async_graph(model: Any, client: openai.AsyncOpenAI) -> Any:
    """The same in async nodes."""

    async def plan(state: State) -> State:
        await model.ainvoke(f"{state['sid']}|plan")
        return {"x": ["1"]}

    async def work(state: State) -> State:
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": f"{state['sid']}|work"}])
        return {"x": ["1"]}

    async def talk(state: State) -> State:
        async for _ in model.astream(f"{state['sid']}|talk"):
            pass
        return {"x": ["1"]}

    async def join(state: State) -> State:
        await model.ainvoke(f"{state['sid']}|join")
        return {"x": ["1"]}

    return _compile(plan, work, talk, join)


def _compile(plan: Any, work: Any, talk: Any, join: Any) -> Any:
    graph = StateGraph(State)
    for name, node in (("plan", plan), ("work", work), ("talk", talk), ("join", join)):
        graph.add_node(name, node)
    graph.add_edge(START, "plan")

    def fan_out(state: State) -> list[Any]:
        return [Send("work", {"sid": state["sid"]}), Send("work", {"sid": state["sid"]}), "talk"]

    graph.add_conditional_edges("plan", fan_out, ["work", "talk"])
    graph.add_edge(["work", "talk"], "join")
    return graph.compile()


def given(sid: str) -> tuple[Any, Any]:
    return {"x": [], "sid": sid}, {"configurable": {"thread_id": sid}}


def check(server: Any, runtime: Any, expected: int) -> None:
    """Each prompt says who should have sent it."""
    assert len(server.requests) == expected
    told = {(e.identity.session, e.identity.agent, e.identity.step) for e in runtime.of(CallStarted)}
    for request in server.requests:
        session, agent = request.prompt.split("|")
        assert request.label is not None, request.prompt
        assert (request.label["session"], request.label["agent"]) == (session, agent)
        assert request.headers["x-session-id"] == session
        assert (session, agent, request.label["step"]) in told
    assert len(runtime.of(CallStarted)) == len(runtime.of(CallEnded)) == expected
    assert runtime.open_runs() == 0


def test_threads(server, runtime, sync_graph):
    """160 requests from 8 threads: invoke, raw client, stream."""
    graph = instrument(sync_graph, runtime)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: graph.invoke(*given(f"s{i}")), range(SESSIONS)))
    check(server, runtime, SESSIONS * 5)


def test_batch(server, runtime, sync_graph):
    """160 requests of one `batch`."""
    graph = instrument(sync_graph, runtime)
    inputs, configs = zip(*(given(f"b{i}") for i in range(SESSIONS)), strict=True)
    graph.batch(list(inputs), list(configs))
    check(server, runtime, SESSIONS * 5)


def test_sync_nodes_in_async_runs(server, runtime, sync_graph):
    """160 requests of sync nodes under `asyncio.gather`."""
    graph = instrument(sync_graph, runtime)

    async def main() -> None:
        await asyncio.gather(*(graph.ainvoke(*given(f"m{i}")) for i in range(SESSIONS)))

    asyncio.run(main())
    check(server, runtime, SESSIONS * 5)


def test_gather_and_streams(server, runtime, chat):
    """320 requests of async nodes: gathered runs, then gathered streams of messages, installed globally."""
    install(runtime)

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="x") as client:
            graph = async_graph(chat(), client)

            async def stream(sid: str) -> None:
                async for _ in graph.astream(*given(sid), stream_mode="messages"):
                    pass

            await asyncio.gather(*(graph.ainvoke(*given(f"g{i}")) for i in range(SESSIONS)))
            await asyncio.gather(*(stream(f"a{i}") for i in range(SESSIONS)))

    asyncio.run(main())
    check(server, runtime, SESSIONS * 10)


def test_requests_beside_the_graphs(server, runtime, sync_graph, chat):
    """While graphs run in other threads, requests outside them stay unlabelled."""
    graph = instrument(sync_graph, runtime)
    model = chat("outside")

    def work(i: int) -> None:
        if i % 2:
            model.invoke("none|none")
        else:
            graph.invoke(*given(f"s{i}"))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(SESSIONS)))
    outside = [request for request in server.requests if request.body["model"] == "outside"]
    assert len(outside) == SESSIONS // 2
    assert all(request.label is None and "x-session-id" not in request.headers for request in outside)


def test_parallel_sub_agents(server, runtime, chat, call):
    """Sub-agents called by parallel tool calls, in parallel sessions, keep to their own session."""
    inner = create_agent(chat("inner"), [], name="helper")

    @tool
    def ask(q: str) -> str:
        """Ask."""
        return str(inner.invoke({"messages": q})["messages"][-1].content)

    for i in range(8):
        name = f"outer-{i}"
        server.script(name, call(("ask", {"q": f"s{i}|x"}), ("ask", {"q": f"s{i}|y"})))

    def one(i: int) -> None:
        boss = instrument(create_agent(chat(f"outer-{i}"), [ask], name="boss"), runtime)
        boss.invoke({"messages": f"s{i}|boss"}, {"configurable": {"thread_id": f"s{i}"}})

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert len(server.requests) == 8 * 4
    for request in server.requests:
        expected = "boss/helper" if request.body["model"] == "inner" else "boss"
        assert request.label["agent"] == expected
        assert request.label["session"] == request.prompt.split("|")[0]


def test_an_event_loop_per_thread(server, runtime, chat):
    """One graph runs in eight threads at once, each with its own event loop."""

    async def main(part: int) -> None:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="x") as client:
            graph = instrument(async_graph(chat(), client), runtime)
            await asyncio.gather(*(graph.ainvoke(*given(f"l{part}-{i}")) for i in range(4)))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda part: asyncio.run(main(part)), range(8)))
    check(server, runtime, 8 * 4 * 5)


def test_a_loop_inside_a_loop(server, runtime, chat):
    """A node of a running loop runs another graph in a loop of its own, in a thread that knows the context."""
    model = chat()

    async def talk(state: State) -> State:
        await model.ainvoke(f"{state['sid']}|outer/inner")
        return {"x": ["1"]}

    inner = StateGraph(State)
    inner.add_node("inner", talk)
    inner.add_edge(START, "inner")
    sub = inner.compile(name="sub")

    async def outer_node(state: State) -> State:
        await asyncio.to_thread(lambda: asyncio.run(sub.ainvoke(state)))
        await model.ainvoke(f"{state['sid']}|outer")
        return {"x": ["1"]}

    outer = StateGraph(State)
    outer.add_node("outer", outer_node)
    outer.add_edge(START, "outer")
    graph = instrument(outer.compile(), runtime)

    async def main() -> None:
        await asyncio.gather(*(graph.ainvoke(*given(f"n{i}")) for i in range(SESSIONS)))

    asyncio.run(main())
    check(server, runtime, SESSIONS * 2)


def test_copies_at_once(server, runtime, sync_graph):
    """Copies of an instrumented graph run beside it, and report to the same runtime."""
    graph = instrument(sync_graph, runtime)
    copies = [graph, copy.copy(graph), graph.with_config(tags=["x"]), graph.with_retry()]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: copies[i % 4].invoke(*given(f"c{i}")), range(SESSIONS)))
    check(server, runtime, SESSIONS * 5)
