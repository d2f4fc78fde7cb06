"""`install`: every graph of the process is known as `instrument` knows one, and behaves as without it."""

import asyncio
import concurrent.futures
import copy
import gc
import inspect
import operator
import weakref
from typing import Annotated, Any, TypedDict

import pytest
from agentrt_langgraph import AgentRTCallbackHandler, bindings, install, instrument, pregel, turns, uninstall
from agentrt_langgraph.trackers import tracker_of
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.pregel import Pregel

from agentrt.events import CallStarted, Dispatched, RunEnded, RunStarted, StructureDeclared


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


INPUT: State = {"x": []}
LLM = FakeListChatModel(responses=["ok"])


def speak(_: State) -> State:
    return {"x": [str(LLM.invoke("h").content)]}


async def aspeak(_: State) -> State:
    return {"x": [str((await LLM.ainvoke("h")).content)]}


def builder(*names: str, node: Any = speak) -> StateGraph[Any]:
    """Nodes in a row."""
    graph = StateGraph(State)
    before = START
    for name in names or ("a",):
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    return graph


def two_chains() -> Any:
    """Two parallel chains, which only declared edges can tell apart."""
    graph = builder("a", "b")
    graph.add_node("p", speak)
    graph.add_node("q", speak)
    graph.add_edge(START, "p")
    graph.add_edge("p", "q")
    return graph.compile(name="chains")


@pytest.fixture
def installed(runtime):
    """The runtime, installed."""
    install(runtime)
    return runtime


def test_edges_are_known(installed):
    """Declared edges are read at the first run of each graph, once, and used."""
    graph = two_chains()
    graph.invoke(INPUT)
    graph.with_config(tags=["x"]).invoke(INPUT)
    (declared,) = installed.of(StructureDeclared)
    assert declared.workload == "chains"
    assert installed.edges() == {("START", "a"), ("START", "p"), ("a", "b"), ("p", "q")}
    assert {event.dispatch.how for event in installed.of(Dispatched)} == {"entry", "next"}


def test_without_structure(runtime):
    """`structure=False` wraps nothing in LangGraph, and edges are inferred; a later call may add it."""
    methods = Pregel.stream, Pregel.astream
    install(runtime, structure=False)
    assert (Pregel.stream, Pregel.astream) == methods
    graph = two_chains()
    graph.invoke(INPUT)
    assert runtime.of(StructureDeclared) == []
    assert "superstep" in {event.dispatch.how for event in runtime.of(Dispatched)}
    install(runtime)
    graph.invoke(INPUT)
    assert len(runtime.of(StructureDeclared)) == 1


def test_a_graphs_own_name_and_checkpointer(installed):
    """A request's `run_name` names nothing, and whether a session can go on is known, not guessed."""
    config: Any = {"configurable": {"thread_id": "t"}, "run_name": "req-1"}
    builder("model").compile(name="desk").invoke(INPUT, config)
    builder("model").compile(checkpointer=InMemorySaver()).invoke(INPUT, config)
    assert installed.agents() == ["desk", "model"]
    assert [(e.workload, e.resumable) for e in installed.of(RunStarted)] == [("desk", False), ("default", True)]


WAYS = {
    "invoke": lambda graph, config: graph.invoke(INPUT, config),
    "keyword": lambda graph, config: graph.invoke(input=INPUT, config=config),
    "stream": lambda graph, config: list(graph.stream(INPUT, config, stream_mode=["updates", "values"])),
    "stream keyword": lambda graph, config: list(graph.stream(INPUT, config=config, subgraphs=True)),
    "batch": lambda graph, config: graph.batch([INPUT], config),
    "ainvoke": lambda graph, config: asyncio.run(graph.ainvoke(INPUT, config)),
    "abatch": lambda graph, config: asyncio.run(graph.abatch([INPUT], config)),
    "astream": lambda graph, config: asyncio.run(collect(graph.astream(INPUT, config, stream_mode="updates"))),
    "events": lambda graph, config: asyncio.run(count(graph.astream_events(INPUT, config, version="v2"))),
    "sequence": lambda graph, config: (graph | (lambda state: state)).invoke(INPUT, config),
}


async def collect(stream: Any) -> list[Any]:
    return [part async for part in stream]


async def count(stream: Any) -> list[str]:
    return [part["event"] async for part in stream]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_run(way, runtime):
    """However a graph is run, its object is known, nothing stays open, and the user sees what they saw before."""
    graph = builder("a", "b", node=aspeak if way.startswith("a") else speak).compile(name="g")
    config: Any = {"run_name": "req-1"}
    plain = WAYS[way](graph, config)
    install(runtime)
    assert WAYS[way](graph, config) == plain
    assert WAYS[way](graph, {**config, "callbacks": []}) == plain
    assert WAYS[way](graph, {**config, "callbacks": [BaseCallbackHandler()]}) == plain
    assert {event.workload for event in runtime.of(RunStarted)} == {"g"}
    assert runtime.agents() == ["a", "b"] * 3
    assert len(runtime.of(RunEnded)) == 3
    assert runtime.open_runs() == 0


@pytest.mark.filterwarnings("ignore:.*v3.*")
def test_events_of_version_3(runtime):
    """The newer event stream, where LangGraph has it, goes the same way."""
    graph = builder("a").compile(name="g")
    if not hasattr(Pregel, "_pregel_stream_v3"):
        pytest.skip("this LangGraph has no such stream")

    def outputs() -> list[Any]:
        async def drive() -> Any:
            return await (await graph.astream_events(INPUT, {"run_name": "req"}, version="v3")).output()

        return [graph.stream_events(INPUT, {"run_name": "req"}, version="v3").output, asyncio.run(drive())]

    plain = outputs()
    install(runtime)
    assert outputs() == plain
    assert [event.workload for event in runtime.of(RunStarted)] == ["g", "g"]


def test_nested_graphs_have_their_own_structure(installed, chat, server, call):
    """Graphs as nodes, called in nodes, and agents in tools are each known by object."""
    inner = two_chains()
    agent = create_agent(chat("inner"), [], name="helper")

    @tool
    def ask(q: str) -> str:
        """Ask."""
        return str(agent.invoke({"messages": q}, {"run_name": "req-7"})["messages"][-1].content)

    server.script("outer", call(("ask", {"q": "x"})))
    boss = create_agent(chat("outer"), [ask], name="boss")

    def caller(state: State) -> State:
        boss.invoke({"messages": "h"})
        return {"x": inner.invoke(INPUT, {"run_name": "req-8"})["x"]}

    graph = builder("first")
    graph.add_node("sub", inner)
    graph.add_node("call", caller)
    graph.add_edge("first", "sub")
    graph.add_edge("sub", "call")
    graph.compile(name="g").invoke(INPUT)
    edges = installed.edges()
    assert {("sub/a", "sub/b"), ("sub/p", "sub/q"), ("call/a", "call/b"), ("call/p", "call/q")} <= edges
    assert ("call/boss", "call/boss/helper") in edges
    assert not [agent for agent in installed.agents() if "req" in agent]
    assert {event.workload for event in installed.of(RunStarted)} == {"g"}
    assert [event.workload for event in installed.of(StructureDeclared)] == ["g"]


def test_a_graph_that_calls_itself(installed):
    """A graph that runs itself is known at each level, whatever the runs are called."""

    def node(state: State) -> State:
        return {"x": graph.invoke({"x": ["deep"]})["x"]} if not state["x"] else speak(state)

    graph = builder("model", node=node).compile(name="self")
    graph.invoke(INPUT, {"run_name": "req"})
    assert installed.agents() == ["self"]


def test_pauses_before_a_node(installed):
    """A pause declared by `interrupt_before` is seen, and its end."""
    graph = builder("a", "b").compile(checkpointer=InMemorySaver(), interrupt_before=["b"])
    config: Any = {"configurable": {"thread_id": "t"}}
    graph.invoke(INPUT, config)
    graph.invoke(None, config)
    assert [event.interrupted for event in installed.of(RunEnded)] == [True, False]


def test_functional_api(installed):
    """Entrypoints are graphs too."""

    @task
    def ask(_: str) -> str:
        return str(LLM.invoke("h").content)

    @entrypoint()
    def flow(text: str) -> str:
        return ask(text).result()

    assert flow.invoke("x") == "ok"
    assert installed.agents() == ["flow/ask"]
    assert installed.open_runs() == 0


class Order(BaseCallbackHandler):
    """Notes what it is told, and in which order among its like."""

    told: list[tuple[str, str, tuple[str, ...]]]

    def __init__(self, name: str, told: list[Any]) -> None:
        self.name = name
        self.told = told

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self.told.append((self.name, str(kwargs.get("name")), tuple(kwargs.get("tags") or ())))

    def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self.told.append((self.name, "end", ()))


def test_users_callbacks_are_told_the_same(runtime):
    """Callbacks of the call, of the graph and of a surrounding graph are told the same, in the same order."""

    def told() -> list[Any]:
        heard: list[Any] = []
        inner = builder("in").compile(name="inner")
        outer = builder("out", node=lambda state: inner.invoke({**state})).compile(name="outer")
        bound = outer.with_config(callbacks=[Order("bound", heard)], tags=["b"])
        bound.invoke(INPUT)
        outer.invoke(INPUT, {"callbacks": [Order("one", heard), Order("two", heard)], "tags": ["c"]})
        return heard

    plain = told()
    install(runtime)
    assert told() == plain
    assert runtime.agents() == ["out/in"] * 2


def test_generators_are_langgraphs_own(installed):
    """Streams are the generators LangGraph made: closing, leaving early and collecting them ends the run as ever."""
    graph = builder("a", "b").compile()
    stream = graph.stream(INPUT)
    assert inspect.isgenerator(stream)
    next(stream)
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)
    for _ in graph.stream(INPUT):
        break
    gone = weakref.ref(graph.stream(INPUT))
    gc.collect()
    assert gone() is None
    gc.collect()
    assert len(installed.of(RunStarted)) == len(installed.of(RunEnded)) == 2
    assert installed.open_runs() == 0

    async def leave() -> None:
        astream = builder("a", "b", node=aspeak).compile().astream(INPUT)
        assert inspect.isasyncgen(astream)
        await anext(astream)
        await astream.aclose()

    asyncio.run(leave())
    assert installed.open_runs() == 0


def test_exceptions_and_signatures(runtime):
    """Wrong arguments and failing nodes raise what they raised; signatures are as before."""

    def fail(_: State) -> State:
        raise KeyError("mine")

    graph = builder("a", node=fail).compile()
    before = inspect.signature(Pregel.stream), inspect.signature(Pregel.astream), Pregel.stream.__doc__
    install(runtime)
    assert (inspect.signature(Pregel.stream), inspect.signature(Pregel.astream), Pregel.stream.__doc__) == before
    with pytest.raises(KeyError, match="mine"):
        graph.invoke(INPUT)
    with pytest.raises(TypeError, match="input"):
        graph.stream()
    assert [event.failed for event in runtime.of(RunEnded)] == [True]


def test_a_callers_config_is_not_changed(installed):
    """The configuration the user passes in stays as it was, its callbacks too."""
    mine = [BaseCallbackHandler()]
    config: Any = {"callbacks": mine, "tags": ["t"], "metadata": {"k": "v"}}
    before = copy.copy(config)
    builder("a").compile().invoke(INPUT, config)
    assert config == before
    assert len(mine) == 1


def test_uninstall_and_again(runtime):
    """`uninstall` puts LangGraph's methods back, and installing again works; twice is once."""
    methods = Pregel.stream, Pregel.astream
    graph = builder("a").compile(name="g")
    for _ in range(2):
        install(runtime)
        install(runtime)
        assert Pregel.stream is not methods[0]
        graph.invoke(INPUT)
        uninstall()
        uninstall()
        assert (Pregel.stream, Pregel.astream) == methods
        graph.invoke(INPUT)
    assert [event.workload for event in runtime.of(RunStarted)] == ["g", "g"]


def test_somebody_elses_wrapper_stays(runtime, monkeypatch):
    """A wrapper that another library put over ours stays, ours under it sleeps, and wakes without being doubled."""
    original = Pregel.stream
    install(runtime)
    ours = Pregel.stream
    calls = []

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return ours(self, *args, **kwargs)

    theirs.__wrapped__ = ours
    Pregel.stream = theirs
    try:
        uninstall()
        assert Pregel.stream is theirs
        builder("a").compile().invoke(INPUT)
        assert runtime.of(RunStarted) == []
        install(runtime)
        assert Pregel.stream is theirs
        builder("a").compile(name="g").invoke(INPUT, {"run_name": "req"})
        assert [event.workload for event in runtime.of(RunStarted)] == ["g"]
        assert len(calls) == 2
    finally:
        Pregel.stream = ours
        uninstall()
    assert Pregel.stream is original


def test_two_runtimes(runtime, new_runtime):
    """Two installed runtimes both observe, each with structure."""
    other = new_runtime("")
    install(runtime)
    install(other)
    two_chains().invoke(INPUT)
    assert runtime.edges() == other.edges() == {("START", "a"), ("START", "p"), ("a", "b"), ("p", "q")}
    assert len(other.of(StructureDeclared)) == 1
    assert other.faults == []


def test_instrumented_graphs_keep_their_name(installed):
    """What a user said with `instrument` stands, also where everything is installed; the handler counts once."""
    graph = instrument(builder("a").compile(name="g"), installed, workload="mine")
    graph.invoke(INPUT, {"callbacks": [AgentRTCallbackHandler(installed)]})
    assert [event.workload for event in installed.of(RunStarted)] == ["mine"]
    assert len(installed.of(CallStarted)) == 1


def test_threads_may_run_and_install_at_once(runtime):
    """Installing and running from many threads observes each run once."""
    graph = builder("a").compile(name="g")

    def work(_: int) -> None:
        install(runtime)
        graph.invoke(INPUT)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(32)))
    assert len(runtime.of(RunStarted)) == 32
    assert len(runtime.of(StructureDeclared)) == 1


def test_copies_of_a_graph_are_read_once(installed):
    """A graph configured anew for each request is read once; compiled again after a change, it is read again."""
    source = builder("a")
    graph = source.compile(name="g")
    for number in range(5):
        graph.with_config(run_name=f"req-{number}", metadata={"n": number}).invoke(INPUT)
    assert len(installed.of(StructureDeclared)) == 1
    source.add_node("b", speak)
    source.add_edge("a", "b")
    source.compile(name="g").invoke(INPUT)
    assert len(installed.of(StructureDeclared)) == 2


def test_what_is_known_of_graphs_is_bounded(installed, monkeypatch):
    """A graph that is gone is forgotten, and variants of one graph are bounded."""
    monkeypatch.setattr(bindings, "MAX_VARIANTS", 3)
    source = builder("a")
    for number in range(5):
        source.compile(name=f"g{number}").invoke(INPUT)
    known = tracker_of(installed).bindings
    assert [len(variants) for variants in known.values()] == [3]
    del source
    gc.collect()
    assert len(known) == 0


def test_a_fault_of_ours_changes_nothing(new_runtime, monkeypatch):
    """When reading a graph, or telling of it, fails, the run goes on without, and the fault is told."""
    runtime = new_runtime("")
    install(runtime)
    graph = builder("a").compile()

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(pregel, "bind", fail)
    assert graph.invoke(INPUT) == {"x": ["ok"]}
    monkeypatch.undo()
    monkeypatch.setattr(tracker_of(runtime), "graph_started", fail)
    monkeypatch.setattr(tracker_of(runtime), "interrupted", fail)
    assert graph.invoke(INPUT) == {"x": ["ok"]}
    assert runtime.agents() == ["a", "a"]
    assert [where for where, _ in runtime.faults][:2] == ["pregel", "on_chain_start"]


def test_names_of_runs_are_bounded(runtime, monkeypatch, caplog):
    """Under the bare handler a `run_name` may differ with each request: beyond a bound they count as unnamed."""
    monkeypatch.setattr(turns, "MAX_ROOT_NAMES", 2)
    graph = builder("model").compile()
    handler = AgentRTCallbackHandler(runtime)
    for name in ("req-1", "req-2", "req-3", "req-4", "req-1"):
        graph.invoke(INPUT, {"callbacks": [handler], "run_name": name})
    assert [event.workload for event in runtime.of(RunStarted)] == ["req-1", "req-2", "default", "default", "req-1"]
    assert runtime.agents() == ["req-1", "req-2", "model", "model", "req-1"]
    assert len([record for record in caplog.records if "req-3" in record.message]) == 1
