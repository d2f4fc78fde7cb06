"""Values that fit a JSON schema, drawn from a seeded generator: arguments of tool calls, structured replies.

Covers what tool schemas are made of: objects, arrays, scalars with bounds, enum, const, anyOf, $ref. A keyword it
does not know is not obeyed.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from agentrt.engines.embedded.prose import words

_MAX_DEPTH = 6
"""Recursive schemas end here, with the emptiest value allowed."""


def sample(  # noqa: PLR0911 - one return per kind of schema
    schema: Any, rng: random.Random, *, root: Mapping[str, Any] | None = None, depth: int = 0
) -> Any:
    """A value of the schema. Never raises for a schema that is a JSON value; nonsense gives a string."""
    if not isinstance(schema, Mapping):
        return words(rng, 2)
    root = schema if root is None else root
    if depth > _MAX_DEPTH:
        return None
    if "const" in schema:
        return schema["const"]
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return rng.choice(choices)
    if isinstance(schema.get("$ref"), str):
        return sample(_resolve(schema["$ref"], root), rng, root=root, depth=depth + 1)
    for union in ("anyOf", "oneOf", "allOf"):
        options = schema.get(union)
        if isinstance(options, list) and options:
            return sample(options[0], rng, root=root, depth=depth + 1)
    return _of_type(schema, rng, root, depth)


def _of_type(  # noqa: PLR0911 - one return per type
    schema: Mapping[str, Any], rng: random.Random, root: Mapping[str, Any], depth: int
) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if kind == "object" or (kind is None and isinstance(schema.get("properties"), Mapping)):
        return _object(schema, rng, root, depth)
    match kind:
        case "array":
            count = rng.randint(*_bounds(schema, "minItems", "maxItems", 1, 3))
            return [sample(schema.get("items"), rng, root=root, depth=depth + 1) for _ in range(min(count, 16))]
        case "integer":
            return rng.randint(*_bounds(schema, "minimum", "maximum", 0, 100))
        case "number":
            return round(rng.uniform(*_bounds(schema, "minimum", "maximum", 0, 100)), 2)
        case "boolean":
            return rng.random() < 0.5  # noqa: PLR2004 - a fair coin
        case "null":
            return None
        case _:
            return words(rng, rng.randint(2, 6))


def _object(schema: Mapping[str, Any], rng: random.Random, root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    required = schema.get("required")
    if not isinstance(properties, Mapping):
        return {}
    wanted: Sequence[Any] = required if isinstance(required, list) else []
    return {name: sample(properties[name], rng, root=root, depth=depth + 1) for name in properties if name in wanted}


def _bounds(schema: Mapping[str, Any], low_key: str, high_key: str, low: int, high: int) -> tuple[int, int]:
    """Bounds of the schema where it gives whole numbers that make sense, widened to include a default range."""
    given_low, given_high = schema.get(low_key), schema.get(high_key)
    if isinstance(given_low, int | float):
        low = int(given_low)
        high = max(high, low + 1)
    if isinstance(given_high, int | float):
        high = int(given_high)
        low = min(low, high) if not isinstance(given_low, int | float) else low
    return (low, high) if low <= high else (low, low)


def _resolve(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
