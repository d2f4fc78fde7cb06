"""Time travel: what a run leaves behind is announced, and nothing else ever is."""

import asyncio
import operator
import random
from typing import Annotated, Any, TypedDict

import pytest
from agentrt_langgraph import AgentRTCallbackHandler, instrument, uninstall
from agentrt_langgraph.threads import MAX_INVOCATIONS, MAX_THREADS, MAX_VISITS, Progress, Threads
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from agentrt.engines.embedded import EmbeddedEngine
from agentrt.events import BranchAbandoned, CallStarted, RunEnded, RunStarted
from agentrt.runtime import Runtime


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


LLM = FakeListChatModel(responses=["ok"])
INPUT: State = {"x": []}
THREAD = {"configurable": {"thread_id": "t"}}


def speak(_: State) -> State:
    LLM.invoke("h")
    return {"x": ["1"]}


def quiet(_: State) -> State:
    return {"x": ["1"]}


def line(*nodes: tuple[str, Any], checkpointer: Any = None, **options: Any) -> Any:
    """Nodes in a line."""
    graph = StateGraph(State)
    before = START
    for name, node in nodes:
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    return graph.compile(checkpointer=checkpointer or InMemorySaver(), **options)


def team(**options: Any) -> Any:
    """Three visits, one of them a sub-graph with two."""
    inner = StateGraph(State)
    inner.add_node("i", speak)
    inner.add_node("j", speak)
    inner.add_edge(START, "i")
    inner.add_edge("i", "j")
    return line(("a", speak), ("sub", inner.compile()), ("c", speak), **options)


@pytest.fixture(params=["sync", "async"])
def go(request, runtime):
    """Runs a graph once more; returns the agents that called, and those whose visits were left behind."""
    kept = AgentRTCallbackHandler(runtime)  # what is remembered lives as long as any handler

    def run(graph: Any, given: Any = INPUT, config: Any = THREAD) -> tuple[list[str], list[str]]:
        assert kept
        agent_of = {e.identity.invocation: e.identity.agent for e in runtime.of(CallStarted)}
        first = len(runtime.events)
        observed = instrument(graph, runtime)
        asyncio.run(observed.ainvoke(given, config)) if request.param == "async" else observed.invoke(given, config)
        news = runtime.events[first:]
        assert runtime.open_runs() == 0
        left = [agent_of[i] for event in news if isinstance(event, BranchAbandoned) for i in event.invocations]
        called = [event.identity.agent for event in news if isinstance(event, CallStarted)]
        lived = {e.identity.invocation for e in news if isinstance(e, CallStarted)}
        assert not lived & {i for e in news if isinstance(e, BranchAbandoned) for i in e.invocations}
        return called, sorted(left)

    return run


ALL = ["a", "sub/i", "sub/j", "c"]


def before(graph: Any, node: str, turn: int = 0, config: Any = THREAD) -> Any:
    """The checkpoint of a turn from which this node runs next."""
    history = [state for state in graph.get_state_history(config) if state.next == (node,)]
    return history[len(history) - 1 - turn].config


def test_turns_of_a_thread_leave_nothing_behind(go):
    """A conversation that simply goes on abandons no branch."""
    graph = team()
    for _ in range(3):
        assert go(graph) == (ALL, [])


def test_replay_from_a_checkpoint(go):
    """Going on from an old checkpoint leaves behind what ran after it, in that turn and in later ones."""
    graph = team()
    go(graph)
    go(graph)
    called, left = go(graph, None, before(graph, "sub"))
    assert called == ALL[1:]
    # An older LangGraph repeats the superstep under the same names: those visits go on.
    assert left in (sorted(ALL[1:] + ALL), sorted(["c", *ALL]))


def test_a_fork_with_new_input(go):
    """New input at an old checkpoint leaves behind everything that ran after it."""
    graph = team()
    go(graph)
    go(graph)
    assert go(graph, INPUT, before(graph, "c")) == (ALL, sorted(["c", *ALL]))


def test_a_fork_by_update_state(go):
    """A state changed at an old checkpoint leaves behind what ran after it; so does taking a node's place."""
    graph = team()
    go(graph)
    changed = graph.update_state(before(graph, "sub"), {"x": ["changed"]})
    assert go(graph, None, changed) == (ALL[1:], sorted(ALL[1:]))
    replaced = graph.update_state(before(graph, "sub", turn=1), {"x": ["instead"]}, as_node="sub")
    assert go(graph, None, replaced) == (["c"], sorted(ALL[1:]))


def test_a_fork_that_is_now_the_head(go):
    """A fork needs no checkpoint id in the run: the thread goes on from it by itself."""
    graph = team()
    go(graph)
    graph.update_state(before(graph, "sub"), {"x": ["changed"]})
    assert go(graph, None) == (ALL[1:], sorted(ALL[1:]))


def test_an_update_at_the_head(go):
    """A state changed where the thread stands leaves nothing behind."""
    graph = team()
    go(graph)
    graph.update_state(THREAD, {"x": ["more"]})
    assert go(graph) == (ALL, [])


def test_a_deleted_thread(go):
    """A thread that was deleted and begins again leaves all of its old runs behind."""
    graph = team()
    go(graph)
    go(graph)
    graph.checkpointer.delete_thread("t")
    assert go(graph) == (ALL, sorted(ALL + ALL))
    assert go(graph) == (ALL, [])


def test_resume_after_an_interrupt(go):
    """Resuming repeats the paused visit and leaves nothing behind, in sub-graphs and beside finished siblings."""

    def ask(_: State) -> State:
        LLM.invoke("h")
        return {"x": [interrupt("?")]}

    inner = StateGraph(State)
    inner.add_node("ask", ask)
    inner.add_node("talk", speak)
    inner.add_edge(START, "ask")
    inner.add_edge(START, "talk")
    graph = line(("a", speak), ("sub", inner.compile()), ("c", speak))
    assert sorted(go(graph)[0]) == ["a", "sub/ask", "sub/talk"]
    called, left = go(graph, Command(resume="yes"))
    assert called in (["sub/ask", "c"], ["sub/ask", "sub/talk", "c"])  # an older LangGraph repeats the sibling too
    assert left == []


def test_new_input_instead_of_an_answer(go):
    """New input to a paused thread gives up the visit that waited, and nothing before it."""

    def ask(_: State) -> State:
        LLM.invoke("h")
        return {"x": [interrupt("?")]}

    graph = line(("a", speak), ("ask", ask))
    go(graph)
    assert go(graph) == (["a", "ask"], ["ask"])


def test_declared_pauses(go):
    """`interrupt_before` and `interrupt_after` go on with nodes that never ran, and leave nothing behind."""
    graph = team(interrupt_before=["c"], interrupt_after=["a"])
    assert go(graph) == (["a"], [])
    assert go(graph, None) == (["sub/i", "sub/j"], [])
    assert go(graph, None) == (["c"], [])


def test_resume_after_a_failure(go, runtime):
    """A run that failed and goes on repeats the failed visit: nothing is left behind."""
    broken = [True]

    def fail(_: State) -> State:
        LLM.invoke("h")
        if broken:
            raise ValueError("once")
        return {}

    graph = line(("a", speak), ("fail", fail), ("c", speak))
    with pytest.raises(ValueError, match="once"):
        go(graph)
    broken.clear()
    assert go(graph, None) == (["fail", "c"], [])


def test_visits_without_calls_count_too(go):
    """A repeated visit that called no model still shows that nothing before it is left."""
    again = [True]

    def fail(_: State) -> State:
        if again:
            raise ValueError("once")
        return {}

    graph = line(("a", speak), ("fail", fail), ("c", speak))
    with pytest.raises(ValueError, match="once"):
        go(graph)
    again.clear()
    assert go(graph, None) == (["c"], [])


def test_two_graphs_that_share_a_thread(go):
    """Graphs with checkpoints of their own do not disturb each other under one thread id."""
    graphs = [team(), line(("x", speak), ("y", speak))]
    for _ in range(2):
        assert go(graphs[0]) == (ALL, [])
        assert go(graphs[1]) == (["x", "y"], [])


def test_threads_of_one_session(go):
    """Threads that the user joins to one session count their supersteps apart."""
    graph = team()
    for thread in ("1", "2", "1", "2"):
        config = {"configurable": {"thread_id": thread}, "metadata": {"agentrt_session": "s"}}
        assert go(graph, INPUT, config) == (ALL, [])


def test_an_agent_that_is_the_whole_graph(go):
    """The one visit of a root agent goes on in every branch: a fork leaves none of it behind."""
    agent = create_agent(LLM, [], name="solo", checkpointer=InMemorySaver())
    messages = {"messages": [{"role": "user", "content": "hi"}]}
    go(agent, messages)
    go(agent, messages)
    assert go(agent, messages, before(agent, "model")) == (["solo"], [])


def test_without_a_checkpointer(go):
    """Supersteps that begin anew with each run are no time travel."""
    graph = team()
    graph.checkpointer = None
    for _ in range(3):
        assert go(graph) == (ALL, [])


def test_a_handler_alone(runtime):
    """Without `instrument`, only the user's own checkpoint id shows a fork: whether there are any is not known."""
    handler = AgentRTCallbackHandler(runtime)

    def run(graph: Any, given: Any, config: Any) -> int:
        runtime.events.clear()
        graph.invoke(given, {**config, "callbacks": [handler]})
        return sum(len(event.invocations) for event in runtime.of(BranchAbandoned))

    bare, graph = team(), team()
    bare.checkpointer = None
    assert [run(bare, INPUT, THREAD) for _ in range(3)] == [0, 0, 0]
    config = {"configurable": {"thread_id": "u"}}
    assert [run(graph, INPUT, config) for _ in range(2)] == [0, 0]
    assert run(graph, INPUT, before(graph, "c", config=config)) == len(ALL)


def test_runs_of_one_thread_at_once(runtime):
    """Runs that race on one thread disturb nothing: all end, and no visit that still runs is given up."""
    both = asyncio.Barrier(2)

    async def meet(_: State) -> State:
        await LLM.ainvoke("h")
        await asyncio.wait_for(both.wait(), 10)
        return {"x": ["1"]}

    graph = instrument(line(("a", meet), ("b", meet)), runtime)

    async def main() -> None:
        for _ in range(3):
            await asyncio.gather(graph.ainvoke(INPUT, THREAD), graph.ainvoke(INPUT, THREAD))

    asyncio.run(main())
    assert len(runtime.of(RunStarted)) == len(runtime.of(RunEnded)) == 6
    assert runtime.open_runs() == 0
    running: dict[str, int] = {}
    for event in runtime.events:
        if isinstance(event, CallStarted):
            running[event.identity.invocation] = running.get(event.identity.invocation, 0) + 1
        if isinstance(event, BranchAbandoned):
            assert not {i for i in event.invocations if running.get(i, 0) == 0}


def progress(thread: Any, count: int) -> Progress:
    run = Progress(thread, 0)
    for number in range(count):
        run.visited(f"n:{number}", number)
        run.called(f"n:{number}|m:{number}", f"n:{number}")
    return run


def test_memory_is_bounded():
    """Visits per thread, threads, and invocations in all are bounded; the oldest leave first."""
    threads = Threads()
    threads.add(progress("long", 5000))
    assert len(threads.get("long").steps) == len(threads.get("long").invocations) == MAX_VISITS
    for number in range(MAX_THREADS + 10):
        threads.add(progress(number, 1))
    assert len(threads) == MAX_THREADS
    for number in range(MAX_INVOCATIONS // MAX_VISITS + 10):
        threads.add(progress(number, MAX_VISITS))
    held = sum(len(thread.invocations) for thread in threads._threads.values())
    assert held == threads._remembered <= MAX_INVOCATIONS


def history(graph: Any, origin: Any) -> set[str]:
    """Namespaces of the visits that a checkpoint is built on, as LangGraph's own checkpoints tell them."""
    states = {state.config["configurable"]["checkpoint_id"]: state for state in graph.get_state_history(THREAD)}
    child = states[origin.config["configurable"]["checkpoint_id"]]
    found: set[str] = set()
    while child.parent_config is not None:
        parent = states[child.parent_config["configurable"]["checkpoint_id"]]
        if child.metadata["source"] == "loop":
            found |= {f"{task.name}:{task.id}" for task in parent.tasks}
        child = parent
    return found


def travel(rng: random.Random, graph: Any, observed: Any) -> set[str]:
    """One run from somewhere in the thread's history; returns the visits it is built on."""
    states = list(graph.get_state_history(THREAD))
    if not states:
        observed.invoke(INPUT, THREAD)
        return set()
    origin = rng.choice(states) if rng.random() < 0.6 else states[0]
    built_on = history(graph, origin)
    config = origin.config if origin is not states[0] else THREAD
    goes_on = bool(origin.next) and "__start__" not in origin.next
    if goes_on and rng.random() < 0.5:
        config = graph.update_state(config, {"x": ["u"]})
    observed.invoke(None if goes_on and rng.random() < 0.5 else INPUT, config)
    return built_on


def test_random_journeys(runtime):
    """On random walks through a thread's history, no visit that a run is built on is left behind; most others are."""
    told = missed = 0
    for seed in range(40):
        rng = random.Random(seed)
        graph = line(*((name, rng.choice([speak, speak, quiet])) for name in "abcd"))
        observed = instrument(graph, runtime)
        alive: set[str] = set()
        for _ in range(8):
            runtime.events.clear()
            built_on = travel(rng, graph, observed)
            left = {i for event in runtime.of(BranchAbandoned) for i in event.invocations}
            called = {event.identity.invocation for event in runtime.of(CallStarted)}
            assert not left & (called | built_on)
            told += len(left)
            missed += len(alive - left - built_on - called)
            alive = (alive - left) & built_on | called
    # Not told: one superstep per checkpoint written before a run, and branches beside one that is taken up again.
    assert told / (told + missed) > 0.9


def test_a_fork_frees_the_branch_on_the_engine():
    """On an engine, the blocks of what a fork leaves behind go first, those that it shares with the new branch stay."""
    with EmbeddedEngine(num_blocks=512, time_scale=0) as engine, Runtime(engine) as runtime:
        model = ChatOpenAI(model="agentrt-embedded", base_url=f"{engine.base_url}/v1", api_key="x", max_retries=0)
        cached: list[int] = []
        resident: list[Any] = []

        def talk(state: State) -> State:
            assert runtime.flush()
            resident.append(engine.residency(session="t"))
            answer = model.invoke("\n".join([*state["x"], "Think hard. " * 20]))
            cached.append(answer.usage_metadata["input_token_details"]["cache_read"])
            return {"x": [str(answer.content)]}

        graph = line(("talk", talk))
        observed = instrument(graph, runtime)
        for number in range(3):
            observed.invoke({"x": [f"Turn {number}. " + "Consider this. " * 40]}, THREAD)
        after_first = [state.config for state in graph.get_state_history(THREAD) if not state.next][-1]
        observed.invoke({"x": ["Another turn. " + "Consider that. " * 40]}, after_first)
        assert runtime.flush()
        outcomes = {(ruling.proposal.action_type, str(ruling.outcome.status)) for ruling in runtime.rulings}
    uninstall()
    assert {("agentrt.signal.branch_abandoned", "accepted"), ("agentrt.kv.release", "accepted")} <= outcomes
    released = sum(row.blocks for row in resident[-1] if row.value < 0)
    kept = sum(row.blocks for row in resident[-1] if row.value > 0.5)
    assert kept >= cached[1] // 16 > 0  # what the second turn found of the first
    assert released > kept
    assert cached[-1] >= cached[1]
