"""Bodies: every field of a request, what is left out with a warning, and what is refused before anything is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.catalog import ModelInfo
from server.core.errors import InvalidRequest, NotConfigured
from server.core.messages import ChatRequest, HostedTool, ResponseFormat, Thinking, Tool, ToolChoice
from server.core.ports import ProviderTarget
from tests.providers.openai_responses.support import (
    HI,
    KEY,
    PLAIN,
    REASONING,
    SOMETIMES,
    body,
    build,
    call,
    target,
    wire,
)

SCHEMA = '{"type":"object","properties":{}}'
ENCRYPTED = "reasoning.encrypted_content"


def test_the_smallest_request() -> None:
    """Stateless, and nothing that was not asked for."""
    assert body() == {"model": "m", "input": [{"role": "user", "content": "Hi"}], "store": False}
    assert body(stream=True)["stream"] is True


def test_the_request_as_it_goes_out() -> None:
    """Address, credential, and what kind of answer is wanted."""
    http = build(stream=True).http
    assert (http.method, http.url) == ("POST", "https://api.openai.com/v1/responses")
    assert dict(http.headers) == {
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "accept": "text/event-stream",
    }
    assert dict(build().http.headers)["accept"] == "application/json"


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("https://h", "https://h/v1/responses"),
        ("https://h/", "https://h/v1/responses"),
        ("https://h/v1", "https://h/v1/responses"),
        ("https://h/v1/responses", "https://h/v1/responses"),
        ("https://h/v1/chat/completions", "https://h/v1/responses"),
        ("https://h/proxy/openai?tenant=a", "https://h/proxy/openai/responses?tenant=a"),
    ],
)
def test_endpoints(endpoint: str, url: str) -> None:
    """A host, a base, or the full address of either API: they mean the same."""
    assert wire().build_request(call(to=target(endpoint=endpoint))).http.url == url


def test_an_endpoint_that_is_no_url_and_a_missing_key() -> None:
    """The workspace's to mend, before anything is sent."""
    with pytest.raises(NotConfigured):
        wire().build_request(call(to=target(endpoint="https://[h")))
    keyless = ProviderTarget(provider="openai", config_id="c1")
    with pytest.raises(NotConfigured):
        wire().build_request(call(to=keyless))


FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"system": "Be brief."}, {"instructions": "Be brief."}),
    ({"temperature": 0.5, "top_p": 0.9, "user": "u1"}, {"temperature": 0.5, "top_p": 0.9, "user": "u1"}),
    ({"max_tokens": 16}, {"max_output_tokens": 16}),
    ({"logprobs": True, "top_logprobs": 3}, {"include": ["message.output_text.logprobs"], "top_logprobs": 3}),
    ({"logprobs": False}, {}),
    ({"response_format": ResponseFormat("text")}, {}),
    ({"response_format": ResponseFormat("json_object")}, {"text": {"format": {"type": "json_object"}}}),
    (
        {"response_format": ResponseFormat("json_schema", "n", SCHEMA, True, "d")},
        {
            "text": {
                "format": {
                    "type": "json_schema", "name": "n", "schema": json.loads(SCHEMA), "strict": True,
                    "description": "d",
                }
            }
        },
    ),
    (
        {"response_format": ResponseFormat("json_schema", schema=SCHEMA)},
        {"text": {"format": {"type": "json_schema", "name": "response", "schema": json.loads(SCHEMA)}}},
    ),
    ({"provider_options": '{"text":{"verbosity":"low"},"store":true}'}, {"text": {"verbosity": "low"}, "store": True}),
    (
        {"provider_options": '{"text":{"verbosity":"low"}}', "response_format": ResponseFormat("json_object")},
        {"text": {"format": {"type": "json_object"}, "verbosity": "low"}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), FIELDS)
def test_fields(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each under the wire's own name; an unknown model is sent everything."""
    built = build(**fields)
    assert json.loads(built.http.body) == {**body(), **expected}
    assert built.warnings == ()


LEGACY = ("stop", "seed", "frequency_penalty", "presence_penalty")


@pytest.mark.parametrize("slug", ["openai", "xai"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("stop", ("x",)), ("seed", 1), ("frequency_penalty", 0.5), ("presence_penalty", -1.0), ("top_k", 5)],
)
def test_what_the_api_has_not_is_left_out_and_said(slug: str, name: str, value: Any) -> None:
    """With a warning that names the parameter, and the way to have it all the same where there is one."""
    built = build(slug, **{name: value})
    assert json.loads(built.http.body) == body(slug)
    (warning,) = built.warnings
    assert (warning.code, warning.parameter) == ("parameter_stripped", name)
    assert ("legacy: true" in warning.message) == (slug == "openai" and name in LEGACY)


@pytest.mark.parametrize(
    ("info", "thinking", "gone"),
    [
        (REASONING, None, True),
        (SOMETIMES, None, False),
        (SOMETIMES, Thinking("enabled", effort="low"), True),
        (SOMETIMES, Thinking("disabled"), False),
        (PLAIN, None, False),
        (None, Thinking("enabled"), False),
    ],
)
def test_sampling_of_models_that_think(info: ModelInfo | None, thinking: Thinking | None, gone: bool) -> None:
    """Trap 27: stripped with a warning by the catalogue alone; a gateway's default goes without a word."""
    built = build(info=info, thinking=thinking, temperature=0.2)
    assert ("temperature" not in json.loads(built.http.body)) == gone
    assert [warning.parameter for warning in built.warnings] == (["temperature"] if gone else [])
    assert build(info=info, thinking=thinking, temperature=0.2, defaults=frozenset({"temperature"})).warnings == ()


THOUGHT: list[tuple[ModelInfo | None, Thinking, Any, list[str]]] = [
    (None, Thinking("enabled"), {"effort": "medium"}, []),
    (None, Thinking("enabled", effort="xhigh", include=True), {"effort": "xhigh", "summary": "auto"}, []),
    (None, Thinking("disabled", include=True), {"effort": "none"}, []),
    (None, Thinking("enabled", 2_000), {"effort": "low"}, ["parameter_approximated"]),
    (REASONING, Thinking("enabled"), None, []),
    (REASONING, Thinking("enabled", include=True), {"summary": "auto"}, []),
    (REASONING, Thinking("enabled", effort="max"), {"effort": "high"}, ["parameter_approximated"]),
    (REASONING, Thinking("disabled"), {"effort": "minimal"}, ["parameter_approximated"]),
    (SOMETIMES, Thinking("disabled"), {"effort": "none"}, []),
    (SOMETIMES, Thinking("adaptive"), None, ["parameter_approximated"]),
    (PLAIN, Thinking("enabled"), None, ["parameter_stripped"]),
    (PLAIN, Thinking("disabled"), None, []),
]


@pytest.mark.parametrize(("info", "thinking", "expected", "codes"), THOUGHT)
def test_thinking(info: ModelInfo | None, thinking: Thinking, expected: Any, codes: list[str]) -> None:
    """As a level that the model takes; readable thoughts only where they were asked for."""
    built = build(info=info, thinking=thinking)
    assert json.loads(built.http.body).get("reasoning") == expected
    assert [warning.code for warning in built.warnings] == codes


@pytest.mark.parametrize(("slug", "warned"), [("openai", False), ("xai", True)])
def test_thoughts_that_are_not_wanted(slug: str, warned: bool) -> None:
    """OpenAI shows none unless asked; xAI always does, and the answer says so."""
    built = build(slug, thinking=Thinking("enabled", effort="low", include=False))
    assert json.loads(built.http.body)["reasoning"] == {"effort": "low"}
    assert bool(built.warnings) == warned


@pytest.mark.parametrize(
    ("info", "thinking", "asked"),
    [
        (REASONING, None, True),
        (SOMETIMES, None, True),
        (PLAIN, None, False),
        (PLAIN, Thinking("enabled"), False),
        (None, None, False),
        (None, Thinking("enabled"), True),
        (None, Thinking("disabled"), False),
    ],
)
def test_encrypted_thoughts_are_asked_for_where_there_may_be_some(
    info: ModelInfo | None, thinking: Thinking | None, asked: bool
) -> None:
    """OpenAI refuses the whole request where a model that never thinks is asked for them (recorded widely)."""
    assert (ENCRYPTED in body(info=info, thinking=thinking).get("include", [])) == asked


# --- tools ------------------------------------------------------------------------------------------------------------


def test_functions_are_flat() -> None:
    """name and schema beside the type; what was not given is not sent, but a schema there must be."""
    tools = (Tool("f", "d", SCHEMA, True), Tool("g"))
    built = body(tools=tools, parallel_tool_calls=False, tool_choice=ToolChoice("required"))
    assert built["tools"] == [
        {"type": "function", "name": "f", "description": "d", "parameters": json.loads(SCHEMA), "strict": True},
        {"type": "function", "name": "g", "parameters": {"type": "object", "properties": {}}},
    ]
    assert (built["parallel_tool_calls"], built["tool_choice"]) == (False, "required")
    assert "parallel_tool_calls" not in body(parallel_tool_calls=False)


@pytest.mark.parametrize("schema", ["[]", "{", '"x"', ""])
def test_schemas_that_are_no_object(schema: str) -> None:
    """Refused with the field's name."""
    with pytest.raises(InvalidRequest, match=r"tools\[0\]\.parameters"):
        body(tools=(Tool("f", parameters=schema),))


HOSTED: list[tuple[str, HostedTool, dict[str, Any], list[str]]] = [
    ("openai", HostedTool("web_search"), {"type": "web_search"}, ["web_search_call.action.sources"]),
    (
        "openai",
        HostedTool("web_search", '{"search_context_size":"low"}'),
        {"type": "web_search", "search_context_size": "low"},
        ["web_search_call.action.sources"],
    ),
    (
        "openai",
        HostedTool("code_execution"),
        {"type": "code_interpreter", "container": {"type": "auto"}},
        ["code_interpreter_call.outputs"],
    ),
    (
        "openai",
        HostedTool("code_execution", '{"container":"cntr_1"}'),
        {"type": "code_interpreter", "container": "cntr_1"},
        ["code_interpreter_call.outputs"],
    ),
    ("openai", HostedTool("web_search_preview"), {"type": "web_search_preview"}, []),
    ("openai", HostedTool("mcp", '{"server_label":"d"}'), {"type": "mcp", "server_label": "d"}, []),
    ("xai", HostedTool("web_search"), {"type": "web_search"}, []),
    ("xai", HostedTool("code_execution"), {"type": "code_interpreter"}, []),
    ("xai", HostedTool("x_search", '{"from_date":"2026-01-01"}'), {"type": "x_search", "from_date": "2026-01-01"}, []),
]


@pytest.mark.parametrize(("slug", "tool", "expected", "include"), HOSTED)
def test_server_tools(slug: str, tool: HostedTool, expected: dict[str, Any], include: list[str]) -> None:
    """Neutral names become the server's own, others pass; results are asked for where they come only on demand."""
    built = body(slug, hosted_tools=(tool,))
    assert built["tools"] == [expected]
    assert built.get("include", []) == include


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ToolChoice("auto"), "auto"),
        (ToolChoice("none"), "none"),
        (ToolChoice("tool", "f"), {"type": "function", "name": "f"}),
        (ToolChoice("tool", "code_execution"), {"type": "code_interpreter"}),
        (ToolChoice("tool", "file_search"), {"type": "file_search"}),
    ],
)
def test_tool_choice(choice: ToolChoice, expected: Any) -> None:
    """A function by its name, a server tool by its type."""
    hosted = (HostedTool("code_execution"), HostedTool("file_search"))
    assert body(tools=(Tool("f"),), hosted_tools=hosted, tool_choice=choice)["tool_choice"] == expected


def test_xais_log_probabilities_have_a_field_of_their_own() -> None:
    """docs.x.ai: `include` knows nothing but encrypted thoughts."""
    built = body("xai", logprobs=True, top_logprobs=2)
    assert (built["logprobs"], built["top_logprobs"], "include" in built) == (True, 2, False)


@pytest.mark.parametrize("options", ['{"model":"x"}', '{"stream":true}', "[]", "x"])
def test_options_that_are_not_the_callers_to_set(options: str) -> None:
    """What the gateway depends on, and what is no object."""
    with pytest.raises(InvalidRequest, match="provider_options"):
        body(provider_options=options)


@pytest.mark.parametrize(("slug", "sent"), [("openai", 16), ("xai", 5)])
def test_the_least_limit_that_openai_takes(slug: str, sent: int) -> None:
    """It refuses less than 16 with a 400: the nearest is sent, and the answer says so."""
    built = build(slug, max_tokens=5)
    assert json.loads(built.http.body)["max_output_tokens"] == sent
    assert [warning.code for warning in built.warnings] == (["parameter_approximated"] if sent == 16 else [])


def test_a_default_limit_is_fitted_to_the_model() -> None:
    """The gateway's own default is lowered in silence, the caller's word is not touched."""
    assert body(info=PLAIN, max_tokens=99_999, defaults=frozenset({"max_tokens"}))["max_output_tokens"] == 16_384
    assert body(info=PLAIN, max_tokens=99_999)["max_output_tokens"] == 99_999


def test_the_request_itself_is_not_changed() -> None:
    """Two builds of one call are equal: nothing is kept between them."""
    wanted = call(ChatRequest(messages=HI, hosted_tools=(HostedTool("code_execution", '{"container":{"x":1}}'),)))
    assert wire().build_request(wanted) == wire().build_request(wanted)
    assert body(hosted_tools=(HostedTool("code_execution"),))["tools"][0]["container"] == {"type": "auto"}
