"""The quick check passes a message only if protovalidate does, and passes what calls usually are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import protovalidate
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from buf.validate import validate_pb2
from dragoman.v1 import (
    access_service_pb2,
    chat_pb2,
    embedding_pb2,
    llm_service_pb2,
    model_service_pb2,
    provider_config_service_pb2,
)
from server.rpc import quick_check
from server.rpc.quick_check import QuickCheck

FILES = (
    access_service_pb2,
    chat_pb2,
    embedding_pb2,
    llm_service_pb2,
    model_service_pb2,
    provider_config_service_pb2,
)
TYPES = [
    descriptor
    for file in FILES
    for descriptor in file.DESCRIPTOR.message_types_by_name.values()
    if descriptor.name.endswith("Request")
]
DEEPEST = 3


def texts(field: FieldDescriptor) -> Sequence[str]:
    """Texts at the field's limits, the words that it and its neighbours allow, and some that nearly are."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    string = rules.repeated.items.string if field.is_repeated else rules.string
    near = {length + more for length in (string.min_len, string.max_len) for more in (-1, 0, 1)}
    lengths = ["x" * length for length in near if 0 <= length < 1000]
    return [*getattr(string, "in"), *lengths, "", "tool", "json_schema", "openai", "OpenAI\n", "ſet", "a.b", "canary é"]


def values(field: Any, depth: int) -> st.SearchStrategy[Any]:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return st.sampled_from([b"", b"x"])
        case FieldDescriptor.CPPTYPE_STRING:
            return st.sampled_from(texts(field))
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return st.sampled_from([0.0, -0.0, 1.0, 2.0, 2.1, -2.0, -2.1, float("nan"), float("inf")])
        case FieldDescriptor.CPPTYPE_MESSAGE:
            return messages(field.message_type, depth + 1)
        case FieldDescriptor.CPPTYPE_ENUM:
            return st.sampled_from([0, 1])
        case _:
            return st.sampled_from([0, 1, 20, 21, 1000, 1001])


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Message:
    """A message with some of its fields set, deep ones rarely."""
    made = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if is_map or depth > DEEPEST or not draw(st.booleans()):
            continue
        if field.is_repeated:
            getattr(made, field.name).extend(draw(st.lists(values(field, depth), max_size=2)))
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(draw(values(field, depth)))
        else:
            setattr(made, field.name, draw(values(field, depth)))
    return made


QUICK, JUDGE = QuickCheck(), protovalidate.Validator()
"""Kept over the examples, as a server keeps them over its calls: what was learnt from one is used for the next."""


@pytest.mark.parametrize("descriptor", [*TYPES, chat_pb2.Message.DESCRIPTOR], ids=lambda one: one.name)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_it_passes_a_message_only_if_protovalidate_does(descriptor: Descriptor, data: st.DataObject) -> None:
    message = data.draw(messages(descriptor))
    passed, broken = QUICK.passes(message), JUDGE.collect_violations(message)
    assert not (passed and broken), broken
    if not broken:
        QUICK.learn(message)


HI = {"role": "user", "content": "hi"}
CALL = {"id": "c", "function": {"name": "f"}}


def learnt(*clean: dict[str, Any]) -> QuickCheck:
    quick = QuickCheck()
    for members in clean:
        message = json_format.ParseDict(members, chat_pb2.ChatRequest())
        assert not JUDGE.collect_violations(message)
        quick.learn(message)
    return quick


@pytest.mark.parametrize(
    "members",
    [
        {"messages": [HI], "model": "m", "provider": "OpenAI", "temperature": 0, "maxTokens": 1, "stop": ["x"]},
        {"messages": [{"role": "system", "parts": [{"text": {"text": "x"}}]}, HI]},
        {"messages": [HI, {"role": "assistant", "toolCalls": [CALL]}, {"role": "tool", "toolCallId": "c"}]},
        {"messages": [{"role": "user", "parts": [{"image": {"url": "https://x"}, "cacheControl": {}}]}]},
        {
            "messages": [HI],
            "tools": [{"function": {"name": "f", "parameters": {"a": 1}}}],
            "toolChoice": {"mode": "none"},
        },
        {"messages": [HI], "responseFormat": {"type": "json_schema", "jsonSchema": {"name": "n", "schema": {}}}},
        {
            "messages": [HI],
            "serverTools": ["web_search"],
            "providerOptions": {"a": [1, {}]},
            "thinking": {"type": "enabled"},
        },
    ],
)
def test_it_passes_a_usual_call_when_one_like_it_was_passed_before(members: dict[str, Any]) -> None:
    message = json_format.ParseDict(members, chat_pb2.ChatRequest())
    assert not QuickCheck().passes(message)
    quick = learnt(members)
    assert quick.passes(message)
    message.model = "another"
    assert quick.passes(message)


@pytest.mark.parametrize(
    "members",
    [
        {"messages": []},
        {"messages": [{**HI, "role": "tool"}]},
        {"messages": [{**HI, "role": "martian"}]},
        {"messages": [{**HI, "toolCallId": "c"}]},
        {"messages": [{**HI, "toolCalls": [CALL]}]},
        {"messages": [{**HI, "parts": [{"text": {}}]}]},
        {"messages": [{"role": "user", "parts": [{}]}]},
        {"messages": [{"role": "assistant", "toolCalls": [{"id": "c"}]}]},
        {"messages": [{"role": "assistant", "toolCalls": [{"function": {"name": "f"}}]}]},
        {"messages": [HI], "temperature": "NaN"},
        {"messages": [HI], "provider": "openai\n"},
        {"messages": [HI], "stop": ["x", ""]},
        {"messages": [HI], "toolChoice": {"mode": "auto"}},
    ],
)
def test_what_was_passed_before_vouches_for_nothing_that_differs_in_what_a_rule_looks_at(
    members: dict[str, Any],
) -> None:
    quick = learnt(
        {
            "messages": [
                HI,
                {"role": "assistant", "toolCalls": [CALL]},
                {"role": "tool", "content": "x", "toolCallId": "c"},
            ]
        },
        {"messages": [HI], "tools": [{"function": {"name": "f"}}], "toolChoice": {"mode": "auto"}},
        {"messages": [{"role": "user", "parts": [{"text": {}}]}]},
    )
    message = json_format.ParseDict(members, chat_pb2.ChatRequest())
    assert JUDGE.collect_violations(message)
    assert not quick.passes(message)


def test_it_remembers_a_bounded_number_of_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_check, "MOST_SHAPES", 1)
    quick = learnt({"messages": [HI]}, {"messages": [{**HI, "role": "system"}]})
    assert quick.passes(json_format.ParseDict({"messages": [HI]}, chat_pb2.ChatRequest()))
    assert not quick.passes(json_format.ParseDict({"messages": [{**HI, "role": "system"}]}, chat_pb2.ChatRequest()))
