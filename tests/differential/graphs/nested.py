"""Graphs in graphs: as a node, in a function, twice, with their own memory, handing over to their parent."""

from typing import Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send

from tests.differential.cases import START_INPUT, Kit, State, case, say
from tests.differential.graphs.flat import AT_ONCE, built


def _inner(**options: Any) -> Any:
    return built("i j", (START, "i"), ("i", "j")).compile(name="inner", **options)


def _outer(sub: Any, **options: Any) -> Any:
    return built("a sub b", (START, "a"), ("a", "sub"), ("sub", "b"), sub=sub).compile(**options)


@case()
def subgraph_as_node(_: Kit) -> Any:
    return _outer(_inner(), checkpointer=InMemorySaver())


class Other(TypedDict, total=False):
    text: str


@case()
def subgraph_in_a_function(_: Kit) -> Any:
    graph = StateGraph(Other)
    graph.add_node("upper", lambda state: {"text": state["text"].upper()})
    graph.add_edge(START, "upper")
    sub = graph.compile()
    return _outer(lambda state: {"x": [sub.invoke({"text": state["x"][0]})["text"]]})


@case()
def subgraph_with_config_passed_on(_: Kit) -> Any:
    sub = _inner()

    def node(_: State, config: Any) -> Any:
        return sub.invoke(START_INPUT, {**config, "tags": ["passed"], "run_name": "renamed"})

    node.__annotations__["config"] = "RunnableConfig"
    return _outer(node)


@case()
def same_subgraph_twice(_: Kit) -> Any:
    sub = _inner()
    return _outer(lambda _: {"x": sub.invoke(START_INPUT)["x"] + sub.invoke({"x": ["2"]})["x"]})


@case()
def subgraph_streamed_in_a_node(_: Kit) -> Any:
    sub = _inner()
    return _outer(lambda _: {"x": [str(chunk) for chunk in sub.stream(START_INPUT, stream_mode="updates")]})


@case()
def async_subgraph_in_a_function(_: Kit) -> Any:
    sub = _inner()

    async def node(_: State) -> Any:
        return {"x": [str(chunk) async for chunk in sub.astream(START_INPUT, stream_mode="values")]}

    return _outer(node)


@case(START_INPUT, {"x": ["again"]})
def subgraph_with_own_memory(_: Kit) -> Any:
    return _outer(_inner(checkpointer=True), checkpointer=InMemorySaver())


@case()
def three_levels(_: Kit) -> Any:
    return _outer(_outer(_inner()), checkpointer=InMemorySaver())


@case()
def command_parent(_: Kit) -> Any:
    def hand_over(_: State) -> Any:
        return Command(graph=Command.PARENT, goto="b", update={"x": ["handed over"]})

    sub = built("i", (START, "i"), i=hand_over).compile(name="inner")
    graph = built("sub b", (START, "sub"), sub=sub)
    return graph.compile(checkpointer=InMemorySaver())


@case()
def command_parent_through_two(_: Kit) -> Any:
    def hand_over(_: State) -> Any:
        return Command(graph=Command.PARENT, goto="mid2", update={"x": ["handed over"]})

    deep = built("i", (START, "i"), i=hand_over).compile()
    middle = built("deep mid2", (START, "deep"), deep=deep).compile()
    return built("sub b", (START, "sub"), ("sub", "b"), sub=middle).compile()


@case(unordered=True, call=AT_ONCE)
def subgraphs_side_by_side(_: Kit) -> Any:
    return built("a s t b", (START, "a"), ("a", "s"), ("a", "t"), (["s", "t"], "b"), s=_inner(), t=_inner()).compile(
        checkpointer=InMemorySaver()
    )


@case(unordered=True)
def sent_to_a_subgraph(_: Kit) -> Any:
    graph = built("a sub", (START, "a"), sub=_inner())
    graph.add_conditional_edges("a", lambda _: [Send("sub", {"x": [str(i)]}) for i in range(2)], ["sub"])
    return graph.compile()


@case()
def subgraph_raises(_: Kit) -> Any:
    def broken(_: State) -> Any:
        raise ZeroDivisionError("inside")

    return _outer(built("i", (START, "i"), i=broken).compile(), checkpointer=InMemorySaver())


@case()
def subgraph_error_is_caught(_: Kit) -> Any:
    def broken(_: State) -> Any:
        raise ZeroDivisionError("inside")

    sub = built("i", (START, "i"), i=broken).compile()

    def node(_: State) -> Any:
        try:
            return sub.invoke(START_INPUT)
        except ZeroDivisionError as error:
            return {"x": [str(error)]}

    return _outer(node)


@case()
def bound_and_composed(_: Kit) -> Any:
    """A graph as one part of a LangChain chain, which is a node again."""
    return _outer(_inner().with_config(tags=["part"]) | say("composed"))
