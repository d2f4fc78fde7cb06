"""Remote graphs: what a caller sends of itself, and what a remote process makes of it."""

import asyncio
import json
import operator
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any, TypedDict

import pytest
from agentrt_langgraph import instrument
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Send

from agentrt.events import BranchAbandoned, CallStarted, Dispatched, RunEnded
from agentrt.identity import START as ENTRY


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


LLM = FakeListChatModel(responses=["ok"])
INPUT: State = {"x": []}
THREAD = {"configurable": {"thread_id": "t"}}


def speak(_: State) -> State:
    LLM.invoke("h")
    return {"x": ["1"]}


def line(*nodes: tuple[str, Any], **options: Any) -> Any:
    graph = StateGraph(State)
    before = START
    for name, node in nodes:
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    return graph.compile(**options)


class LangGraphServer(ThreadingHTTPServer):
    """The one route that `RemoteGraph` needs: runs a graph with the config of the request, streams its state."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[dict[str, Any]] = []
        self.graph: Any = None

    def run(self, path: str, body: dict[str, Any]) -> Any:
        self.bodies.append(body)
        thread_id = path.split("/")[2] if path.startswith("/threads/") else "none"
        config = {**body["config"], "configurable": {**body["config"]["configurable"], "thread_id": thread_id}}
        return self.graph.invoke(body["input"], config)


class _Handler(BaseHTTPRequestHandler):
    server: LangGraphServer

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        values = self.server.run(self.path, body)
        events = [("metadata", {"run_id": "1"}), ("values", values)]
        raw = "".join(f"event: {kind}\r\ndata: {json.dumps(data)}\r\n\r\n" for kind, data in events).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def langgraph_server() -> Iterator[LangGraphServer]:
    """A server without a graph yet."""
    server = LangGraphServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def remote(langgraph_server, new_runtime) -> Any:
    """The runtime of the remote process; its graph is set by `serve`."""
    recorder = new_runtime("")
    recorder.serve = lambda graph: setattr(langgraph_server, "graph", instrument(graph, recorder))
    yield recorder
    assert recorder.faults == []


@pytest.fixture(params=["sync", "async"])
def ask(request, langgraph_server) -> Callable[..., Any]:
    """A node or graph that runs the remote graph; how it is run, sync or async, is the parameter."""

    def run(graph: Any, config: Any = THREAD) -> Any:
        return asyncio.run(graph.ainvoke(INPUT, config)) if request.param == "async" else graph.invoke(INPUT, config)

    run.graph = RemoteGraph("helper", url=f"http://127.0.0.1:{langgraph_server.server_port}")
    return run


def agents(runtime: Any) -> list[tuple[str, str | None, str]]:
    return [(e.identity.agent, e.identity.parent, e.identity.session) for e in runtime.of(CallStarted)]


def edges(runtime: Any) -> set[tuple[str, str]]:
    return {(event.dispatch.source, event.dispatch.target) for event in runtime.of(Dispatched)}


def test_what_the_caller_sees(ask, runtime, remote, langgraph_server):
    """Of a remote graph its node runs here, and nothing of it fails; agents around it are seen as always."""
    remote.serve(line(("inside", speak)))
    ask(instrument(line(("plan", speak), ("rem", ask.graph), ("write", speak)), runtime))
    assert runtime.agents() == ["plan", "write"]
    assert edges(runtime) == {(ENTRY, "plan"), ("plan", "write")}
    assert runtime.open_runs() == remote.open_runs() == 0


def test_what_travels(ask, runtime, remote, langgraph_server):
    """Metadata travels, with the node's own place; what JSON cannot hold does not."""
    remote.serve(line(("inside", speak)))
    config = {**THREAD, "metadata": {"agentrt_tenant": "acme", "secret": object()}}
    ask(instrument(line(("rem", ask.graph)), runtime), config)
    [body] = langgraph_server.bodies
    sent = body["config"]["metadata"]
    assert sent["agentrt_tenant"] == "acme"
    assert "secret" not in sent
    assert sent["langgraph_checkpoint_ns"].startswith("rem:")
    assert not any(key.startswith("agentrt") for key in body["config"]["configurable"])


def test_identity_goes_on_in_the_remote_process(ask, runtime, remote):
    """With agentrt there too, remote agents are those of the caller's session, below the node that called them."""
    remote.serve(line(("a", speak), ("b", speak), checkpointer=InMemorySaver()))
    team = line(("plan", speak), ("rem", ask.graph))
    config = {**THREAD, "metadata": {"agentrt_tenant": "acme", "agentrt_workload": "desk"}}
    ask(instrument(line(("team", team)), runtime), config)
    assert agents(remote) == [("team/rem/a", "team/rem", "t"), ("team/rem/b", "team/rem/a", "t")]
    assert edges(remote) == {("team/rem", "team/rem/a"), ("team/rem/a", "team/rem/b")}
    identity = remote.of(CallStarted)[0].identity
    assert (identity.tenant, identity.workload) == ("acme", "desk")
    assert [event.resumable for event in remote.of(RunEnded)] == [True]


def test_turns_with_a_remote_graph(ask, runtime, remote):
    """Further turns of the thread go on in both processes; neither takes them for time travel."""
    remote.serve(line(("a", speak), checkpointer=InMemorySaver()))
    graph = instrument(line(("rem", ask.graph), ("write", speak), checkpointer=InMemorySaver()), runtime)
    for _ in range(3):
        ask(graph)
    assert agents(remote) == [("rem/a", "rem", "t")] * 3
    assert len({event.identity.invocation for event in remote.of(CallStarted)}) == 3
    assert runtime.of(BranchAbandoned) == remote.of(BranchAbandoned) == []


def test_remote_agents_side_by_side(ask, runtime, remote):
    """Parallel calls of one remote agent are visits of their own."""
    messages: Any = create_agent(LLM, [], name="solo")

    def loop(_: State) -> State:
        messages.invoke({"messages": [{"role": "user", "content": "hi"}]})
        return {"x": ["1"]}

    remote.serve(line(("agent", loop)))
    graph = StateGraph(State)
    graph.add_node("split", lambda _: {})
    graph.add_node("rem", ask.graph)
    graph.add_edge(START, "split")
    graph.add_conditional_edges("split", lambda _: [Send("rem", INPUT)] * 3, ["rem"])
    ask(instrument(graph.compile(), runtime))
    assert {agent for agent, _, _ in agents(remote)} == {"rem/solo"}
    assert len({event.identity.invocation for event in remote.of(CallStarted)}) == 3


def test_the_caller_named_by_hand(ask, runtime, remote):
    """`agentrt_parent` on the remote graph names its caller where node names do not; so does the node's own name."""
    remote.serve(line(("a", speak)))
    named = ask.graph.with_config({"metadata": {"agentrt_parent": "boss/researcher"}})
    ask(instrument(line(("agent", named)), runtime))
    graph = StateGraph(State)
    graph.add_node("rem", ask.graph, metadata={"agentrt_agent": "planner"})
    graph.add_edge(START, "rem")
    ask(instrument(graph.compile(), runtime))
    assert [agent for agent, _, _ in agents(remote)] == ["boss/researcher/a", "planner/a"]


def test_a_graph_inside_one_that_is_not_observed(runtime):
    """A graph observed alone, inside one of the same process that is not, is not taken for a remote one."""
    inner = instrument(line(("a", speak)), runtime)
    line(("outer", lambda state: {"x": inner.invoke(state)["x"]})).invoke(INPUT, THREAD)
    assert runtime.agents() == ["a"]
    assert edges(runtime) == {(ENTRY, "a")}
