"""The functional API: entrypoints and tasks, sync and async."""

import asyncio
from collections.abc import Callable
from typing import Any, TypedDict

import pytest
from agentrt_langgraph import instrument
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt

from agentrt.events import BranchAbandoned, CallEnded, CallStarted, Dispatched, RunEnded, RunStarted
from agentrt.identity import START as ENTRY

LLM = FakeListChatModel(responses=["ok"])
THREAD = {"configurable": {"thread_id": "t"}}


@pytest.fixture(params=["sync", "async"])
def mode(request):
    return request.param


@pytest.fixture
def speaker(mode) -> Callable[..., Any]:
    """Makes tasks that call a model once."""

    def make(name: str, fail: Callable[[], None] = lambda: None, **options: Any) -> Any:
        def say(x: Any) -> str:
            answer = LLM.invoke(str(x))
            fail()
            return str(answer.content)

        async def asay(x: Any) -> str:
            answer = await LLM.ainvoke(str(x))
            fail()
            return str(answer.content)

        return task(name=name, **options)(asay if mode == "async" else say)

    return make


@pytest.fixture
def run(mode, runtime):
    """Runs an entrypoint once more, and checks that what began has ended."""
    kept = []  # what is remembered of a session lives as long as a graph that is observed

    def go(flow: Any, given: Any = 1, config: Any = None) -> Any:
        kept.append(instrument(flow, runtime))
        asyncio.run(kept[-1].ainvoke(given, config)) if mode == "async" else kept[-1].invoke(given, config)
        assert runtime.open_runs() == 0
        assert len(runtime.of(RunStarted)) == len(runtime.of(RunEnded))
        assert len(runtime.of(CallStarted)) == len(runtime.of(CallEnded))
        return runtime

    return go


def edges(runtime: Any) -> list[tuple[str, str]]:
    return sorted((event.dispatch.source, event.dispatch.target) for event in runtime.of(Dispatched))


def visits(runtime: Any) -> list[str]:
    return [event.identity.invocation for event in runtime.of(CallStarted)]


def test_tasks_in_parallel(run, mode, speaker):
    """Tasks are agents below their entrypoint; those started together are visits of their own."""
    one = speaker("one")

    if mode == "async":

        @entrypoint()
        async def flow(x: int) -> list[str]:
            return list(await asyncio.gather(*(one(i) for i in range(3))))
    else:

        @entrypoint()
        def flow(x: int) -> list[str]:
            return [future.result() for future in [one(i) for i in range(3)]]

    seen = run(flow)
    assert seen.agents() == ["flow/one"] * 3
    assert edges(seen) == [(ENTRY, "flow"), *[("flow", "flow/one")] * 3]
    assert len(set(visits(seen))) == 3


def test_tasks_one_after_the_other(run, mode, speaker):
    """The entrypoint calls each task: between them its own code decides."""
    draft, check = speaker("draft"), speaker("check")

    if mode == "async":

        @entrypoint()
        async def flow(x: int) -> Any:
            return await check(await draft(x))
    else:

        @entrypoint()
        def flow(x: int) -> Any:
            return check(draft(x).result()).result()

    seen = run(flow)
    assert seen.agents() == ["flow/draft", "flow/check"]
    assert edges(seen) == [(ENTRY, "flow"), ("flow", "flow/check"), ("flow", "flow/draft")]


def test_a_task_that_calls_an_agent(run, mode):
    """An agent called twice in a task is one agent in two visits."""
    agent = create_agent(LLM, [], name="solo")
    hello = {"messages": [{"role": "user", "content": "hi"}]}

    if mode == "async":

        @task
        async def work(x: int) -> int:
            await asyncio.gather(agent.ainvoke(hello), agent.ainvoke(hello))
            return x

        @entrypoint()
        async def flow(x: int) -> Any:
            return await work(x)
    else:

        @task
        def work(x: int) -> int:
            agent.invoke(hello)
            agent.invoke(hello)
            return x

        @entrypoint()
        def flow(x: int) -> Any:
            return work(x).result()

    seen = run(flow)
    assert seen.agents() == ["flow/work/solo"] * 2
    assert len(set(visits(seen))) == 2
    assert set(edges(seen)) == {(ENTRY, "flow"), ("flow", "flow/work"), ("flow/work", "flow/work/solo")}


def test_a_retried_task(run, mode, speaker):
    """A task that is retried is dispatched once and keeps its visit; each attempt that failed is given up."""
    attempts: list[int] = []

    def fail() -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("again")

    policy = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=3, retry_on=ValueError)
    flaky = speaker("flaky", fail, retry_policy=policy)

    if mode == "async":

        @entrypoint()
        async def flow(x: int) -> Any:
            return await flaky(x)
    else:

        @entrypoint()
        def flow(x: int) -> Any:
            return flaky(x).result()

    seen = run(flow)
    assert edges(seen) == [(ENTRY, "flow"), ("flow", "flow/flaky")]
    assert len(set(visits(seen))) == 1
    assert len(seen.of(BranchAbandoned)) == 2


def test_an_entrypoint_as_a_node(run, mode, speaker):
    """An entrypoint inside a graph's node is an agent below that node."""
    one = speaker("one")

    class State(TypedDict, total=False):
        x: int

    if mode == "async":

        @entrypoint()
        async def flow(state: State) -> State:
            return {"x": len(await one(1))}
    else:

        @entrypoint()
        def flow(state: State) -> State:
            return {"x": len(one(1).result())}

    graph = StateGraph(State)
    graph.add_node("team", flow)
    graph.add_edge(START, "team")
    seen = run(graph.compile(), {"x": 1})
    assert seen.agents() == ["team/flow/one"]
    assert edges(seen) == [(ENTRY, "team"), ("team", "team/flow"), ("team/flow", "team/flow/one")]


def test_turns_pauses_and_forks(run, mode, speaker):
    """A finished task is not repeated by a resume; turns leave nothing behind, going back to an old turn does."""
    one = speaker("one")

    if mode == "async":

        @entrypoint(checkpointer=InMemorySaver())
        async def flow(x: Any) -> str:
            return await one(x) + str(interrupt("?"))
    else:

        @entrypoint(checkpointer=InMemorySaver())
        def flow(x: Any) -> str:
            return one(x).result() + str(interrupt("?"))

    for _ in range(2):
        run(flow, 1, THREAD)
        seen = run(flow, Command(resume="yes"), THREAD)
    assert [event.interrupted for event in seen.of(RunEnded)] == [True, False] * 2
    assert len(set(visits(seen))) == len(visits(seen)) == 2
    assert seen.of(BranchAbandoned) == []
    ends = [state.config for state in flow.get_state_history(THREAD) if not state.next]
    run(flow, 2, ends[-1])
    assert [event.invocations for event in seen.of(BranchAbandoned)] == [(visits(seen)[1],)]
