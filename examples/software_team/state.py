"""What a conversation holds, and which part of it each role gets to see.

The transcript only ever grows, and a role's view of it only ever grows at the end, so that the model server can reuse
everything it has computed for the role's last turn. The documenter is the exception: it works from a fresh
summary.
"""

from typing import Annotated, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.graph.message import add_messages


def merged_files(old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    """Files by path; a path written again replaces the older text."""
    return {**old, **new}


class TeamState(TypedDict, total=False):
    """One conversation. `task` comes from the caller, the team writes the rest."""

    task: str
    messages: Annotated[list[AnyMessage], add_messages]
    files: Annotated[dict[str, str], merged_files]
    rounds: int
    """How often the coder has handed over."""


HEARS: dict[str, frozenset[str]] = {
    "planner": frozenset(),
    "architect": frozenset({"planner", "reviewer"}),
    "coder": frozenset({"planner", "architect", "tester", "reviewer"}),
    "tester": frozenset({"architect", "coder"}),
    "reviewer": frozenset({"planner", "architect", "coder", "tester"}),
}
"""Whose results a role reads, beside the request and its own turns. Tool calls stay private to who made them."""


def view_of(role: str, state: TeamState) -> list[AnyMessage]:
    """The messages a role gets after its system prompt."""
    if role == "documenter":
        return [HumanMessage(_summary(state))]
    view: list[AnyMessage] = []
    heard = [f"Request of the product owner:\n{state['task']}"]
    speaker: str | None = None
    for message in state.get("messages", []):
        if isinstance(message, AIMessage):
            speaker = message.name  # tool results follow the turn that asked for them
        if speaker == role:
            if heard:
                view.append(HumanMessage("\n\n".join(heard)))
                heard = []
            view.append(message)
        elif isinstance(message, AIMessage) and speaker in HEARS[role] and not message.tool_calls:
            heard.append(f"From the {speaker}:\n{message.text}")
    if heard:
        view.append(HumanMessage("\n\n".join(heard)))
    return view


def tool_turns(role: str, state: TeamState) -> int:
    """How many turns of tool calls the role has made since it was handed the work."""
    turns = 0
    for message in reversed(state.get("messages", [])):
        if isinstance(message, ToolMessage):
            continue
        if not (isinstance(message, AIMessage) and message.name == role and message.tool_calls):
            break
        turns += 1
    return turns


def _summary(state: TeamState) -> str:
    """What the documenter works from: the request, the files, the last design and the last review."""
    last = {m.name: m.text for m in state.get("messages", []) if isinstance(m, AIMessage) and not m.tool_calls}
    files = "\n".join(f"- {path} ({len(text)} characters)" for path, text in sorted(state.get("files", {}).items()))
    parts = [
        f"Request of the product owner:\n{state['task']}",
        f"Files:\n{files or '- none'}",
        f"Design:\n{last.get('architect', 'none; the planner sent this straight to the coder')}",
        f"Last review:\n{last.get('reviewer', 'none')}",
    ]
    return "\n\n".join(parts)
