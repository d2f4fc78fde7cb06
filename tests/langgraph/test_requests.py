"""What arrives at the server: identity on every request under a node, and nothing of ours anywhere else."""

import asyncio
import copy
import json
import operator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypedDict

import httpx
import openai
import pytest
from agentrt_langgraph import current, fallback, inject, instrument, selftest
from langchain_core.runnables import RunnableConfig
from langchain_openai import AzureChatOpenAI, OpenAIEmbeddings
from langgraph.graph import START, StateGraph

from agentrt.ambient import Current
from agentrt.events import CallEnded, CallStarted
from agentrt.plan import RequestPlan


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


INPUT: State = {"x": []}
THREAD = {"configurable": {"thread_id": "t"}}
PROMPT: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture
def run(runtime):
    """Runs code as a node named `a` in session `t`, sync or async."""

    def go(node: Any) -> None:
        graph = StateGraph(State)
        graph.add_node("a", node)
        graph.add_edge(START, "a")
        observed = instrument(graph.compile(), runtime)
        if asyncio.iscoroutinefunction(node):
            asyncio.run(observed.ainvoke(INPUT, THREAD))
        else:
            observed.invoke(INPUT, THREAD)

    return go


@pytest.fixture
def raw(server):
    """A raw client of the server."""
    with openai.OpenAI(base_url=server.url, api_key="x", max_retries=0) as client:
        yield client


def assert_labelled(server: Any, count: int = 1) -> None:
    """All of exactly `count` requests carry the identity of node `a` in session `t`, once."""
    assert len(server.requests) == count
    for request in server.requests:
        assert request.headers["x-session-id"] == "t"
        assert request.label is not None
        assert (request.label["agent"], request.label["session"]) == ("a", "t")
        assert "x-agentrt-label" not in request.headers


def bare(request: Any) -> bool:
    """Nothing of ours is on the request."""
    ours = {"x-session-id", "x-agentrt-label"} & request.headers.keys()
    return not ours and not {"vllm_xargs", "priority", "session_id"} & request.body.keys()


def test_langchain_invoke(run, server, chat):
    """`invoke` carries identity."""
    run(lambda _: {"x": [chat().invoke("h").content]})
    assert_labelled(server)


def test_langchain_stream(run, server, chat):
    """`stream` carries identity."""
    run(lambda _: {"x": [chunk.content for chunk in chat().stream("h")]})
    assert_labelled(server)


def test_langchain_batch(run, server, chat):
    """Every request of a `batch` carries identity, with a step of its own."""
    run(lambda _: {"x": [m.content for m in chat().batch(["1", "2", "3"])]})
    assert_labelled(server, 3)
    assert sorted(request.label["step"] for request in server.requests) == [0, 1, 2]


def test_langchain_async(run, server, chat):
    """`ainvoke`, `astream` and gathered calls carry identity."""

    async def node(_: State) -> State:
        model = chat()
        await asyncio.gather(model.ainvoke("1"), model.ainvoke("2"))
        async for _chunk in model.astream("3"):
            pass
        return {}

    run(node)
    assert_labelled(server, 3)


def test_langchain_responses_api(run, server, chat):
    """The Responses API carries identity."""
    run(lambda _: {"x": [str(chat(use_responses_api=True).invoke("h").content)]})
    assert server.requests[0].path.endswith("/responses")
    assert_labelled(server)


def test_structured_output(run, server, chat, reply):
    """Structured output goes through another SDK method and carries identity too."""
    schema = {"title": "Answer", "type": "object", "properties": {"y": {"type": "string"}}}
    server.script("m", reply(content='{"y": "1"}'))
    run(lambda _: chat().with_structured_output(schema, method="json_schema").invoke("h") and {})
    assert_labelled(server)


def test_raw_client(run, server, raw, runtime):
    """A raw client's requests carry identity, and are told as calls that end with their node."""

    def node(_: State) -> State:
        raw.chat.completions.create(model="m", messages=PROMPT)
        for _chunk in raw.chat.completions.create(model="m", messages=PROMPT, stream=True):
            pass
        return {}

    run(node)
    assert_labelled(server, 2)
    assert len(runtime.of(CallStarted)) == len(runtime.of(CallEnded)) == 2
    assert runtime.open_runs() == 0


def test_raw_async_client(run, server):
    """A raw async client's requests carry identity."""

    async def node(_: State) -> State:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="x") as client:
            await client.chat.completions.create(model="m", messages=PROMPT)
            async for _chunk in await client.chat.completions.create(model="m", messages=PROMPT, stream=True):
                pass
        return {}

    run(node)
    assert_labelled(server, 2)


def test_a_client_used_before(run, server, raw, chat):
    """A client made and used before instrumenting is covered."""
    model = chat()
    model.invoke("h")
    raw.chat.completions.create(model="m", messages=PROMPT)
    assert all(bare(request) for request in server.requests)
    server.reset()

    def node(_: State) -> State:
        model.invoke("h")
        raw.chat.completions.create(model="m", messages=PROMPT)
        return {}

    run(node)
    assert_labelled(server, 2)


def test_a_subclass_without_super(run, server):
    """A client whose own hook does not call its parent's is covered: Azure's is one."""
    model = AzureChatOpenAI(
        azure_endpoint=server.url.removesuffix("/v1"), azure_deployment="d", api_version="1", api_key="x", max_retries=0
    )
    run(lambda _: {"x": [str(model.invoke("h").content)]})
    assert_labelled(server)


def test_sdk_retries_keep_their_label(run, server, chat, raw, reply, runtime):
    """A request that the SDK repeats is labelled each time, and is one call."""
    server.script("m", reply(status=503), reply())
    run(lambda _: {"x": [str(chat(max_retries=1).invoke("h").content)]})
    assert_labelled(server, 2)
    server.reset()
    server.script("m", reply(status=503), reply())
    client = raw.with_options(max_retries=1)
    run(lambda _: client.chat.completions.create(model="m", messages=PROMPT) and {})
    assert_labelled(server, 2)
    assert len(runtime.of(CallStarted)) == 2


def test_outside_graphs_nothing_is_labelled(run, server, raw, chat):
    """Before and after a graph, in the same thread, requests are the user's own."""
    run(lambda _: {"x": [str(chat().invoke("h").content)]})
    server.reset()
    chat().invoke("h")
    raw.chat.completions.create(model="m", messages=PROMPT)
    assert [bare(request) for request in server.requests] == [True, True]


def test_other_hosts_get_nothing(server, chat, new_runtime):
    """Requests to a server that is not the runtime's engine are untouched, also under a node."""
    elsewhere = new_runtime("http://engine.example:8000/v1")
    graph = StateGraph(State)
    graph.add_node("a", lambda _: {"x": [str(chat().invoke("h").content)]})
    graph.add_edge(START, "a")
    instrument(graph.compile(), elsewhere).invoke(INPUT, THREAD)
    assert [bare(request) for request in server.requests] == [True]
    assert elsewhere.faults == []


def test_other_paths_get_nothing(run, server):
    """Only requests that generate are labelled."""
    embeddings = OpenAIEmbeddings(base_url=server.url, api_key="x", check_embedding_ctx_length=False)
    run(lambda _: embeddings.embed_documents(["h"]) and {})
    assert [bare(request) for request in server.requests] == [True]


def test_the_users_values_win(run, server, chat, raw):
    """Fields and headers the user set stay as they are; theirs and ours share `vllm_xargs`."""
    xargs = {"mine": 1}
    body = {"vllm_xargs": xargs, "priority": 7, "session_id": "own"}
    given = copy.deepcopy(body)

    def node(_: State) -> State:
        chat(extra_body=body).invoke("h")
        raw.chat.completions.create(model="m", messages=PROMPT, extra_body=body)
        raw.chat.completions.create(model="m", messages=PROMPT, extra_headers={"x-session-id": "own"})
        raw.with_options(default_headers={"X-Session-ID": "own"}).chat.completions.create(model="m", messages=PROMPT)
        return {}

    run(node)
    assert body == given
    first, second, third, fourth = server.requests
    for request in (first, second):
        assert request.body["vllm_xargs"]["mine"] == 1
        assert request.label["agent"] == "a"
        assert (request.body["priority"], request.body["session_id"]) == (7, "own")
        assert "x-session-id" not in request.headers
    for request in (third, fourth):
        assert request.headers["x-session-id"] == "own"
        assert request.label["agent"] == "a"


def test_the_users_label_wins_entirely(run, server, raw):
    """A user's own label, in body or header, is the only one."""

    def node(_: State) -> State:
        raw.chat.completions.create(model="m", messages=PROMPT, extra_body={"vllm_xargs": {"agentrt": '"x"'}})
        raw.chat.completions.create(model="m", messages=PROMPT, extra_headers={"X-AgentRT-Label": "x"})
        raw.chat.completions.create(model="m", messages=PROMPT, extra_body={"vllm_xargs": "odd"})
        return {}

    run(node)
    first, second, third = server.requests
    assert first.body["vllm_xargs"] == {"agentrt": '"x"'}
    assert "x-agentrt-label" not in first.headers
    assert second.headers["x-agentrt-label"] == "x"
    assert "vllm_xargs" not in second.body
    assert third.body["vllm_xargs"] == "odd"
    assert json.loads(third.headers["x-agentrt-label"])["agent"] == "a"


def test_the_plan_travels(run, server, raw, runtime):
    """The plan is in the label; a priority is sent with vLLM's sign, and none when it is 0."""
    runtime.answer = RequestPlan(priority=3, reuse_p=0.5, reuse_s=1.5)
    run(lambda _: raw.chat.completions.create(model="m", messages=PROMPT) and {})
    runtime.answer = RequestPlan()
    run(lambda _: raw.chat.completions.create(model="m", messages=PROMPT) and {})
    planned, plain = server.requests
    assert (planned.label["reuse_p"], planned.label["reuse_s"], planned.body["priority"]) == (0.5, 1.5, -3)
    assert "priority" not in plain.body


@pytest.mark.parametrize("session", ["ünï", "a\r\nX-Evil: 1", " padded ", "日本"])
def test_any_session_name_is_a_legal_header(session, runtime, server, chat):
    """A session name that HTTP would refuse is escaped, and whole in the label."""
    graph = StateGraph(State)
    graph.add_node("a", lambda _: {"x": [str(chat().invoke("h").content)]})
    graph.add_edge(START, "a")
    instrument(graph.compile(), runtime).invoke(INPUT, {"configurable": {"thread_id": session}})
    (request,) = server.requests
    assert request.label["session"] == session
    assert "x-evil" not in request.headers
    assert request.headers["x-session-id"].isascii()


@pytest.mark.parametrize("fields", [{"bad": object()}, RuntimeError("plan")])
def test_a_broken_plan_costs_only_the_label(fields, server, chat, new_runtime):
    """A plan that cannot be serialised, or raises, leaves the user's request as it was."""
    broken = new_runtime(server.url)

    class Plan:
        priority = 0
        cache_salt = None

        def fields(self) -> Any:
            if isinstance(fields, Exception):
                raise fields
            return fields

    broken.answer = Plan()
    graph = StateGraph(State)
    graph.add_node("a", lambda _: {"x": [str(chat().invoke("h").content)]})
    graph.add_edge(START, "a")
    result = instrument(graph.compile(), broken).invoke(INPUT, THREAD)
    assert result == {"x": ["ok"]}
    assert [bare(request) for request in server.requests] == [True]
    assert [where for where, _ in broken.faults] == ["inject"]


def test_a_graph_inside_an_open_stream(runtime, server, chat, raw):
    """A raw request in a sub-graph is the sub-graph's, though a stream of the outer node is still open."""

    def inner(_: State) -> State:
        raw.chat.completions.create(model="m", messages=PROMPT)
        return {}

    sub = StateGraph(State)
    sub.add_node("inner", inner)
    sub.add_edge(START, "inner")
    compiled = sub.compile()

    def outer(state: State) -> State:
        stream = chat().stream("h")
        next(stream)
        compiled.invoke(state)
        list(stream)
        return {}

    graph = StateGraph(State)
    graph.add_node("outer", outer)
    graph.add_edge(START, "outer")
    instrument(graph.compile(), runtime).invoke(INPUT)
    assert [request.label["agent"] for request in server.requests] == ["outer", "outer/inner"]


def test_a_model_called_with_explicit_config(runtime, server, chat):
    """A call that is given its config from a bare thread is still its node's."""

    def node(_: State, config: RunnableConfig) -> State:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(chat().invoke, "h", config).result()
        return {}

    graph = StateGraph(State)
    graph.add_node("a", node)
    graph.add_edge(START, "a")
    instrument(graph.compile(), runtime).invoke(INPUT, THREAD)
    assert_labelled(server)


def test_current(run, chat, runtime):
    """`current()` is the identity that a request from here would carry, and has no effect."""
    seen: list[Current | None] = []

    def node(_: State) -> State:
        seen.append(current())
        stream = chat().stream("h")
        next(stream)
        seen.append(current())
        return {}

    assert current() is None
    run(node)
    assert current() is None
    assert all(here is not None and (here.identity.agent, here.identity.session) == ("a", "t") for here in seen)
    assert len(runtime.of(CallStarted)) == 1


# --- the fall-back


@pytest.fixture
def deaf_sdk(monkeypatch):
    """An SDK that has stopped calling its hook."""
    inject.disable()
    monkeypatch.setattr(inject, "_proven", None)
    monkeypatch.setattr(inject, "_HOOK", "_renamed_away")
    yield
    inject.disable()


def test_a_deaf_sdk_is_noticed_and_served(deaf_sdk, run, server, chat, raw, caplog):
    """When the self-test fails, requests are labelled at the HTTP client, and a warning says so once."""

    def node(_: State) -> State:
        chat().invoke("h")
        list(chat().stream("h"))
        raw.chat.completions.create(model="m", messages=PROMPT, extra_body={"vllm_xargs": {"mine": 1}})
        return {}

    run(node)
    run(lambda _: {})
    assert inject.mode() == "fallback"
    assert_labelled(server, 3)
    assert server.requests[2].body["vllm_xargs"]["mine"] == 1
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    server.reset()
    chat().invoke("h")
    assert [bare(request) for request in server.requests] == [True]


def test_a_deaf_sdk_async(deaf_sdk, run, server, chat):
    """The fall-back covers async clients and their streams."""

    async def node(_: State) -> State:
        model = chat()
        await model.ainvoke("h")
        async for _chunk in model.astream("h"):
            pass
        return {}

    run(node)
    assert_labelled(server, 2)


def test_the_fallback_is_undone():
    """Undoing the fall-back restores the HTTP clients exactly."""
    before = httpx.Client.send, httpx.AsyncClient.send
    undo = list(fallback.patch(lambda *_: None))
    assert httpx.Client.send is not before[0]
    for step in reversed(undo):
        step()
    assert (httpx.Client.send, httpx.AsyncClient.send) == before


def test_the_self_test_needs_no_free_event_loop(runtime):
    """The proof works inside a running event loop, and sends nothing anywhere."""
    inject.disable()
    inject._proven = None

    async def main() -> None:
        graph = StateGraph(State)
        graph.add_node("a", lambda _: {})
        graph.add_edge(START, "a")
        instrument(graph.compile(), runtime)

    asyncio.run(main())
    assert inject.mode() == "hook"


def test_the_probe_fails_without_a_hook():
    """Without a hook in place, the probe says so."""
    inject.disable()
    assert not selftest.Probe().reaches_the_wire()
