"""A schema of simple types gets a value that fits it; one that cannot be served is refused, not approximated."""

from __future__ import annotations

from typing import Any

import pytest

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
    "contradiction": {"type": "integer", "minimum": 3, "maximum": 2},
    "too many items": {"type": "array", "minItems": 1000},
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
