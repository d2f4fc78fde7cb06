"""Random LangGraph graphs: every way one node can hand to another, in random mixture. Seeds decide everything.

Static edges lead forward only and everything else has a budget, so that every run ends.
"""

import operator
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

KINDS = ("flat", "subgraphs", "parent_command", "defer")
KIND_WEIGHTS = (4, 2, 2, 2)
STYLES = (
    "edge", "edge", "two_edges", "router", "labels", "bare_router", "command", "open_command", "send",
    "command_send", "mixed", "leaf",
)  # fmt: skip
HELPERS = 0.15
"""Share of nodes that call no model: agentrt sees through them."""

BUDGET = 3
"""Turns of a node that it may route; then it ends its branch."""

MODEL = FakeListChatModel(responses=["ok"])


class Input(TypedDict, total=False):
    go: bool
    sender: str
    """Set in a `Send` only: the checkpoint namespace of the task that sent it."""


class Output(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


class State(Input, Output, total=False):
    handover: Annotated[list[str], operator.add]
    """Who inside a node handed over, and to which nodes: set by hand-overs only, and never passed on."""


@dataclass
class Sketch:
    """A graph being drawn."""

    rng: random.Random
    kind: str
    is_async: bool
    prefix: str = "n"
    depth: int = 0
    outer: list[str] = field(default_factory=list)
    """Nodes of the graph around this one, for hand-overs to it."""
    names: list[str] = field(default_factory=list)
    styles: tuple[str, ...] = STYLES
    has_sends: bool = False


def draw_graph(rng: random.Random, kind: str, *, is_async: bool, checkpointer: Any) -> tuple[Any, bool]:
    """A compiled graph of this kind, and whether any of its nodes uses `Send`."""
    styles = STYLES if rng.random() < 0.5 else tuple(style for style in STYLES if "send" not in style)
    while True:
        sketch = Sketch(rng, kind, is_async, styles=styles)
        try:
            return _draw(sketch, checkpointer), sketch.has_sends
        except ValueError:  # a node that nothing leads to: LangGraph refuses the graph
            continue


def _draw(sketch: Sketch, checkpointer: Any = None) -> Any:
    rng = sketch.rng
    sketch.names = [f"{sketch.prefix}{i}" for i in range(rng.randint(3, 7) if sketch.depth == 0 else rng.randint(2, 4))]
    names = sketch.names
    graph: Any = StateGraph(State, input_schema=Input, output_schema=Output)
    for name in names:
        _add_node(sketch, graph, name)
    for entry in rng.sample(names, rng.randint(1, 2)):
        graph.add_edge(START, entry)
    if len(names) >= 3 and rng.random() < 0.4:
        *sources, target = rng.sample(names, 3)
        graph.add_edge(sources, target)
    return graph.compile(checkpointer=checkpointer)


def _add_node(sketch: Sketch, graph: Any, name: str) -> None:
    rng = sketch.rng
    style = rng.choice(sketch.styles)
    targets = rng.sample([n for n in sketch.names if n != name], min(len(sketch.names) - 1, rng.randint(1, 2)))
    turns = _Turns(random.Random(rng.random()), targets)
    sketch.has_sends |= "send" in style
    options: dict[str, Any] = {"defer": True} if sketch.kind == "defer" and rng.random() < 0.25 else {}
    if style in ("command", "command_send"):
        options["destinations"] = tuple(targets)
    graph.add_node(name, _runnable(sketch, name, style, turns), **options)
    if style in ("router", "labels", "bare_router", "send", "mixed"):
        _add_router(graph, name, style, turns)
    later = sketch.names[sketch.names.index(name) + 1 :]
    if style in ("edge", "two_edges", "mixed"):
        for target in rng.sample(later, min(len(later), 2 if style == "two_edges" else 1)):
            graph.add_edge(name, target)


def _add_router(graph: Any, name: str, style: str, turns: "_Turns") -> None:
    def route(state: State, config: RunnableConfig) -> Any:
        chosen = turns.pick()
        if style == "labels":
            return [END if target == END else f"to {target}" for target in chosen]
        return _packets(chosen, config) if style == "send" else chosen

    paths: Any = [*turns.targets, END]
    if style == "labels":
        paths = {END: END} | {f"to {target}": target for target in turns.targets}
    graph.add_conditional_edges(name, route, None if style == "bare_router" else paths)


@dataclass
class _Turns:
    """What a node decides, turn by turn, until its budget is spent."""

    rng: random.Random
    targets: list[str]
    left: int = BUDGET

    def pick(self) -> list[str]:
        self.left -= 1
        return [END] if self.left < 0 else self.rng.sample(self.targets, self.rng.randint(1, len(self.targets)))


def _packets(targets: list[str], config: RunnableConfig) -> list[Any]:
    sender = config["metadata"]["langgraph_checkpoint_ns"]
    return [target if target == END else Send(target, {"go": True, "sender": sender}) for target in targets]


def _runnable(sketch: Sketch, name: str, style: str, turns: _Turns) -> Any:
    """What a node runs: a function of its own, a compiled graph, or a function that runs graphs."""
    rng = sketch.rng
    calls = rng.random() >= HELPERS
    inner = None
    if sketch.kind in ("subgraphs", "parent_command") and sketch.depth < 2 and rng.random() < 0.4 / (1 + sketch.depth):
        outer = [n for n in sketch.names if n != name] if sketch.kind == "parent_command" else []
        below = Sketch(rng, sketch.kind, sketch.is_async, f"{name}_", sketch.depth + 1, outer, styles=sketch.styles)
        inner = _draw_until_valid(below)
        sketch.has_sends |= below.has_sends
        if "command" not in style and rng.random() < 0.5:
            return inner
    result = _result(sketch, style, turns)
    times = rng.choice((1, 1, 2)) if inner is not None else 0
    if sketch.is_async and (inner is not None or rng.random() < 0.8):
        return _async_body(inner, times, result, calls=calls)
    return _body(inner, times, result, calls=calls)


def _draw_until_valid(sketch: Sketch) -> Any:
    while True:
        try:
            return _draw(sketch)
        except ValueError:
            continue


def _body(inner: Any, times: int, result: Callable[[RunnableConfig], Any], *, calls: bool) -> Callable[..., Any]:
    def node(state: State, config: RunnableConfig) -> Any:
        if calls:
            MODEL.invoke("h")
        for _ in range(times):
            inner.invoke({"go": True})
        return result(config)

    return node


def _async_body(
    inner: Any, times: int, result: Callable[[RunnableConfig], Any], *, calls: bool
) -> Callable[..., Awaitable[Any]]:
    async def node(state: State, config: RunnableConfig) -> Any:
        if calls:
            await MODEL.ainvoke("h")
        for _ in range(times):
            await inner.ainvoke({"go": True})
        return result(config)

    return node


def _result(sketch: Sketch, style: str, turns: _Turns) -> Callable[[RunnableConfig], Any]:
    """What a node returns: an update, a `Command`, or a hand-over to the graph around it."""
    rng = random.Random(sketch.rng.random())
    hand_over = _Turns(rng, rng.sample(sketch.outer, min(2, len(sketch.outer)))) if sketch.outer else None
    sends = sketch.styles is STYLES and sketch.rng.random() < 0.3
    if hand_over is not None and sends:
        sketch.has_sends = True

    def result(config: RunnableConfig) -> Any:
        if hand_over is not None and rng.random() < 0.3 and hand_over.left > 0:
            chosen = hand_over.pick()
            goto = _packets(chosen, config) if sends else chosen
            # the update says, in the parent's own writes, who handed over to whom
            update = {"handover": [config["metadata"]["langgraph_checkpoint_ns"], *([] if sends else chosen)]}
            return Command(goto=goto, graph=Command.PARENT, update=update)
        if style in ("command", "open_command"):
            return Command(goto=turns.pick(), update={"x": ["1"]})
        if style == "command_send":
            first, *others = turns.pick()
            return Command(goto=[*others, *_packets([first], config)], update={"x": ["1"]})
        return {"x": ["1"]}

    return result
