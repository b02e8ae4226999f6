"""What a caller's body of the provider's own wire holds beyond a neutral request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.errors import UnsupportedParameter
from server.core.messages import (
    NATIVE,
    ChatRequest,
    HostedTool,
    Message,
    NativeBlock,
    Opaque,
    Passthrough,
    Text,
    ToolResult,
)
from server.providers.passthrough import foreign_members, put_back, refuse_foreign_parts


def request(members: dict[str, Any]) -> ChatRequest:
    kept = Passthrough("w", {place: json.dumps(found) for place, found in members.items()})
    return ChatRequest(messages=(Message("user", (Text("x"),)),), passthrough=kept)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"": {"a": 1}}, {"a": 1, "b": {"c": 1}, "m": [{"content": "x"}]}),
        ({"": {"b": {"c": 2, "d": 3}}}, {"b": {"c": 1, "d": 3}, "m": [{"content": "x"}]}),
        ({"": {"b": None}}, {"m": [{"content": "x"}]}),
        ({"m[0]": {"k": 1}}, {"b": {"c": 1}, "m": [{"content": "x", "k": 1}]}),
        ({"m[0].content[0]": {"k": 1}}, {"b": {"c": 1}, "m": [{"content": [{"type": "text", "text": "x", "k": 1}]}]}),
    ],
)
def test_members_go_to_their_place(members: dict[str, Any], expected: dict[str, Any]) -> None:
    """What the body says already stays, but where the caller's says null."""
    body: dict[str, Any] = {"b": {"c": 1}, "m": [{"content": "x"}]}
    assert put_back(body, request(members), "w") == []
    assert body == expected


@pytest.mark.parametrize("place", ["m[7]", "b.c", "nowhere", "m[0].content[3]"])
def test_a_place_that_is_not_there_is_told(place: str) -> None:
    """And nothing is put elsewhere."""
    body: dict[str, Any] = {"b": {"c": 1}, "m": [{"content": "x"}]}
    (warning,) = put_back(body, request({place: {"k": 1}}), "w")
    assert warning.parameter == f"{place}.k"
    assert "k" not in json.dumps(body)


def test_another_wire_is_told_of_each() -> None:
    """By name, some of them; nulls ask for nothing."""
    wanted = request({"": {"a": 1, "n": None}, "m[0]": {"b": 2}})
    assert [one.parameter for one in foreign_members(wanted, "other")] == ["a", "m[0].b"]
    assert foreign_members(wanted, "w") == ()
    assert put_back({}, wanted, "other") == []
    many = foreign_members(request({"": dict.fromkeys("abcdefghijkl", 1)}), "")
    assert (len(many), many[-1].parameter) == (9, "further members")


def test_blocks_of_another_wire_are_refused_with_their_places() -> None:
    """In turns and in results of tools; the caller's own wire takes them."""
    inner, outer = (NativeBlock("b", place, Opaque(NATIVE, "w", b"{}")) for place in ("m[0].c[0]", "m[1]"))
    messages = (Message("tool", (ToolResult("c", (Text("x"), inner)),)), Message("user", (outer, Text("x"))))
    wanted = ChatRequest(messages=messages, dialect="w")
    refuse_foreign_parts(wanted, "w")
    with pytest.raises(UnsupportedParameter) as caught:
        refuse_foreign_parts(wanted, "other")
    assert [one.field for one in caught.value.violations] == ["m[0].c[0]", "m[1]"]


def test_tools_of_another_wire_are_refused() -> None:
    """Where the word is a wire's own; any other word is the provider's to judge."""
    for own in ("", "w"):
        wanted = ChatRequest(messages=(), hosted_tools=(HostedTool("t_20250101", wire=own),), dialect="w")
        refuse_foreign_parts(wanted, "w")
        if own:
            with pytest.raises(UnsupportedParameter, match="tools: t_20250101"):
                refuse_foreign_parts(wanted, "other")
        else:
            refuse_foreign_parts(wanted, "other")
