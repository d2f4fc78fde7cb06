"""Agent loops: create_agent, create_react_agent, agents in agents."""

import warnings
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    ModelCallLimitMiddleware,
    SummarizationMiddleware,
)
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import MessagesState
from langgraph.prebuilt import create_react_agent
from langgraph.types import Command

from tests.differential.cases import ASK, Kit, case
from tests.differential.graphs.models import Verdict


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


SUM = ("add", {"a": 1, "b": 2})


@case(ASK, {"messages": "and again"})
def agent_named(kit: Kit) -> Any:
    model = kit.calling(SUM)
    return create_agent(model, [add], name="adder", system_prompt="You add.", checkpointer=InMemorySaver())


@case(ASK)
def agent_unnamed(kit: Kit) -> Any:
    return create_agent(kit.calling(SUM), [add])


@case(ASK, alone=True)
def agent_over_http(kit: Kit) -> Any:
    kit.server.script("m", kit.reply(None, [SUM]))
    return create_agent(kit.chat(), [add], name="adder")


@case(ASK, unordered=True)
def parallel_tool_calls(kit: Kit) -> Any:
    return create_agent(kit.calling(SUM, ("add", {"a": 5, "b": 6})), [add], checkpointer=InMemorySaver())


class Loud(AgentMiddleware):
    """Touches everything that it may, in both modes."""

    def before_model(self, state: Any, runtime: Any) -> Any:
        return {"messages": [("user", "louder")]} if len(state["messages"]) == 1 else None

    def after_model(self, state: Any, runtime: Any) -> Any:
        return None

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        return handler(request.override(system_prompt="Shout."))

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        return await handler(request.override(system_prompt="Shout."))

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        return _shouted(handler(request))

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        return _shouted(await handler(request))


def _shouted(message: Any) -> Any:
    return message.model_copy(update={"content": f"{message.content}!"})


@case(ASK)
def agent_with_middleware(kit: Kit) -> Any:
    middleware: list[Any] = [Loud(), ModelCallLimitMiddleware(run_limit=5)]
    return create_agent(kit.calling(SUM), [add], middleware=middleware, name="loud")


@case(ASK)
def agent_stopped_by_middleware(kit: Kit) -> Any:
    limit: Any = ModelCallLimitMiddleware(run_limit=1)
    return create_agent(kit.calling(SUM), [add], middleware=[limit], checkpointer=InMemorySaver())


@case(ASK, {"messages": "more"}, {"messages": "and more"})
def agent_that_summarises(kit: Kit) -> Any:
    summary: Any = SummarizationMiddleware(kit.model("in short"), trigger=("messages", 3), keep=("messages", 1))
    return create_agent(kit.model("a", "b", "c"), [], middleware=[summary], checkpointer=InMemorySaver())


@case(ASK, Command(resume={"decisions": [{"type": "approve"}]}))
def agent_approved_by_a_human(kit: Kit) -> Any:
    ask: Any = HumanInTheLoopMiddleware({"add": True})
    return create_agent(kit.calling(SUM), [add], middleware=[ask], checkpointer=InMemorySaver())


@case(ASK)
def agent_with_response_format(kit: Kit) -> Any:
    model = kit.model([("Verdict", {"good": "perhaps"})], [("Verdict", {"good": True})])
    return create_agent(model, [add], response_format=ToolStrategy(Verdict))


@case(ASK)
def agent_whose_model_fails(kit: Kit) -> Any:
    return create_agent(kit.model([SUM], TimeoutError("no answer")), [add], checkpointer=InMemorySaver())


def quietly(build: Any, *args: Any, **options: Any) -> Any:
    """Build with what is deprecated, and still in use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build(*args, **options)


@case(ASK, {"messages": "more"})
def react_agent(kit: Kit) -> Any:
    def trim(state: Any) -> Any:
        return {"llm_input_messages": state["messages"][-4:]}

    model = kit.calling(SUM)
    return quietly(
        create_react_agent, model, [add], prompt="Add.", name="old", pre_model_hook=trim, checkpointer=InMemorySaver()
    )


@case(ASK, unordered=True)
def react_agent_version_1(kit: Kit) -> Any:
    return quietly(create_react_agent, kit.calling(SUM, SUM), [add], version="v1")


@case(ASK)
def agent_as_a_tool(kit: Kit) -> Any:
    helper = create_agent(kit.calling(SUM), [add], name="helper")

    @tool
    def ask(question: str) -> str:
        """Ask the helper."""
        return str(helper.invoke({"messages": question})["messages"][-1].content)

    return create_agent(kit.calling(("ask", {"question": "1+2?"})), [ask], name="boss", checkpointer=InMemorySaver())


@case(ASK)
def agents_as_nodes(kit: Kit) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("first", create_agent(kit.calling(SUM), [add], name="first"))
    graph.add_node("second", create_agent(kit.model("so be it"), [], name="second"))
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    return graph.compile(checkpointer=InMemorySaver())


@case(ASK)
def hand_off_between_agents(kit: Kit) -> Any:
    @tool
    def to_second(reason: str) -> Any:
        """Hand over."""
        messages = [
            AIMessage("", tool_calls=[{"name": "to_second", "args": {"reason": reason}, "id": "call_0_0"}]),
            ToolMessage("handed over", tool_call_id="call_0_0"),
        ]
        return Command(goto="second", graph=Command.PARENT, update={"messages": messages})

    graph = StateGraph(MessagesState)
    graph.add_node("first", create_agent(kit.calling(("to_second", {"reason": "tired"})), [to_second], name="first"))
    graph.add_node("second", create_agent(kit.model("mine", "mine now"), [], name="second"))
    graph.add_edge(START, "first")
    return graph.compile(checkpointer=InMemorySaver())
