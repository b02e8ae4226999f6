"""What of a request goes to a model: one rule, held against every wire and every row of data that the registry leads
to."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from server.core.catalog import ModelInfo
from server.core.errors import UnsupportedParameter
from server.core.messages import (
    Audio,
    ChatRequest,
    Document,
    HostedTool,
    Image,
    Inline,
    Message,
    ResponseFormat,
    Text,
    Tool,
    ToolResult,
)
from server.core.ports import ProviderCall, ProviderTarget
from server.core.secret import Secret
from server.providers.openai_chat.presets import PRESETS
from server.providers.registry import ENTRIES, ProviderRegistry
from server.providers.transport.fake import FakeTransport
from server.providers.wire import BuiltRequest

TUNING: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 7,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "stop": ("halt",),
    "seed": 7,
    "logprobs": True,
    "top_logprobs": 2,
    "user": "u-1",
}

CANARY = b"canary-media-51c07e9ab2"
SCHEMA = '{"type":"object","properties":{"canary51":{"type":"string"}}}'
HI = Message("user", (Text("Hi"),))

DECIDING: dict[str, tuple[dict[str, Any], str]] = {
    "an image": ({"messages": (Message("user", (Image(Inline("image/png", CANARY)),)),)}, "messages[0].parts[0]"),
    "a document": (
        {"messages": (Message("user", (Document(Inline("application/pdf", CANARY), name="d"),)),)},
        "messages[0].parts[0]",
    ),
    "audio": ({"messages": (Message("user", (Audio(Inline("audio/wav", CANARY)),)),)}, "messages[0].parts[0]"),
    "tools": ({"messages": (HI,), "tools": (Tool("canary51"),)}, "tools"),
    "json_object": ({"messages": (HI,), "response_format": ResponseFormat("json_object")}, "response_format"),
    "json_schema": (
        {"messages": (HI,), "response_format": ResponseFormat("json_schema", name="n", schema=SCHEMA)},
        "response_format",
    ),
    "a server tool": ({"messages": (HI,), "hosted_tools": (HostedTool("web_search"),)}, "server_tools[0]"),
}

WIRES = [
    *((slug, "") for slug in ENTRIES),
    *((slug, "chat") for slug in ENTRIES if slug == "openai"),
    *(("custom", row) for row in PRESETS if row not in ENTRIES),
]

each_wire = pytest.mark.parametrize(("slug", "row"), WIRES, ids=[f"{slug} {row}".strip() for slug, row in WIRES])


def build(slug: str, row: str, info: ModelInfo | None, **fields: Any) -> BuiltRequest:
    wire = ProviderRegistry(FakeTransport()).get(slug)._wire  # type: ignore[attr-defined]
    target = ProviderTarget(
        provider=slug, config_id="c", endpoint="https://peer.example", secret=Secret("sk-canary-0123456789"), wire=row
    )
    request = ChatRequest(**{"messages": (HI,), **fields})
    built: BuiltRequest = wire.build_request(
        ProviderCall(target=target, request=request, model="a-model", info=info, stream=False)
    )
    return built


def body(built: BuiltRequest) -> Any:
    return json.loads(built.http.body or b"")


def info(slug: str, **facts: Any) -> ModelInfo:
    return ModelInfo(id=f"{slug}/a-model", name="A", provider=slug, model="a-model", **facts)


@each_wire
def test_what_a_model_rejects_is_left_out_with_a_warning(slug: str, row: str) -> None:
    """All that tunes the answer: the body is as without it, and each parameter has its one warning."""
    model = info(slug, rejects=tuple(TUNING))
    built = build(slug, row, model, **TUNING)
    assert body(built) == body(build(slug, row, model))
    assert sorted(w.parameter for w in built.warnings) == sorted(TUNING)
    assert {w.code for w in built.warnings} == {"parameter_stripped"}


@each_wire
def test_a_default_of_the_gateway_is_left_out_without_a_word(slug: str, row: str) -> None:
    """The same body, and no warning; a limit is lowered to the model's."""
    model = info(slug, rejects=tuple(TUNING), output_tokens=100)
    built = build(slug, row, model, **TUNING, max_tokens=4_096, defaults=frozenset({*TUNING, "max_tokens"}))
    assert built.warnings == ()
    assert body(built) == body(build(slug, row, model, max_tokens=100))


@each_wire
@pytest.mark.parametrize("name", TUNING)
def test_nothing_is_dropped_in_silence(slug: str, row: str, name: str) -> None:
    """To a model that nobody knows, each parameter goes, or there is a warning that names it; never both or neither."""
    wanted = {name: TUNING[name]} | ({"logprobs": True} if name == "top_logprobs" else {})
    without = {key: value for key, value in wanted.items() if key != name}
    built = build(slug, row, None, **wanted)
    goes = body(built) != body(build(slug, row, None, **without))
    assert goes != (name in [w.parameter for w in built.warnings])


@each_wire
@pytest.mark.parametrize(("fields", "where"), DECIDING.values(), ids=DECIDING)
def test_what_decides_the_answer_is_refused_before_anything_is_sent(
    slug: str, row: str, fields: dict[str, Any], where: str
) -> None:
    """A model that is known not to take it is named, and so is the part of the request."""
    with pytest.raises(UnsupportedParameter) as caught:
        build(slug, row, info(slug, capabilities=("streaming",)), **fields)
    assert caught.value.violations[0].field == where
    assert "a-model" in caught.value.message


@each_wire
@pytest.mark.parametrize(("fields", "where"), DECIDING.values(), ids=DECIDING)
def test_what_decides_the_answer_is_never_left_out(slug: str, row: str, fields: dict[str, Any], where: str) -> None:
    """To a model that nobody knows it goes; where the wire cannot say it, that is an error."""
    try:
        built = build(slug, row, None, **fields)
    except UnsupportedParameter:
        return
    assert built.warnings == ()
    sent = (built.http.body or b"").decode()
    marks = ("canary51", base64.b64encode(CANARY).decode(), "json", "search", "Search", "grounding")
    assert any(mark in sent for mark in marks), sent


@each_wire
def test_media_in_a_tools_result_is_found(slug: str, row: str) -> None:
    """What a model cannot see it cannot see in a result either."""
    result = ToolResult("c", (Text("see"), Image(Inline("image/png", CANARY))))
    with pytest.raises(UnsupportedParameter) as caught:
        build(slug, row, info(slug, capabilities=("tools",)), messages=(HI, Message("tool", (result,))))
    assert caught.value.violations[0].field == "messages[1].parts[0]"


@pytest.mark.parametrize("slug", [slug for slug in ("anthropic", "bedrock") if slug in ENTRIES])
def test_a_temperature_above_a_providers_range_is_its_highest(slug: str) -> None:
    """With a warning, unless it was the gateway's."""
    model = info(slug, capabilities=("tools",))
    built = build(slug, "", model, temperature=1.5)
    assert [(w.code, w.parameter) for w in built.warnings] == [("parameter_approximated", "temperature")]
    assert body(built) == body(build(slug, "", model, temperature=1))
    assert build(slug, "", model, temperature=1.5, defaults=frozenset({"temperature"})).warnings == ()


def test_every_tuning_field_of_a_request_is_tried_here() -> None:
    """A new field of ChatRequest belongs into one of the tables above."""
    decided = {"tools", "hosted_tools", "tool_choice", "parallel_tool_calls", "response_format"}
    apart = {"thinking", "max_tokens"}
    addressed = {"messages", "model", "provider", "provider_name", "legacy", "system", "provider_options", "defaults"}
    fields = {field.name for field in msgspec.structs.fields(ChatRequest)} - {"passthrough", "dialect"}
    assert fields == {*TUNING} | decided | apart | addressed
