"""Scripted replies follow the rules, and depend on the seed and the prompt alone."""

import json
import random
from collections import Counter

import pytest

from agentrt.engines.embedded.answer import answer_of
from agentrt.engines.embedded.responder import Reply, ResponderRequest, SeededResponder, ToolCall
from agentrt.engines.embedded.tokenizer import encode

SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
TOOLS = [
    {"type": "function", "function": {"name": "grep", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "transfer_to_coder"}},
]
USER = {"role": "user", "content": "Fix the bug."}


def replies(count=200, *, responder=None, **fields):
    """Replies to one request under many seeds."""
    request = ResponderRequest(**{"messages": [USER], **fields})
    return [(responder or SeededResponder()).reply(request, random.Random(seed)) for seed in range(count)]


def test_prose_has_a_seeded_length_within_bounds():
    """Filler is 20 to about 120 tokens long."""
    lengths = [len(encode(reply.content)) for reply in replies()]
    assert 15 <= min(lengths) < 40
    assert 90 < max(lengths) <= 140


def test_the_same_seed_says_the_same():
    """A reply is a function of request and seed."""
    assert replies(20, tools=TOOLS) == replies(20, tools=TOOLS)
    assert len({reply.content for reply in replies(20)}) == 20


def test_one_of_the_allowed_answers_comes_first():
    """A list of answers in the last user message is obeyed, with its weights."""
    ask = {"role": "user", "content": "Judge this.\n  Reply with one of: PASS (0.9), FAIL (0.1).\nBe brief."}
    seen = Counter(reply.content.splitlines()[0] for reply in replies(messages=[USER, ask]))
    assert set(seen) == {"PASS", "FAIL"}
    assert 150 < seen["PASS"] < 200


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_system_prompt_may_list_answers_too(role):
    """Without weights all are equally likely; the user's list goes before the system's."""
    system = {"role": role, "content": "Reply with one of: A, B, C"}
    seen = Counter(reply.content.splitlines()[0] for reply in replies(300, messages=[system, USER]))
    assert set(seen) == {"A", "B", "C"}
    assert min(seen.values()) > 60
    both = replies(20, messages=[system, {"role": "user", "content": "Reply with one of: X"}])
    assert {reply.content.splitlines()[0] for reply in both} == {"X"}


def test_a_tool_is_called_with_fitting_arguments():
    """Offered tools, hand-offs like any other, are called most of the time, one at a time."""
    called = [reply.tool_calls for reply in replies(tools=TOOLS)]
    assert 0.6 < sum(map(bool, called)) / len(called) < 0.8
    assert {len(calls) for calls in called} == {0, 1}
    calls = [call for calls in called for call in calls]
    assert {call.name for call in calls} == {"grep", "transfer_to_coder"}
    assert all(set(json.loads(c.arguments)) == ({"query"} if c.name == "grep" else set()) for c in calls)
    assert len({call.call_id for call in calls}) == len(calls)


def test_after_a_tools_result_it_answers():
    """A result is answered in words, so that a tool loop ends."""
    history = [USER, {"role": "assistant", "tool_calls": []}, {"role": "tool", "content": "found"}]
    assert not any(reply.tool_calls for reply in replies(tools=TOOLS, messages=history))


def test_tool_choice_is_honoured():
    """`required` always calls, a named tool is the one called, `none` never calls."""
    assert all(reply.tool_calls for reply in replies(20, tools=TOOLS, tool_choice="required"))
    named = {"type": "function", "function": {"name": "grep"}}
    assert {r.tool_calls[0].name for r in replies(20, tools=TOOLS, tool_choice=named)} == {"grep"}
    assert not any(reply.tool_calls for reply in replies(20, tools=TOOLS, tool_choice="none"))


def test_a_response_format_gets_json():
    """Structured output fits the schema."""
    schema = {"type": "object", "properties": {"next": {"enum": ["coder", "END"]}}, "required": ["next"]}
    described = {"type": "json_schema", "json_schema": {"name": "Route", "schema": schema}}
    chosen = {json.loads(reply.content)["next"] for reply in replies(response_format=described)}
    assert chosen == {"coder", "END"}
    assert json.loads(replies(1, response_format={"type": "json_object"})[0].content) == {}
    assert replies(1, response_format={"type": "text"})[0].content.endswith(".")


def test_an_answer_is_cut_at_its_limit():
    """Text beyond the limit is cut between tokens; a tool call that does not fit is dropped."""
    text = "one two three four five"
    answer = answer_of(Reply(content=text), max_tokens=3)
    assert (answer.text(0, 3), len(answer.tokens), answer.finish_reason) == ("one two three", 3, "length")
    call = ToolCall(call_id="c", name="grep", arguments='{"query": "x"}')
    cut = answer_of(Reply(tool_calls=(call,)), max_tokens=2)
    assert (cut.tool_calls, cut.finish_reason) == ((), "length")
    whole = answer_of(Reply(tool_calls=(call,)), max_tokens=50)
    assert (whole.tool_calls, whole.finish_reason) == ((call,), "tool_calls")


def test_an_answer_ends_before_a_stop_text():
    """The first of the stop texts ends the reply, and is not part of it."""
    answer = answer_of(Reply(content="one two three"), max_tokens=50, stops=["three", " two", ""])
    assert (answer.text(0, 50), answer.finish_reason) == ("one", "stop")
