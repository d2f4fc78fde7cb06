"""The example's control flow, over a real HTTP server whose replies are written here."""

import asyncio
import hashlib
import json
import random
import re
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, ToolMessage

THREAD = {"configurable": {"thread_id": "thread-1"}}
TASK = {"task": "Parse durations such as 1h30m."}


def role_of(body):
    """Which role a request is from, by its system prompt."""
    return re.match(r"You are the (\w+) of", body["messages"][0]["content"])[1]


def scripted(**replies):
    """A server's `reply`: each role says its texts one after the other, the last one again and again; no tool calls."""
    said = {role: list(texts) for role, texts in replies.items()}

    def reply(body):
        texts = said.get(role_of(body), ["done"])
        return (texts.pop(0) if len(texts) > 1 else texts[0]), []

    return reply


def build(team, server, **options):
    return team.build_graph(base_url=server.base_url, model="fake", api_key="none", **options)


def spoken(state):
    """Who spoke, in order, tool turns included once each."""
    return [message.name for message in state["messages"] if isinstance(message, AIMessage)]


def test_the_straight_way(team, chat_server):
    """With approval everywhere each role speaks once, in order."""
    server = chat_server(scripted(planner=["DESIGN\nplan"], tester=["PASS"], reviewer=["APPROVE"]))
    state = build(team, server).invoke(TASK, THREAD)
    assert spoken(state) == ["planner", "architect", "coder", "tester", "reviewer", "documenter"]
    assert state["rounds"] == 1


def test_small_requests_skip_the_design(team, chat_server):
    """DIRECT sends the plan straight to the coder."""
    server = chat_server(scripted(planner=["DIRECT"], tester=["PASS"], reviewer=["APPROVE"]))
    assert "architect" not in spoken(build(team, server).invoke(TASK, THREAD))


def test_work_is_sent_back(team, chat_server):
    """FAIL and REVISE go back to the coder, REDESIGN to the architect."""
    server = chat_server(
        scripted(planner=["DESIGN"], tester=["FAIL\n1. x", "PASS"], reviewer=["REVISE", "REDESIGN", "APPROVE"])
    )
    assert spoken(build(team, server).invoke(TASK, THREAD)) == [
        *("planner", "architect", "coder", "tester"),  # the tester sends it back
        *("coder", "tester", "reviewer"),  # the reviewer wants a revision
        *("coder", "tester", "reviewer"),  # and then another design
        *("architect", "coder", "tester", "reviewer", "documenter"),
    ]


def test_rounds_are_bounded(team, chat_server):
    """A team that never agrees still finishes."""
    server = chat_server(scripted(planner=["DESIGN"], tester=["FAIL"], reviewer=["REVISE"]))
    state = build(team, server).invoke(TASK, THREAD)
    assert spoken(state)[-2:] == ["reviewer", "documenter"]
    assert state["rounds"] == 4


@pytest.mark.parametrize("opening", ["**PASS**", "# Verdict: PASS", "\nSure!\nPASS\nFAIL is not warranted"])
def test_verdicts_are_found_where_models_put_them(team, chat_server, opening):
    """A verdict counts with decoration around it, and a later mention of another one does not."""
    server = chat_server(scripted(planner=["DIRECT"], tester=[opening], reviewer=["APPROVE"]))
    assert spoken(build(team, server).invoke(TASK, THREAD)).count("coder") == 1


def gibberish(body):
    """Noise, the same for the same prompt, with tool calls that make no sense."""
    chance = random.Random(hashlib.sha256(json.dumps(body["messages"]).encode()).digest())
    words = "".join(chance.choices("abcdefgh \n{}<>\u00e9\u4e16", k=40))
    wild = [
        "{",
        "[]",
        "null",
        '{"path": 7}',
        '{"content": {}}',
        '{"path": "../x", "content": "y"}',
        '{"query": ""}',
        "{}",
    ]
    names = [tool["function"]["name"] for tool in body.get("tools", [])]
    if names and chance.random() < 0.8:
        return "", [
            (chance.choice([*names, "no_such_tool", ""]), chance.choice(wild)) for _ in range(chance.randint(1, 3))
        ]
    return words, []


def test_a_model_that_talks_nonsense_still_gets_through(team, chat_server):
    """Unparseable verdicts are drawn by a hash: conversations end, differ, and are the same when repeated."""
    server = chat_server(gibberish)
    graph = build(team, server)
    flows = [
        spoken(graph.invoke({"task": task}, {"configurable": {"thread_id": f"t-{number}"}}))
        for number, task in enumerate(team.TASKS[:8])
    ]
    assert all(flow[0] == "planner" and flow[-1] == "documenter" for flow in flows)
    assert len({tuple(flow) for flow in flows}) > 3
    again = graph.invoke({"task": team.TASKS[0]}, {"configurable": {"thread_id": "t-0"}})
    assert spoken(again) == flows[0]


def tools_then_verdict(calls):
    """A server's `reply`: each visit first makes the given calls, then concludes."""

    def reply(body):
        if body.get("tools") and body["messages"][-1]["role"] != "tool":
            return "", calls[role_of(body)]
        return {"planner": "DIRECT", "tester": "PASS", "reviewer": "APPROVE"}.get(role_of(body), "done"), []

    return reply


def test_tools_work_on_the_conversation(team, chat_server):
    """What the coder writes is in the state, and the tester's tools see it."""
    write = ("write_file", json.dumps({"path": "a.py", "content": "x = 1"}))
    server = chat_server(tools_then_verdict({"coder": [write], "tester": [("read_file", '{"path": "a.py"}')]}))
    state = build(team, server).invoke(TASK, THREAD)
    assert state["files"] == {"a.py": "x = 1"}
    results = [message.content for message in state["messages"] if isinstance(message, ToolMessage)]
    assert results == ["wrote a.py: 1 lines, 5 characters", "x = 1"]


@pytest.mark.parametrize(
    "call",
    [
        ("write_file", '{"path": "/etc/passwd", "content": "x"}'),
        ("write_file", '{"path": 3}'),
        ("search_code", '{"query": " "}'),
        ("read_file", '{"path": "nowhere.py"}'),
        ("no_such_tool", "{}"),
    ],
)
def test_tool_errors_become_tool_messages(team, chat_server, call):
    """A call that cannot be carried out is answered by its error, short, and the conversation goes on."""
    server = chat_server(tools_then_verdict({"coder": [call], "tester": [("run_tests", "{}")]}))
    state = build(team, server).invoke(TASK, THREAD)
    first = next(message for message in state["messages"] if isinstance(message, ToolMessage))
    assert first.content.startswith("Error")
    assert len(first.content) <= 400
    assert spoken(state)[-1] == "documenter"


def test_tool_turns_are_bounded(team, chat_server):
    """A model that only ever calls tools is made to conclude, and no call stays unanswered in a later prompt."""

    def reply(body):
        return ("", [("read_file", '{"path": "lib/clock.py"}')]) if body.get("tools") else ("APPROVE", [])

    server = chat_server(reply)
    state = build(team, server).invoke(TASK, THREAD)
    assert spoken(state)[-1] == "documenter"
    for body in server.requests:
        asked = sum(len(m.get("tool_calls") or []) for m in body["messages"])
        assert asked == sum(m["role"] == "tool" for m in body["messages"])


def test_without_tools_none_are_offered(team, chat_server):
    """`use_tools=False` keeps tools out of every request."""
    server = chat_server(scripted(planner=["DIRECT"], tester=["PASS"], reviewer=["APPROVE"]))
    build(team, server, use_tools=False).invoke(TASK, THREAD)
    assert not any("tools" in body for body in server.requests)


def test_each_roles_prompts_only_grow(team, chat_server):
    """Within a conversation a role's next prompt begins with its last one, so that the server can reuse it."""
    server = chat_server(gibberish)
    build(team, server).invoke({"task": team.TASKS[3]}, {"configurable": {"thread_id": "t-3"}})
    last = {}
    grown = 0
    for body in server.requests:
        role, messages = role_of(body), body["messages"]
        if role in last:
            assert messages[: len(last[role])] == last[role]
            grown += 1
        last[role] = messages
    assert grown > 3


def test_a_role_sees_its_part_of_the_history(team, chat_server):
    """The planner sees the request only, the documenter a summary; nobody sees another one's tool calls."""
    write = ("write_file", json.dumps({"path": "a.py", "content": "SECRET"}))
    server = chat_server(tools_then_verdict({"coder": [write], "tester": [("run_tests", "{}")]}))
    build(team, server).invoke(TASK, THREAD)
    by_role = {role_of(body): json.dumps(body["messages"][1:]) for body in server.requests}
    assert "From the" not in by_role["planner"]
    assert "SECRET" in by_role["coder"]
    assert "SECRET" not in by_role["tester"] + by_role["reviewer"] + by_role["documenter"]
    assert "a.py (6 characters)" in by_role["documenter"]


def test_async_takes_the_same_way(team, chat_server):
    """Driven by ainvoke and by invoke, it gives the same transcript."""
    server = chat_server(gibberish)
    graph = build(team, server)

    def told(state):
        return [(message.name, message.content) for message in state["messages"]]

    assert told(asyncio.run(graph.ainvoke(TASK, THREAD))) == told(graph.invoke(TASK, THREAD))


def test_streaming_tells_the_same(team, chat_server):
    """Streaming updates name the roles in the order in which they worked."""
    server = chat_server(scripted(planner=["DESIGN"], tester=["PASS"], reviewer=["APPROVE"]))
    updates = [name for update in build(team, server).stream(TASK, THREAD) for name in update]
    assert updates == ["planner", "architect", "coder", "tester", "reviewer", "documenter"]


def test_the_graph_knows_nothing_of_agentrt(team):
    """Only the runnable script imports agentrt; the graph's own code does not mention it outside prose."""
    folder = Path(team.__file__).parent
    for path in folder.glob("*.py"):
        if path.name != "__main__.py":
            assert not re.search(r"^\s*(import|from) agentrt", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_prompts_are_long_and_differ(team):
    """Every role has a realistic prompt of its own, and the verdicts it names lead somewhere."""
    prompts, graph = team.prompts, team.graph
    sizes = [len(text) // 4 for text in prompts.PROMPTS.values()]
    assert all(400 <= size <= 900 for size in sizes)
    assert len(set(sizes)) == len(sizes)
    for role in prompts.ROLES:
        assert set(prompts.verdicts_of(role)) == set(graph.NEXT[role]) - {""}


def test_drawn_verdicts_follow_the_shares(team):
    """Verdicts drawn by hash come out about as often as the prompt says."""
    drawn = [team.prompts.verdict_in("tester", "noise", key=str(number)) for number in range(2000)]
    assert 0.5 < drawn.count("PASS") / len(drawn) < 0.6


def test_tasks_are_many_and_different(team):
    """There are at least two dozen requests."""
    assert len(set(team.TASKS)) == len(team.TASKS) >= 24
    assert all(40 < len(task) < 400 for task in team.TASKS)
