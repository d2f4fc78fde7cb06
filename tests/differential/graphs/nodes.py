"""What a node can do besides returning a value: write, store, read its context."""

import asyncio
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks.manager import adispatch_custom_event, dispatch_custom_event
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config, get_store, get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.managed import RemainingSteps
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import StreamWriter
from pydantic import BaseModel

from tests.differential.cases import START_INPUT, Kit, State, case, say
from tests.differential.graphs.flat import built


def one(node: Any, **options: Any) -> Any:
    return built("a b", (START, "a"), ("a", "b"), a=node).compile(**options)


@case()
def async_nodes(_: Kit) -> Any:
    async def node(_: State) -> Any:
        await asyncio.sleep(0)
        return {"x": ["async"]}

    return one(node, checkpointer=InMemorySaver())


@case()
def both_kinds_of_node(_: Kit) -> Any:
    async def later(state: State) -> Any:
        return say("later")(state)

    return one(RunnableLambda(say("now"), later))


@case(unordered=True)
def gathered(_: Kit) -> Any:
    async def part(n: int) -> str:
        await asyncio.sleep(0)
        return str(n)

    async def node(_: State) -> Any:
        return {"x": await asyncio.gather(*(part(n) for n in range(3)))}

    return one(node)


@case()
def stream_writer(_: Kit) -> Any:
    def node(_: State, writer: StreamWriter) -> Any:
        writer({"progress": 1})
        get_stream_writer()("half")
        return {"x": ["a"]}

    return one(node)


@case()
def custom_events(_: Kit) -> Any:
    def now(_: State, config: RunnableConfig) -> Any:
        dispatch_custom_event("progress", {"done": 1}, config=config)
        return {"x": ["a"]}

    async def later(_: State, config: RunnableConfig) -> Any:
        await adispatch_custom_event("progress", {"done": 1}, config=config)
        return {"x": ["a"]}

    return one(RunnableLambda(now, later))


@case(START_INPUT, START_INPUT)
def store(_: Kit) -> Any:
    def node(_: State, store: BaseStore) -> Any:
        store.put(("notes",), "k", {"text": "hello"})
        found = [item.value for item in get_store().search(("notes",))]
        return {"x": [str(found)]}

    return one(node, store=InMemoryStore())


@dataclass
class Context:
    user: str


@case(call={"context": Context("ada")})
def context_schema(_: Kit) -> Any:
    def node(_: State, runtime: Runtime[Context]) -> Any:
        return {"x": [runtime.context.user, str(runtime.previous)]}

    graph = StateGraph(State, context_schema=Context)
    graph.add_node("a", node)
    graph.add_edge(START, "a")
    return graph.compile()


@case(
    config={
        "tags": ["mine"],
        "metadata": {"customer": "c1", "langfuse_session_id": "s"},
        "run_name": "my run",
        "recursion_limit": 7,
        "max_concurrency": 2,
        "configurable": {"model": "small"},
    }
)
def config_seen_by_nodes(_: Kit) -> Any:
    def node(_: State, config: RunnableConfig) -> Any:
        same = get_config()
        kept = {key: config[key] for key in ("tags", "metadata", "recursion_limit", "max_concurrency") if key in config}
        mine = {key: value for key, value in same["configurable"].items() if not key.startswith("__")}
        return {"x": [str(sorted(config)), str(kept), str(mine)]}

    return one(node, checkpointer=InMemorySaver()).with_config(tags=["bound"], metadata={"version": 3})


class Typed(BaseModel):
    text: str = ""
    count: int = 0


@case({"text": "hi", "count": 1}, {"text": "hi", "count": "many"})
def pydantic_state(_: Kit) -> Any:
    graph = StateGraph(Typed)
    graph.add_node("a", lambda state: {"text": state.text + "!", "count": state.count + 1})
    graph.add_edge(START, "a")
    return graph.compile()


class Private(State, total=False):
    secret: str
    left: RemainingSteps


@case()
def private_channels(_: Kit) -> Any:
    graph = StateGraph(Private, input_schema=State, output_schema=State)
    graph.add_node("a", lambda state: {"secret": str(state["left"])})
    graph.add_node("b", lambda state: {"x": [state["secret"]]})
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    return graph.compile(checkpointer=InMemorySaver())
