"""Nothing that a user sees of a graph changes: every graph, in every way to run it, with every way in."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agentrt_langgraph import AgentRTCallbackHandler, install, instrument, uninstall
from agentrt_langgraph.tracker import Tracker
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage

from agentrt import Runtime
from agentrt.plan import RequestPlan
from tests.differential import graphs
from tests.differential.cases import CASES, Case, Kit
from tests.differential.ways import WAYS, observe

Attached = tuple[Callable[[Any], Any], list[Any]]


def _unchanged(graph: Any) -> Any:
    return graph


@contextlib.contextmanager
def _instrument(runtime: Any) -> Iterator[Attached]:
    yield lambda graph: instrument(graph, runtime), []


@contextlib.contextmanager
def _handler(runtime: Any) -> Iterator[Attached]:
    yield _unchanged, [AgentRTCallbackHandler(runtime)]


@contextlib.contextmanager
def _install(runtime: Any) -> Iterator[Attached]:
    install(runtime)
    yield _unchanged, []
    uninstall()


WAYS_IN: list[tuple[Callable[[Any], Any], set[str]]] = [
    (_instrument, set(WAYS)),
    (_handler, {"stream", "ainvoke"}),
    (_install, {"invoke", "astream"}),
]
"""Each way in, and the ways to run in which it is tried: each graph is run synchronously and asynchronously."""
SOMETIMES = {"batch": 0, "abatch": 1, "leave_stream": 1, "leave_astream": 0}
"""Ways that every other graph is run in."""


LOOKS = 12


@pytest.fixture(scope="session")
def plain_outcomes() -> dict[tuple[str, str], list[Any]]:
    """What users see without agentrt, as far as it was looked at."""
    return {}


@pytest.fixture(scope="module")
def running() -> Iterator[Runtime]:
    """A whole runtime, with the embedded engine."""
    with Runtime() as runtime:
        yield runtime


@pytest.fixture
def seen(server, chat, reply) -> Callable[..., Any]:
    """Runs a case in one way."""

    def look(case: Case, way: str, wrap: Any = _unchanged, handlers: Any = ()) -> Any:
        return observe(case, way, Kit(server, chat, reply), wrap, list(handlers))

    return look


@pytest.fixture
def plain(seen, plain_outcomes) -> Callable[[Case, str], Any]:
    """What users see of a case without agentrt."""

    def look(case: Case, way: str) -> Any:
        known = plain_outcomes.setdefault((case.name, way), [])
        if not known:
            known.append(seen(case, way))
        return known[0]

    return look


@pytest.fixture
def assert_plain(seen, plain, plain_outcomes) -> Callable[[Any, Case, str], None]:
    """Fails for anything that users would not see without agentrt.

    LangGraph has races of its own, in the order of parallel tasks above all: before something counts as new, the
    plain graph is given some more runs to show it too.
    """

    def check(told: Any, case: Case, way: str) -> None:
        expected = plain(case, way)
        known = plain_outcomes[case.name, way]
        while told not in known and len(known) < LOOKS:
            known.append(seen(case, way))
        if told not in known:
            assert told == expected

    return check


def case_of(name: str) -> Case:
    case = CASES[name]
    if reason := case.needs():
        pytest.skip(reason)
    return case


def test_there_are_graphs():
    """The suite has not shrunk unnoticed."""
    assert len(CASES) >= 100
    assert len(graphs.__all__) >= 8


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_nothing_changes(name, way, seen, assert_plain, runtime):
    """Results, errors, chunks, states, checkpoints, callbacks, prompts and requests are the same."""
    case = case_of(name)
    if way in SOMETIMES and (case.alone or list(CASES).index(name) % 2 == SOMETIMES[way]):
        return
    for way_in, ways in WAYS_IN:
        if way in ways:
            with way_in(runtime) as (wrap, handlers):
                assert_plain(seen(case, way, wrap, handlers), case, way)


@pytest.mark.parametrize("name", CASES)
def test_nothing_changes_with_a_running_loop(name, seen, assert_plain, running):
    """Neither does it with a runtime that predicts, scores and acts on the embedded engine."""
    case = case_of(name)
    faults = running.stats()["faults"]
    assert_plain(seen(case, "invoke", lambda graph: instrument(graph, running)), case, "invoke")
    assert running.stats()["faults"] == faults


def _public(owner: type[Any], prefix: str = "") -> list[str]:
    return [name for name, it in vars(owner).items() if callable(it) and name[0] != "_" and name.startswith(prefix)]


BREAKABLE = [
    (AgentRTCallbackHandler, _public(AgentRTCallbackHandler, "on_"), "invoke"),
    (Tracker, _public(Tracker), "ainvoke"),
]


def _broken(*_: Any, **__: Any) -> None:
    raise RuntimeError("ours")


def _counted(original: Callable[..., Any], called: set[str]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        called.add(original.__name__)
        return original(*args, **kwargs)

    return call


@pytest.mark.parametrize(("owner", "methods", "way"), BREAKABLE, ids=["handler", "tracker"])
@pytest.mark.parametrize("name", CASES)
def test_a_method_that_raises_changes_nothing(
    name, owner, methods, way, seen, assert_plain, new_runtime, server, monkeypatch
):
    """Each method of the handler that a graph calls, and each entry of the tracker, may raise: no one sees it."""
    case = case_of(name)
    called: set[str] = set()

    def look() -> Any:
        return seen(case, way, lambda graph: instrument(graph, new_runtime(server.url)))

    with monkeypatch.context() as patch:
        for method in methods:
            patch.setattr(owner, method, _counted(getattr(owner, method), called))
        look()
    assert called
    for method in called:
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, _broken)
            assert_plain(look(), case, way)


class Meddler(BaseCallbackHandler):
    """A handler that does what ours must not."""

    def __init__(self, **methods: Callable[..., Any]) -> None:
        super().__init__()
        vars(self).update(methods)


def _writes_input(_: Any, inputs: Any, **__: Any) -> None:
    inputs["n"] = 9


def _writes_metadata(*_: Any, metadata: Any, **__: Any) -> None:
    metadata["seen"] = True


def _writes_prompt(_: Any, inputs: Any, **__: Any) -> None:
    if isinstance(inputs, dict) and isinstance(inputs["messages"][0], BaseMessage):
        inputs["messages"][0].content = "3+4?"


def _writes_answer(result: Any, **_: Any) -> None:
    result.generations[0][0].message.content = "meddled"


def _strict(**methods: Callable[..., Any]) -> Meddler:
    meddler = Meddler(**methods)
    meddler.raise_error = True
    return meddler


@pytest.mark.parametrize(
    ("name", "handler", "differs"),
    [
        ("line", _strict(on_chain_end=_broken), "outcomes"),
        ("loop", Meddler(on_chain_start=_writes_input), "states"),
        ("line", Meddler(on_chain_start=_writes_metadata), "told"),
        ("agent_named", Meddler(on_chain_start=_writes_prompt), "models"),
        ("agent_named", Meddler(on_tool_end=lambda message, **__: setattr(message, "content", "4")), "saved"),
        ("conversation", Meddler(on_llm_end=_writes_answer), "outcomes"),
    ],
)
def test_meddling_is_noticed(name, handler, differs, seen, plain):
    """The comparison fails for a handler that raises, or changes what it is shown."""
    case = CASES[name]
    assert seen(case, "invoke", handlers=[handler])[differs] != plain(case, "invoke")[differs]


def test_a_field_too_many_is_noticed(seen, plain, runtime):
    """The comparison fails for a request with more than our fields."""
    case = CASES["conversation_over_http"]
    runtime.answer = RequestPlan(priority=3)
    told = seen(case, "invoke", lambda graph: instrument(graph, runtime))
    assert [kind for kind in told if told[kind] != plain(case, "invoke")[kind]] == ["requests"]


def test_a_lost_chunk_is_noticed(seen, plain):
    """The comparison fails for a stream that lost its last chunk."""

    def shorten(graph: Any) -> Any:
        stream = graph.stream
        graph.stream = lambda *args, **kwargs: iter(list(stream(*args, **kwargs))[:-1])
        return graph

    case = CASES["line"]
    assert seen(case, "stream", shorten)["chunks"] != plain(case, "stream")["chunks"]
