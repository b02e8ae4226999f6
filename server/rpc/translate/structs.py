"""google.protobuf.Struct <-> JSON text.

A Struct knows neither the order of members nor integers: its numbers are doubles, its members a map. So integral
doubles become integers, one from 2^53 on (where doubles skip integers) is refused, and members are written in a fixed
order: sorted, and in a JSON schema the `properties` in the order of their object's `required` first. Strict schemas
require every property, so for them that is the author's order, which models fill in arguments by.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from google.protobuf import struct_pb2
from google.protobuf.message import Message

from server.core.errors import InvalidRequest
from server.rpc.translate.struct_bytes import SAFE_INTEGER, add_struct

_OBJECT = msgspec.json.Decoder(dict[str, Any])

_SCHEMA_MAPS = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties"})
"""Keywords whose value maps names to schemas."""

_SCHEMA_DATA = frozenset({"const", "default", "enum", "example", "examples"})
"""Keywords whose value is data, not a schema, even where it looks like one."""


def object_json(struct: struct_pb2.Struct, field: str, remedy: str) -> str:
    """The object as compact JSON, members sorted. remedy: what to do with a number that does not fit, for the error."""
    return _encode(_sorted(_members(struct, field, remedy)))


def schema_json(struct: struct_pb2.Struct, field: str, remedy: str) -> str:
    """The JSON schema as compact JSON, members in the order that this module's docstring gives."""
    return _encode(_schema(_members(struct, field, remedy)))


def value_object(struct: struct_pb2.Struct, field: str, remedy: str) -> dict[str, Any]:
    """The object as Python values, numbers checked."""
    return _members(struct, field, remedy)


def encode_object(members: dict[str, Any]) -> str:
    """Python values as compact JSON, members sorted."""
    return _encode(_sorted(members))


def check_json_object(text: str, field: str) -> str:
    """`text` itself, if it is a JSON object. Raises InvalidRequest that says where it is not, and quotes nothing."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidRequest.field(field, f"must be a JSON object ({error})") from None
    except RecursionError:
        raise InvalidRequest.field(field, "must be a JSON object (it is nested too deeply)") from None
    if not isinstance(value, dict):
        raise InvalidRequest.field(field, f"must be a JSON object (got {_json_type(value)})")
    return text


def fill_struct(holder: Message, number: int, text: str) -> None:
    """Set the holder's field with this number, a Struct, to what JSON text of an object says; leave it unset for "".
    Integers that a double cannot hold become strings, as proto JSON writes 64-bit numbers."""
    if text:
        add_struct(holder, number, _OBJECT.decode(text))


def _members(struct: struct_pb2.Struct, path: str, remedy: str) -> dict[str, Any]:
    return {name: _value(value, f"{path}.{name}", remedy) for name, value in struct.fields.items()}


def _value(value: struct_pb2.Value, path: str, remedy: str) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return _number(value.number_value, path, remedy)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _members(value.struct_value, path, remedy)
        case "list_value":
            return [_value(item, f"{path}[{n}]", remedy) for n, item in enumerate(value.list_value.values)]
        case _:
            return None


def _number(number: float, path: str, remedy: str) -> int | float:
    if not math.isfinite(number):
        raise InvalidRequest.field(path, f"must be a finite number (got {number})")
    if not number.is_integer():
        return number
    if abs(number) >= SAFE_INTEGER:
        raise InvalidRequest.field(path, f"must be smaller than 2^53, beyond which this form is not exact; {remedy}")
    return int(number)


def _schema(node: Any) -> Any:
    if isinstance(node, list):
        return [_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    ordered: dict[str, Any] = {}
    for keyword in sorted(node):
        value = node[keyword]
        if keyword in _SCHEMA_DATA:
            ordered[keyword] = _sorted(value)
        elif keyword == "properties" and isinstance(value, dict):
            ordered[keyword] = {name: _schema(value[name]) for name in _property_order(value, node.get("required"))}
        elif keyword in _SCHEMA_MAPS and isinstance(value, dict):
            ordered[keyword] = {name: _schema(value[name]) for name in sorted(value)}
        else:
            ordered[keyword] = _schema(value)
    return ordered


def _property_order(properties: dict[str, Any], required: Any) -> list[str]:
    named = required if isinstance(required, list) else []
    first = dict.fromkeys(name for name in named if isinstance(name, str) and name in properties)
    return [*first, *sorted(properties.keys() - first.keys())]


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _json_type(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
