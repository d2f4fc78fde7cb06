"""Tools: what they return, what they are given, and how they fail."""

from typing import Annotated, Any

from langchain.agents import AgentState, create_agent
from langchain_core.messages import ToolMessage
from langchain_core.tools import InjectedToolCallId, ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import MessagesState
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode, tools_condition
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt

from tests.differential.cases import ASK, Kit, case
from tests.differential.graphs.agents import SUM, add


@tool
def fail(reason: str) -> str:
    """Fail."""
    raise ValueError(reason)


@tool
def refuse(reason: str) -> str:
    """Refuse, politely."""
    raise ToolException(reason)


refuse.handle_tool_error = True


@tool(response_format="content_and_artifact")
def look_up(word: str) -> Any:
    """Look up, with the raw data beside the text."""
    return f"about {word}", {"raw": [word]}


@tool
async def add_later(a: int, b: int) -> int:
    """Add, asynchronously."""
    return a + b


def _loop(kit: Kit, node: Any, *tools: Any, **options: Any) -> Any:
    """The loop that people write by hand."""
    model = kit.calling(*options.pop("calls")).bind_tools(tools)
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", node)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile(**options)


@case(ASK)
def tool_node_by_hand(kit: Kit) -> Any:
    return _loop(kit, ToolNode([add]), add, calls=[SUM], checkpointer=InMemorySaver())


@case(ASK, unordered=True)
def tool_errors_as_messages(kit: Kit) -> Any:
    node = ToolNode([add, fail], handle_tool_errors=True)
    return _loop(kit, node, add, fail, calls=[("fail", {"reason": "why not"}), SUM])


@case(ASK)
def tool_errors_of_one_kind(kit: Kit) -> Any:
    def explain(error: ValueError) -> str:
        return f"could not: {error}"

    return _loop(kit, ToolNode([fail], handle_tool_errors=explain), fail, calls=[("fail", {"reason": "x"})])


@case(ASK)
def tool_error_not_handled(kit: Kit) -> Any:
    agent_tools = [fail]
    return create_agent(kit.calling(("fail", {"reason": "x"})), agent_tools, checkpointer=InMemorySaver())


@case(ASK)
def tool_that_refuses(kit: Kit) -> Any:
    return create_agent(kit.calling(("refuse", {"reason": "no"})), [refuse])


@case(ASK)
def tool_that_does_not_exist(kit: Kit) -> Any:
    return create_agent(kit.calling(("fly", {})), [add])


@case(ASK)
def tool_with_wrong_arguments(kit: Kit) -> Any:
    return create_agent(kit.calling(("add", {"a": "one"})), [add])


@case(ASK)
def tool_with_artifact(kit: Kit) -> Any:
    return create_agent(kit.calling(("look_up", {"word": "cat"})), [look_up], checkpointer=InMemorySaver())


@case(ASK)
def async_tool(kit: Kit) -> Any:
    return create_agent(kit.calling(("add_later", {"a": 1, "b": 2})), [add_later])


class Counting(AgentState[Any]):
    count: int


@case(ASK | {"count": 1})
def tool_that_reads_and_writes_state(kit: Kit) -> Any:
    @tool
    def count(
        by: int,
        state: Annotated[Any, InjectedState],
        call_id: Annotated[str, InjectedToolCallId],
        store: Annotated[Any, InjectedStore()],
    ) -> Any:
        """Count up."""
        store.put(("counts",), "last", {"by": by})
        message = ToolMessage(f"counted {by}", tool_call_id=call_id)
        return Command(update={"count": state["count"] + by, "messages": [message]})

    return create_agent(
        kit.calling(("count", {"by": 4})),
        [count],
        state_schema=Counting,
        checkpointer=InMemorySaver(),
        store=InMemoryStore(),
    )


@case(ASK, Command(resume="yes"))
def tool_that_asks_a_human(kit: Kit) -> Any:
    @tool
    def risky(what: str) -> str:
        """Do something."""
        return f"{what}: {interrupt(f'really {what}?')}"

    return create_agent(kit.calling(("risky", {"what": "jump"})), [risky], checkpointer=InMemorySaver())


@case(ASK)
def tool_called_directly(kit: Kit) -> Any:
    def node(_: Any) -> Any:
        return {"messages": [("ai", str(add.invoke({"a": 2, "b": 2})))]}

    graph = StateGraph(MessagesState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph.compile()


@case(ASK)
def tool_that_returns_at_once(kit: Kit) -> Any:
    @tool(return_direct=True)
    def final(text: str) -> str:
        """The last word."""
        return text

    return create_agent(kit.calling(("final", {"text": "the end"})), [final])
