"""Tool calls: gates serve, deny, ask or let run, and nothing else about a graph's tools changes."""

import asyncio
import gc
import operator
import threading
import warnings
from concurrent.futures import Future
from typing import Annotated, Any, TypedDict

import pytest
from agentrt_langgraph import instrument, tools, uninstall
from agentrt_langgraph.gating import Gated
from agentrt_langgraph.toolschema import reads_context
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode, ToolRuntime, create_react_agent, tools_condition
from langgraph.types import Command

from agentrt.events import ToolEnded, ToolStarted
from agentrt.gates import ToolGates
from agentrt.policy import Policy
from agentrt.tools import Ask, Deny, Run, Serve, ToolGate, arguments_digest
from tests.agents import go, thread

KINDS = ["create_agent", "middleware", "react", "by_hand"]
MODES = ["invoke", "ainvoke", "stream", "astream"]
ORIGINALS = {name: vars(ToolNode)[name] for name in ("_parse_input", "_run_one", "_arun_one", "__init__")}


class Gate(Policy, ToolGate):
    """Answers as it is told, and remembers what it was asked and told."""

    name = "gate"

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked: list[Any] = []
        self.told: list[Any] = []

    def before(self, call: Any) -> Any:
        self.asked.append(call)
        return self.answer(call) if callable(self.answer) else self.answer

    def after(self, call: Any, result: Any) -> None:
        self.told.append((call, result))


class Watching(AgentMiddleware):
    """A user's own middleware around tools."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        self.seen.append(request.tool_call["name"])
        return handler(request)

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        self.seen.append(request.tool_call["name"])
        return await handler(request)


@pytest.fixture
def ran():
    """Arguments the tool ran with."""
    return []


@pytest.fixture
def add(ran):
    """A tool that notes its runs."""

    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        ran.append((a, b))
        return a + b

    return add


@pytest.fixture
def gated(runtime):
    """Gives the runtime a gate, or several."""

    def install(*gates: Any) -> Any:
        made = [gate if isinstance(gate, ToolGate) else Gate(gate) for gate in gates]
        runtime.tool_gates = ToolGates(made)
        return made[0]

    return install


@pytest.fixture
def build(chat, runtime):
    """An agent of one kind with tools, observed."""

    def make(kind: str, *its_tools: Any, checkpointer: Any = None, **options: Any) -> Any:
        if kind == "by_hand":
            model = chat().bind_tools([t for t in its_tools if t is not None])
            graph = StateGraph(MessagesState)
            graph.add_node("model", lambda state: {"messages": model.invoke(state["messages"])})
            graph.add_node("tools", ToolNode(list(its_tools), **options))
            graph.add_edge(START, "model")
            graph.add_conditional_edges("model", tools_condition)
            graph.add_edge("tools", "model")
            built = graph.compile(checkpointer=checkpointer)
        elif kind == "react":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                built = create_react_agent(chat(), ToolNode(list(its_tools), **options), checkpointer=checkpointer)
        else:
            middleware = [Watching()] if kind == "middleware" else []
            built = create_agent(chat(), list(its_tools), middleware=middleware, checkpointer=checkpointer)
        return instrument(built, runtime)

    return make


def results(state: Any) -> list[tuple[Any, str, str]]:
    """Content, status and name of each tool message; every call must have been answered once."""
    messages = state["messages"]
    called = [call["id"] for m in messages if isinstance(m, AIMessage) for call in m.tool_calls]
    answers = [m for m in messages if isinstance(m, ToolMessage)]
    assert sorted(called) == sorted(m.tool_call_id for m in answers)
    return [(m.content, m.status, m.name) for m in answers]


TWO = ("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})


def test_without_gates_toolnode_is_untouched(build, add, server, call):
    """A runtime without gates changes nothing in the class."""
    server.script("m", call(*TWO))
    go(build("create_agent", add))
    assert all(vars(ToolNode)[name] is original for name, original in ORIGINALS.items())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_gate_without_an_opinion(kind, mode, build, add, gated, server, call, ran):
    """Each call is asked about once, runs once, and its result is told."""
    gate = gated(None)
    server.script("m", call(*TWO))
    assert results(go(build(kind, add), mode)) == [("3", "success", "add"), ("7", "success", "add")]
    assert sorted(ran) == [(1, 2), (3, 4)]
    assert sorted((asked.arguments["a"], asked.arguments["b"]) for asked in gate.asked) == [(1, 2), (3, 4)]
    assert sorted(result.content for _, result in gate.told) == ["3", "7"]
    assert {asked.tool for asked in gate.asked} == {"add"}
    assert not any(asked.depends_on_state or asked.can_ask for asked in gate.asked)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_denied_call(kind, mode, build, add, gated, server, call, ran, runtime):
    """The tool does not run, the agent reads why, and the graph goes on."""
    gated(Deny("too dear"))
    server.script("m", call(*TWO))
    state = go(build(kind, add), mode)
    assert results(state) == [("Tool add was not run: too dear", "error", "add")] * 2
    assert state["messages"][-1].content == "ok"
    assert ran == []
    assert runtime.tool_gates.stats()["answers"] == {"add": {"gate": {"denied": 2}}}
    ended = runtime.of(ToolEnded)
    assert [(e.outcome, e.policy, e.reason, e.failed) for e in ended] == [("denied", "gate", "too dear", False)] * 2
    assert {e.tool_run_id for e in runtime.of(ToolStarted)} == {e.tool_run_id for e in ended}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_result_is_served_as_new(kind, mode, build, add, gated, server, call, ran, runtime):
    """A repeated call gets the first result under its own call id; history keeps both messages."""
    stored: dict[Any, Any] = {}

    class Memo(Gate):
        def before(self, call: Any) -> Any:
            found = stored.get(call.arguments_digest)
            return None if found is None else Serve(found, "same arguments")

        def after(self, call: Any, result: Any) -> None:
            stored[call.arguments_digest] = result

    gated(Memo())
    graph = build(kind, add)
    server.script("m", call(TWO[0]), call(("add", {"b": 2, "a": 1})))
    state = go(graph, mode)
    assert results(state) == [("3", "success", "add")] * 2
    assert ran == [(1, 2)]
    first, second = (m for m in state["messages"] if isinstance(m, ToolMessage))
    assert first.id != second.id
    assert runtime.tool_gates.stats()["answers"] == {"add": {"gate": {"served": 1}}}
    ended = runtime.of(ToolEnded)
    assert [e.outcome for e in ended] == ["ran", "served"]
    assert ended[0].arguments_digest == ended[1].arguments_digest == arguments_digest({"a": 1, "b": 2}, "default")


@pytest.mark.parametrize("value", ["text", 5, {"a": [1]}, None, [{"type": "text", "text": "x"}], [1, 2], ("x", 1)])
def test_a_plain_value_is_served_as_the_tool_would_return_it(value, build, gated, server, call):
    """A served value becomes the message that the tool's own return value would become."""

    @tool
    def fetch() -> Any:
        """Fetch."""
        return value

    server.script("m", call(("fetch", {})))
    expected = results(go(build("by_hand", fetch)))
    gated(Serve(value, "known"))
    server.script("m", call(("fetch", {})))
    assert results(go(build("by_hand", fetch))) == expected


def test_an_artifact_is_kept(build, gated, server, call):
    """A replayed result has the artifact of the stored one, and content of its own."""
    artifact = object()
    stored = ToolMessage([{"type": "text", "text": "x"}], artifact=artifact, tool_call_id="old", id="m1", name="fetch")

    @tool
    def fetch() -> str:
        """Fetch."""
        return "new"

    gated(Serve(stored, "known"))
    server.script("m", call(("fetch", {})))
    message = next(m for m in go(build("create_agent", fetch))["messages"] if isinstance(m, ToolMessage))
    assert message.artifact is artifact
    assert message.content == stored.content
    assert message.content is not stored.content
    assert (stored.tool_call_id, stored.id) == ("old", "m1")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("early", [True, False])
def test_a_result_still_being_computed(mode, early, build, add, gated, server, call, ran):
    """A future is awaited, whether it is ready or not, and its result is served."""
    future: Future[Any] = Future()
    timer = threading.Timer(0.05, future.set_result, [3])
    if early:
        future.set_result(3)
    else:
        timer.start()
    gated(Serve(future, "started early"))
    server.script("m", call(TWO[0]))
    assert results(go(build("create_agent", add), mode)) == [("3", "success", "add")]
    assert ran == []
    if not early:
        timer.join()


def failed() -> Any:
    future: Future[Any] = Future()
    future.set_exception(ValueError("theirs"))
    return future


def cancelled() -> Any:
    future: Future[Any] = Future()
    future.cancel()
    return future


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
@pytest.mark.parametrize("lost", [failed, cancelled, Future])
def test_a_result_that_never_comes(lost, mode, build, add, gated, server, call, ran, runtime):
    """A future that fails, is cancelled or too late is as if nothing had been said: the tool runs."""
    gated(Serve(lost(), "started early", wait_s=0.01))
    server.script("m", call(TWO[0]))
    assert results(go(build("create_agent", add), mode)) == [("3", "success", "add")]
    assert ran == [(1, 2)]
    assert runtime.tool_gates.stats()["answers"] == {"add": {"gate": {"lost": 1}}}
    assert [e.outcome for e in runtime.of(ToolEnded)] == ["ran"]


def test_waiting_for_a_result_does_not_block_the_loop(build, add, gated, server, call):
    """Other tasks of the event loop go on, and a cancelled wait leaves the future as it was."""
    future: Future[Any] = Future()
    asked = asyncio.Event()

    def answer(_: Any) -> Any:
        asked.set()
        return Serve(future, "started early")

    gated(answer)
    server.script("m", call(TWO[0]), call(TWO[0]))
    graph = build("create_agent", add)

    async def drive() -> Any:
        first = asyncio.create_task(graph.ainvoke({"messages": "?"}, thread()))
        await asked.wait()
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not future.cancelled()
        second = asyncio.create_task(graph.ainvoke({"messages": "?"}, thread()))
        asyncio.get_running_loop().call_later(0.05, future.set_result, 3)
        return await second

    assert results(asyncio.run(drive())) == [("3", "success", "add")]


def test_what_steers_cannot_be_served(build, add, server, call, ran, new_runtime):
    """A served Command is a mistake of the gate: it is counted, and the tool runs."""
    broken = new_runtime(server.url)
    broken.tool_gates = ToolGates([Gate(Serve(Command(goto="x"), "wrong"))])
    server.script("m", call(TWO[0]))
    graph = instrument(build("create_agent", add), broken)
    assert results(go(graph)) == [("3", "success", "add")]
    assert [where for where, _ in broken.faults] == ["tool_gates"]


# ---- asking a human -------------------------------------------------------------------------------------------

ASK = Ask("may add run?", "it costs money")
YES = [True, {"approve": True}, {"approve": True, "reason": "fine"}]
NO = [
    (False, "not approved"),
    ({"approve": False, "reason": "no budget"}, "not approved: no budget"),
    ("yes", "not approved: the answer was neither True, False nor {'approve': bool, 'reason': str}"),
    ({"approve": "yes"}, "not approved: the answer was neither True, False nor {'approve': bool, 'reason': str}"),
    (1, "not approved: the answer was neither True, False nor {'approve': bool, 'reason': str}"),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_approved_call(kind, mode, build, add, gated, server, call, ran, runtime):
    """The run pauses with the question; on approval the tool runs once, and nobody is asked again."""
    gate = gated(ASK)
    server.script("m", call(TWO[0]))
    graph, config = build(kind, add, checkpointer=InMemorySaver()), thread()
    go(graph, mode, config=config)
    (question,) = graph.get_state(config).interrupts
    call_id = question.value["tool_call_id"]
    assert question.value == {
        "type": "agentrt.tool_approval",
        "tool": "add",
        "tool_call_id": call_id,
        "arguments": {"a": 1, "b": 2},
        "agent": gate.asked[0].identity.agent,
        "policy": "gate",
        "reason": "it costs money",
        "question": "may add run?",
    }
    assert ran == []
    assert gate.asked[0].can_ask
    state = go(graph, mode, Command(resume=True), config)
    assert results(state) == [("3", "success", "add")]
    assert ran == [(1, 2)]
    assert graph.get_state(config).interrupts == ()
    assert [asked.tool_call_id for asked in gate.asked] == [call_id, call_id]
    assert runtime.tool_gates.stats()["answers"] == {"add": {"gate": {"asked": 1, "approved": 1}}}
    assert [e.outcome for e in runtime.of(ToolEnded)] == ["asked", "ran"]


@pytest.mark.parametrize("yes", YES)
def test_ways_to_say_yes(yes, build, add, gated, server, call, ran):
    """True, or a dictionary that says so, approves."""
    gated(ASK)
    server.script("m", call(TWO[0]))
    graph, config = build("create_agent", add, checkpointer=InMemorySaver()), thread()
    go(graph, config=config)
    assert results(go(graph, given=Command(resume=yes), config=config)) == [("3", "success", "add")]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
@pytest.mark.parametrize(("no", "reason"), NO)
def test_a_call_not_approved(no, reason, mode, build, add, gated, server, call, ran, runtime):
    """Anything but a clear yes is a refusal, with the human's reason."""
    gated(ASK)
    server.script("m", call(TWO[0]))
    graph, config = build("create_agent", add, checkpointer=InMemorySaver()), thread()
    go(graph, mode, config=config)
    state = go(graph, mode, Command(resume=no), config)
    assert results(state) == [(f"Tool add was not run: {reason}", "error", "add")]
    assert ran == []
    assert runtime.tool_gates.stats()["answers"] == {"add": {"gate": {"asked": 1, "denied": 1}}}


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
@pytest.mark.parametrize("kind", ["create_agent", "middleware"])
def test_two_questions_at_once(kind, mode, build, add, gated, server, call, ran):
    """Parallel calls of an agent ask at once, and each gets the answer given to its own interrupt."""
    gated(ASK)
    server.script("m", call(*TWO))
    graph, config = build(kind, add, checkpointer=InMemorySaver()), thread()
    go(graph, mode, config=config)
    questions = graph.get_state(config).interrupts
    assert len(questions) == 2
    answers = {question.id: question.value["arguments"]["a"] == 3 for question in questions}
    state = go(graph, mode, Command(resume=answers), config)
    assert results(state) == [("Tool add was not run: not approved", "error", "add"), ("7", "success", "add")]
    assert ran == [(3, 4)]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
@pytest.mark.parametrize("first", [True, False])
def test_two_questions_of_one_node_are_asked_in_order(first, mode, build, add, gated, server, call, ran):
    """Calls that share a task ask one after the other, before any runs: no answer reaches the other call."""
    gated(lambda call: ASK if call.arguments["a"] < 5 else None)
    for _ in range(5):
        ran.clear()
        server.script("m", call(*TWO, ("add", {"a": 5, "b": 6})))
        graph, config = build("by_hand", add, checkpointer=InMemorySaver()), thread()
        go(graph, mode, config=config)
        assert [q.value["arguments"]["a"] for q in graph.get_state(config).interrupts] == [1]
        go(graph, mode, Command(resume=first), config)
        assert [q.value["arguments"]["a"] for q in graph.get_state(config).interrupts] == [3]
        assert ran == []
        state = go(graph, mode, Command(resume=not first), config)
        assert [status for _, status, _ in results(state)] == [
            "success" if first else "error",
            "error" if first else "success",
            "success",
        ]
        assert sorted(ran) == [(1, 2) if first else (3, 4), (5, 6)]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_without_a_checkpointer_nobody_can_be_asked(mode, build, add, gated, server, call, ran):
    """A run that cannot be resumed is not paused: the call is refused, and the agent told why."""
    gate = gated(ASK)
    server.script("m", call(TWO[0]))
    reason = "it costs money; it needs approval, and this run cannot be paused"
    assert results(go(build("create_agent", add), mode)) == [(f"Tool add was not run: {reason}", "error", "add")]
    assert not gate.asked[0].can_ask
    assert ran == []


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_asking_from_a_nested_agent(mode, chat, runtime, add, gated, server, call, ran):
    """An agent inside a node pauses the outer graph, whose checkpointer it runs under."""
    gate = gated(ASK)
    server.script("m", call(TWO[0]))
    agent = create_agent(chat(), [add], name="adder")
    outer = StateGraph(MessagesState)
    outer.add_node("worker", agent)
    outer.add_edge(START, "worker")
    graph, config = instrument(outer.compile(checkpointer=InMemorySaver()), runtime), thread()
    go(graph, mode, config=config)
    assert len(graph.get_state(config).interrupts) == 1
    assert results(go(graph, mode, Command(resume=True), config)) == [("3", "success", "add")]
    assert ran == [(1, 2)]
    assert gate.asked[0].identity.agent == "worker/adder"


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
@pytest.mark.parametrize("as_node", [True, False])
def test_an_approval_is_for_the_call_it_was_asked_for(as_node, mode, chat, runtime, add, gated, server, call, ran):
    """A sub-graph without checkpoints begins anew on resume: its new call does not take the old call's approval."""
    gated(ASK)
    server.script("m", call(TWO[0]), call(TWO[1]))
    agent = create_agent(chat(), [add], name="adder", checkpointer=False)

    async def aworker(state: Any) -> Any:
        return await agent.ainvoke(state)

    def worker(state: Any) -> Any:
        return agent.invoke(state)

    outer = StateGraph(MessagesState)
    outer.add_node("worker", agent if as_node else worker if mode == "invoke" else aworker)
    outer.add_edge(START, "worker")
    graph, config = instrument(outer.compile(checkpointer=InMemorySaver()), runtime), thread()
    go(graph, mode, config=config)
    assert graph.get_state(config).interrupts[0].value["arguments"] == {"a": 1, "b": 2}
    ((content, status, _),) = results(go(graph, mode, Command(resume=True), config))
    assert status == "error"
    assert "the approval was for an earlier call" in content
    assert ran == []


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_questions_one_after_the_other(mode, build, add, gated, server, call, ran):
    """Each later call of a run asks anew, and is approved or refused by its own answer."""
    gated(ASK)
    server.script("m", call(TWO[0]), call(TWO[1]), call(TWO[0]))
    graph, config = build("create_agent", add, checkpointer=InMemorySaver()), thread()
    go(graph, mode, config=config)
    for expected in (1, 3, 1):
        assert [q.value["arguments"]["a"] for q in graph.get_state(config).interrupts] == [expected]
        state = go(graph, mode, Command(resume=expected == 3), config)
    assert [status for _, status, _ in results(state)] == ["error", "success", "error"]
    assert ran == [(3, 4)]


# ---- what must not change -------------------------------------------------------------------------------------


def by_type(error: ValueError) -> str:
    return f"handled {error}"


def by_union(error: ValueError | KeyError) -> str:
    return f"handled {error}"


class SubError(ValueError):
    pass


HANDLERS = [True, False, "sorry", ValueError, (ValueError, KeyError), by_type, by_union, None]
ERRORS = [ValueError("v"), SubError("s"), KeyError("k"), RuntimeError("r"), ToolException("t")]


def outcome(graph: Any, mode: str) -> Any:
    try:
        return results(go(graph, mode))
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("handler", HANDLERS, ids=lambda h: getattr(h, "__name__", str(h)))
def test_errors_reach_the_graph_as_without_agentrt(handler, error, mode, build, gated, server, call, runtime):
    """Whatever `handle_tool_errors` says, a tool's exception ends where it would have ended, and is not told."""

    @tool
    def fail(x: int) -> int:
        """Fail."""
        raise error

    options = {} if handler is None else {"handle_tool_errors": handler}
    # One after the other: of two that fail at once, either may be the one that is raised.
    scripts = [call(("fail", {"x": x})) for x in (1, "no number")]

    def outcomes() -> list[Any]:
        found = []
        for script in scripts:
            server.reset()
            server.script("m", script)
            found.append(outcome(build("by_hand", fail, **options), mode))
        return found

    plain = outcomes()
    gate = gated(Run())
    assert outcomes() == plain
    assert len(gate.asked) == 2
    assert gate.told == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_tool_that_does_not_exist(kind, build, add, gated, server, call):
    """A call of an unknown tool is asked about, and answered as without agentrt."""
    script = call(("sub", {"a": 1}))
    server.script("m", script)
    plain = results(go(build(kind, add)))
    gate = gated(None)
    server.script("m", script)
    assert results(go(build(kind, add))) == plain
    assert [asked.tool for asked in gate.asked] == ["sub"]
    assert gate.told == []


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_a_tool_that_steers(mode, build, gated, server, call):
    """A Command passes through untouched, and is not offered for reuse."""

    @tool
    def hand_over(tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Steer."""
        return Command(update={"messages": [ToolMessage("steered", tool_call_id=tool_call_id)]}, goto=END)

    gate = gated(None)
    server.script("m", call(("hand_over", {})))
    state = go(build("by_hand", hand_over), mode)
    assert ("steered", "success", "hand_over") in results(state)
    assert gate.told == []
    assert gate.asked[0].depends_on_state


class Custom(BaseTool):
    name: str = "custom"
    description: str = "d"

    def _run(self, x: int) -> int:
        return x


class Configured(Custom):
    def _run(self, x: int, config: RunnableConfig) -> int:
        return x


@tool
def with_state(x: int, state: Annotated[dict[str, Any], InjectedState]) -> int:
    """Read state."""
    return len(state["messages"])


@tool
def with_store(x: int, store: Annotated[Any, InjectedStore()]) -> int:
    """Read the store."""
    return x


@tool
def with_runtime(x: int, runtime: ToolRuntime) -> int:
    """Read the runtime."""
    return x


@tool
def with_config(x: int, config: RunnableConfig) -> int:
    """Read the configuration."""
    return x


@tool
async def pure(x: int) -> int:
    """Read nothing."""
    return x


REMOTE = StructuredTool.from_function(
    lambda **_: 1, name="remote", description="d", args_schema={"type": "object", "properties": {"x": {}}}
)


@pytest.mark.parametrize(
    ("the_tool", "expected"),
    [
        (with_state, True),
        (with_store, True),
        (with_runtime, True),
        (with_config, True),
        (Configured(), True),
        (Custom(), False),
        (pure, False),
        (REMOTE, False),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_tools_that_read_more_than_their_arguments(the_tool, expected):
    """Injected state, store, runtime and configuration are seen; an ordinary tool has none."""
    assert reads_context(the_tool) is expected
    assert reads_context(the_tool) is expected


@pytest.mark.parametrize("mode", MODES)
def test_injected_arguments_stay_out(mode, build, gated, server, call, runtime):
    """Gates, digests and events see what the model wrote, and nothing that was injected."""
    gate = gated(None)
    server.script("m", call(("with_state", {"x": 1}), ("with_runtime", {"x": 1})))
    go(build("create_agent", with_state, with_runtime), mode)
    assert [dict(asked.arguments) for asked in gate.asked] == [{"x": 1}] * 2
    assert all(asked.depends_on_state for asked in gate.asked)
    expected = arguments_digest({"x": 1}, "default")
    assert [event.arguments_digest for event in runtime.of(ToolStarted)] == [expected] * 2
    assert [event.arguments_digest for event in runtime.of(ToolEnded)] == [expected] * 2


def test_the_users_own_middleware_is_inside(chat, add, gated, runtime, server, call):
    """Middleware of the user sees calls that run, and none that a gate answered."""
    theirs = Watching()
    gated(lambda call: Deny("no") if call.arguments["a"] == 1 else None)
    server.script("m", call(*TWO))
    go(instrument(create_agent(chat(), [add], middleware=[theirs]), runtime))
    assert theirs.seen == ["add"]


def test_a_gate_that_raises(build, add, gated, server, call, ran, runtime):
    """A gate's own exception is no one's problem, unless it must fail closed."""

    def boom(_: Any) -> Any:
        raise RuntimeError("theirs")

    class Guard(Gate):
        name = "guard"
        fail_closed = True

    gated(boom)
    server.script("m", call(TWO[0]))
    assert results(go(build("create_agent", add))) == [("3", "success", "add")]
    assert runtime.tool_gates.stats()["faults"] == {"gate": 1}
    gated(Guard(boom))
    server.script("m", call(TWO[0]))
    reason = "the guard policy could not decide"
    assert results(go(build("create_agent", add))) == [(f"Tool add was not run: {reason}", "error", "add")]
    assert len(ran) == 1


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("broken", ["clock", "emit"])
def test_a_broken_runtime(broken, closed, build, add, server, call, ran, new_runtime, chat):
    """A runtime that raises where it promised not to denies only where a gate fails closed."""

    class Guard(Gate):
        fail_closed = closed

    def fail(*_: Any) -> None:
        raise RuntimeError("ours")

    runtime = new_runtime(server.url)
    runtime.tool_gates = ToolGates([Guard()])
    graph = instrument(create_agent(chat(), [add]), runtime)
    setattr(runtime, broken, fail)
    server.script("m", call(TWO[0]))
    ((_, status, _),) = results(go(graph))
    assert status == ("error" if closed and broken == "clock" else "success")


def test_only_observed_graphs(chat, add, gated, runtime, server, call, ran):
    """A graph that this runtime does not watch is never gated, and a node used outside any graph neither."""
    gated(Deny("no"))
    plain = create_agent(chat(), [add])
    instrument(create_agent(chat(), [add]), runtime)
    server.script("m", call(TWO[0]))
    assert results(go(plain)) == [("3", "success", "add")]
    assert vars(ToolNode)["_run_one"] is not ORIGINALS["_run_one"]


def test_nodes_built_before_are_covered_and_all_is_undone(chat, add, gated, runtime, server, call):
    """A node that existed before the gates is gated; after `uninstall` the class is as it was."""
    graph = create_agent(chat(), [add])
    gated(Deny("no"))
    observed = instrument(graph, runtime)
    instrument(graph, runtime)
    server.script("m", call(TWO[0]), call(TWO[0]))
    assert results(go(observed))[0][1] == "error"
    uninstall()
    uninstall()
    assert all(vars(ToolNode)[name] is original for name, original in ORIGINALS.items())
    server.script("m", call(TWO[0]))


def test_two_runtimes_watch_one_graph(chat, add, gated, runtime, server, call, new_runtime, ran):
    """Both are asked; the stronger answer counts, and both are told of results."""
    other = new_runtime(server.url)
    theirs = Gate(Deny("no"))
    other.tool_gates = ToolGates([theirs])
    ours = gated(Run())
    graph = instrument(instrument(create_agent(chat(), [add]), runtime), other)
    server.script("m", call(TWO[0]))
    assert results(go(graph))[0][1] == "error"
    theirs.answer = None
    server.script("m", call(TWO[0]))
    assert results(go(graph)) == [("3", "success", "add")]
    assert len(ours.told) == len(theirs.told) == 1
    assert [e.outcome for e in runtime.of(ToolEnded)] == ["ran"]
    assert [e.outcome for e in other.of(ToolEnded)] == ["denied", "ran"]


def test_a_run_that_was_forgotten_is_still_gated(chat, add, gated, runtime, server, call, ran, monkeypatch):
    """Where the tracker lost a run, the call is asked about under an unknown agent rather than let through."""
    gate = gated(Deny("no"))
    graph = instrument(create_agent(chat(), [add]), runtime)
    monkeypatch.setattr("agentrt_langgraph.tracker.Tracker.current_identity", lambda _: None)
    server.script("m", call(TWO[0]))
    config = {"configurable": {"thread_id": "known"}}
    assert results(go(graph, config=config))[0][1] == "error"
    assert (gate.asked[0].identity.agent, gate.asked[0].identity.session) == ("unknown", "known")
    assert ran == []


def test_gated_calls_leave_nothing_behind(build, add, gated, server, call, runtime):
    """Neither runs nor decisions are kept when a graph is done."""

    def kept() -> int:  # exceptions that other tests hold keep some, by their frames
        gc.collect()
        return sum(type(thing) is Gated for thing in gc.get_objects())

    gated(None)
    graph, before = build("create_agent", add), kept()
    for _ in range(20):
        server.script("m", call(*TWO))
        go(graph)
    assert runtime.open_runs() == 0
    assert kept() == before


class Flags(TypedDict, total=False):
    messages: Annotated[list[Any], operator.add]


def test_a_node_called_by_hand_inside_a_node(runtime, add, gated, ran):
    """A ToolNode that a node calls itself is gated too, each time anew."""
    gate = gated(lambda call: Deny("no") if call.arguments["a"] == 1 else None)
    node = ToolNode([add])

    def by_hand(_: Flags) -> Flags:
        found = []
        for number, (name, args) in enumerate(TWO):
            asked = AIMessage("", tool_calls=[{"name": name, "args": args, "id": f"c{number}"}])
            found += node.invoke({"messages": [asked]})["messages"]
        return {"messages": found}

    graph = StateGraph(Flags)
    graph.add_node("a", by_hand)
    graph.add_edge(START, "a")
    state = instrument(graph.compile(), runtime).invoke({"messages": []})
    assert [m.status for m in state["messages"]] == ["error", "success"]
    assert len(gate.asked) == 2
    assert gate.asked[0].identity.agent == "a"


# ---- a ToolNode that is not as we know it ---------------------------------------------------------------------


@pytest.fixture
def unknown_toolnode(monkeypatch):
    """The class looks different, so that its public arguments are used."""
    monkeypatch.setattr(tools, "_as_expected", lambda: False)


@pytest.mark.usefixtures("unknown_toolnode")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_public_way_in(kind, mode, build, add, gated, server, call, ran, runtime, chat):
    """Where the class is not as we know it, nodes built from then on are gated by their public arguments."""
    gate = gated(lambda call: Deny("no") if call.arguments["a"] == 1 else None)
    instrument(create_agent(chat(), []), runtime)
    server.script("m", call(*TWO))
    state = go(build(kind, add), mode)
    assert results(state) == [("Tool add was not run: no", "error", "add"), ("7", "success", "add")]
    assert ran == [(3, 4)]
    assert [result.content for _, result in gate.told] == ["7"]
    uninstall()
    assert vars(ToolNode)["__init__"] is ORIGINALS["__init__"]


@pytest.mark.usefixtures("unknown_toolnode")
@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
@pytest.mark.parametrize("only", ["wrap_tool_call", "awrap_tool_call"])
def test_the_users_own_wrapper_is_kept(only, mode, build, add, gated, server, call, runtime, chat):
    """A wrapper the user gave for one mode is called in the modes it was called in before."""
    seen: list[str] = []

    def wrap(request: Any, execute: Any) -> Any:
        seen.append("wrap_tool_call")
        return execute(request)

    async def awrap(request: Any, execute: Any) -> Any:
        seen.append("awrap_tool_call")
        return await execute(request)

    theirs = {"wrap_tool_call": wrap, "awrap_tool_call": awrap}[only]
    script = call(TWO[0])
    server.script("m", script)
    plain = results(go(build("by_hand", add, **{only: theirs}), mode))
    before = list(seen)
    seen.clear()
    gated(None)
    instrument(create_agent(chat(), []), runtime)
    server.script("m", script)
    assert results(go(build("by_hand", add, **{only: theirs}), mode)) == plain
    assert seen == before


@pytest.mark.usefixtures("unknown_toolnode")
def test_the_public_way_asks_nobody(build, add, gated, server, call, ran, runtime, chat):
    """There a question is a refusal: calls that share a task could take each other's answer."""
    gated(ASK)
    instrument(create_agent(chat(), []), runtime)
    server.script("m", call(TWO[0]))
    assert results(go(build("by_hand", add, checkpointer=InMemorySaver())))[0][1] == "error"
    assert ran == []
