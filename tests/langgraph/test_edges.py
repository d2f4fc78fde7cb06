"""Dispatches against an independent truth: the channel writes LangGraph itself hands to its checkpointer."""

import asyncio
import operator
import random
from typing import Annotated, Any, TypedDict

import pytest
from agentrt_langgraph import instrument
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


LLM = FakeListChatModel(responses=["ok"])


class Writes(InMemorySaver):
    """Keeps every write of every task."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[str, list[Any]]] = []

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        self.log.append((task_id, list(writes)))
        super().put_writes(config, writes, task_id, task_path)


class Names(BaseCallbackHandler):
    """Task id -> node name."""

    def __init__(self) -> None:
        self.of_task: dict[str, str] = {}

    def on_chain_start(self, serialized: Any, inputs: Any, *, metadata: Any = None, **kwargs: Any) -> None:
        ns = (metadata or {}).get("langgraph_checkpoint_ns")
        if ns:
            self.of_task[ns.rpartition(":")[2]] = metadata["langgraph_node"]


def random_graph(rng: random.Random, *, is_async: bool) -> tuple[Any, Writes]:
    """A flat graph of 3-7 nodes with edges, joins, routers, `Command` and `Send`, in random mixture."""
    names = [f"n{i}" for i in range(rng.randint(3, 7))]
    graph = StateGraph(State)
    for name in names:
        _add_node(graph, name, names, rng, is_async=is_async)
    for entry in rng.sample(names, rng.randint(1, 2)):
        graph.add_edge(START, entry)
    if len(names) >= 5 and rng.random() < 0.4:
        graph.add_edge([names[0], names[1]], names[-1])
    writes = Writes()
    return graph.compile(checkpointer=writes), writes


def _add_node(graph: Any, name: str, names: list[str], rng: random.Random, *, is_async: bool) -> None:
    kind = rng.choice(["static", "static", "cond", "cond", "cmd", "send", "mixed"])
    others = [other for other in names if other != name]
    targets = rng.sample(others, min(len(others), rng.randint(1, 2)))
    choices = random.Random(rng.random())
    turns_left = [3]

    def pick() -> list[str]:
        turns_left[0] -= 1
        return [END] if turns_left[0] < 0 else choices.sample(targets, choices.randint(1, len(targets)))

    def result() -> Any:
        return Command(goto=pick(), update={"x": ["1"]}) if kind == "cmd" else {"x": ["1"]}

    async def anode(_: State) -> Any:
        await LLM.ainvoke("h")
        return result()

    def node(_: State) -> Any:
        LLM.invoke("h")
        return result()

    graph.add_node(name, anode if is_async else node, destinations=tuple(targets) if kind == "cmd" else None)

    def route(state: State) -> Any:
        chosen = pick()
        return chosen if kind != "send" or chosen == [END] else [Send(target, state) for target in chosen]

    if kind in ("cond", "send", "mixed"):
        graph.add_conditional_edges(name, route, [*targets, END])
    later = names[names.index(name) + 1 :]
    if kind in ("static", "mixed") and later:
        graph.add_edge(name, rng.choice(later))


def truth(writes: Writes, names: dict[str, str]) -> set[tuple[str, str]]:
    """Edges as LangGraph wrote them; a join counts once all of its sources wrote and it ran."""
    joined: dict[str, set[str]] = {}
    for task_id, entries in writes.log:
        for channel, _ in entries:
            joined.setdefault(channel, set()).add(names.get(task_id, ""))
    edges = set()
    for task_id, entries in writes.log:
        source = names.get(task_id, START)
        if source == START:
            continue
        for channel, value in entries:
            kind, _, rest = channel.partition(":")
            if channel.startswith("branch:to:"):
                edges.add((source, channel.removeprefix("branch:to:")))
            elif channel == "__pregel_tasks":
                sent = value if isinstance(value, (list, tuple)) else [value]
                edges |= {(source, item.node) for item in sent if isinstance(item, Send)}
            elif kind == "join":
                wanted, _, target = rest.rpartition(":")
                if joined[channel] >= set(wanted.split("+")) and target in names.values():
                    edges.add((source, target))
    return {(source, target) for source, target in edges if source != target}


@pytest.mark.parametrize("seed", range(60))
def test_edges_equal_the_channel_writes(seed, runtime):
    """On random flat graphs, the set of dispatches is exactly the set of edges LangGraph took."""
    is_async = seed % 2 == 1
    try:
        graph, writes = random_graph(random.Random(seed), is_async=is_async)
    except ValueError:  # an unreachable node: LangGraph refuses the graph
        return
    names = Names()
    config = {"callbacks": [names], "configurable": {"thread_id": "1"}, "recursion_limit": 40}
    observed = instrument(graph, runtime)
    try:
        if is_async:
            asyncio.run(observed.ainvoke({"x": []}, config))
        else:
            observed.invoke({"x": []}, config)
    except GraphRecursionError:
        return
    seen = {(source, target) for source, target in runtime.edges() if source != "START"}
    assert seen == truth(writes, names.of_task)
    assert runtime.open_runs() == 0
