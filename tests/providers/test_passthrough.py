"""What a caller's body of the provider's own wire holds beyond a neutral request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.messages import ChatRequest, Message, Passthrough, Text
from server.providers.passthrough import foreign_members, put_back


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
