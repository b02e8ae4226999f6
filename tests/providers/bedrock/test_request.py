"""The body that a request becomes, parameter by parameter; and where it goes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.catalog import ModelInfo
from server.core.errors import InvalidRequest, NotConfigured, UnsupportedParameter
from server.core.messages import CacheControl, HostedTool, ResponseFormat, Text, Tool, ToolChoice
from tests.providers.bedrock.support import (
    CLAUDE,
    CLAUDE_ADAPTIVE,
    GPT,
    HI,
    LLAMA,
    NOVA,
    body,
    build,
    call,
    target,
    wire,
)

WEATHER = Tool("get_weather", "The weather.", '{"type":"object","properties":{"city":{"type":"string"}}}')
SPEC = {
    "toolSpec": {
        "name": "get_weather",
        "description": "The weather.",
        "inputSchema": {"json": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
}


def test_the_smallest_request() -> None:
    """Nothing is sent for what was not given: no limit, no empty objects."""
    assert body() == {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0.5, "top_p": 0.9}, {"inferenceConfig": {"temperature": 0.5, "topP": 0.9}}),
        ({"max_tokens": 5, "stop": ("a", "b")}, {"inferenceConfig": {"maxTokens": 5, "stopSequences": ["a", "b"]}}),
        ({"user": "user-1@example.org"}, {"requestMetadata": {"user": "user-1@example.org"}}),
        ({"top_k": 3}, {"additionalModelRequestFields": {"top_k": 3}}),
        ({"top_k": 3, "info": NOVA}, {"additionalModelRequestFields": {"inferenceConfig": {"topK": 3}}}),
        ({"top_k": 3, "model": "cohere.command-r-v1:0"}, {"additionalModelRequestFields": {"k": 3}}),
        ({"top_k": 3, "model": "eu.mistral.x-v1:0"}, {"additionalModelRequestFields": {"top_k": 3}}),
        (
            {"top_k": 3, "model": "arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-pro-v1:0"},
            {"additionalModelRequestFields": {"inferenceConfig": {"topK": 3}}},
        ),
        (
            {"top_k": 3, "model": "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"},
            {"additionalModelRequestFields": {"top_k": 3}},
        ),
        ({"seed": None, "frequency_penalty": 0.0, "presence_penalty": 0, "logprobs": False}, {}),
        ({"system": "Be brief."}, {"system": [{"text": "Be brief."}]}),
        ({"response_format": ResponseFormat("text")}, {}),
    ],
)
def test_parameters(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Converse's own have their place in inferenceConfig; top_k goes where the model's maker looks for it."""
    assert body(**fields) == {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]} | expected


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"seed": 1}, "seed"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"top_k": 3, "info": LLAMA}, "top_k"),
    ],
)
def test_what_tunes_the_answer_and_converse_cannot_say_is_a_warning(fields: dict[str, Any], parameter: str) -> None:
    """It is left out, and the caller is told which."""
    built = build(**fields)
    assert [(w.code, w.parameter) for w in built.warnings] == [("parameter_stripped", parameter)]
    assert "inferenceConfig" not in json.loads(built.http.body)
    assert "additionalModelRequestFields" not in json.loads(built.http.body)


def test_a_default_of_the_gateway_is_left_out_or_fitted_without_a_word() -> None:
    """A limit above the model's, a temperature above 1, a seed."""
    built = build(
        info=LLAMA,
        max_tokens=10_000,
        temperature=1.5,
        seed=1,
        defaults=frozenset({"max_tokens", "temperature", "seed"}),
    )
    assert json.loads(built.http.body)["inferenceConfig"] == {"maxTokens": 4_096, "temperature": 1.0}
    assert built.warnings == ()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"response_format": ResponseFormat("json_object")}, "response_format"),
        ({"response_format": ResponseFormat("json_schema", "n", "{}"), "info": NOVA}, "response_format"),
        ({"hosted_tools": (HostedTool("web_search"),), "info": CLAUDE}, "server_tools[0]"),
        ({"tools": (WEATHER,), "tool_choice": ToolChoice("required"), "info": CLAUDE_ADAPTIVE}, "tool_choice"),
    ],
)
def test_what_decides_the_answer_and_cannot_be_said_is_an_error(fields: dict[str, Any], field: str) -> None:
    """It names parameter and model, and nothing was sent."""
    with pytest.raises(UnsupportedParameter) as caught:
        build(**fields)
    assert caught.value.violations[0].field == field
    assert call(info=fields.get("info")).model in caught.value.message


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"user": "a\x00b"}, "user"),
        ({"tools": (Tool("t", None, "no json"),)}, "tools[0].parameters"),
        ({"hosted_tools": (HostedTool("x", "[]"),)}, "server_tools[0].options"),
        ({"response_format": ResponseFormat("json_schema", "n", "[]")}, "response_format.schema"),
        ({"provider_options": '{"stream":true}'}, "provider_options.stream"),
        ({"model": ".."}, "model"),
    ],
)
def test_what_does_not_fit_is_an_error(fields: dict[str, Any], field: str) -> None:
    """It names the field."""
    with pytest.raises(InvalidRequest) as caught:
        build(**fields)
    assert caught.value.violations[0].field == field


def test_a_schema_travels_as_a_string_as_it_was_written() -> None:
    """outputConfig.textFormat, with name and description."""
    schema = '{"type": "object",  "properties": {}}'
    wanted = ResponseFormat("json_schema", "City", schema, description="A city.")
    assert body(response_format=wanted, info=CLAUDE)["outputConfig"] == {
        "textFormat": {
            "type": "json_schema",
            "structure": {"jsonSchema": {"name": "City", "description": "A city.", "schema": schema}},
        }
    }


def test_a_loose_schema_is_enforced_all_the_same() -> None:
    """Converse knows no other way, and the caller is told."""
    built = build(response_format=ResponseFormat("json_schema", "n", "{}", strict=False))
    assert [warning.parameter for warning in built.warnings] == ["response_format.strict"]


def test_tools_of_all_kinds() -> None:
    """With a description, without one, without parameters, strict, marked for the cache; the provider's own at the
    end."""
    tools = (
        WEATHER,
        Tool("plain", "", None, strict=True, cache=CacheControl("1h")),
    )
    hosted = (HostedTool("code_execution"), HostedTool("web_search", '{"x":1}'), HostedTool("nova_new_tool"))
    assert body(tools=tools, hosted_tools=hosted, info=NOVA)["toolConfig"] == {
        "tools": [
            SPEC,
            {
                "toolSpec": {
                    "name": "plain",
                    "inputSchema": {"json": {"type": "object", "properties": {}}},
                    "strict": True,
                }
            },
            {"cachePoint": {"type": "default", "ttl": "1h"}},
            {"systemTool": {"name": "nova_code_interpreter"}},
            {"systemTool": {"name": "nova_grounding", "x": 1}},
            {"systemTool": {"name": "nova_new_tool"}},
        ]
    }


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        (ToolChoice("auto"), {"auto": {}}),
        (ToolChoice("required"), {"any": {}}),
        (ToolChoice("tool", "get_weather"), {"tool": {"name": "get_weather"}}),
    ],
)
def test_tool_choice(choice: ToolChoice | None, expected: dict[str, Any] | None) -> None:
    """In Converse's own words."""
    sent = body(tools=(WEATHER,), tool_choice=choice, info=NOVA)
    assert sent["toolConfig"].get("toolChoice") == expected
    assert "additionalModelRequestFields" not in sent


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"tool_choice": ToolChoice("none")}, {"type": "none"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"parallel_tool_calls": False, "tool_choice": ToolChoice("required")},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        (
            {"parallel_tool_calls": False, "tool_choice": ToolChoice("tool", "get_weather")},
            {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
        ),
        ({"parallel_tool_calls": True}, None),
    ],
)
def test_what_converse_has_no_word_for_is_said_to_claude_in_its_own(
    fields: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    """Once: toolConfig.toolChoice beside it would contradict it."""
    sent = body(tools=(WEATHER,), info=CLAUDE, **fields)
    assert sent["toolConfig"] == {"tools": [SPEC]}
    assert sent.get("additionalModelRequestFields", {}).get("tool_choice") == expected


def test_no_tool_call_without_tools_means_no_tools() -> None:
    """To other models `none` is said by leaving the tools out; a choice without tools says nothing."""
    assert "toolConfig" not in body(tools=(WEATHER,), tool_choice=ToolChoice("none"), info=NOVA)
    assert "toolConfig" not in body(tool_choice=ToolChoice("auto"), parallel_tool_calls=False, info=NOVA)


def test_provider_options_are_merged_last() -> None:
    """Whatever Converse has beyond the contract, into whatever is there."""
    options = (
        '{"guardrailConfig":{"guardrailIdentifier":"g","guardrailVersion":"1"},"inferenceConfig":{"temperature":0.1},'
        '"additionalModelRequestFields":{"anthropic_beta":["x"]},"serviceTier":{"type":"flex"}}'
    )
    sent = body(temperature=0.9, max_tokens=7, top_k=2, provider_options=options)
    assert sent["guardrailConfig"] == {"guardrailIdentifier": "g", "guardrailVersion": "1"}
    assert sent["inferenceConfig"] == {"temperature": 0.1, "maxTokens": 7}
    assert sent["additionalModelRequestFields"] == {"top_k": 2, "anthropic_beta": ["x"]}
    assert sent["serviceTier"] == {"type": "flex"}


def test_a_model_without_a_prompt_cache_gets_no_marks() -> None:
    """Left out with a warning, once for all of them; of an unknown model nothing is known."""
    tools = (Tool("t", cache=CacheControl()),)
    messages = (HI[0], HI[0].__class__("user", (Text("a", cache=CacheControl()), Text("b", cache=CacheControl()))))
    built = build(info=GPT, messages=messages, tools=tools)
    assert "cachePoint" not in built.http.body.decode()
    assert [(w.code, w.parameter) for w in built.warnings] == [("parameter_stripped", "cache_control")]
    assert build(messages=messages, tools=tools).http.body.decode().count("cachePoint") == 3


@pytest.mark.parametrize(
    ("endpoint", "runtime", "control"),
    [
        (None, "https://bedrock-runtime.us-east-1.amazonaws.com", "https://bedrock.us-east-1.amazonaws.com"),
        (
            "https://bedrock-runtime.eu-west-3.amazonaws.com",
            "https://bedrock-runtime.eu-west-3.amazonaws.com",
            "https://bedrock.eu-west-3.amazonaws.com",
        ),
        (
            "https://BEDROCK.eu-west-3.amazonaws.com/",
            "https://bedrock-runtime.eu-west-3.amazonaws.com",
            "https://bedrock.eu-west-3.amazonaws.com",
        ),
        (
            "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
            "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
            "https://bedrock-fips.us-gov-west-1.amazonaws.com",
        ),
        (
            "https://bedrock-runtime.us-west-2.api.aws",
            "https://bedrock-runtime.us-west-2.api.aws",
            "https://bedrock.us-west-2.api.aws",
        ),
        (
            "https://vpce-0a1-b2.bedrock-runtime.us-west-2.vpce.amazonaws.com",
            "https://vpce-0a1-b2.bedrock-runtime.us-west-2.vpce.amazonaws.com",
            "https://bedrock.us-west-2.amazonaws.com",
        ),
        ("http://127.0.0.1:8080/bedrock/", "http://127.0.0.1:8080/bedrock", "http://127.0.0.1:8080/bedrock"),
    ],
)
def test_where_calls_and_lists_go(endpoint: str | None, runtime: str, control: str) -> None:
    """The region is in the host's name; another server serves both planes."""
    to = target(endpoint=endpoint)
    assert build(to=to, model="m:1").http.url == f"{runtime}/model/m%3A1/converse"
    assert build(to=to, model="m:1", stream=True).http.url == f"{runtime}/model/m%3A1/converse-stream"
    assert wire().build_list_models(to).url.partition("/foundation-models")[0] == control


def test_an_arn_is_one_segment_of_the_path() -> None:
    """Its slashes and colons are encoded."""
    model = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2"
    assert build(model=model).http.url.endswith(
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fa1b2/converse"
    )


def test_the_other_endpoint_of_bedrock_does_not_speak_converse() -> None:
    """It is refused with the one that does."""
    with pytest.raises(NotConfigured) as caught:
        build(to=target(endpoint="https://bedrock-mantle.us-east-1.api.aws"))
    assert "https://bedrock-runtime.us-east-1.amazonaws.com" in caught.value.action


def test_what_is_accepted_is_said() -> None:
    """Frames for a stream, JSON for a whole answer."""
    assert dict(build(stream=True).http.headers)["accept"] == "application/vnd.amazon.eventstream"
    assert dict(build().http.headers)["accept"] == "application/json"


def test_an_unknown_model_passes_everything() -> None:
    """Nothing is known of it, so nothing is refused on its account."""
    built = build(
        model="newmaker.model-v9:0", temperature=1, tools=(WEATHER,), tool_choice=ToolChoice("tool", "get_weather"),
        hosted_tools=(HostedTool("web_search"),), response_format=ResponseFormat("json_schema", "n", "{}"),
        top_k=3, parallel_tool_calls=False,
    )  # fmt: skip
    assert built.warnings == ()


def test_the_catalogue_strips_what_a_model_rejects() -> None:
    """With a warning that names it."""
    info = ModelInfo(id="bedrock/m", name="M", provider="bedrock", model="anthropic.m", rejects=("temperature",))
    built = build(info=info, temperature=0.5)
    assert [(w.code, w.parameter) for w in built.warnings] == [("parameter_stripped", "temperature")]
