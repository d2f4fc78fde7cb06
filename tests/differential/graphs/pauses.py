"""Interrupts, resumes, and a user who changes the past."""

from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START
from langgraph.types import Command, Send, interrupt

from tests.differential.cases import START_INPUT, Kit, Rewind, State, Update, case
from tests.differential.graphs.flat import built


def _asking(question: str) -> Any:
    def node(_: State) -> Any:
        return {"x": [f"{question} {interrupt(question)}"]}

    return node


@case(START_INPUT, Command(resume="fine"))
def interrupt_and_resume(_: Kit) -> Any:
    graph = built("a b c", (START, "a"), ("a", "b"), ("b", "c"), b=_asking("ok?"))
    return graph.compile(checkpointer=InMemorySaver())


@case(START_INPUT, Command(resume="1"), Command(resume="2", update={"n": 7}))
def two_questions_in_one_node(_: Kit) -> Any:
    def node(_: State) -> Any:
        return {"x": [interrupt("first"), interrupt("second")]}

    return built("a", (START, "a"), a=node).compile(checkpointer=InMemorySaver())


@case()
def interrupt_without_memory(_: Kit) -> Any:
    return built("a", (START, "a"), a=_asking("ok?")).compile()


@case(START_INPUT, None, Command(resume="unasked"))
def stop_before_and_after(_: Kit) -> Any:
    graph = built("a b c", (START, "a"), ("a", "b"), ("b", "c"))
    return graph.compile(checkpointer=InMemorySaver(), interrupt_before=["b"], interrupt_after=["b"])


def _answers(state: Any) -> Any:
    return Command(resume={asked.id: f"to {asked.value}" for asked in state.interrupts})


@case(START_INPUT, Command(resume="which one?"), _answers, unordered=True)
def parallel_questions(_: Kit) -> Any:
    graph = built("a b", (START, "a"), (START, "b"), a=_asking("A"), b=_asking("B"))
    return graph.compile(checkpointer=InMemorySaver())


@case(START_INPUT, _answers, unordered=True)
def questions_of_sent_tasks(_: Kit) -> Any:
    def ask(state: State) -> Any:
        return {"x": [f"{state['n']} {interrupt(state['n'])}"]}

    graph = built("a ask", (START, "a"), ask=ask)
    graph.add_conditional_edges("a", lambda _: [Send("ask", {"n": i}) for i in range(2)], ["ask"])
    return graph.compile(checkpointer=InMemorySaver())


@case(START_INPUT, Command(resume="fine"))
def interrupt_in_a_subgraph(_: Kit) -> Any:
    sub = built("i j", (START, "i"), ("i", "j"), j=_asking("inside?")).compile()
    return built("a sub", (START, "a"), ("a", "sub"), sub=sub).compile(checkpointer=InMemorySaver())


@case(START_INPUT, Update({"x": ["by hand"]}, as_node="a"), None)
def update_and_go_on(_: Kit) -> Any:
    graph = built("a b", (START, "a"), ("a", "b"))
    return graph.compile(checkpointer=InMemorySaver(), interrupt_before=["b"])


@case(START_INPUT, Rewind(1), None)
def replay_from_the_past(_: Kit) -> Any:
    graph = built("a b c", (START, "a"), ("a", "b"), ("b", "c"))
    return graph.compile(checkpointer=InMemorySaver())


@case(START_INPUT, Rewind(2), {"x": ["another start"]})
def fork_with_new_input(_: Kit) -> Any:
    return built("a b", (START, "a"), ("a", "b")).compile(checkpointer=InMemorySaver())


@case(START_INPUT, None, alone=True)
def failed_then_continued(kit: Kit) -> Any:
    def shaky(_: State) -> Any:
        kit.attempts += 1
        if kit.attempts == 1:
            raise ConnectionError("down")
        return {"x": ["up"]}

    return built("a b", (START, "a"), ("a", "b"), b=shaky).compile(checkpointer=InMemorySaver())
