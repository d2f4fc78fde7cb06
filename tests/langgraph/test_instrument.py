"""The ways in: `instrument`, the decorator, the handler, `install`; alone, together and for two runtimes."""

import asyncio
import builtins
import concurrent.futures
import operator
from typing import Annotated, Any, TypedDict

import agentrt_langgraph
import openai
import pytest
from agentrt_langgraph import inject, install, instrument, instrumented, uninstall
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.tracers import context as tracer_context
from langgraph.graph import START, StateGraph

from agentrt.config import Settings
from agentrt.events import RunStarted, StructureDeclared


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


LLM = FakeListChatModel(responses=["ok"])
INPUT: State = {"x": []}


def speak(_: State) -> State:
    LLM.invoke("h")
    return {"x": ["1"]}


def build() -> Any:
    graph = StateGraph(State)
    graph.add_node("a", speak)
    graph.add_edge(START, "a")
    return graph


def test_public_names():
    """The package exports exactly its ways in, and what lets users say more."""
    ways = {"AgentRTCallbackHandler", "AgentRTMiddleware", "install", "instrument", "instrumented", "uninstall"}
    names = ways | {"current", "propagate_threads", "wrap_node"}
    assert set(agentrt_langgraph.__all__) == names


def test_decorator(runtime):
    """A decorated builder, sync or async, returns an instrumented graph and keeps its name and arguments."""

    @instrumented(runtime)
    def make(name: str) -> Any:
        return build().compile(name=name)

    @instrumented(runtime, workload="w")
    async def make_async() -> Any:
        return build().compile()

    make("g").invoke(INPUT)
    asyncio.run(make_async()).invoke(INPUT)
    assert make.__name__ == "make"
    assert [event.workload for event in runtime.of(RunStarted)] == ["g", "w"]


@pytest.mark.parametrize("thing", [build(), object(), None])
def test_only_compiled_graphs(thing, runtime):
    """Anything but a compiled graph is refused with a message that says what to do."""
    with pytest.raises(TypeError, match="compiled"):
        instrument(thing, runtime)


def test_instrumenting_twice(runtime):
    """An instrumented graph is returned as it is; its structure is declared once."""
    graph = build().compile()
    observed = instrument(graph, runtime)
    assert instrument(observed, runtime) is observed
    instrument(graph, runtime)
    assert len(runtime.of(StructureDeclared)) == 1


def test_disabled_means_absent(new_runtime):
    """With `AGENTRT_DISABLED` nothing is attached at all."""
    runtime = new_runtime("")
    runtime.settings = Settings(disabled=True)
    graph = build().compile()
    install(runtime)
    assert instrument(graph, runtime) is graph
    graph.invoke(INPUT)
    assert runtime.events == []


def test_install_covers_every_graph(runtime):
    """After `install`, graphs made before and after are observed, in every thread; once each."""
    before = build().compile(name="before")
    install(runtime)
    install(runtime)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(before.invoke, INPUT).result()
    build().compile(name="after").invoke(INPUT)
    assert [event.workload for event in runtime.of(RunStarted)] == ["before", "after"]


def test_uninstall_restores_everything(runtime):
    """`uninstall` leaves LangChain's hooks and the SDK's methods as they were; twice is once."""
    uninstall()
    hooks = list(tracer_context._configure_hooks)
    original = openai.OpenAI._prepare_options, openai.AsyncOpenAI._prepare_options
    install(runtime)
    assert openai.OpenAI._prepare_options is not original[0]
    assert inject.mode() == "hook"
    uninstall()
    uninstall()
    assert tracer_context._configure_hooks == hooks
    assert (openai.OpenAI._prepare_options, openai.AsyncOpenAI._prepare_options) == original
    assert inject.mode() == "off"
    build().compile().invoke(INPUT)
    assert runtime.of(RunStarted) == []


def test_two_runtimes_do_not_mix(runtime, new_runtime, server, chat):
    """Two instrumented graphs, even nested, each report to their own runtime and label for their own engine."""
    other = new_runtime("http://other.example/v1")

    def ask(_: State) -> State:
        return {"x": [str(chat().invoke("h").content)]}

    inner = StateGraph(State)
    inner.add_node("inner", ask)
    inner.add_edge(START, "inner")
    inner_graph = instrument(inner.compile(name="in"), runtime)
    outer = StateGraph(State)
    outer.add_node("outer", lambda state: ask(state) and inner_graph.invoke(INPUT))
    outer.add_edge(START, "outer")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: instrument(outer.compile(name="out"), other).invoke(INPUT), range(4)))
    assert runtime.agents() == ["inner"] * 4
    assert sorted(other.agents()) == ["outer"] * 4 + ["outer/inner"] * 4
    labels = [request.label and request.label["agent"] for request in server.requests]
    assert sorted(labels, key=str) == sorted([None, "inner"] * 4, key=str)
    assert other.faults == []


def test_without_openai(runtime, monkeypatch):
    """Without the openai package graphs are observed all the same."""
    inject.disable()
    real = builtins.__import__

    def no_openai(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "openai":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_openai)
    instrument(build().compile(), runtime).invoke(INPUT)
    assert inject.mode() == "absent"
    assert runtime.agents() == ["a"]


def test_other_handlers_hear_of_completion_models(runtime):
    """In async runs, where LangChain tells inline handlers or the others, both are told; after `uninstall` too."""

    class Listener(BaseCallbackHandler):
        def __init__(self) -> None:
            self.told: list[Any] = []

        def on_llm_start(self, serialized: Any, prompts: list[str], **_: Any) -> None:
            self.told += prompts

    model = FakeListLLM(responses=["ok"])

    async def complete(_: State) -> State:
        return {"x": [await model.ainvoke("p")]}

    graph = StateGraph(State)
    graph.add_node("a", complete)
    graph.add_edge(START, "a")
    observed = instrument(graph.compile(), runtime)
    original = AsyncCallbackManager.on_llm_start
    for _ in range(2):
        listener = Listener()
        asyncio.run(observed.ainvoke(INPUT, {"callbacks": [listener]}))
        assert listener.told == ["p"]
        uninstall()
    assert runtime.agents() == ["a", "a"]
    assert AsyncCallbackManager.on_llm_start is not original
