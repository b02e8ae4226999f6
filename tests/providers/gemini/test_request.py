"""What a neutral request becomes on Gemini's wire, and what is said when it has no place there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.catalog import ModelInfo
from server.core.errors import InvalidRequest, NotConfigured, UnsupportedParameter
from server.core.messages import (
    Audio,
    CacheControl,
    Document,
    HostedTool,
    Image,
    Inline,
    Message,
    Remote,
    ResponseFormat,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    Uploaded,
)
from tests.providers.gemini.support import (
    ALWAYS,
    BUDGETS,
    HI,
    KEY,
    LEVELS,
    VERTEX,
    body,
    build,
    call,
    info,
    target,
    warned,
    wire,
)

GEMINI = "https://generativelanguage.googleapis.com/v1beta"
TOOL = Tool("f", "does", '{"type":"object","properties":{"a":{"type":["string","null"]}},"$defs":{}}')


# --- where and as whom ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "model", "url"),
    [
        (None, "m", f"{GEMINI}/models/m"),
        (None, "models/m", f"{GEMINI}/models/m"),
        (None, "tunedModels/t", f"{GEMINI}/tunedModels/t"),
        (None, "m@1 2:x", f"{GEMINI}/models/m%401%202%3Ax"),
        ("https://proxy.example", "m", "https://proxy.example/v1beta/models/m"),
        ("https://proxy.example/gem/v1/", "m", "https://proxy.example/gem/v1/models/m"),
        (f"{GEMINI}/models", "m", f"{GEMINI}/models/m"),
        (VERTEX, "m", f"{VERTEX}/publishers/google/models/m"),
        (f"{VERTEX}/publishers/google/models", "m", f"{VERTEX}/publishers/google/models/m"),
        (VERTEX, "publishers/meta/models/l", f"{VERTEX}/publishers/meta/models/l"),
        (VERTEX, "endpoints/12", f"{VERTEX}/endpoints/12"),
        (
            "https://aiplatform.googleapis.com/v1/projects/p/locations/global",
            "m",
            "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google/models/m",
        ),
    ],
)
def test_the_url_of_a_call(endpoint: str | None, model: str, url: str) -> None:
    """Base, resource name and method, for both forms of an answer; streams are asked for as SSE."""
    whole = wire().build_request(call(model=model, endpoint=endpoint, stream=False)).http
    stream = wire().build_request(call(model=model, endpoint=endpoint, stream=True)).http
    assert (whole.method, whole.url) == ("POST", f"{url}:generateContent")
    assert stream.url == f"{url}:streamGenerateContent?alt=sse"
    assert whole.body == stream.body


@pytest.mark.parametrize("model", ["../secret/x", "a/../b", "/m", "a//b"])
def test_a_model_name_cannot_leave_its_place(model: str) -> None:
    """Path steps in a name are an error before anything is sent."""
    with pytest.raises(InvalidRequest, match="model"):
        wire().build_request(call(model=model))


@pytest.mark.parametrize(
    ("endpoint", "header"),
    [
        (None, ("x-goog-api-key", KEY)),
        ("https://proxy.example", ("x-goog-api-key", KEY)),
        (VERTEX, ("authorization", f"Bearer {KEY}")),
        ("https://aiplatform.googleapis.com/v1/projects/p/locations/global", ("authorization", f"Bearer {KEY}")),
        ("https://aiplatform.eu.rep.googleapis.com/v1/projects/p/locations/eu", ("authorization", f"Bearer {KEY}")),
        ("https://psc.internal.example/v1/projects/p/locations/x", ("authorization", f"Bearer {KEY}")),
        ("https://aiplatform.googleapis.com.example/v1", ("x-goog-api-key", KEY)),
    ],
)
def test_how_the_secret_travels(endpoint: str | None, header: tuple[str, str]) -> None:
    """A key in Google's header, a token for Vertex; neither in the URL."""
    for request in (
        wire().build_request(call(endpoint=endpoint)).http,
        wire().build_list_models(target(endpoint)),
        wire().build_validate(target(endpoint)),
    ):
        assert header in request.headers
        assert sum(KEY in value for _, value in request.headers) == 1
        assert KEY not in request.url


def test_what_a_configuration_lacks_is_said() -> None:
    """No secret; Vertex without a project."""
    with pytest.raises(NotConfigured, match="secret"):
        wire().build_list_models(target(key=None))
    with pytest.raises(NotConfigured, match="project and location"):
        wire().build_request(call(endpoint="https://us-central1-aiplatform.googleapis.com"))


# --- parameters -------------------------------------------------------------------------------------------------------


def test_every_parameter_has_its_place() -> None:
    """Sampling, stop, seed, logprobs: in generationConfig under Google's names."""
    config = body(
        temperature=0.5, top_p=0.9, top_k=40, max_tokens=100, seed=7, presence_penalty=0.1, frequency_penalty=0.2,
        stop=("a", "b"), logprobs=True, top_logprobs=3,
    )["generationConfig"]  # fmt: skip
    assert config == {
        "temperature": 0.5, "topP": 0.9, "topK": 40, "maxOutputTokens": 100, "seed": 7, "presencePenalty": 0.1,
        "frequencyPenalty": 0.2, "stopSequences": ["a", "b"], "responseLogprobs": True, "logprobs": 3,
    }  # fmt: skip


def test_nothing_asked_for_is_nothing_sent() -> None:
    """A bare question is the contents alone."""
    assert body() == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"user": "u"}, "user"),
        ({"tools": (TOOL,), "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": (Tool("f", cache=CacheControl()),)}, "cache_control"),
        ({"response_format": ResponseFormat("json_object", description="d")}, "response_format.description"),
    ],
)
def test_what_the_wire_has_no_place_for_is_left_out_with_a_warning(fields: dict[str, Any], parameter: str) -> None:
    """And named."""
    assert warned(build(**fields)) == [("parameter_stripped", parameter)]


def test_what_a_model_rejects_is_left_out_with_a_warning_unless_it_was_a_default() -> None:
    """The capability table decides; the gateway's own defaults go without a word, and down to the model's limit."""
    lite = info(rejects=("temperature",), output_tokens=100)
    assert warned(build(lite, temperature=0.5)) == [("parameter_stripped", "temperature")]
    built = build(lite, temperature=0.5, max_tokens=500, defaults=frozenset({"temperature", "max_tokens"}))
    assert (json.loads(built.http.body)["generationConfig"], built.warnings) == ({"maxOutputTokens": 100}, ())
    assert body(lite, max_tokens=500)["generationConfig"] == {"maxOutputTokens": 500}


def test_an_unknown_model_takes_everything() -> None:
    """No row, no stripping."""
    assert build(temperature=2.0, thinking=Thinking("enabled", budget_tokens=5)).warnings == ()


@pytest.mark.parametrize(
    ("wanted", "config"),
    [
        (ResponseFormat("text"), {}),
        (ResponseFormat("json_object"), {"responseMimeType": "application/json"}),
        (
            ResponseFormat("json_schema", "n", '{"type":"object","additionalProperties":false}', strict=True),
            {
                "responseMimeType": "application/json",
                "responseJsonSchema": {"type": "object", "additionalProperties": False},
            },
        ),
    ],
)
def test_response_formats(wanted: ResponseFormat, config: dict[str, Any]) -> None:
    """A JSON Schema goes into the field that takes one, not into the OpenAPI dialect."""
    assert body(response_format=wanted).get("generationConfig", {}) == config


def test_a_schema_that_is_no_object_is_the_callers_mistake() -> None:
    """Named, before anything is sent."""
    with pytest.raises(InvalidRequest, match=r"response_format\.schema"):
        body(response_format=ResponseFormat("json_schema", "n", "[]"))
    with pytest.raises(InvalidRequest, match=r"tools\[0\]\.parameters"):
        body(tools=(Tool("f", parameters="nope"),))


def test_provider_options_are_merged_last() -> None:
    """What the contract does not know yet; null removes, and several answers are refused."""
    options = {"safetySettings": [{"category": "C"}], "generationConfig": {"topK": 1, "temperature": None}}
    built = body(temperature=1.0, top_p=0.5, provider_options=json.dumps(options))
    assert built["safetySettings"] == [{"category": "C"}]
    assert built["generationConfig"] == {"topP": 0.5, "topK": 1}
    with pytest.raises(InvalidRequest, match="candidateCount"):
        body(provider_options='{"generationConfig": {"candidateCount": 2}}')


# --- thinking ---------------------------------------------------------------------------------------------------------

ON = {"includeThoughts": True}


@pytest.mark.parametrize(
    ("model", "thinking", "config", "approximated"),
    [
        # nothing known: as it is asked for
        (None, Thinking("enabled"), ON, False),
        (None, Thinking("enabled", budget_tokens=1000, include=False), {"thinkingBudget": 1000}, False),
        (None, Thinking("enabled", effort="xhigh"), {"thinkingLevel": "XHIGH"} | ON, False),
        (None, Thinking("disabled"), {"thinkingBudget": 0}, False),
        (None, Thinking("adaptive"), ON, False),
        # budgets
        (BUDGETS, Thinking("enabled"), ON, False),
        (BUDGETS, Thinking("enabled", budget_tokens=1000), {"thinkingBudget": 1000} | ON, False),
        (BUDGETS, Thinking("enabled", budget_tokens=-1), {"thinkingBudget": -1} | ON, False),
        (BUDGETS, Thinking("enabled", budget_tokens=99_999), {"thinkingBudget": 24_576} | ON, True),
        (BUDGETS, Thinking("enabled", effort="low"), {"thinkingBudget": 1024} | ON, True),
        (BUDGETS, Thinking("enabled", effort="max"), {"thinkingBudget": 24_576} | ON, True),
        (BUDGETS, Thinking("adaptive"), {"thinkingBudget": -1} | ON, False),
        (BUDGETS, Thinking("disabled"), {"thinkingBudget": 0}, False),
        (BUDGETS, Thinking("enabled", effort="none"), {"thinkingBudget": 0}, False),
        (ALWAYS, Thinking("disabled"), {"thinkingBudget": 128}, True),
        (ALWAYS, Thinking("enabled", budget_tokens=5), {"thinkingBudget": 128} | ON, True),
        # levels
        (LEVELS, Thinking("enabled"), ON, False),
        (LEVELS, Thinking("adaptive"), ON, False),
        (LEVELS, Thinking("enabled", effort="high"), {"thinkingLevel": "HIGH"} | ON, False),
        (LEVELS, Thinking("enabled", effort="minimal"), {"thinkingLevel": "LOW"} | ON, True),
        (LEVELS, Thinking("enabled", effort="max"), {"thinkingLevel": "HIGH"} | ON, True),
        (LEVELS, Thinking("enabled", budget_tokens=500), {"thinkingLevel": "LOW"} | ON, True),
        (LEVELS, Thinking("enabled", budget_tokens=20_000), {"thinkingLevel": "HIGH"} | ON, True),
        (LEVELS, Thinking("disabled"), {"thinkingLevel": "LOW"}, True),
        # none
        (info(), Thinking("disabled"), None, False),
    ],
)
def test_thinking_by_what_the_model_takes(
    model: ModelInfo | None, thinking: Thinking, config: dict[str, Any] | None, approximated: bool
) -> None:
    """A budget or a level, never both; what is not exactly what was asked for is said."""
    built = build(model, thinking=thinking)
    assert json.loads(built.http.body).get("generationConfig", {}).get("thinkingConfig") == config
    assert warned(built) == ([("parameter_approximated", "thinking")] if approximated else [])


def test_thinking_that_is_asked_of_a_model_that_does_not_think_is_left_out() -> None:
    """With a warning; and of a budget and a level for an unknown model only the level goes out."""
    assert warned(build(info(), thinking=Thinking("enabled"))) == [("parameter_stripped", "thinking")]
    both = build(thinking=Thinking("enabled", budget_tokens=5, effort="low"))
    assert warned(both) == [("parameter_stripped", "thinking.budget_tokens")]


# --- tools ------------------------------------------------------------------------------------------------------------


def test_functions_stand_together_and_keep_their_schema() -> None:
    """JSON Schema as it is, none for a function without arguments."""
    assert body(tools=(TOOL, Tool("g")))["tools"] == [
        {
            "functionDeclarations": [
                {"name": "f", "description": "does", "parametersJsonSchema": json.loads(TOOL.parameters or "")},
                {"name": "g"},
            ]
        }
    ]


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        (None, None),
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("tool", "f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_tool_choices(choice: ToolChoice | None, calling: dict[str, Any] | None) -> None:
    """Each mode under Google's word."""
    assert body(tools=(TOOL,), tool_choice=choice).get("toolConfig", {}).get("functionCallingConfig") == calling


def test_a_strict_function_is_called_by_its_schema() -> None:
    """VALIDATED is AUTO with that promise; forced calls have it anyway."""
    strict = (Tool("f", strict=True), Tool("g", strict=False))
    assert body(tools=strict)["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}
    assert body(tools=strict, tool_choice=ToolChoice("required"))["toolConfig"] == {
        "functionCallingConfig": {"mode": "ANY"}
    }


def test_only_functions_can_be_forced() -> None:
    """Without any, `required` cannot be said, and `auto` and `none` need not be."""
    with pytest.raises(UnsupportedParameter, match="tool_choice"):
        body(hosted_tools=(HostedTool("web_search"),), tool_choice=ToolChoice("required"))
    assert "toolConfig" not in body(tool_choice=ToolChoice("none"))


@pytest.mark.parametrize(
    ("hosted", "tool"),
    [
        (HostedTool("web_search"), {"googleSearch": {}}),
        (HostedTool("code_execution"), {"codeExecution": {}}),
        (HostedTool("web_fetch"), {"urlContext": {}}),
        (HostedTool("google_maps"), {"googleMaps": {}}),
        (HostedTool("googleSearchRetrieval"), {"googleSearchRetrieval": {}}),
        (
            HostedTool("web_search", '{"timeRangeFilter":{"startTime":"t"}}'),
            {"googleSearch": {"timeRangeFilter": {"startTime": "t"}}},
        ),
    ],
)
def test_tools_that_google_runs(hosted: HostedTool, tool: dict[str, Any]) -> None:
    """Neutral words become Google's; its own pass; options go into the tool's object."""
    assert body(hosted_tools=(hosted,))["tools"] == [tool]


def test_both_kinds_of_tools_at_once_need_a_word_at_the_gemini_api() -> None:
    """From Gemini 3 on, and not at Vertex, which does not know it."""
    both: dict[str, Any] = {"tools": (TOOL,), "hosted_tools": (HostedTool("web_search"),)}
    assert body(LEVELS, **both)["toolConfig"] == {"includeServerSideToolInvocations": True}
    assert "toolConfig" not in body(BUDGETS, **both)
    assert "toolConfig" not in body(LEVELS, endpoint=VERTEX, **both)


# --- content ----------------------------------------------------------------------------------------------------------


def test_system_texts_are_the_system_instruction() -> None:
    """The request's own first; one that comes later moves, which is said."""
    messages = (Message("system", (Text("b"),)), *HI)
    assert body(system="a", messages=messages)["systemInstruction"] == {"parts": [{"text": "a"}, {"text": "b"}]}
    late = build(messages=(*HI, Message("system", (Text("c"),))))
    assert warned(late) == [("parameter_approximated", "messages")]
    with pytest.raises(UnsupportedParameter):
        body(messages=(Message("system", (Image(Remote("https://x/y.png")),)),))


@pytest.mark.parametrize(
    ("part", "parts"),
    [
        (Image(Inline("image/png", b"\0\1")), [{"inlineData": {"mimeType": "image/png", "data": "AAE="}}]),
        (
            Image(Remote("https://x/y.jpg", "image/jpeg")),
            [{"fileData": {"fileUri": "https://x/y.jpg", "mimeType": "image/jpeg"}}],
        ),
        (Image(Remote("https://youtu.be/1")), [{"fileData": {"fileUri": "https://youtu.be/1"}}]),
        (
            Image(Uploaded("files/a", "image/png")),
            [{"fileData": {"fileUri": f"{GEMINI}/files/a", "mimeType": "image/png"}}],
        ),
        (Document(Uploaded("gs://b/c.pdf")), [{"fileData": {"fileUri": "gs://b/c.pdf"}}]),
        (
            Document(Inline("application/pdf", b"%"), name="a.pdf"),
            [{"text": "a.pdf:"}, {"inlineData": {"mimeType": "application/pdf", "data": "JQ=="}}],
        ),
        (Audio(Inline("audio/wav", b"R")), [{"inlineData": {"mimeType": "audio/wav", "data": "Ug=="}}]),
    ],
)  # fmt: skip
def test_media(part: Any, parts: list[dict[str, Any]]) -> None:
    """Bytes inline, addresses as file data that Google fetches by itself."""
    built = build(messages=(Message("user", (Text("look"), part)),))
    assert json.loads(built.http.body)["contents"][0]["parts"] == [{"text": "look"}, *parts]
    assert built.warnings == ()


@pytest.mark.parametrize(
    ("details", "resolution", "warnings"),
    [
        (("low",), "MEDIA_RESOLUTION_LOW", []),
        (("high",), "MEDIA_RESOLUTION_HIGH", []),
        (("auto",), None, []),
        (("low", "high"), "MEDIA_RESOLUTION_HIGH", [("parameter_approximated", "detail")]),
    ],
)
def test_image_details(details: tuple[str, ...], resolution: str | None, warnings: list[tuple[str, str]]) -> None:
    """Google has one resolution for a request; images that differ get the highest, which is said."""
    images = tuple(Image(Inline("image/png", b"x"), detail) for detail in details)
    built = build(messages=(Message("user", images),))
    assert json.loads(built.http.body).get("generationConfig", {}).get("mediaResolution") == resolution
    assert warned(built) == warnings


@pytest.mark.parametrize(
    ("message", "parameter"),
    [
        (Message("user", (Text("a", cache=CacheControl()),)), "messages"),
        (Message("user", (Document(Inline("application/pdf", b"%"), citations=True),)), "citations"),
        (Message("user", (Text("a"),), name="bob"), "name"),
    ],
)
def test_marks_without_a_place_are_told_of(message: Message, parameter: str) -> None:
    """Cache markers, citations from documents, names."""
    assert warned(build(messages=(message,))) == [("part_dropped", parameter)]
