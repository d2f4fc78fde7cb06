"""Runs, calls and tools from beginning to end: normal, failed, interrupted, abandoned, retried."""

import asyncio
import gc
import operator
from typing import Annotated, Any, TypedDict

import openai
import pytest
from agentrt_langgraph import instrument
from agentrt_langgraph.records import MAX_SUPERSTEPS, GraphRun, Run, Task
from agentrt_langgraph.runs import MAX_TREES
from agentrt_langgraph.trackers import tracker_of
from agentrt_langgraph.turns import MAX_SESSIONS
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt

from agentrt.events import BranchAbandoned, CallEnded, CallStarted, RunEnded, RunStarted, ToolEnded, ToolStarted


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


LLM = FakeListChatModel(responses=["a long answer"])
INPUT: State = {"x": []}


def graph_of(**nodes: Any) -> Any:
    """Nodes in a line."""
    graph = StateGraph(State)
    before = START
    for name, node in nodes.items():
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    return graph


def speak(_: State) -> State:
    LLM.invoke("h")
    return {"x": ["1"]}


def ends(runtime: Any) -> list[tuple[bool, bool, bool]]:
    return [(event.failed, event.interrupted, event.resumable) for event in runtime.of(RunEnded)]


def test_a_run_begins_and_ends_once(runtime):
    """One `RunStarted` before everything else of the session, one `RunEnded` after."""
    instrument(graph_of(a=speak, b=speak).compile(), runtime).invoke(INPUT)
    kinds = [type(event).__name__ for event in runtime.events[1:]]
    assert kinds == [
        "RunStarted",
        *["Dispatched", "CallStarted", "CallEnded"] * 2,
        "RunEnded",
    ]
    assert ends(runtime) == [(False, False, False)]


def test_a_checkpointer_makes_the_session_resumable(runtime):
    """A graph compiled with a checkpointer can continue its session later."""
    graph = instrument(graph_of(a=speak).compile(checkpointer=InMemorySaver()), runtime)
    graph.invoke(INPUT, {"configurable": {"thread_id": "t"}})
    assert runtime.of(RunStarted)[0].resumable
    assert ends(runtime) == [(False, False, True)]


def test_graphs_built_for_every_request(runtime):
    """What is known of a session outlives the graph that served it."""
    saver = InMemorySaver()
    for _ in range(3):
        graph = instrument(graph_of(a=speak).compile(checkpointer=saver), runtime)
        graph.invoke(INPUT, {"configurable": {"thread_id": "t"}})
        del graph
        gc.collect()
    assert [event.identity.step for event in runtime.of(CallStarted)] == [0, 1, 2]


def test_threads_of_an_agent_do_not_mix(runtime):
    """An agent that binds metadata of its own, as `create_agent` does, tells each run's own thread."""
    agent = instrument(create_agent(LLM, [], name="boss"), runtime)
    for thread in ("t1", "t2", "t3"):
        agent.invoke({"messages": "h"}, {"configurable": {"thread_id": thread}})
    assert [event.session.session for event in runtime.of(CallStarted)] == ["t1", "t2", "t3"]


def test_a_failed_run(runtime):
    """An exception in a node ends the run as failed, and reaches the caller unchanged."""
    error = RuntimeError("the user's own")

    def fail(_: State) -> State:
        LLM.invoke("h")
        raise error

    with pytest.raises(RuntimeError) as caught:
        instrument(graph_of(a=fail).compile(), runtime).invoke(INPUT)
    assert caught.value is error
    assert ends(runtime) == [(True, False, False)]
    assert runtime.of(BranchAbandoned) == []
    assert runtime.open_runs() == 0


def test_an_interrupt_is_no_failure(runtime):
    """`interrupt()` ends the run as interrupted; the resumed run ends normally."""

    def ask(_: State) -> State:
        LLM.invoke("h")
        return {"x": [interrupt("?")]}

    graph = instrument(graph_of(a=speak, ask=ask).compile(checkpointer=InMemorySaver()), runtime)
    config = {"configurable": {"thread_id": "t"}}
    graph.invoke(INPUT, config)
    graph.invoke(Command(resume="yes"), config)
    assert ends(runtime) == [(False, True, True), (False, False, True)]


def test_a_declared_interrupt(runtime):
    """`interrupt_before` ends the run as interrupted too."""
    graph = graph_of(a=speak, b=speak).compile(checkpointer=InMemorySaver(), interrupt_before=["b"])
    instrument(graph, runtime).invoke(INPUT, {"configurable": {"thread_id": "t"}})
    assert ends(runtime) == [(False, True, True)]


def test_an_interrupt_inside_a_subgraph(runtime):
    """An interrupt deep inside interrupts the whole run."""

    def ask(_: State) -> State:
        return {"x": [interrupt("?")]}

    outer = graph_of(team=graph_of(ask=ask).compile()).compile(checkpointer=InMemorySaver())
    instrument(outer, runtime).invoke(INPUT, {"configurable": {"thread_id": "t"}})
    assert ends(runtime) == [(False, True, True)]
    assert runtime.open_runs() == 0


def test_a_retry_abandons_the_attempt(runtime):
    """Each failed attempt that is retried is given up by name."""
    attempts = []

    def flaky(_: State) -> State:
        LLM.invoke("h")
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("again")
        return {}

    graph = StateGraph(State)
    policy = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=3, retry_on=ValueError)
    graph.add_node("flaky", flaky, retry_policy=policy)
    graph.add_edge(START, "flaky")
    instrument(graph.compile(), runtime).invoke(INPUT)
    invocation = runtime.of(CallStarted)[0].identity.invocation
    assert [event.invocations for event in runtime.of(BranchAbandoned)] == [(invocation,)] * 2
    assert ends(runtime) == [(False, False, False)]


def test_a_failed_subgraph_in_a_run_that_goes_on(runtime):
    """A sub-graph that fails inside a node that copes is given up, with all its invocations."""

    def fail(_: State) -> State:
        LLM.invoke("h")
        raise ValueError("inside")

    inner = graph_of(a=speak, fail=fail).compile()

    def cope(state: State) -> State:
        with pytest.raises(ValueError, match="inside"):
            inner.invoke(state)
        LLM.invoke("h")
        return {}

    instrument(graph_of(cope=cope, after=speak).compile(), runtime).invoke(INPUT)
    calls = {event.identity.agent: event.identity.invocation for event in runtime.of(CallStarted)}
    (abandoned,) = runtime.of(BranchAbandoned)
    assert set(abandoned.invocations) == {calls["cope/a"], calls["cope/fail"]}
    assert ends(runtime) == [(False, False, False)]


def test_a_cancelled_branch(runtime):
    """A sub-graph cancelled by its node is given up; the run goes on."""
    entered = asyncio.Event()

    async def hang(_: State) -> State:
        await LLM.ainvoke("h")
        entered.set()
        await asyncio.Event().wait()
        return {}

    inner = graph_of(hang=hang).compile()

    async def race(state: State) -> State:
        branch = asyncio.create_task(inner.ainvoke(state))
        await entered.wait()
        branch.cancel()
        await asyncio.gather(branch, return_exceptions=True)
        return {}

    async def main() -> None:
        async def after(_: State) -> State:
            await LLM.ainvoke("h")
            return {}

        await instrument(graph_of(race=race, after=after).compile(), runtime).ainvoke(INPUT)

    asyncio.run(main())
    hung = next(e.identity.invocation for e in runtime.of(CallStarted) if e.identity.agent == "race/hang")
    assert [event.invocations for event in runtime.of(BranchAbandoned)] == [(hung,)]
    assert ends(runtime) == [(False, False, False)]
    assert runtime.open_runs() == 0


def test_token_counts(runtime, chat):
    """Token counts are those the server reported, streamed or not."""

    def node(_: State) -> State:
        chat().invoke("h")
        list(chat(stream_usage=True).stream("h"))
        return {}

    instrument(graph_of(a=node).compile(), runtime).invoke(INPUT)
    counts = [(e.prompt_tokens, e.cached_tokens, e.output_tokens) for e in runtime.of(CallEnded)]
    assert counts == [(11, 8, 2)] * 2


def test_a_refused_call(runtime, chat, server, reply):
    """A call that the server refuses ends as failed; the user gets the SDK's own error."""
    server.script("m", reply(status=500))
    graph = instrument(graph_of(a=lambda _: {"x": [chat().invoke("h").content]}).compile(), runtime)
    with pytest.raises(openai.InternalServerError):
        graph.invoke(INPUT)
    assert [event.failed for event in runtime.of(CallEnded)] == [True]
    assert runtime.open_runs() == 0


def test_tools(runtime, chat, server, call):
    """A tool is told from start to end, with its duration, and as failed when it raises."""

    @tool
    def good() -> str:
        """Works."""
        return "fine"

    @tool
    def bad() -> str:
        """Does not work."""
        raise ValueError("no")

    server.script("m", call(("good", {})), call(("bad", {})))
    agent = instrument(create_agent(chat(), [good, bad], name="calc"), runtime)
    with pytest.raises(ValueError, match="no"):
        agent.invoke({"messages": [{"role": "user", "content": "hi"}]})
    assert [(e.tool, e.failed) for e in runtime.of(ToolEnded)] == [("good", False), ("bad", True)]
    assert all(event.duration_s >= 0 for event in runtime.of(ToolEnded))
    started = [event.tool_run_id for event in runtime.of(ToolStarted)]
    assert started == [event.tool_run_id for event in runtime.of(ToolEnded)]


def test_a_left_stream_leaves_nothing(runtime, chat):
    """A model's stream that a node leaves half-read is an ended call."""

    def node(_: State) -> State:
        next(iter(chat().stream("h")))
        return {}

    instrument(graph_of(a=node, b=speak).compile(), runtime).invoke(INPUT)
    assert len(runtime.of(CallEnded)) == len(runtime.of(CallStarted)) == 2
    assert runtime.open_runs() == 0


def test_a_left_graph_stream(runtime):
    """A graph's stream that the caller leaves ends the run as failed, and leaves nothing."""
    graph = instrument(graph_of(a=speak, b=speak).compile(), runtime)
    stream = graph.stream(INPUT, stream_mode="updates")
    next(stream)
    stream.close()
    assert ends(runtime) == [(True, False, False)]
    assert runtime.open_runs() == 0


def test_a_left_async_graph_stream(runtime):
    """An async stream left behind leaves at most a few records, and later runs are told apart from it."""

    async def node(_: State) -> State:
        await LLM.ainvoke("h")
        return {}

    async def main() -> None:
        graph = instrument(graph_of(a=node, b=node).compile(), runtime)
        async for _ in graph.astream(INPUT, stream_mode="updates"):
            break
        await graph.ainvoke(INPUT, {"configurable": {"thread_id": "t"}})

    asyncio.run(main())
    gc.collect()
    assert runtime.open_runs() <= 4
    mine = [event.identity.agent for event in runtime.of(CallStarted) if event.session.session == "t"]
    assert mine == ["a", "b"]


def test_runs_that_never_end_make_room(runtime):
    """Outermost runs without an end are bounded; the oldest is ended for the user who forgot it."""
    tracker = tracker_of(runtime)
    ns = {"langgraph_checkpoint_ns": "a:1", "langgraph_step": 1}
    for number in range(MAX_TREES + 10):
        tracker.chain_started(f"run-{number}", None, "LangGraph", {"thread_id": str(number)})
        tracker.chain_started(f"task-{number}", f"run-{number}", "a", ns)
        tracker.call_started(f"call-{number}", f"task-{number}", ns)
    assert runtime.open_runs() == 3 * MAX_TREES
    assert [event.session.session for event in runtime.of(RunEnded)] == [str(number) for number in range(10)]
    assert [event.failed for event in runtime.of(CallEnded)] == [True] * 10


def test_many_runs_leave_nothing_behind(runtime):
    """A hundred thousand runs of unnamed and named sessions leave a bounded memory of the named ones."""
    runtime.events = _Nowhere()
    tracker = tracker_of(runtime)
    ns = {"langgraph_checkpoint_ns": "a:1", "langgraph_step": 1}
    for number in range(100_000):
        root = {"thread_id": str(number)} if number % 2 else None
        tracker.chain_started(("run", number), None, "LangGraph", root)
        tracker.chain_started(("task", number), ("run", number), "a", ns)
        tracker.call_started(("call", number), ("task", number), ns)
        tracker.call_ended(("call", number))
        tracker.chain_ended(("task", number), {})
        tracker.chain_ended(("run", number), {})
    assert runtime.open_runs() == 0
    assert len(tracker.sessions) == MAX_SESSIONS


class _Nowhere(list[Any]):
    def append(self, item: Any) -> None:
        pass


def test_many_real_runs_need_no_garbage_collector(runtime):
    """Closed runs are freed by reference counting alone: nothing of ours is in a cycle."""
    graph = instrument(graph_of(a=speak, b=speak).compile(), runtime)
    graph.invoke(INPUT)
    runtime.events.clear()
    gc.collect()
    of_others = _records()  # held by tracebacks of tests that went before
    gc.disable()
    try:
        for _ in range(20):
            graph.invoke(INPUT)
        left = _records() - of_others
    finally:
        gc.enable()
    assert left == 0


def _records() -> int:
    return sum(isinstance(item, (Run, GraphRun)) for item in gc.get_objects())


def test_long_loops_are_bounded(runtime):
    """A graph of thousands of supersteps remembers only the last few hundred."""
    tracker = tracker_of(runtime)
    tracker.chain_started("run", None, "LangGraph", {})
    for step in range(3000):
        name = f"n{step % 3}"
        metadata = {"langgraph_checkpoint_ns": f"{name}:{step}", "langgraph_step": step}
        tracker.chain_started(("task", step), "run", name, metadata)
        tracker.call_started(("call", step), ("task", step), metadata)
        tracker.call_ended(("call", step))
        tracker.chain_ended(("task", step), {})
    gc.collect()
    assert sum(isinstance(item, Task) for item in gc.get_objects()) <= MAX_SUPERSTEPS + 2
    tracker.chain_ended("run", {})
