import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrt.identity import Identity

names = st.text(min_size=1, max_size=60)


@given(names, names, names, names, st.text(max_size=60), st.one_of(st.none(), names), st.integers(0, 10**6))
def test_a_label_round_trips(session, agent, workload, tenant, invocation, parent, step):
    """What was encoded is what is decoded, whatever the characters, and the label is ASCII."""
    identity = Identity(
        session=session, agent=agent, workload=workload, tenant=tenant, invocation=invocation, parent=parent, step=step
    )
    label = identity.to_label(reuse_p=0.5)
    assert label.isascii()
    assert Identity.from_label(label) == identity


@given(st.one_of(st.none(), st.integers(), st.text(), st.binary(), st.dictionaries(st.text(), st.text())))
def test_anything_else_is_no_label(raw):
    """Labels come from any client: what is not one is None, never an exception."""
    assert Identity.from_label(raw) is None or isinstance(raw, str)


@pytest.mark.parametrize(
    "raw",
    [
        "[]",
        "{}",
        '{"session": "s"}',
        '{"agent": "a"}',
        '{"session": "", "agent": "a"}',
        '{"session": 1, "agent": "a"}',
        json.dumps({"session": "s" * 257, "agent": "a"}),
        json.dumps({"session": "s", "agent": "a", "pad": "x" * 5000}),
        "[" * 4000,
    ],
)
def test_malformed_or_oversized_labels_are_unknown(raw):
    """A label without a session and an agent, or too large, makes the call unknown."""
    assert Identity.from_label(raw) is None


def test_unknown_fields_are_ignored():
    """An older engine understands a newer client."""
    label = json.dumps({"session": "s", "agent": "a", "next_year": True, "step": "seven", "parent": 3})
    assert Identity.from_label(label) == Identity(session="s", agent="a")
