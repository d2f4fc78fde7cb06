"""A chat model that streams a fixed reply with usage, or fails, and a graph of one node around it."""

from collections.abc import Callable, Iterator
from typing import Any, TypedDict

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import END, START, StateGraph


class ScriptedModel(BaseChatModel):
    """Streams two chunks; a prompt that contains `fail` raises instead, one with `silent` reports no usage."""

    streaming: bool

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        text = messages[-1].text
        if "fail" in text:
            raise ValueError(f"no answer to {text}")
        yield ChatGenerationChunk(message=AIMessageChunk("one "))
        last = AIMessageChunk("two")
        if "silent" not in text:
            last.usage_metadata = {
                "input_tokens": 100,
                "output_tokens": 2,
                "total_tokens": 102,
                "input_token_details": {"cache_read": 75},
            }
        yield ChatGenerationChunk(message=last)


class Talk(TypedDict):
    text: str


@pytest.fixture
def graph() -> Runnable[Any, Any]:
    model = ScriptedModel(streaming=True)

    def writer(state: Talk, config: RunnableConfig) -> Talk:
        return {"text": model.invoke(state["text"], config).text}

    builder = StateGraph(Talk)
    builder.add_node("writer", writer)
    builder.add_edge(START, "writer")
    builder.add_edge("writer", END)
    return builder.compile()


@pytest.fixture
def ticks() -> Callable[[], float]:
    """A clock that goes on by one second each time it is read."""
    now = iter(range(1_000_000))
    return lambda: float(next(now))
