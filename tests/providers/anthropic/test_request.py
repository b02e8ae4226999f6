"""Bodies of POST /v1/messages: every field of a request, and what is refused before anything is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.catalog import ModelInfo
from server.core.errors import InvalidRequest, UnsupportedParameter
from server.core.messages import (
    CacheControl,
    HostedTool,
    Message,
    ResponseFormat,
    Text,
    Thinking,
    Tool,
    ToolChoice,
)
from tests.providers.anthropic.support import ADAPTIVE, BOTH, BUDGET, PLAIN, betas, body, build

TOOL = Tool("f", "does f", '{"type":"object","properties":{"x":{"type":"integer"}}}')
SCHEMA = '{"type":"object","additionalProperties":false,"properties":{}}'

BODIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sampling": (
        {"temperature": 0.3, "top_p": 0.9, "top_k": 5, "max_tokens": 100},
        {"temperature": 0.3, "top_p": 0.9, "top_k": 5, "max_tokens": 100},
    ),
    "stop and user": (
        {"stop": ("a", "b"), "user": "u1"},
        {"stop_sequences": ["a", "b"], "metadata": {"user_id": "u1"}},
    ),
    "system": ({"system": "Be brief."}, {"system": "Be brief."}),
    "leading system messages join it": (
        {
            "system": "A",
            "messages": (
                Message("system", (Text("B", cache=CacheControl("1h")),)),
                Message("user", (Text("Hi"),)),
            ),
        },
        {
            "system": [
                {"type": "text", "text": "A"},
                {"type": "text", "text": "B", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            ],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        },
    ),
    "tools": (
        {"tools": (TOOL, Tool("g", strict=True, cache=CacheControl()))},
        {
            "tools": [
                {
                    "name": "f",
                    "description": "does f",
                    "input_schema": {"type": "object", "properties": {"x": {"type": "integer"}}},
                },
                {
                    "name": "g",
                    "input_schema": {"type": "object", "properties": {}},
                    "strict": True,
                    "cache_control": {"type": "ephemeral"},
                },
            ]
        },
    ),
    "tool choice auto": ({"tools": (TOOL,), "tool_choice": ToolChoice("auto")}, {"tool_choice": {"type": "auto"}}),
    "tool choice none": (
        {"tools": (TOOL,), "tool_choice": ToolChoice("none"), "parallel_tool_calls": False},
        {"tool_choice": {"type": "none"}},
    ),
    "tool choice required": (
        {"tools": (TOOL,), "tool_choice": ToolChoice("required")},
        {"tool_choice": {"type": "any"}},
    ),
    "tool choice by name, one at a time": (
        {"tools": (TOOL,), "tool_choice": ToolChoice("tool", "f"), "parallel_tool_calls": False},
        {"tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True}},
    ),
    "parallel calls alone": (
        {"tools": (TOOL,), "parallel_tool_calls": True},
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": False}},
    ),
    "json schema": (
        {"response_format": ResponseFormat("json_schema", "it", SCHEMA)},
        {"output_config": {"format": {"type": "json_schema", "schema": json.loads(SCHEMA)}}},
    ),
    "schema and effort": (
        {
            "response_format": ResponseFormat("json_schema", "it", SCHEMA),
            "thinking": Thinking("adaptive", effort="low"),
        },
        {"output_config": {"format": {"type": "json_schema", "schema": json.loads(SCHEMA)}, "effort": "low"}},
    ),
    "values that ask for nothing": (
        {"frequency_penalty": 0.0, "presence_penalty": 0, "logprobs": False, "top_logprobs": 0},
        {},
    ),
    "options are merged last": (
        {
            "temperature": 0.1,
            "provider_options": '{"temperature":0.2,"service_tier":"auto","metadata":{"a":1}}',
            "user": "u",
        },
        {"temperature": 0.2, "service_tier": "auto", "metadata": {"user_id": "u", "a": 1}},
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_fields_become_the_wire_s(case: str) -> None:
    """Each field under its name on this wire; an unknown model is sent all of them."""
    fields, expected = BODIES[case]
    found = body(**fields)
    assert {key: found.get(key) for key in expected} == expected
    assert set(found) - {"model", "messages", "max_tokens", *(fields.keys() & {"tools", "thinking"})} <= set(expected)


def test_schemas_go_out_byte_for_byte() -> None:
    """Neither the order of members nor a large integer is lost."""
    schema = '{"type": "object", "properties": {"z": {"maximum": 9007199254740993}, "a": {}}}'
    built = build(tools=(Tool("f", parameters=schema),), response_format=ResponseFormat("json_schema", "n", schema))
    assert built.http.body.count(schema.encode()) == 2


@pytest.mark.parametrize(("stream", "expected"), [(True, True), (False, None)])
def test_stream_is_said_only_where_it_is_wanted(stream: bool, expected: bool | None) -> None:
    """`stream: true`, or nothing."""
    assert body(stream=stream).get("stream") is expected


MAX_TOKENS: list[tuple[ModelInfo | None, dict[str, Any], int]] = [
    (None, {}, 4_096),
    (BOTH, {}, 16_384),
    (PLAIN, {}, 4_096),
    (PLAIN, {"max_tokens": 9_999}, 9_999),
    (PLAIN, {"max_tokens": 9_999, "defaults": frozenset({"max_tokens"})}, 4_096),
    (
        BUDGET,
        {"max_tokens": 99, "defaults": frozenset({"max_tokens"}), "thinking": Thinking("enabled", 8_000)},
        12_096,
    ),
    (BUDGET, {"thinking": Thinking("enabled", 20_000)}, 24_096),
    (None, {"thinking": Thinking("enabled", 20_000)}, 24_096),
    (BUDGET, {"thinking": Thinking("enabled", 5_000), "max_tokens": 5_001}, 5_001),
]


@pytest.mark.parametrize(("info", "fields", "expected"), MAX_TOKENS)
def test_max_tokens_is_always_sent(info: ModelInfo | None, fields: dict[str, Any], expected: int) -> None:
    """The caller's own as it is; else one that fits the model, and leaves room beside a thinking budget."""
    assert body(info=info, **fields)["max_tokens"] == expected


STRIPPED: list[dict[str, Any]] = [
    {"seed": 0},
    {"frequency_penalty": 0.5},
    {"presence_penalty": -1.0},
    {"logprobs": True},
    {"top_logprobs": 3},
]


@pytest.mark.parametrize("fields", STRIPPED, ids=str)
@pytest.mark.parametrize("info", [None, BOTH])
def test_what_tunes_the_answer_and_the_api_has_not_is_left_out_with_a_warning(
    info: ModelInfo | None, fields: dict[str, Any]
) -> None:
    """So that one request may go to any provider; a model that nobody knows makes no difference."""
    built = build(info=info, **fields)
    assert not set(fields) & set(json.loads(built.http.body))
    assert [(w.code, w.parameter) for w in built.warnings] == [("parameter_stripped", *fields)]


REFUSED: list[tuple[ModelInfo | None, dict[str, Any], str, str]] = [
    (BOTH, {"response_format": ResponseFormat("json_object")}, "response_format", "json_schema"),
    (PLAIN, {"response_format": ResponseFormat("json_schema", "n", SCHEMA)}, "response_format", "claude-3-opus"),
    (PLAIN, {"hosted_tools": (HostedTool("web_search"),)}, "server_tools[0]", "claude-3-opus"),
    (BUDGET, {"hosted_tools": (HostedTool("code_execution"),)}, "server_tools[0]", "claude-haiku-4-5"),
    (ADAPTIVE, {"tools": (TOOL,), "tool_choice": ToolChoice("required")}, "tool_choice", "claude-fable-5-1"),
    (
        BUDGET,
        {"tools": (TOOL,), "tool_choice": ToolChoice("tool", "f"), "thinking": Thinking("enabled", 2_000)},
        "tool_choice",
        "thinks",
    ),
]


@pytest.mark.parametrize(("info", "fields", "field", "words"), REFUSED)
def test_what_is_not_taken_is_refused_by_name(
    info: ModelInfo | None, fields: dict[str, Any], field: str, words: str
) -> None:
    """Parameter and model are named, and nothing was sent."""
    with pytest.raises(UnsupportedParameter) as caught:
        build(info=info, **fields)
    (violation,) = caught.value.violations
    assert violation.field == field
    assert words in violation.description


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"provider_options": "[1]"}, "provider_options"),
    ({"provider_options": '{"model": "x"}'}, "provider_options.model"),
    ({"provider_options": '{"stream": true}'}, "provider_options.stream"),
    ({"provider_options": '{"betas": 7}'}, "provider_options.betas"),
    ({"provider_options": '{"betas": ["a\\r\\nx-evil: 1"]}'}, "provider_options.betas"),
    ({"tools": (Tool("f", parameters="[]"),)}, "tools[0].parameters"),
    ({"hosted_tools": (HostedTool("web_search", "nonsense"),)}, "server_tools[0].options"),
    ({"response_format": ResponseFormat("json_schema", "n", "{")}, "response_format.schema"),
    ({"info": BUDGET, "thinking": Thinking("enabled", 5_000), "max_tokens": 5_000}, "thinking.budget_tokens"),
]


@pytest.mark.parametrize(("fields", "field"), INVALID)
def test_what_does_not_fit_together_names_its_field(fields: dict[str, Any], field: str) -> None:
    """Broken JSON, members that are the gateway's, a budget above the whole answer."""
    with pytest.raises(InvalidRequest) as caught:
        build(**fields)
    assert caught.value.violations[0].field == field


@pytest.mark.parametrize(
    ("info", "fields", "gone"),
    [
        (ADAPTIVE, {"temperature": 0.5, "top_p": 0.5, "top_k": 1}, ["temperature", "top_k", "top_p"]),
        (BUDGET, {"temperature": 0.5, "top_p": 0.9, "thinking": Thinking("enabled", 2_000)}, ["temperature"]),
        (BUDGET, {"temperature": 0.5, "thinking": Thinking("disabled")}, []),
        (ADAPTIVE, {"temperature": 0.7, "defaults": frozenset({"temperature"})}, []),
        (PLAIN, {"thinking": Thinking("enabled", 2_000)}, ["thinking"]),
    ],
)
def test_the_table_of_models_strips_with_a_warning(info: ModelInfo, fields: dict[str, Any], gone: list[str]) -> None:
    """What the row says is rejected is left out and said; a default of the gateway's own goes without a word."""
    built = build(info=info, **fields)
    assert sorted(w.parameter for w in built.warnings if w.code == "parameter_stripped") == gone
    sent = json.loads(built.http.body)
    left_out = {*gone, *fields.get("defaults", ())}
    assert not left_out & sent.keys()


def test_of_a_schema_s_frills_the_caller_is_told() -> None:
    """A description has no place, and strict: false no meaning."""
    wanted = ResponseFormat("json_schema", "n", SCHEMA, strict=False, description="d")
    assert [(w.code, w.parameter) for w in build(response_format=wanted).warnings] == [
        ("parameter_stripped", "response_format.description"),
        ("parameter_approximated", "response_format.strict"),
    ]


HOSTED: list[tuple[str, HostedTool, dict[str, Any]]] = [
    ("claude-x", HostedTool("web_search"), {"type": "web_search_20260318", "name": "web_search"}),
    ("claude-opus-4-6", HostedTool("web_search"), {"type": "web_search_20260318", "name": "web_search"}),
    ("claude-sonnet-5-5", HostedTool("code_execution"), {"type": "code_execution_20260521", "name": "code_execution"}),
    ("claude-haiku-4-5-20251001", HostedTool("web_search"), {"type": "web_search_20250305", "name": "web_search"}),
    ("claude-sonnet-4-5", HostedTool("code_execution"), {"type": "code_execution_20250825", "name": "code_execution"}),
    ("claude-sonnet-4-20250514", HostedTool("web_search"), {"type": "web_search_20250305", "name": "web_search"}),
    ("claude-opus-4-1", HostedTool("web_search"), {"type": "web_search_20250305", "name": "web_search"}),
    (
        "claude-x",
        HostedTool("web_search_20250305", '{"max_uses":2,"allowed_domains":["e.example"]}'),
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 2, "allowed_domains": ["e.example"]},
    ),
    (
        "claude-x",
        HostedTool("text_editor_20250728"),
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
    ),
    (
        "claude-x",
        HostedTool("web_fetch_20260318"),
        {"type": "web_fetch_20260318", "name": "web_fetch"},
    ),
    ("claude-x", HostedTool("mcp_toolset", '{"mcp_server_name":"s"}'), {"type": "mcp_toolset", "mcp_server_name": "s"}),
    ("claude-x", HostedTool("bash_20250124", '{"name":"sh"}'), {"type": "bash_20250124", "name": "sh"}),
]


@pytest.mark.parametrize(("model", "tool", "expected"), HOSTED)
def test_server_tools_go_by_their_own_words(model: str, tool: HostedTool, expected: dict[str, Any]) -> None:
    """Neutral words become the newest version that the model is documented for; a versioned word passes as it is."""
    assert body(model=model, hosted_tools=(tool,))["tools"] == [expected]


BETAS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"provider_options": '{"betas":["b-1","b-2","b-1"]}'}, ["b-1", "b-2"]),
    ({"provider_options": '{"betas":"b-1, b-2"}'}, ["b-1", "b-2"]),
    ({"provider_options": '{"context_management":{"edits":[]}}'}, ["context-management-2025-06-27"]),
    (
        {"provider_options": '{"betas":["b"],"context_management":{"edits":[{"type":"compact_20260112"}]}}'},
        ["b", "context-management-2025-06-27", "compact-2026-01-12"],
    ),
    ({"provider_options": '{"mcp_servers":[{"name":"s"}]}'}, ["mcp-client-2025-11-20"]),
    ({"hosted_tools": (HostedTool("computer_20250124"),)}, ["computer-use-2025-01-24"]),
    ({"hosted_tools": (HostedTool("web_search"),)}, []),
]


@pytest.mark.parametrize(("fields", "expected"), BETAS)
def test_betas_are_a_header_and_not_in_the_body(fields: dict[str, Any], expected: list[str]) -> None:
    """Those asked for, then those that the body needs, each once."""
    built = build(**fields)
    assert betas(built) == expected
    assert "betas" not in json.loads(built.http.body)


def test_thoughts_between_tool_calls_may_exceed_max_tokens() -> None:
    """With the interleaved-thinking beta the budget counts for the whole turn."""
    options = '{"betas":["interleaved-thinking-2025-05-14"]}'
    found = body(info=BUDGET, thinking=Thinking("enabled", 9_000), max_tokens=4_000, provider_options=options)
    assert (found["thinking"]["budget_tokens"], found["max_tokens"]) == (9_000, 4_000)
