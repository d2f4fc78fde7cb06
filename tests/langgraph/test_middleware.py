"""`AgentRTMiddleware`: labels and gates for agents, by public interfaces alone, and once where a handler is there."""

import asyncio
import subprocess
import sys
from typing import Any

import openai
import pytest
from agentrt_langgraph import AgentRTMiddleware, install, instrument, uninstall
from agentrt_langgraph.trackers import tracker_of
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command

from agentrt.config import Settings
from agentrt.events import CallEnded, CallStarted, Dispatched, RunEnded, RunStarted, ToolEnded, ToolStarted
from agentrt.gates import ToolGates
from agentrt.plan import RequestPlan
from agentrt.policy import Policy
from agentrt.tools import Ask, Deny, Serve, ToolGate
from tests.agents import go, thread

MODES = ["invoke", "ainvoke", "stream", "astream"]
RUN_ONE = vars(ToolNode)["_run_one"]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Gate(Policy, ToolGate):
    """Answers as it is told."""

    name = "gate"

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Any] = []
        self.told: list[Any] = []

    def before(self, call: Any) -> Any:
        self.asked.append(call)
        return self.answer

    def after(self, call: Any, result: Any) -> None:
        self.told.append(result)


@pytest.fixture(autouse=True)
def unpatched():
    """Whatever the middleware does, it is no patch of ours that does it."""
    uninstall()  # a graph of another test may still be instrumented
    assert not hasattr(openai._base_client.SyncAPIClient._prepare_options, "__agentrt__")
    yield
    uninstall()


def labels(server: Any) -> list[tuple[Any, ...]]:
    return [(r.label["agent"], r.label["session"], r.label["step"], r.label.get("parent")) for r in server.requests]


def nothing_patched() -> bool:
    hook = openai._base_client.SyncAPIClient._prepare_options
    return not hasattr(hook, "__agentrt__") and vars(ToolNode)["_run_one"] is RUN_ONE


@pytest.mark.parametrize("mode", MODES)
def test_one_line_labels_every_request(mode, runtime, chat, server, call):
    """An agent with nothing but the middleware sends its identity with each request, in header and body."""
    agent = create_agent(chat(), [add], name="calc", middleware=[AgentRTMiddleware(runtime)])
    server.script("m", call(("add", {"a": 1, "b": 2})))
    state = go(agent, mode, config={"configurable": {"thread_id": "t"}})
    assert [m.content for m in state["messages"]] == ["1+2?", "", "3", "ok"]
    assert labels(server) == [("calc", "t", 0, None), ("calc", "t", 1, None)]
    assert all(r.headers["x-session-id"] == "t" for r in server.requests)
    assert len({r.label["invocation"] for r in server.requests}) == 1
    assert nothing_patched()


def test_messages_stream_is_labelled(runtime, chat, server):
    """Token streams too, where the model is streamed to the end."""
    agent = create_agent(chat(), [], name="calc", middleware=[AgentRTMiddleware(runtime)])
    text = "".join(part.content for part, _ in agent.stream({"messages": "?"}, thread(), stream_mode="messages"))
    assert text == "ok"
    assert server.requests[0].body["stream"] is True
    assert server.requests[0].label["agent"] == "calc"


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_the_same_identity_as_a_handler_gives(mode, runtime, chat, server, call, new_runtime):
    """Agent, parent, session, workload, invocation and step are those that the handler would find."""

    def boss(runtime: Any, *middleware: Any) -> Any:
        sub = create_agent(chat("sub"), [add], name="adder", middleware=list(middleware))

        @tool
        def delegate(question: str) -> str:
            """Ask."""
            return str(sub.invoke({"messages": question})["messages"][-1].content)

        @tool
        async def adelegate(question: str) -> str:
            """Ask."""
            return str((await sub.ainvoke({"messages": question}))["messages"][-1].content)

        its = delegate if mode == "invoke" else adelegate
        return create_agent(chat("boss"), [its], name="boss", middleware=list(middleware))

    def run(graph: Any, config: Any) -> list[Any]:
        name = "delegate" if mode == "invoke" else "adelegate"
        server.reset()
        server.script("boss", call((name, {"question": "?"})))
        server.script("sub", call(("add", {"a": 1, "b": 2})))
        go(graph, mode, config=config)
        wanted = ("agent", "session", "step", "parent", "workload", "tenant")
        return [[r.label.get(key) for key in wanted] for r in server.requests]

    config = {"configurable": {"thread_id": "t"}}
    alone = run(boss(runtime, AgentRTMiddleware(runtime)), config)
    other = new_runtime(server.url)
    assert alone == run(instrument(boss(other), other), config)
    assert [row[0] for row in alone] == ["boss", "boss/adder", "boss/adder", "boss"]
    assert runtime.edges() == other.edges()
    assert [e.tool for e in runtime.of(ToolStarted)] == [e.tool for e in other.of(ToolStarted)]
    assert [e.arguments_digest for e in runtime.of(ToolEnded)] == [e.arguments_digest for e in other.of(ToolEnded)]
    for kind in (RunStarted, RunEnded, Dispatched, CallStarted, CallEnded):
        assert len(runtime.of(kind)) == len(other.of(kind)), kind
    assert [e.cached_tokens for e in runtime.of(CallEnded)] == [8] * 4


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_sub_agents_in_parallel(mode, runtime, chat, server, call):
    """Agents run by parallel tools keep apart: each has its caller, its name and its own visit."""
    middleware = AgentRTMiddleware(runtime)

    def sub(name: str) -> Any:
        agent = create_agent(chat(name), [add], middleware=[middleware])

        @tool(name)
        def ask(question: str) -> str:
            """Ask."""
            return str(agent.invoke({"messages": question})["messages"][-1].content)

        return ask

    names = [f"s{n}" for n in range(6)]
    boss = create_agent(chat("boss"), [sub(name) for name in names], name="boss", middleware=[middleware])
    server.script("boss", call(*((name, {"question": name}) for name in names)))
    for name in names:
        server.script(name, call(("add", {"a": 1, "b": 2})))
    go(boss, mode, config={"configurable": {"thread_id": "t"}})
    by_model: dict[str, set[Any]] = {}
    for request in server.requests:
        label = request.label
        found = by_model.setdefault(request.body["model"], set())
        found.add((label["agent"], label.get("parent"), label["session"], label["invocation"]))
    assert {model: len(found) for model, found in by_model.items()} == dict.fromkeys(["boss", *names], 1)
    agents = {model: next(iter(found))[:3] for model, found in by_model.items()}
    assert agents == {"boss": ("boss", None, "t"), **{n: (f"boss/{n}", "boss", "t") for n in names}}
    assert sorted(r.label["step"] for r in server.requests) == list(range(14))


def test_sessions_side_by_side(runtime, chat, server):
    """Concurrent conversations of one agent never take each other's session."""
    agent = create_agent(chat(), [], name="calc", middleware=[AgentRTMiddleware(runtime)])

    async def drive() -> None:
        given = [({"messages": f"m{n}"}, {"configurable": {"thread_id": f"m{n}"}}) for n in range(30)]
        await asyncio.gather(*(agent.ainvoke(state, config) for state, config in given))

    asyncio.run(drive())
    assert len(server.requests) == 30
    assert all(r.label["session"] == r.prompt for r in server.requests)


def test_a_conversation_without_a_name(runtime, chat, server, call):
    """Without a thread id all calls of a run have one session, and another run another."""
    agent = create_agent(chat(), [add], middleware=[AgentRTMiddleware(runtime)])
    for _ in range(2):
        server.script("m", call(("add", {"a": 1, "b": 2})))
        agent.invoke({"messages": "?"})
    first, second, third, fourth = (r.label["session"] for r in server.requests)
    assert first == second
    assert third == fourth
    assert first != third
    assert {r.label["agent"] for r in server.requests} == {"model"}


def test_names_said_in_words(runtime, chat, server):
    """`agent=` wins over the agent's own name, and metadata names agent, session and tenant."""
    middleware = AgentRTMiddleware(runtime, agent="said")
    create_agent(chat(), [], name="calc", middleware=[middleware]).invoke({"messages": "?"})
    assert server.requests[-1].label["agent"] == "said"
    agent = create_agent(chat(), [], name="calc", middleware=[AgentRTMiddleware(runtime)])
    metadata = {"agentrt_agent": "meta", "agentrt_session": "s", "agentrt_tenant": "acme", "agentrt_workload": "w"}
    agent.invoke({"messages": "?"}, {"metadata": metadata})
    label = server.requests[-1].label
    assert [label[key] for key in ("agent", "session", "tenant", "workload")] == ["meta", "s", "acme", "w"]


@pytest.mark.parametrize("way", ["instrument", "install", "hook_gone"])
@pytest.mark.parametrize("mode", MODES)
def test_with_a_handler_all_is_said_once(way, mode, runtime, chat, server, call):
    """Where a handler watches too, requests, events and gates are as with the handler alone."""
    gate = Gate(None)
    runtime.tool_gates = ToolGates([gate])
    agent = create_agent(chat(), [add], name="calc", middleware=[AgentRTMiddleware(runtime)])
    if way == "install":
        install(runtime)
    else:
        agent = instrument(agent, runtime)
    if way == "hook_gone":
        uninstall()
    server.script("m", call(("add", {"a": 1, "b": 2})))
    go(agent, mode, config={"configurable": {"thread_id": "t"}})
    assert labels(server) == [("calc", "t", 0, None), ("calc", "t", 1, None)]
    assert [len(runtime.of(kind)) for kind in (RunStarted, RunEnded, CallStarted, CallEnded)] == [1, 1, 2, 2]
    assert [len(runtime.of(kind)) for kind in (ToolStarted, ToolEnded)] == [1, 1]
    assert len(gate.asked) == len(gate.told) == 1


def test_the_users_own_values_win(runtime, chat, server):
    """What the model or another middleware says stays; what the model alone says is not lost."""
    runtime.answer = RequestPlan(priority=3)
    theirs = {"vllm_xargs": {"mine": 1}, "priority": 7, "ttl": 300}
    model = chat(extra_body=theirs, default_headers={"X-Session-ID": "mine"})
    create_agent(model, [], middleware=[AgentRTMiddleware(runtime)]).invoke({"messages": "?"}, thread())
    (request,) = server.requests
    assert request.headers["x-session-id"] == "mine"
    assert request.body["priority"] == 7
    assert request.body["ttl"] == 300
    assert request.body["vllm_xargs"]["mine"] == 1
    assert request.label is not None
    assert theirs == {"vllm_xargs": {"mine": 1}, "priority": 7, "ttl": 300}


def test_values_given_with_the_call_win(runtime, chat, server):
    """Settings of a middleware around ours are kept, and replace the model's own as they would without us."""
    ours = AgentRTMiddleware(runtime)

    class Theirs(AgentRTMiddleware):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            settings = {"extra_body": {"ttl": 1}, "extra_headers": {"X-Mine": "1"}, "temperature": 0.5}
            return handler(request.override(model_settings=settings))

    model = chat(extra_body={"gone": True})
    create_agent(model, [], middleware=[Theirs(runtime), ours]).invoke({"messages": "?"}, thread())
    (request,) = server.requests
    assert (request.body["ttl"], request.body["temperature"], request.headers["x-mine"]) == (1, 0.5, "1")
    assert "gone" not in request.body
    assert request.label is not None


def test_priority_is_sent(runtime, chat, server):
    """The plan travels on the request, with vLLM's sign."""
    runtime.answer = RequestPlan(priority=3, reuse_p=0.5)
    create_agent(chat(), [], middleware=[AgentRTMiddleware(runtime)]).invoke({"messages": "?"}, thread())
    (request,) = server.requests
    assert request.body["priority"] == -3
    assert request.label["reuse_p"] == 0.5


def test_other_servers_and_models_get_nothing(server, chat, new_runtime):
    """Only the runtime's own engine is told; a model without an OpenAI client is left alone."""
    elsewhere = new_runtime("http://127.0.0.1:1")
    create_agent(chat(), [], middleware=[AgentRTMiddleware(elsewhere)]).invoke({"messages": "?"}, thread())
    (request,) = server.requests
    assert request.label is None
    assert "x-session-id" not in request.headers
    fake = FakeListChatModel(responses=["x"])
    state = create_agent(fake, [], middleware=[AgentRTMiddleware(elsewhere)]).invoke({"messages": "?"}, thread())
    assert state["messages"][-1].content == "x"
    assert len(elsewhere.of(CallEnded)) == 2
    assert elsewhere.faults == []


def test_the_kill_switch(server, chat, new_runtime, call):
    """A disabled runtime does nothing at all."""
    runtime = new_runtime(server.url)
    runtime.settings = Settings(disabled=True)
    runtime.tool_gates = ToolGates([Gate(Deny("no"))])
    server.script("m", call(("add", {"a": 1, "b": 2})))
    state = go(create_agent(chat(), [add], middleware=[AgentRTMiddleware(runtime)]))
    assert state["messages"][2].content == "3"
    assert all(request.label is None for request in server.requests)
    assert runtime.events == []


# ---- gates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, ("3", "success", "ran")),
        (Deny("no"), ("Tool add was not run: no", "error", "denied")),
        (Serve("9", "stored"), ("9", "success", "served")),
        (Ask("?", "dear"), ("not approved", "error", "denied")),
    ],
)
def test_gates_without_a_patch(answer, expected, mode, runtime, chat, server, call):
    """The same gates answer, by the middleware alone."""
    runtime.tool_gates = ToolGates([gate := Gate(answer)])
    agent = create_agent(
        chat(), [add], name="calc", middleware=[AgentRTMiddleware(runtime)], checkpointer=InMemorySaver()
    )
    server.script("m", call(("add", {"a": 1, "b": 2})))
    config = thread()
    state = go(agent, mode, config=config)
    if isinstance(answer, Ask):
        assert agent.get_state(config).interrupts[0].value["arguments"] == {"a": 1, "b": 2}
        state = go(agent, mode, Command(resume=False), config)
    message = next(m for m in state["messages"] if isinstance(m, ToolMessage))
    content, status, outcome = expected
    assert content in message.content
    assert message.status == status
    assert runtime.of(ToolEnded)[-1].outcome == outcome
    assert gate.asked[0].identity.agent == "calc"
    assert gate.asked[0].arguments_digest == runtime.of(ToolEnded)[-1].arguments_digest
    assert [m.content for m in gate.told] == (["3"] if answer is None else [])
    assert nothing_patched()


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_two_questions_at_once(mode, runtime, chat, server, call):
    """Parallel calls ask at once; each gets its own answer."""
    runtime.tool_gates = ToolGates([Gate(Ask("?", "dear"))])
    agent = create_agent(chat(), [add], middleware=[AgentRTMiddleware(runtime)], checkpointer=InMemorySaver())
    server.script("m", call(("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})))
    config = thread()
    go(agent, mode, config=config)
    asked = agent.get_state(config).interrupts
    answers = {question.id: question.value["arguments"]["a"] == 3 for question in asked}
    state = go(agent, mode, Command(resume=answers), config)
    assert [m.status for m in state["messages"] if isinstance(m, ToolMessage)] == ["error", "success"]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_an_approval_is_for_the_call_it_was_asked_for(mode, runtime, chat, server, call):
    """An agent without checkpoints begins anew on resume: its new call does not take the old call's approval."""
    runtime.tool_gates = ToolGates([Gate(Ask("?", "dear"))])
    server.script("m", call(("add", {"a": 1, "b": 2})), call(("add", {"a": 3, "b": 4})))
    agent = create_agent(chat(), [add], middleware=[AgentRTMiddleware(runtime)], checkpointer=False)
    outer = StateGraph(MessagesState)
    outer.add_node("worker", agent)
    outer.add_edge(START, "worker")
    graph, config = outer.compile(checkpointer=InMemorySaver()), thread()
    go(graph, mode, config=config)
    state = go(graph, mode, Command(resume=True), config)
    (message,) = (m for m in state["messages"] if isinstance(m, ToolMessage))
    assert message.status == "error"
    assert "the approval was for an earlier call" in message.content


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_questions_one_after_the_other(mode, runtime, chat, server, call):
    """Each later call of a run asks anew, and is approved or refused by its own answer."""
    runtime.tool_gates = ToolGates([Gate(Ask("?", "dear"))])
    agent = create_agent(chat(), [add], middleware=[AgentRTMiddleware(runtime)], checkpointer=InMemorySaver())
    server.script("m", *(call(("add", {"a": a, "b": 0})) for a in (1, 3, 1)))
    config = thread()
    go(agent, mode, config=config)
    for expected in (1, 3, 1):
        assert [q.value["arguments"]["a"] for q in agent.get_state(config).interrupts] == [expected]
        state = go(agent, mode, Command(resume=expected == 3), config)
    assert [m.status for m in state["messages"] if isinstance(m, ToolMessage)] == ["error", "success", "error"]


# ---- what must not change -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_failures_pass_through(mode, runtime, chat, server, call, reply):
    """Exceptions of model and tool reach the user, and are told as failures."""

    @tool
    def fail() -> str:
        """Fail."""
        raise ValueError("theirs")

    agent = create_agent(chat(), [fail], middleware=[AgentRTMiddleware(runtime)])
    server.script("m", reply(status=500))
    with pytest.raises(openai.InternalServerError):
        go(agent, mode)
    assert [e.failed for e in runtime.of(CallEnded)] == [True]
    assert [e.failed for e in runtime.of(RunEnded)] == [True]
    server.script("m", call(("fail", {})))
    with pytest.raises(ValueError, match="theirs"):
        go(agent, mode)
    assert [e.failed for e in runtime.of(ToolEnded)] == [True]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("broken", ["emit", "plan", "carries", "clock"])
def test_a_broken_runtime_is_no_ones_problem(broken, mode, new_runtime, chat, server, call):
    """A runtime that raises where it promised not to costs the user nothing."""
    runtime = new_runtime(server.url)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("ours")

    tracker = tracker_of(runtime)
    setattr(runtime, broken, fail)
    server.script("m", call(("add", {"a": 1, "b": 2})))
    state = go(create_agent(chat(), [add], middleware=[AgentRTMiddleware(runtime)]), mode)
    assert [m.content for m in state["messages"]] == ["1+2?", "", "3", "ok"]
    assert {str(error) for _, error in runtime.faults} == {"ours"}
    assert tracker.runtime is runtime


def test_no_node_is_added(runtime, chat, server):
    """The agent's graph and the chunks of its streams are those it has without the middleware."""
    plain = create_agent(chat(), [add])
    ours = create_agent(chat(), [add], middleware=[AgentRTMiddleware(runtime)])
    assert set(ours.nodes) == set(plain.nodes)
    assert [list(c) for c in ours.stream({"messages": "?"}, thread())] == [["model"]]


def test_an_agent_inside_a_graph(runtime, chat, server):
    """An agent that is a node of a graph nobody watches is labelled under its own name."""
    agent = create_agent(chat(), [], name="worker", middleware=[AgentRTMiddleware(runtime)])
    graph = StateGraph(MessagesState)
    graph.add_node("worker", agent)
    graph.add_edge(START, "worker")
    state = graph.compile().invoke({"messages": "?"}, {"configurable": {"thread_id": "t"}})
    assert isinstance(state["messages"][-1], AIMessage)
    assert labels(server) == [("worker", "t", 0, None)]


def test_langchain_is_needed_only_for_the_middleware():
    """The package can be imported without langchain; only asking for the middleware says what is missing."""
    code = (
        "import sys; sys.modules['langchain'] = None\n"
        "import agentrt_langgraph\n"
        "try: agentrt_langgraph.AgentRTMiddleware\n"
        "except ImportError as error: print('langchain' in str(error))\n"
        "try: agentrt_langgraph.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "True\nmodule 'agentrt_langgraph' has no attribute 'nothing'\n"
