"""Nodes that fail, are tried again, take too long, or are not run at all because their result is known."""

import asyncio
from typing import Any

from langchain_core.runnables import RunnableLambda
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import CachePolicy, RetryPolicy

from tests.differential.cases import START_INPUT, Kit, State, case, say
from tests.differential.graphs.flat import built
from tests.differential.graphs.nodes import one


def _accepts(method: Any, parameter: str) -> Any:
    def needs() -> str | None:
        known = parameter in method.__kwdefaults__
        return None if known else f"this LangGraph has no {method.__name__}({parameter}=)"

    return needs


_AT_ONCE = RetryPolicy(initial_interval=0, jitter=False, max_attempts=3, retry_on=ValueError)


def _failing(kit: Kit, times: int) -> Any:
    def node(_: State) -> Any:
        kit.attempts += 1
        if kit.attempts <= times:
            raise ValueError(f"attempt {kit.attempts}")
        return {"x": [f"attempt {kit.attempts}"]}

    graph = StateGraph(State)
    graph.add_node("a", node, retry_policy=_AT_ONCE)
    graph.add_edge(START, "a")
    return graph.compile(checkpointer=InMemorySaver())


@case(alone=True)
def retried(kit: Kit) -> Any:
    return _failing(kit, 2)


@case(alone=True)
def retried_in_vain(kit: Kit) -> Any:
    return _failing(kit, 9)


@case(START_INPUT, START_INPUT, alone=True)
def cached(kit: Kit) -> Any:
    def node(_: State) -> Any:
        kit.attempts += 1
        return {"x": [f"run {kit.attempts}"]}

    graph = StateGraph(State)
    graph.add_node("a", node, cache_policy=CachePolicy(key_func=lambda _: "key"))
    graph.add_edge(START, "a")
    return graph.compile(cache=InMemoryCache())


@case()
def too_slow(_: Kit) -> Any:
    async def node(_: State) -> Any:
        await asyncio.Event().wait()

    graph = one(node)
    graph.step_timeout = 0.02
    return graph


@case(needs=_accepts(StateGraph.add_node, "timeout"))
def node_timeout(_: Kit) -> Any:
    async def node(_: State) -> Any:
        await asyncio.Event().wait()

    graph = StateGraph(State)
    graph.add_node("a", node, timeout=0.02)
    graph.add_edge(START, "a")
    return graph.compile()


@case(needs=_accepts(StateGraph.add_node, "error_handler"))
def error_handler(_: Kit) -> Any:
    graph = StateGraph(State)
    graph.add_node("a", _broken, error_handler=say("handled"))
    graph.add_edge(START, "a")
    return graph.compile(checkpointer=InMemorySaver())


def _broken(_: State) -> Any:
    error = KeyError("no such thing")
    error.add_note("a note of the user's")
    raise error from OSError("below")


@case()
def node_raises(_: Kit) -> Any:
    return built("a b", (START, "a"), ("a", "b"), b=_broken).compile(checkpointer=InMemorySaver())


@case()
def router_raises(_: Kit) -> Any:
    graph = built("a", (START, "a"))
    graph.add_conditional_edges("a", _broken)
    return graph.compile(checkpointer=InMemorySaver())


@case(unordered=True)
def sibling_raises(_: Kit) -> Any:
    async def wait(_: State) -> Any:
        await asyncio.Event().wait()

    return built("a b", (START, "a"), (START, "b"), a=RunnableLambda(say("a"), wait), b=_broken).compile()


@case()
def node_cancels(_: Kit) -> Any:
    async def node(_: State) -> Any:
        raise asyncio.CancelledError("by the user")

    return one(node, checkpointer=InMemorySaver())


@case()
def returns_nonsense(_: Kit) -> Any:
    return one(lambda _: "not a dictionary")
