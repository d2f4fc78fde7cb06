"""One StateGraph: lines, branches, loops, fan-outs and joins."""

from typing import Any, Literal

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

from tests.differential.cases import Kit, State, case, say

AT_ONCE = {"durability": "sync"}
"""For joins: LangGraph otherwise writes a join's state while the join goes on, and history differs between runs."""


def built(names: str, *edges: tuple[Any, str], **nodes: Any) -> Any:
    """A graph of nodes that leave their names, or do what is given, and of edges."""
    graph = StateGraph(State)
    for name in names.split():
        graph.add_node(name, nodes.get(name) or say(name))
    for source, target in edges:
        graph.add_edge(source, target)
    return graph


@case()
def line(_: Kit) -> Any:
    return built("a b c", (START, "a"), ("a", "b"), ("b", "c")).compile(checkpointer=InMemorySaver())


@case()
def sequence(_: Kit) -> Any:
    graph = StateGraph(State).add_sequence([("a", say("a")), ("b", say("b"))]).add_edge(START, "a")
    return graph.compile(name="sequence")


@case()
def path_map(_: Kit) -> Any:
    graph = built("a b c", (START, "a"))
    graph.add_conditional_edges("a", lambda state: state["n"] > 0, {True: "b", False: "c"})
    return graph.compile()


@case()
def literal_router(_: Kit) -> Any:
    def route(state: State) -> Literal["b", "c"]:
        return "b" if state["n"] == 0 else "c"

    graph = built("a b c", (START, "a"))
    graph.add_conditional_edges("a", route)
    return graph.compile()


@case(unordered=True)
def bare_router(_: Kit) -> Any:
    graph = built("a b c d", (START, "a"))
    graph.add_conditional_edges("a", lambda _: ["c", "d"])
    return graph.compile(checkpointer=InMemorySaver())


@case()
def conditional_entry(_: Kit) -> Any:
    graph = built("a b", ("a", END))
    graph.add_conditional_edges(START, lambda state: "b" if state["n"] else "a")
    return graph.compile()


def _count(state: State) -> Any:
    return {"x": [str(state.get("n", 0))], "n": state.get("n", 0) + 1}


def _looping() -> Any:
    graph = built("a", (START, "a"), a=_count)
    graph.add_conditional_edges("a", lambda state: "a" if state["n"] < 4 else END)
    return graph


@case()
def loop(_: Kit) -> Any:
    return _looping().compile(checkpointer=InMemorySaver())


@case(config={"recursion_limit": 2})
def recursion_limit_hit(_: Kit) -> Any:
    return _looping().compile(checkpointer=InMemorySaver())


@case()
def command_goto(_: Kit) -> Any:
    def decide(state: State) -> Command[Literal["b", "c"]]:
        return Command(update={"x": ["a"], "n": 1}, goto="b" if state["n"] == 0 else "c")

    return built("a b c", (START, "a"), a=decide).compile(checkpointer=InMemorySaver())


@case(unordered=True)
def command_to_several(_: Kit) -> Any:
    def decide(_: State) -> Any:
        return [Command(update={"x": ["a"]}, goto=["b", Send("c", {"x": ["sent"]})])]

    return built("a b c", (START, "a"), a=decide).compile()


@case(unordered=True)
def send_map_reduce(_: Kit) -> Any:
    def one(state: State) -> Any:
        return {"x": [f"item {state['n']}"]}

    graph = built("plan one join", (START, "plan"), ("one", "join"), one=one)
    graph.add_conditional_edges("plan", lambda _: [Send("one", {"n": i}) for i in range(3)], ["one"])
    return graph.compile(checkpointer=InMemorySaver())


@case(unordered=True, call=AT_ONCE)
def join(_: Kit) -> Any:
    edges = [(START, "a"), (START, "b"), ("b", "b2"), (["a", "b2"], "c")]
    return built("a b b2 c", *edges).compile(checkpointer=InMemorySaver())


@case(unordered=True)
def deferred(_: Kit) -> Any:
    graph = built("a b b2", (START, "a"), (START, "b"), ("b", "b2"), ("a", "end"), ("b2", "end"))
    graph.add_node("end", say("end"), defer=True)
    return graph.compile()


@case({"x": [], "n": 0}, {"x": ["again"]}, {"n": 5})
def several_turns(_: Kit) -> Any:
    return built("a b", (START, "a"), ("a", "b")).compile(checkpointer=InMemorySaver(), name="turns")


@case(call={"durability": "exit"})
def durability_exit(_: Kit) -> Any:
    return built("a b", (START, "a"), ("a", "b")).compile(checkpointer=InMemorySaver())


@case(call={"durability": "sync"})
def durability_sync(_: Kit) -> Any:
    return built("a b", (START, "a"), ("a", "b")).compile(checkpointer=InMemorySaver())


@case(call={"version": "v2"})
def output_version_2(_: Kit) -> Any:
    return built("a b", (START, "a"), ("a", "b")).compile(checkpointer=InMemorySaver())


@case({"wrong": 1}, None, 7)
def input_that_is_refused(_: Kit) -> Any:
    return built("a", (START, "a")).compile(checkpointer=InMemorySaver())


@case()
def wrong_destination(_: Kit) -> Any:
    graph = built("a b", (START, "a"))
    graph.add_conditional_edges("a", lambda _: "nowhere", {"somewhere": "b"})
    return graph.compile()


@case(unordered=True)
def conflicting_writes(_: Kit) -> Any:
    return built("a b", (START, "a"), (START, "b"), a=say("a", n=1), b=say("b", n=2)).compile()
