"""Prompts of the same leading messages share their leading tokens."""

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from agentrt.engines.embedded.template import message_tokens, prompt_tokens, reply_tokens, text_of

TOOLS = [{"type": "function", "function": {"name": "grep", "parameters": {"type": "object"}}}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "grep", "arguments": '{"a": 1, "b": 2}'}}
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant", "tool", "developer", "critic"]),
        "content": st.none() | st.text(max_size=20) | st.just([{"type": "text", "text": "hi"}, {"type": "image"}]),
    },
    optional={"tool_calls": st.just([CALL])},
)


@given(st.lists(MESSAGE, max_size=6), st.sampled_from([[], TOOLS]))
def test_prompts_only_ever_grow_at_the_end(messages, tools):
    """The prompt of the first k messages is a prefix of the prompt of the first k+1."""
    prompts = [prompt_tokens(messages[:k], tools, generation=False) for k in range(len(messages) + 1)]
    for shorter, longer in itertools.pairwise(prompts):
        assert longer[: len(shorter)] == shorter


@given(st.lists(MESSAGE, min_size=1, max_size=4), st.text(max_size=20), st.sampled_from([[], [CALL]]))
def test_a_reply_continues_its_prompt(messages, text, calls):
    """What was generated is found again when the reply comes back as history."""
    reply = {"role": "assistant", "content": text, "tool_calls": calls}
    assert prompt_tokens(messages) + reply_tokens(reply) == prompt_tokens([*messages, reply], generation=False)


def test_tools_stand_at_the_front():
    """Tools are part of the system block, so another question shares them and another tool set does not."""
    system = {"role": "system", "content": "You are the coder. " * 20}
    first = prompt_tokens([system, {"role": "user", "content": "one"}], TOOLS, generation=False)
    other = prompt_tokens([system, {"role": "user", "content": "two"}], TOOLS, generation=False)
    front = prompt_tokens([system], TOOLS, generation=False)
    assert first[: len(front)] == other[: len(front)] == front
    assert len(front) > len(prompt_tokens([system], generation=False))


def test_ids_and_spacing_of_tool_calls_do_not_matter():
    """A call that a client wrote anew is the same call."""
    again = {"id": "other", "function": {"name": "grep", "arguments": json.dumps({"b": 2, "a": 1}, indent=2)}}
    assert message_tokens({"tool_calls": [CALL]}) == message_tokens({"content": "", "tool_calls": [again]})
    broken = {"function": {"name": "grep", "arguments": "{"}}
    assert message_tokens({"tool_calls": [broken]}) != message_tokens({"tool_calls": [CALL]})


def test_parts_of_a_message_are_joined():
    """Text parts are text, whatever else there is appears as JSON."""
    content = ["a", {"type": "text", "text": "b"}, {"type": "image_url", "image_url": {"url": "x"}}]
    assert text_of({"content": content}) == '"a"b{"image_url":{"url":"x"},"type":"image_url"}'
