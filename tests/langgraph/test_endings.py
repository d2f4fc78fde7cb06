"""However a run ends, it is told to have ended exactly once, with its calls and tools, and nothing of it stays."""

import asyncio
import gc
import operator
from typing import Annotated, Any, TypedDict

import pytest
from agentrt_langgraph import instrument
from agentrt_langgraph.trackers import tracker_of
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from agentrt.events import BranchAbandoned, CallEnded, CallStarted, RunEnded, RunStarted, ToolEnded, ToolStarted


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


LLM = FakeListChatModel(responses=["a long answer"])
INPUT: State = {"x": []}
THREAD = {"configurable": {"thread_id": "t"}}


class Stop(BaseException):
    """As KeyboardInterrupt: no `except Exception` stops it."""


def speak(_: State) -> State:
    LLM.invoke("h")
    return {"x": ["1"]}


async def aspeak(_: State) -> State:
    await LLM.ainvoke("h")
    return {"x": ["1"]}


async def hang(_: State) -> State:
    await LLM.ainvoke("h")
    await asyncio.Event().wait()
    return {}


def line(*nodes: Any, checkpointer: Any = None, **options: Any) -> Any:
    graph = StateGraph(State)
    before = START
    for number, node in enumerate(nodes):
        graph.add_node(f"n{number}", node)
        graph.add_edge(before, f"n{number}")
        before = f"n{number}"
    return graph.compile(checkpointer=checkpointer, **options)


def endings(runtime: Any) -> list[str]:
    """How runs ended; whatever began must have ended."""
    gc.collect()
    assert runtime.open_runs() == 0
    assert sorted(e.session for e in runtime.of(RunStarted)) == sorted(e.session for e in runtime.of(RunEnded))
    assert {e.call_id for e in runtime.of(CallStarted)} == {e.call_id for e in runtime.of(CallEnded)}
    assert len(runtime.of(CallStarted)) == len(runtime.of(CallEnded))
    assert [e.tool_run_id for e in runtime.of(ToolStarted)] == [e.tool_run_id for e in runtime.of(ToolEnded)]
    return ["failed" if e.failed else "interrupted" if e.interrupted else "done" for e in runtime.of(RunEnded)]


@pytest.fixture(params=["flat", "nested"])
def build(request, runtime):
    """Builds an observed graph of these nodes, as it is, or inside another two deep."""

    def of(*nodes: Any, **options: Any) -> Any:
        if request.param == "flat":
            return instrument(line(*nodes, **options), runtime)
        return instrument(line(line(line(*nodes)), **options), runtime)

    return of


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, Stop, GeneratorExit])
def test_whatever_a_node_raises(build, runtime, error):
    """A node's exception, of any kind, ends its run as failed and reaches the caller."""

    def fail(_: State) -> State:
        LLM.invoke("h")
        raise error

    with pytest.raises(error):
        build(speak, fail).invoke(INPUT)
    assert endings(runtime) == ["failed"]


@pytest.mark.parametrize("error", [ValueError, Stop, asyncio.CancelledError])
def test_whatever_an_async_node_raises(build, runtime, error):
    """The same in async nodes."""

    async def fail(_: State) -> State:
        await LLM.ainvoke("h")
        raise error

    # LangGraph may say that a node was cancelled by an exception of its own.
    with pytest.raises((error, Exception) if error is asyncio.CancelledError else error):
        asyncio.run(build(aspeak, fail).ainvoke(INPUT))
    assert endings(runtime) == ["failed"]


def test_a_timeout(build, runtime):
    """A run that a timeout cancels has failed."""

    async def main() -> None:
        async with asyncio.timeout(0.05):
            await build(aspeak, hang).ainvoke(INPUT)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert endings(runtime) == ["failed"]


def test_a_loop_that_closes(build, runtime):
    """A run whose event loop goes away under it has failed."""
    hanging = asyncio.Event()

    async def hang_soon(_: State) -> State:
        await LLM.ainvoke("h")
        hanging.set()
        await asyncio.Event().wait()
        return {}

    graph = build(aspeak, hang_soon)

    async def main() -> None:
        began = asyncio.create_task(graph.ainvoke(INPUT))
        await hanging.wait()
        assert not began.done()

    asyncio.run(main())
    assert endings(runtime) == ["failed"]


def test_a_step_timeout(build, runtime):
    """LangGraph's own time limit for a superstep ends the run as failed."""
    graph = build(aspeak, hang)
    graph.step_timeout = 0.05
    with pytest.raises(TimeoutError):
        asyncio.run(graph.ainvoke(INPUT))
    assert endings(runtime) == ["failed"]


@pytest.mark.parametrize("closing", ["close", "forget"])
def test_a_left_stream(build, runtime, closing):
    """A stream left half-read ends its run as failed, when it is closed or collected."""
    stream = build(speak, speak, speak).stream(INPUT, stream_mode="updates", subgraphs=True)
    next(stream)
    if closing == "close":
        stream.close()
    del stream
    assert endings(runtime) == ["failed"]


@pytest.mark.parametrize("closing", ["close", "forget"])
@pytest.mark.parametrize("kind", ["astream", "astream_events"])
def test_a_left_async_stream(build, runtime, kind, closing):
    """The same for async streams and event streams: the loop closes what its user forgot."""
    graph = build(aspeak, aspeak, aspeak)

    async def main() -> None:
        options = {"version": "v2"} if kind == "astream_events" else {"stream_mode": "updates", "subgraphs": True}
        stream = getattr(graph, kind)(INPUT, **options)
        async for event in stream:
            if kind == "astream" or event["event"] == "on_chat_model_end":
                break
        if closing == "close":
            await stream.aclose()

    asyncio.run(main())
    assert endings(runtime) == ["failed"]


def test_parallel_interrupts(runtime):
    """Two pauses at once are one interrupted run; answering one pauses again, answering both ends it."""

    def ask(name: str) -> Any:
        def node(_: State) -> State:
            LLM.invoke("h")
            return {"x": [interrupt(name)]}

        return node

    graph = StateGraph(State)
    for name in ("a", "b"):
        graph.add_node(name, ask(name))
        graph.add_edge(START, name)
    observed = instrument(graph.compile(checkpointer=InMemorySaver()), runtime)
    paused = observed.invoke(INPUT, THREAD)["__interrupt__"]
    answers = {pause.id: "yes" for pause in paused}
    observed.invoke(Command(resume=dict(list(answers.items())[:1])), THREAD)
    observed.invoke(Command(resume=answers), THREAD)
    assert endings(runtime) == ["interrupted", "interrupted", "done"]
    assert runtime.of(BranchAbandoned) == []


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_interrupt_inside_a_tool(runtime, chat, server, call, mode):
    """A tool that asks pauses the run, and is told to have ended each time; nothing is given up."""

    @tool
    def risky() -> str:
        """Ask first."""
        return str(interrupt("sure?"))

    server.script("m", call(("risky", {})))
    graph = instrument(create_agent(chat(), [risky], name="solo", checkpointer=InMemorySaver()), runtime)
    for given in ({"messages": [{"role": "user", "content": "hi"}]}, Command(resume="yes")):
        asyncio.run(graph.ainvoke(given, THREAD)) if mode == "async" else graph.invoke(given, THREAD)
    assert endings(runtime) == ["interrupted", "done"]
    assert runtime.agents() == ["solo", "solo"]
    assert runtime.of(BranchAbandoned) == []
    assert not any(event.failed for event in runtime.of(ToolEnded)[1:])


def test_declared_pauses(runtime):
    """`interrupt_before` and `interrupt_after` pause a run; where LangGraph does not tell, it has simply ended."""
    graph = instrument(line(speak, speak, speak, checkpointer=InMemorySaver(), interrupt_after=["n0"]), runtime)
    graph.invoke(INPUT, THREAD)
    graph.invoke(None, THREAD, interrupt_before=["n2"])
    graph.invoke(None, THREAD)
    assert endings(runtime) in (["interrupted", "interrupted", "done"], ["done"] * 3)


def test_thousands_of_left_async_streams(runtime):
    """Streams left by the thousand leave nothing: each ends once, at the latest when a run begins in another loop."""
    count = 2000
    graph = instrument(line(*[RunnableLambda(speak, aspeak)] * 2), runtime)

    async def leave() -> None:
        async for _ in graph.astream(INPUT, stream_mode="updates"):
            break

    async def main() -> None:
        for _ in range(count // 50):
            await asyncio.gather(*(leave() for _ in range(50)))

    asyncio.run(main())
    gc.collect()
    graph.invoke(INPUT)
    assert sorted(endings(runtime)) == ["done", *["failed"] * count]


def test_a_run_whose_loop_is_gone(runtime):
    """A run that nobody can end any more, because its event loop is closed, ends when the next one begins."""
    tracker = tracker_of(runtime)

    async def begin(name: str) -> None:
        tracker.chain_started(name, None, "LangGraph", {"thread_id": name})
        tracker.chain_started(f"task-{name}", name, "a", {"langgraph_checkpoint_ns": "a:1", "langgraph_step": 1})

    async def main() -> None:
        await begin("second")
        await begin("third")
        assert [event.session.session for event in runtime.of(RunEnded)] == ["first"]

    asyncio.run(begin("first"))
    asyncio.run(main())
    tracker.chain_started("last", None, "LangGraph", {})
    tracker.chain_ended("last", {})
    assert [event.session.session for event in runtime.of(RunEnded)] == ["first", "second", "third"]
    assert runtime.open_runs() == 0
