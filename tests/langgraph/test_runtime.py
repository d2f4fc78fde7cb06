"""The real runtime and the embedded engine behind a real graph: the loop, closed in one process."""

import operator
from typing import Annotated, Any, TypedDict

import pytest
from agentrt_langgraph import instrument, uninstall
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from agentrt.engines.embedded import EmbeddedEngine
from agentrt.runtime import Runtime


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


@pytest.fixture
def runtime():
    """A runtime on an engine of its own."""
    with EmbeddedEngine(num_blocks=256) as engine, Runtime(engine) as runtime:
        yield runtime
    uninstall()


def test_a_graph_on_the_embedded_engine(runtime):
    """The engine knows the graph's agents by residency, and the runtime its dispatches."""
    model = ChatOpenAI(model="agentrt-embedded", base_url=f"{runtime.engine.base_url}/v1", api_key="x", max_retries=0)

    def speak(name: str) -> Any:
        def node(_: State) -> State:
            return {"x": [str(model.invoke(f"You are {name}. " + "Think hard. " * 40).content)]}

        return node

    graph = StateGraph(State)
    for name in ("plan", "write"):
        graph.add_node(name, speak(name))
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "write")
    observed = instrument(graph.compile(checkpointer=InMemorySaver(), name="desk"), runtime)
    result = observed.invoke({"x": []}, {"configurable": {"thread_id": "t"}})
    assert len(result["x"]) == 2
    assert runtime.flush()
    assert [(d.source, d.target) for d in runtime.dispatches("t")] == [("__start__", "plan"), ("plan", "write")]
    resident = runtime.engine.residency(session="t")
    assert {(group.workload, group.agent) for group in resident} >= {("desk", "plan"), ("desk", "write")}
    assert runtime.stats().get("faults") in ({}, 0, None)
