"""A software team as a LangGraph graph: six roles that hand work to each other by `Command(goto=...)`.

    planner ──► architect ──► coder ⇄ tester ──► reviewer ──► documenter
       └──────────────────────►▲          ▲_________│ (sends back to the coder, or to the architect)

The coder and the tester use tools. Rounds are bounded, so every conversation ends. The graph knows nothing of what
serves its model, and nothing of agentrt.
"""

from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command
from pydantic import SecretStr

from .prompts import PROMPTS, verdict_in, verdicts_of
from .state import TeamState, tool_turns, view_of
from .tools import CODER_TOOLS, TESTER_TOOLS

MAX_ROUNDS = 4
"""Hand-overs of the coder after which nothing is sent back any more."""

MAX_TOOL_TURNS = 3
"""Turns of tool calls a role may make each time it gets the work."""

MAX_ERROR_CHARS = 400
RECURSION_LIMIT = 200

NEXT: dict[str, dict[str, str]] = {
    "planner": {"DESIGN": "architect", "DIRECT": "coder"},
    "architect": {"": "coder"},
    "coder": {"": "tester"},
    "tester": {"PASS": "reviewer", "FAIL": "coder"},
    "reviewer": {"APPROVE": "documenter", "REVISE": "coder", "REDESIGN": "architect"},
    "documenter": {"": END},
}
"""Who gets the work after a verdict; roles without verdicts have one successor."""

FORWARD = {"tester": "reviewer", "reviewer": "documenter"}
"""Where work goes when no further round is allowed."""

Model = Runnable[LanguageModelInput, AIMessage]
Team = CompiledStateGraph[TeamState, None, TeamState, TeamState]


def build_graph(
    llm: BaseChatModel | None = None,
    *,
    base_url: str | None = None,
    model: str | None = None,
    api_key: str | None = None,
    use_tools: bool = True,
) -> Team:
    """Build the team around a chat model, or around an OpenAI-compatible server by its URL and model name.

    `use_tools=False` is for servers that refuse tool calls: the coder and the tester then only talk.
    """
    llm = llm or chat_model(base_url=base_url, model=model, api_key=api_key)
    tools: dict[str, Sequence[BaseTool]] = {"coder": CODER_TOOLS, "tester": TESTER_TOOLS} if use_tools else {}
    graph: StateGraph[TeamState, None, TeamState, TeamState] = StateGraph(TeamState)
    graph.add_edge(START, "planner")
    for role, successors in NEXT.items():
        destinations = tuple(dict.fromkeys([*successors.values(), *([f"{role}_tools"] if role in tools else [])]))
        graph.add_node(role, _agent(role, llm, tools.get(role, ())), destinations=destinations)
    for role, offered in tools.items():
        graph.add_node(f"{role}_tools", ToolNode(offered, handle_tool_errors=_told))
        graph.add_edge(f"{role}_tools", role)
    return graph.compile(name="software_team").with_config(recursion_limit=RECURSION_LIMIT)


def chat_model(*, base_url: str | None, model: str | None, api_key: str | None = None, **options: Any) -> BaseChatModel:
    """A streaming chat model on an OpenAI-compatible server; `options` go to `ChatOpenAI`."""
    from langchain_openai import ChatOpenAI  # noqa: PLC0415 - any other chat model works without it

    return ChatOpenAI(
        base_url=base_url,
        model=model or "default",
        api_key=SecretStr(api_key) if api_key else None,
        streaming=True,
        stream_usage=True,
        **options,
    )


def _told(error: Exception) -> str:
    """What a model reads about a tool call that failed."""
    return f"Error: {error}"[:MAX_ERROR_CHARS]


def _agent(role: str, llm: BaseChatModel, tools: Sequence[BaseTool]) -> Runnable[TeamState, Command[str]]:
    """One role as a node that runs in plain and in async graphs."""
    working: Model = llm.bind_tools(tools) if tools else llm
    concluding: Model = llm.bind_tools(tools, tool_choice="none") if tools else llm

    def turn(state: TeamState) -> tuple[Model, list[Any], bool]:
        may_call = bool(tools) and tool_turns(role, state) < MAX_TOOL_TURNS
        messages = [SystemMessage(PROMPTS[role]), *view_of(role, state)]
        return (working if may_call else concluding), messages, may_call

    def call(state: TeamState, config: RunnableConfig) -> Command[str]:
        model, messages, may_call = turn(state)
        return _handed_on(role, state, _clean(role, model.invoke(messages, config), may_call), config)

    async def call_async(state: TeamState, config: RunnableConfig) -> Command[str]:
        model, messages, may_call = turn(state)
        return _handed_on(role, state, _clean(role, await model.ainvoke(messages, config), may_call), config)

    return RunnableLambda(call, afunc=call_async, name=role)


def _clean(role: str, reply: AIMessage, may_call: bool) -> AIMessage:  # noqa: FBT001
    """The reply under the role's name, without tool calls that were not allowed or could not be parsed.

    A transcript with a tool call that nobody answers is refused by most servers.
    """
    calls = reply.tool_calls if may_call else []
    text = reply.text
    return AIMessage(text if text.strip() or calls else "(no text)", name=role, tool_calls=calls)


def _handed_on(role: str, state: TeamState, reply: AIMessage, config: RunnableConfig) -> Command[str]:
    """The reply for the transcript, and who goes on."""
    if reply.tool_calls:
        return Command(goto=f"{role}_tools", update={"messages": [reply]})
    rounds = state.get("rounds", 0) + (role == "coder")
    return Command(goto=_successor(role, state, reply, config), update={"messages": [reply], "rounds": rounds})


def _successor(role: str, state: TeamState, reply: AIMessage, config: RunnableConfig) -> str:
    if not verdicts_of(role):
        return NEXT[role][""]
    if role in FORWARD and state.get("rounds", 0) >= MAX_ROUNDS:
        return FORWARD[role]
    thread = config.get("configurable", {}).get("thread_id", "")
    key = f"{state['task']}|{thread}|{role}|{len(state.get('messages', []))}"
    return NEXT[role][verdict_in(role, reply.text, key=key)]
