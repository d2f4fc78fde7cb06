"""A case: a graph, what is done with it, and the models and server it talks to."""

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool


class State(TypedDict, total=False):
    """What most graphs pass on: who spoke, and a number."""

    x: Annotated[list[str], operator.add]
    n: int


def say(name: str, **update: Any) -> Callable[[State], Any]:
    """A node that leaves its name."""

    def node(_: State) -> Any:
        return {"x": [name], **update}

    return node


@dataclass(frozen=True)
class Update:
    """A step: the user changes the state from outside."""

    values: Any
    as_node: str | None = None


@dataclass(frozen=True)
class Rewind:
    """A step: what follows starts from an older checkpoint, counted from the newest."""

    back: int


@dataclass(frozen=True)
class Case:
    """A graph and the inputs it gets, one after the other, on one thread."""

    name: str
    build: Callable[["Kit"], Any]
    steps: Sequence[Any]
    """Inputs; or functions of the state that give one; or `Update`, `Rewind`."""
    config: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)
    """Further arguments of each call, such as `context`."""
    unordered: bool = False
    """Branches run at once: what they emit may come in any order."""
    alone: bool = False
    """Not for several threads at once: the graph counts its attempts, or the server its replies."""
    needs: Callable[[], str | None] = lambda: None
    """Why this version of LangGraph cannot run it, if so."""


CASES: dict[str, Case] = {}
START_INPUT: State = {"x": [], "n": 0}
ASK = {"messages": [("user", "1+2?")]}


def case(*steps: Any, **options: Any) -> Callable[[Callable[["Kit"], Any]], Callable[["Kit"], Any]]:
    """Register the graph that a function builds; without steps it is run once."""

    def register(build: Callable[["Kit"], Any]) -> Callable[["Kit"], Any]:
        name = build.__name__
        assert name not in CASES, name
        CASES[name] = Case(name, build, steps or (START_INPUT,), **options)
        return build

    return register


class ScriptedModel(BaseChatModel):
    """Answers by how often it has spoken in the conversation it is shown; streams word by word."""

    replies: list[Any]
    seen: Any  # a list; validated as one, it would be copied

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _reply(self, messages: list[BaseMessage], kwargs: Any) -> AIMessage:
        self.seen.append(([message.model_copy() for message in messages], kwargs))
        turn = sum(isinstance(message, AIMessage) for message in messages)
        reply = self.replies[min(turn, len(self.replies) - 1)]
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, str):
            return AIMessage(reply)
        calls = [{"name": name, "args": args, "id": f"call_{turn}_{i}"} for i, (name, args) in enumerate(reply)]
        return AIMessage("", tool_calls=calls)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._reply(messages, kwargs))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        reply = self._reply(messages, kwargs)
        parts = [AIMessageChunk(word) for word in str(reply.content).split()]
        calls = [AIMessageChunk("", tool_calls=reply.tool_calls)] if reply.tool_calls else []
        for part in parts + calls:
            chunk = ChatGenerationChunk(message=part)
            if run_manager:
                run_manager.on_llm_new_token(str(part.content), chunk=chunk)
            yield chunk


class Kit:
    """What the graph of one run is made with, and what it saw."""

    def __init__(self, server: Any, chat: Callable[..., Any], reply: type[Any]) -> None:
        self.server = server
        self.chat = chat
        self.reply = reply
        self.seen: list[Any] = []
        self.attempts = 0
        server.reset()
        server.ids = itertools.count(1)

    def model(self, *replies: Any) -> ScriptedModel:
        """A model in this process: text, a list of `(tool, arguments)`, or an exception, in order."""
        return ScriptedModel(replies=list(replies or ("hello there",)), seen=self.seen)

    def calling(self, *calls: Any) -> ScriptedModel:
        """A model that calls these tools, then is done."""
        return self.model(list(calls), "all done")
