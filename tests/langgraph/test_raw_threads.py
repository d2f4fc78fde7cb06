"""Raw threads inside nodes: nobody's, unless the user asks that they belong to their run."""

import asyncio
import concurrent.futures
import gc
import operator
import threading
import weakref
from typing import Annotated, Any, TypedDict

import pytest
from agentrt_langgraph import install, instrument, propagate_threads, uninstall
from langchain_core.language_models import FakeListChatModel
from langgraph.graph import START, StateGraph

import agentrt


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


INPUT: State = {"x": []}
LLM = FakeListChatModel(responses=["ok"])


def run(node: Any, runtime: Any) -> Any:
    """A graph of one node `a`, observed."""
    graph = StateGraph(State)
    graph.add_node("a", node)
    graph.add_edge(START, "a")
    observed = instrument(graph.compile(), runtime)
    return asyncio.run(observed.ainvoke(INPUT)) if asyncio.iscoroutinefunction(node) else observed.invoke(INPUT)


@pytest.fixture
def propagating(runtime):
    """The runtime, with threads belonging to their runs."""
    propagate_threads()
    return runtime


def in_pool(_: State) -> State:
    with concurrent.futures.ThreadPoolExecutor(2) as pool, agentrt.agent("pool"):
        list(pool.map(LLM.invoke, ["1", "2"]))
        pool.submit(LLM.invoke, input="3").result()
    return {}


def in_thread(_: State) -> State:
    with agentrt.agent("pool"):
        threads = [threading.Thread(target=LLM.invoke, args=("h",)) for _ in range(2)]
        threads.append(threading.Timer(0, LLM.invoke, ["h"]))
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    return {}


async def in_executor(_: State) -> State:
    loop = asyncio.get_running_loop()
    with concurrent.futures.ThreadPoolExecutor(1) as pool, agentrt.agent("pool"):
        await asyncio.gather(*(loop.run_in_executor(executor, LLM.invoke, "h") for executor in (None, pool, None)))
    return {}


NODES = [in_pool, in_thread, in_executor]


@pytest.mark.parametrize("node", NODES)
def test_nobodys_unless_asked(node, runtime):
    """Without asking, calls in raw threads belong to nobody."""
    run(node, runtime)
    assert runtime.agents() == []


@pytest.mark.parametrize("node", NODES)
def test_threads_belong_to_their_run(node, propagating):
    """Pools, threads, timers and `run_in_executor` carry the run's context, scopes included."""
    run(node, propagating)
    assert propagating.agents() == ["a/pool"] * 3
    assert propagating.open_runs() == 0


def test_install_can_ask(runtime):
    """`install(propagate_threads=True)` asks too, and `uninstall` takes it back."""
    before = concurrent.futures.ThreadPoolExecutor.submit, threading.Thread.start
    install(runtime, propagate_threads=True)
    assert concurrent.futures.ThreadPoolExecutor.submit is not before[0]
    run(in_pool, runtime)
    assert runtime.agents() == ["a/pool"] * 3
    uninstall()
    assert (concurrent.futures.ThreadPoolExecutor.submit, threading.Thread.start) == before


def test_a_pool_outlives_its_run(propagating):
    """A worker started by one run serves others as its own: late jobs and later runs are not the first run's."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    go_on, done = threading.Event(), []

    def late() -> None:
        go_on.wait(10)
        LLM.invoke("late")
        done.append(agentrt.current())

    def node(_: State) -> State:
        pool.submit(lambda: None).result()  # starts the worker
        done.append(pool.submit(late))
        return {}

    run(node, propagating)
    go_on.set()
    done.pop(0).result(10)
    pool.submit(LLM.invoke, "outside").result(10)
    assert propagating.agents() == []
    run(lambda _: pool.submit(LLM.invoke, "h").result(10) and {}, propagating)
    assert propagating.agents() == ["a"]
    pool.shutdown()
    assert done == [None]
    assert propagating.open_runs() == 0


def test_results_and_exceptions(propagating):
    """Results, exceptions, keywords and errors of use are those of the originals."""
    told: list[Any] = []

    def fail(*, why: str) -> None:
        raise KeyError(why)

    def node(_: State) -> State:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            told.append(pool.submit(pow, 2, 3).result())
            told.append(repr(pool.submit(fail, why="mine").exception()))
            with pytest.raises(TypeError, match="argument"):
                pool.submit()
        with pytest.raises(RuntimeError, match="shutdown"):
            pool.submit(pow, 2, 3)
        thread = threading.Thread(target=told.append, args=("ran",))
        thread.start()
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
        thread.join()
        return {}

    run(node, propagating)
    assert told == [8, "KeyError('mine')", "ran"]


def test_outside_runs_nothing_changes(propagating):
    """Outside observed runs a thread has the context it always had, and so has one in a graph nobody observes."""
    seen = []

    def look() -> None:
        seen.append(agentrt.ambient.scope())

    def node(_: State) -> State:
        with agentrt.agent("a"):
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                pool.submit(look).result()
        return {}

    node(INPUT)
    graph = StateGraph(State)
    graph.add_node("a", node)
    graph.add_edge(START, "a")
    graph.compile().invoke(INPUT)
    assert seen == [None] * 4


def test_threads_are_freed(propagating):
    """A thread started in a run holds neither itself nor the run, and one with a `run` of its own keeps it."""
    kept = []
    ran = []

    class Own(threading.Thread):
        pass

    def node(_: State) -> State:
        thread = Own(target=lambda: None)
        own = Own()
        own.run = lambda: ran.append(agentrt.current())
        for each in (thread, own):
            each.start()
            each.join()
        assert "run" not in vars(thread)
        assert "run" in vars(own)
        kept.append(weakref.ref(thread))
        return {}

    gc.disable()
    try:
        run(node, propagating)
        assert kept[0]() is None
    finally:
        gc.enable()
    assert ran[0].identity.agent == "a"


def test_asked_twice(runtime):
    """Asking twice is asking once."""
    before = threading.Thread.start
    propagate_threads()
    ours = threading.Thread.start
    propagate_threads()
    assert threading.Thread.start is ours
    uninstall()
    assert threading.Thread.start is before
