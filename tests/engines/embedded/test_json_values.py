"""Sampled values fit the schema they were drawn from."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrt.engines.embedded.json_values import sample

TREE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["name", "next"],
}


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        ({"type": "string"}, lambda v: isinstance(v, str) and v),
        ({"type": "integer"}, lambda v: 0 <= v <= 100),
        ({"type": "integer", "minimum": 7, "maximum": 9}, lambda v: 7 <= v <= 9),
        ({"type": "integer", "minimum": 500}, lambda v: v >= 500),
        ({"type": "integer", "maximum": -5}, lambda v: v <= -5),
        ({"type": "number", "minimum": 1, "maximum": 2}, lambda v: 1 <= v <= 2),
        ({"type": "boolean"}, lambda v: v in {True, False}),
        ({"type": ["null", "integer"]}, lambda v: isinstance(v, int)),
        ({"type": "null"}, lambda v: v is None),
        ({"enum": ["a", "b"]}, lambda v: v in {"a", "b"}),
        ({"const": 5}, lambda v: v == 5),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2}, lambda v: len(v) == 2),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, lambda v: isinstance(v, int)),
        ({"type": "object"}, lambda v: v == {}),
        ({"properties": {"a": {"const": 1}, "b": {}}, "required": ["a"]}, lambda v: v == {"a": 1}),
        ({"$defs": {"x": {"const": 3}}, "$ref": "#/$defs/x"}, lambda v: v == 3),
        (TREE, lambda v: set(v) == {"name", "next"}),
    ],
)
def test_values_fit(schema, fits):
    """Each kind of schema gets a value it would accept."""
    assert all(fits(sample(schema, random.Random(seed))) for seed in range(20))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "required", "items", "enum", "anyOf", "$ref", "minimum", "maxItems"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
)


@given(JSON)
def test_nonsense_is_survived(schema):
    """A schema that is none still gives a value: it came from a client."""
    sample(schema, random.Random(1))
