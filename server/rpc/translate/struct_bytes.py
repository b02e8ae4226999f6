"""google.protobuf.Struct as it goes on the wire, from plain values.

Building the messages member by member takes three times as long, as each of them is an object of Python's and of
protobuf's, and one that is handed to a parent is copied by way of its bytes.

    Struct    = fields (1): entry*              entry = key (1), value (2)
    Value     = null (1) | number (2) | string (3) | bool (4) | Struct (5) | ListValue (6)
    ListValue = values (1): Value*

Source: google/protobuf/struct.proto, and the encoding that protobuf documents for fields of these types.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from google.protobuf.message import Message

SAFE_INTEGER: Final = 2**53
"""From here on two integers may be one double."""

_double = struct.Struct("<cd").pack


def add_struct(holder: Message, number: int, members: Mapping[str, Any]) -> None:
    """Set the holder's field with this number, which is a Struct. Members: what JSON has; integers that a double cannot
    hold become strings, as proto JSON writes 64-bit numbers."""
    holder.MergeFromString(_field(_varint(number << 3 | 2), _struct(members)))


def _struct(members: Mapping[str, Any]) -> bytes:
    return b"".join([_field(b"\x0a", _name(name) + _field(b"\x12", _value(value))) for name, value in members.items()])


@lru_cache(maxsize=1024)
def _name(name: str) -> bytes:
    """A member's name as its entry's key. Providers send the same names again and again."""
    return _field(b"\x0a", name.encode())


def _value(value: Any) -> bytes:
    return _VALUES[type(value)](value)


def _integer(value: int) -> bytes:
    return _double(b"\x11", value) if -SAFE_INTEGER < value < SAFE_INTEGER else _text(str(value))


def _text(value: str) -> bytes:
    return _field(b"\x1a", value.encode())


def _list(values: list[Any]) -> bytes:
    return _field(b"\x32", b"".join([_field(b"\x0a", _value(value)) for value in values]))


_VALUES: Final[Mapping[type, Callable[[Any], bytes]]] = {
    str: _text,
    int: _integer,
    float: lambda value: _double(b"\x11", value),
    bool: lambda value: b"\x20\x01" if value else b"\x20\x00",
    type(None): lambda _value: b"\x08\x00",
    dict: lambda members: _field(b"\x2a", _struct(members)),
    list: _list,
}


def _field(tag: bytes, data: bytes) -> bytes:
    """A length-delimited field."""
    return tag + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _SMALL[number]
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


_SMALL: Final = tuple(bytes((number,)) for number in range(0x80))
