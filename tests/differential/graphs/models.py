"""Models in nodes: chains, streams, fallbacks, retries, the OpenAI client itself."""

from operator import itemgetter
from typing import Annotated, Any, TypedDict

import httpx
import openai
from langchain.chat_models import init_chat_model
from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AnyMessage, RemoveMessage, trim_messages
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, MessagesState, add_messages
from pydantic import BaseModel

from tests.differential.cases import ASK, Kit, State, case
from tests.differential.graphs.flat import built


class Talk(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def talking(answer: Any, **options: Any) -> Any:
    """A conversation of one node, sync and async, that calls this model."""

    def now(state: Talk) -> Any:
        return {"messages": [answer.invoke(state["messages"])]}

    async def later(state: Talk) -> Any:
        return {"messages": [await answer.ainvoke(state["messages"])]}

    graph = StateGraph(Talk)
    graph.add_node("chat", RunnableLambda(now, later))
    graph.add_edge(START, "chat")
    return graph.compile(**options)


@case(ASK, {"messages": "more"})
def conversation(kit: Kit) -> Any:
    return talking(kit.model("first answer", "second answer"), checkpointer=InMemorySaver())


@case(ASK)
def conversation_over_http(kit: Kit) -> Any:
    return talking(kit.chat(), checkpointer=InMemorySaver())


@case(ASK)
def streamed_over_http(kit: Kit) -> Any:
    return talking(kit.chat(streaming=True, temperature=0.5, extra_body={"top_k": 3, "vllm_xargs": {"mine": 1}}))


@case(ASK)
def server_error(kit: Kit) -> Any:
    kit.server.script("m", *(kit.reply(status=500) for _ in range(4)))
    return talking(kit.chat())


@case(ASK, alone=True)
def server_error_retried(kit: Kit) -> Any:
    kit.server.script("m", kit.reply(status=500))
    return talking(kit.chat().with_retry(stop_after_attempt=2, wait_exponential_jitter=False))


@case(ASK)
def fallback_model(kit: Kit) -> Any:
    kit.server.script("broken", *(kit.reply(status=500) for _ in range(4)))
    return talking(kit.chat("broken").with_fallbacks([kit.chat("works")]))


@case(ASK)
def model_by_name(kit: Kit) -> Any:
    model = init_chat_model("openai:m", base_url=kit.server.url, api_key="x", max_retries=0)
    return talking(model.with_config(tags=["model"], metadata={"model": "tagged"}))


@case(ASK)
def users_own_http_client(kit: Kit) -> Any:
    def stamp(request: httpx.Request) -> None:
        request.headers["x-mine"] = "1"

    return talking(kit.chat(http_client=httpx.Client(event_hooks={"request": [stamp]})))


@case()
def raw_client(kit: Kit) -> Any:
    client = openai.OpenAI(base_url=kit.server.url, api_key="x", max_retries=0)

    def ask(_: State) -> Any:
        messages: Any = [{"role": "user", "content": "hi"}]
        plain = client.chat.completions.create(model="m", messages=messages, extra_headers={"x-mine": "1"})
        chunks = client.chat.completions.create(model="m", messages=messages, stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        return {"x": [str(plain.choices[0].message.content), text]}

    return built("a", (START, "a"), a=ask).compile()


class Azure(openai.OpenAI):
    """As AzureOpenAI does, it changes the options without asking its parent."""

    def _prepare_options(self, options: Any) -> Any:
        options.headers = {"x-azure": "1"}
        return options


@case()
def raw_client_with_own_hook(kit: Kit) -> Any:
    client = Azure(base_url=kit.server.url, api_key="x", max_retries=0)

    def ask(_: State) -> Any:
        answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        return {"x": [str(answer.choices[0].message.content)]}

    return built("a", (START, "a"), a=ask).compile()


class Verdict(BaseModel):
    """A verdict."""

    good: bool


@case(ASK)
def structured_output(kit: Kit) -> Any:
    kit.server.script("m", *(kit.reply('{"good": true}') for _ in range(2)))
    model = kit.chat().with_structured_output(Verdict, method="json_schema") | (lambda v: ("ai", str(v)))
    return talking(model)


@case(unordered=True)
def chains(kit: Kit) -> Any:
    prompt = ChatPromptTemplate.from_messages([("system", "be brief"), ("user", "{topic}")])
    answer = prompt | kit.model("short answer") | StrOutputParser()
    both = RunnableParallel(one=answer, two=itemgetter("topic")) | (lambda d: {"x": [str(d)]})
    chain = RunnableLambda(lambda _: {"topic": "cats"}) | both
    return built("a", (START, "a"), a=chain).compile()


@case(unordered=True)
def batched_calls(kit: Kit) -> Any:
    model = kit.model("an answer")
    return built("a", (START, "a"), a=lambda _: {"x": [str(m.content) for m in model.batch(["p", "q"])]}).compile()


class Notes(BaseRetriever):
    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        return [Document(f"about {query}")]


@case(unordered=True)
def retriever_and_completion_model(_: Kit) -> Any:
    model = FakeListLLM(responses=["completed"])
    chain = Notes() | (lambda found: found[0].page_content) | model | (lambda text: {"x": [text]})
    return built("a", (START, "a"), a=RunnableLambda(lambda _: "cats") | chain).compile()


@case()
def stream_inside_a_node(kit: Kit) -> Any:
    model = kit.model("one two three").with_config(tags=["langsmith:nostream"])
    loud = kit.model("four five")

    def node(_: State) -> Any:
        return {"x": [str(c.content) for c in model.stream("p")] + [str(next(iter(loud.stream("p"))).content)]}

    return built("a", (START, "a"), a=node).compile()


@case(ASK, {"messages": "second"}, {"messages": "third"})
def trimmed_and_removed(kit: Kit) -> Any:
    model = kit.model("yes")

    def chat(state: MessagesState) -> Any:
        kept = trim_messages(state["messages"], max_tokens=3, token_counter=len, strategy="last")
        return {"messages": [model.invoke(kept)]}

    def forget(state: MessagesState) -> Any:
        first = state["messages"][0]
        return {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES if len(state["messages"]) > 3 else str(first.id))]}

    graph = StateGraph(MessagesState)
    graph.add_sequence([("chat", chat), ("forget", forget)])
    graph.add_edge(START, "chat")
    return graph.compile(checkpointer=InMemorySaver())


@case(ASK)
def model_raises(kit: Kit) -> Any:
    return talking(kit.model(TimeoutError("no answer")), checkpointer=InMemorySaver())
