"""Requests: both REST spellings arrive as one core request, and what cannot be carried is refused with its place."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import llm_service_pb2 as llm_pb
from server.core import messages as m
from server.core.errors import InvalidRequest
from server.rpc.translate.request import chat_request, generate_request

HI = {"role": "user", "content": "hi"}
PNG = {"data": "iVBORw==", "mediaType": "image/png"}


def chat(**members: Any) -> m.ChatRequest:
    """What a JSON body becomes, by proto JSON's rules as the transcoder applies them."""
    return chat_request(json_format.ParseDict({"messages": [HI], **members}, pb.ChatRequest()), stream=False)


def only(*messages: dict[str, Any]) -> tuple[m.Message, ...]:
    return chat(messages=list(messages)).messages


def test_a_bare_request_gives_nothing_that_was_not_asked_for() -> None:
    assert chat() == m.ChatRequest(messages=(m.Message("user", (m.Text("hi"),)),))


def test_every_field_arrives() -> None:
    request = chat(
        model="openai/gpt-4o",
        provider="OpenAI",
        providerName="Main",
        projectId="p",
        legacy=True,
        temperature=0,
        maxTokens=5,
        topP=1,
        topK=0,
        frequencyPenalty=-2,
        presencePenalty=2,
        stop=["a", "b"],
        seed="9007199254740993",
        logprobs=False,
        topLogprobs=0,
        parallelToolCalls=False,
        user="u",
        providerOptions={"b": 1, "a": {"d": 2, "c": None}},
        thinking={"type": "enabled", "budgetTokens": 0, "effort": "high", "include": False},
        responseFormat={"type": "json_object"},
        serverTools=["web_search"],
        toolChoice={"mode": "required"},
    )
    assert request == m.ChatRequest(
        messages=(m.Message("user", (m.Text("hi"),)),),
        model="openai/gpt-4o",
        provider="openai",
        provider_name="Main",
        legacy=True,
        temperature=0.0,
        max_tokens=5,
        top_p=1.0,
        top_k=0,
        frequency_penalty=-2.0,
        presence_penalty=2.0,
        stop=("a", "b"),
        seed=9007199254740993,
        logprobs=False,
        top_logprobs=0,
        parallel_tool_calls=False,
        user="u",
        provider_options='{"a":{"c":null,"d":2},"b":1}',
        thinking=m.Thinking("enabled", 0, "high", False),
        response_format=m.ResponseFormat("json_object"),
        hosted_tools=(m.HostedTool("web_search"),),
        tool_choice=m.ToolChoice("required"),
    )


@pytest.mark.parametrize(
    ("members", "system"),
    [
        ({"instructions": "I"}, "I"),
        ({"systemPrompt": "S"}, "S"),
        ({"instructions": "I", "systemPrompt": "S"}, "I\n\nS"),
        ({"instructions": "I", "systemPrompt": "S", "messages": [{"role": "system", "content": "h"}, HI]}, "I"),
        ({"systemPrompt": "S", "messages": [{"role": "developer", "content": "h"}, HI]}, None),
        ({}, None),
    ],
)
def test_system_prompt_stands_in_only_for_a_missing_system_message(members: dict[str, Any], system: str | None) -> None:
    assert chat(**members).system == system


def test_developer_is_system_and_names_are_kept() -> None:
    assert only({"role": "developer", "content": "d", "name": "n"}, HI)[0] == m.Message("system", (m.Text("d"),), "n")


def test_user_parts_arrive_in_order_with_their_media() -> None:
    (message,) = only(
        {
            "role": "user",
            "parts": [
                {"text": {"text": "look"}, "cacheControl": {"ttl": "1h"}},
                {"image": {**PNG, "detail": "low"}, "cacheControl": {}},
                {"image": {"url": "https://x/y.png"}},
                {"document": {"fileId": "f-1", "name": "a.pdf", "citations": True}},
                {"audio": {"data": "AAAA", "mediaType": "audio/wav"}},
            ],
        }
    )
    assert message.parts == (
        m.Text("look", cache=m.CacheControl("1h")),
        m.Image(m.Inline("image/png", b"\x89PNG"), "low", m.CacheControl()),
        m.Image(m.Remote("https://x/y.png")),
        m.Document(m.Uploaded("f-1"), "a.pdf", True),
        m.Audio(m.Inline("audio/wav", b"\0\0\0")),
    )


def test_tool_turns_arrive_in_both_forms() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": ' {"a":1 }'}}
    messages = only(
        HI,
        {"role": "assistant", "content": "wait", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "name": "look", "content": "42"},
        {
            "role": "assistant",
            "parts": [{"toolCall": {"id": "c2", "function": {"name": "look"}}}, {"text": {"text": "x"}}],
        },
        {
            "role": "tool",
            "toolCallId": "c2",
            "isError": True,
            "parts": [{"text": {"text": "no"}}, {"image": {"url": "https://x"}}],
        },
        {"role": "assistant", "toolCalls": [call | {"id": "c3"}]},
        {"role": "tool", "toolCallId": "c3"},
    )
    assert messages[1:] == (
        m.Message("assistant", (m.Text("wait"), m.ToolCall("c1", "look", ' {"a":1 }'))),
        m.Message("tool", (m.ToolResult("c1", (m.Text("42"),), name="look"),)),
        m.Message("assistant", (m.ToolCall("c2", "look", "{}"), m.Text("x"))),
        m.Message("tool", (m.ToolResult("c2", (m.Text("no"), m.Image(m.Remote("https://x"))), is_error=True),)),
        m.Message("assistant", (m.ToolCall("c3", "look", ' {"a":1 }'),)),
        m.Message("tool", (m.ToolResult("c3", ()),)),
    )


def test_an_answer_that_was_empty_can_stand_in_the_history() -> None:
    assert only(HI, {"role": "assistant"}, HI)[1] == m.Message("assistant", ())


def test_tools_carry_their_schema_in_either_form() -> None:
    text = '{ "type":"object", "z":12345678901234567890 }'
    tools = [
        {
            "type": "function",
            "function": {"name": "a", "description": "A", "strict": False, "parameters": {"type": "object"}},
        },
        {"function": {"name": "b", "parametersJson": text}, "cacheControl": {"ttl": "5m"}},
        {"function": {"name": "c"}},
        {"function": {"name": "d", "parameters": {}}},
    ]
    assert chat(tools=tools, toolChoice={"mode": "tool", "name": "b"}).tools == (
        m.Tool("a", "A", '{"type":"object"}', False),
        m.Tool("b", None, text, None, m.CacheControl("5m")),
        m.Tool("c"),
        m.Tool("d", None, "{}"),
    )


def test_json_schema_arrives_in_either_form() -> None:
    schema = {
        "name": "s",
        "description": "d",
        "strict": True,
        "schema": {"required": ["b", "a"], "properties": {"a": {}, "b": {}}},
    }
    struct_form = chat(responseFormat={"type": "json_schema", "jsonSchema": schema}).response_format
    assert struct_form == m.ResponseFormat(
        "json_schema", "s", '{"properties":{"b":{},"a":{}},"required":["b","a"]}', True, "d"
    )
    text_form = chat(responseFormat={"type": "json_schema", "jsonSchema": {"name": "s", "schemaJson": "{ }"}})
    assert text_form.response_format == m.ResponseFormat("json_schema", "s", "{ }")


@pytest.mark.parametrize(
    ("tool", "hosted"),
    [
        ("web_search", m.HostedTool("web_search")),
        ({"type": "web_search_20250305"}, m.HostedTool("web_search_20250305")),
        ({"type": "web_search", "max_uses": 3, "a": ["x"]}, m.HostedTool("web_search", '{"a":["x"],"max_uses":3}')),
    ],
)
def test_server_tools_come_as_words_or_objects(tool: Any, hosted: m.HostedTool) -> None:
    assert chat(serverTools=[tool]).hosted_tools == (hosted,)


def user(**part: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "parts": [part]}]}


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [HI, {"role": "system"}]}, "messages[1].content"),
        ({"messages": [{**HI, "isError": True}]}, "messages[0].is_error"),
        (user(reasoning={"text": "x"}), "messages[0].parts[0]"),
        ({"messages": [{"role": "system", "parts": [{"image": PNG}]}]}, "messages[0].parts[0]"),
        ({"messages": [HI, {"role": "assistant", "parts": [{"image": PNG}]}]}, "messages[1].parts[0]"),
        ({"messages": [{"role": "tool", "toolCallId": "c", "parts": [{"audio": PNG}]}]}, "messages[0].parts[0]"),
        (user(image={"data": "AAAA"}), "messages[0].parts[0].image.media_type"),
        (user(image={"data": "", "mediaType": "image/png"}), "messages[0].parts[0].image.data"),
        (user(image={"url": ""}), "messages[0].parts[0].image.url"),
        (user(document={"fileId": ""}), "messages[0].parts[0].document.file_id"),
        (user(image={**PNG, "name": "x"}), "messages[0].parts[0].image.name"),
        (user(document={**PNG, "detail": "low"}), "messages[0].parts[0].document.detail"),
        (user(audio={**PNG, "citations": True}), "messages[0].parts[0].audio.citations"),
        (user(audio=PNG, cacheControl={}), "messages[0].parts[0].cache_control"),
        ({"serverTools": [3]}, "server_tools[0]"),
        ({"serverTools": [None]}, "server_tools[0]"),
        ({"serverTools": ["web_search", {"name": "x"}]}, "server_tools[1].type"),
        ({"serverTools": [""]}, "server_tools[0].type"),
        ({"serverTools": [{"type": "t", "n": 2**60}]}, "server_tools[0].n"),
        ({"tools": [{"function": {"name": "a", "parametersJson": "[]"}}]}, "tools[0].function.parameters_json"),
        ({"tools": [{"function": {"name": "a"}}, {"function": {"name": "a"}}]}, "tools[1].function.name"),
        ({"tools": [{"function": {"name": "a"}}], "toolChoice": {"mode": "tool", "name": "b"}}, "tool_choice.name"),
        (
            {"tools": [{"function": {"name": "a", "parameters": {"maximum": 2**53}}}]},
            "tools[0].function.parameters.maximum",
        ),
        (
            {"responseFormat": {"type": "json_schema", "jsonSchema": {"name": "s", "schemaJson": "nope"}}},
            "response_format.json_schema.schema_json",
        ),
        ({"providerOptions": {"x": 1e17}}, "provider_options.x"),
    ],
)
def test_what_cannot_be_carried_is_refused_with_its_place(members: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(**members)
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.parametrize(("stream", "words"), [(False, "text/event-stream"), (True, "Complete")])
def test_a_stream_field_that_contradicts_the_call_says_how_to_ask(stream: bool, words: str) -> None:
    body = pb.ChatRequest(messages=[pb.Message(role="user", content="hi")], stream=not stream)
    with pytest.raises(InvalidRequest, match=words):
        chat_request(body, stream=stream)
    body.stream = stream
    assert chat_request(body, stream=stream).messages


def test_generate_fills_in_the_documented_defaults_and_marks_them() -> None:
    bare = generate_request(llm_pb.GenerateRequest(prompt="p"))
    assert bare == m.ChatRequest(
        messages=(m.Message("user", (m.Text("p"),)),),
        temperature=0.7,
        max_tokens=4096,
        defaults=frozenset({"temperature", "max_tokens"}),
    )
    given = generate_request(
        llm_pb.GenerateRequest(prompt="p", temperature=0, max_tokens=9, system_prompt="s", model="m")
    )
    assert given == m.ChatRequest(
        messages=(m.Message("user", (m.Text("p"),)),), temperature=0.0, max_tokens=9, system="s", model="m"
    )
