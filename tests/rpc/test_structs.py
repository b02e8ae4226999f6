"""What a Struct loses (order, integers) is restored where it can be and refused where it cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.v1 import chat_pb2 as pb
from server.core.errors import InvalidRequest
from server.rpc.translate import structs

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text() | st.floats(-1e6, 1e6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def struct(members: dict[str, Any]) -> struct_pb2.Struct:
    return json_format.ParseDict(members, struct_pb2.Struct())


def test_properties_come_in_the_order_of_required_then_sorted_at_every_depth() -> None:
    schema = {
        "type": "object",
        "required": ["zone", "area", "missing"],
        "properties": {
            "beta": {"type": "string"},
            "area": {"type": "object", "required": ["y", "x"], "properties": {"x": {}, "y": {}, "a": {}}},
            "zone": {"type": "array", "items": {"required": ["q", "p"], "properties": {"p": {}, "q": {}}}},
            "alpha": {"anyOf": [{"required": ["n", "m"], "properties": {"m": {}, "n": {}}}]},
        },
        "$defs": {"z": {"required": ["d", "c"], "properties": {"c": {}, "d": {}}}, "b": {}},
    }
    rendered = json.loads(structs.schema_json(struct(schema), "f", ""))
    assert rendered == schema
    assert list(rendered["properties"]) == ["zone", "area", "alpha", "beta"]
    assert list(rendered["properties"]["area"]["properties"]) == ["y", "x", "a"]
    assert list(rendered["properties"]["zone"]["items"]["properties"]) == ["q", "p"]
    assert list(rendered["properties"]["alpha"]["anyOf"][0]["properties"]) == ["n", "m"]
    assert list(rendered["$defs"]) == ["b", "z"]
    assert list(rendered["$defs"]["z"]["properties"]) == ["d", "c"]


def test_a_property_that_is_named_like_a_keyword_is_a_property() -> None:
    schema = {"required": ["required", "properties"], "properties": {"properties": {"enum": [3]}, "required": {}}}
    rendered = json.loads(structs.schema_json(struct(schema), "f", ""))
    assert rendered == schema
    assert list(rendered["properties"]) == ["required", "properties"]


def test_data_in_a_schema_is_sorted_and_not_taken_for_a_schema() -> None:
    data = {"required": ["b", "a"], "properties": {"a": 1, "b": 2}}
    rendered = json.loads(structs.schema_json(struct({"default": data}), "f", ""))
    assert list(rendered["default"]["properties"]) == ["a", "b"]


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_every_object_keeps_its_value_and_has_one_rendering(members: dict[str, Any]) -> None:
    again = dict(reversed(members.items()))
    for render in (structs.object_json, structs.schema_json):
        text = render(struct(members), "f", "")
        assert json.loads(text) == members
        assert render(struct(again), "f", "") == text


def test_integral_numbers_are_integers_in_the_text() -> None:
    assert structs.object_json(struct({"a": 3, "b": -1.0, "c": 0.5}), "f", "") == '{"a":3,"b":-1,"c":0.5}'


@pytest.mark.parametrize("number", [2.0**53, -(2.0**53), 1e300])
def test_a_number_that_may_have_been_another_is_refused_with_the_way_out(number: float) -> None:
    with pytest.raises(InvalidRequest, match=r"tools\[0\]\.x\.y\[1\].*send it as text") as caught:
        structs.schema_json(struct({"x": {"y": [1, number]}}), "tools[0]", "send it as text")
    assert caught.value.violations[0].field == "tools[0].x.y[1]"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_know_is_refused(number: float) -> None:
    odd = struct_pb2.Struct()
    odd.fields["x"].number_value = number
    with pytest.raises(InvalidRequest, match=r"f\.x: must be a finite number"):
        structs.object_json(odd, "f", "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a JSON object"),
        ("{", "must be a JSON object"),
        ('{"canary": tru}', "must be a JSON object"),
        ("[1]", "got an array"),
        ('"canary"', "got a string"),
        ("1", "got a number"),
        ("true", "got a boolean"),
        ("null", "got null"),
        ("[" * 100_000, "must be a JSON object"),
    ],
)
def test_text_that_is_no_json_object_is_refused_without_being_quoted(text: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        structs.check_json_object(text, "f")
    assert "canary" not in caught.value.message


def test_json_text_is_passed_byte_for_byte() -> None:
    text = '{ "b" : 1e2, "a":12345678901234567890,"a":\t1}'
    assert structs.check_json_object(text, "f") is text


def filled(text: str) -> pb.ChatResponse:
    made = pb.ChatResponse(text="before")
    structs.fill_struct(made, pb.ChatResponse.PROVIDER_METADATA_FIELD_NUMBER, text)
    assert made.text == "before"
    return made


def test_metadata_keeps_big_integers_as_strings() -> None:
    made = filled('{"big": 9007199254740993, "in": [-9007199254740992], "ok": 7, "yes": true, "no": null}')
    assert json_format.MessageToDict(made.provider_metadata) == {
        "big": "9007199254740993",
        "in": ["-9007199254740992"],
        "ok": 7,
        "yes": True,
        "no": None,
    }


def test_no_metadata_is_no_struct_and_an_empty_object_is_an_empty_one() -> None:
    assert not filled("").HasField("provider_metadata")
    assert filled("{}").HasField("provider_metadata")


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_metadata_is_what_proto_json_reads_from_the_same_object(members: dict[str, Any]) -> None:
    assert filled(json.dumps(members)).provider_metadata == struct(members)


@pytest.mark.parametrize("size", [0, 126, 127, 128, 129, 16_383, 16_384, 2_097_152])
def test_metadata_of_any_length_is_whole(size: int) -> None:
    members = {"n" * size: "v" * size, "list": ["é" * size, {"deep": size}]}
    assert filled(json.dumps(members)).provider_metadata == struct(members)
