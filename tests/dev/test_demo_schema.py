"""A schema of simple types gets a value that fits it; one that cannot be served is refused, not approximated."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.dev.demo.schema import SchemaRefused, fit

NODE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["name", "next"],
}

FITTING: dict[str, tuple[Any, Any]] = {
    "anything": (True, "Ada"),
    "string": ({"type": "string"}, "Ada"),
    "long string": ({"type": "string", "minLength": 6}, "Ada..."),
    "short string": ({"type": "string", "maxLength": 2}, "Ad"),
    "date": ({"type": "string", "format": "date"}, "2026-01-31"),
    "integer": ({"type": "integer"}, 1),
    "least": ({"type": "integer", "minimum": 18}, 18),
    "most": ({"type": "number", "maximum": 0.25}, 0.25),
    "above": ({"type": "integer", "exclusiveMinimum": 7}, 8),
    "step": ({"type": "integer", "minimum": 7, "multipleOf": 5}, 10),
    "boolean": ({"type": "boolean"}, True),
    "null": ({"type": "null"}, None),
    "nullable": ({"type": ["null", "string"]}, "Ada"),
    "enum": ({"enum": ["b", "a"]}, "b"),
    "const": ({"const": {"x": 1}}, {"x": 1}),
    "array": ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
    "empty array": ({"type": "array", "maxItems": 0}, []),
    "object": ({"properties": {"a": {"type": "integer"}}, "required": ["a", "b"]}, {"a": 1, "b": "Ada"}),
    "reference": ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, 1),
    "all of": (
        {"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}], "type": "object"},
        {"a": 1, "b": 2},
    ),
    "recursive": (NODE, {"name": "Ada", "next": {"name": "Ada", "next": None}}),
}


@pytest.mark.parametrize(("schema", "value"), FITTING.values(), ids=FITTING)
def test_the_value_fits(schema: Any, value: Any) -> None:
    """Each keyword that is honoured shapes the value."""
    assert fit(schema, "Ada") == value


REFUSED: dict[str, Any] = {
    "pattern": {"type": "string", "pattern": "a"},
    "unknown format": {"type": "string", "format": "regex"},
    "unknown type": {"type": "int"},
    "not a schema": 7,
    "false": False,
    "no choice": {"anyOf": []},
    "empty enum": {"enum": []},
    "reference to nowhere": {"$ref": "#/$defs/x"},
    "reference abroad": {"$ref": "https://example.com/x"},
    "endless": {"$ref": "#"},
    "endless in allOf": {"allOf": [{"$ref": "#/a"}], "a": {"$ref": "#/a"}},
    "contradiction": {"type": "integer", "minimum": 3, "maximum": 2},
    "too many items": {"type": "array", "minItems": 1000},
    "keyword of a wrong type": {"type": "object", "properties": ["a"]},
    "too wide": {"properties": {str(n): {"$ref": "#"} for n in range(100)}},
    "contradicting lengths": {"type": "string", "minLength": 3, "maxLength": 2},
}


@pytest.mark.parametrize("schema", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_served_is_refused(schema: Any) -> None:
    """No value is made that would not fit."""
    with pytest.raises(SchemaRefused):
        fit(schema, "Ada")


def test_tools_are_served_leniently() -> None:
    """Without strict, a keyword that is not honoured is passed over: a model's arguments may miss it too."""
    assert fit({"type": "string", "pattern": "a"}, "Ada", strict=False) == "Ada"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
KEYWORDS = st.sampled_from(
    [
        "type",
        "properties",
        "items",
        "required",
        "minimum",
        "maximum",
        "multipleOf",
        "anyOf",
        "allOf",
        "$ref",
        "minLength",
    ]
)
SCHEMAS = st.recursive(
    SCALARS | st.sampled_from(["object", "array", "string", "integer", "number", "#", "#/properties"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=4),
    max_leaves=12,
)


@given(SCHEMAS)
def test_any_json_is_served_or_refused(schema: Any) -> None:
    """Whatever stands for a schema, there is a value or SchemaRefused, and nothing else."""
    for strict in (True, False):
        try:
            fit(schema, "Ada", strict=strict)
        except SchemaRefused:
            continue
