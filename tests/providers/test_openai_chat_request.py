"""The neutral request as a Chat Completions body: every field, every part, and a warning for whatever cannot go out."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from server.core.catalog import ModelInfo, ThinkingTraits
from server.core.errors import InvalidRequest, UnsupportedParameter
from server.core.messages import (
    Audio,
    CacheControl,
    ChatRequest,
    Document,
    HostedTool,
    Image,
    Inline,
    Message,
    Opaque,
    Part,
    Reasoning,
    Remote,
    ResponseFormat,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Uploaded,
)
from tests.providers.chat_support import HI, body, call, wire

PNG = Inline("image/png", b"\x89PNG")
PNG_URL = f"data:image/png;base64,{b64encode(PNG.data).decode()}"
PDF = Inline("application/pdf", b"%PDF")
PDF_URL = f"data:application/pdf;base64,{b64encode(PDF.data).decode()}"
SCHEMA = '{"type": "object",  "properties": {"x": {"const": 1.0}}}'


def warned(preset: str = "custom", *, info: ModelInfo | None = None, **fields: Any) -> list[tuple[str, str]]:
    """(code, parameter) of every warning."""
    request = ChatRequest(**({"messages": HI} | fields))
    return [(w.code, w.parameter) for w in wire(preset).build_request(call(preset, request, info=info)).warnings]


def messages(*turns: Message, preset: str = "custom") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body(preset, messages=turns)["messages"]
    return found


def user(*parts: Part) -> Message:
    return Message("user", parts)


def assistant(*parts: Part) -> Message:
    return Message("assistant", parts)


FIELDS = [
    ("openai", {"temperature": 0.0}, {"temperature": 0.0}),
    ("openai", {"top_p": 0.5}, {"top_p": 0.5}),
    ("openai", {"max_tokens": 5}, {"max_completion_tokens": 5}),
    ("custom", {"max_tokens": 5}, {"max_tokens": 5}),
    ("groq", {"max_tokens": 5}, {"max_completion_tokens": 5}),
    (
        "openai",
        {"frequency_penalty": -1.0, "presence_penalty": 1.0},
        {"frequency_penalty": -1.0, "presence_penalty": 1.0},
    ),
    ("openai", {"stop": ("a", "b")}, {"stop": ["a", "b"]}),
    ("openai", {"seed": 7}, {"seed": 7}),
    ("mistral", {"seed": 7}, {"random_seed": 7}),
    ("openai", {"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
    ("openai", {"user": "u"}, {"user": "u"}),
    ("vllm", {"top_k": 5}, {"top_k": 5}),
    ("openai", {"response_format": ResponseFormat("text")}, {}),
    ("openai", {"response_format": ResponseFormat("json_object")}, {"response_format": {"type": "json_object"}}),
    (
        "openai",
        {"response_format": ResponseFormat("json_schema", "n", SCHEMA, True, "d")},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": json.loads(SCHEMA), "strict": True, "description": "d"},
            }
        },
    ),
    ("openai", {"thinking": Thinking("enabled", effort="low")}, {"reasoning_effort": "low"}),
    ("openai", {"thinking": Thinking("disabled")}, {"reasoning_effort": "none"}),
    ("openai", {"thinking": Thinking("enabled", budget_tokens=2000)}, {"reasoning_effort": "low"}),
    (
        "groq",
        {"thinking": Thinking("enabled", effort="low", include=False)},
        {"reasoning_effort": "low", "include_reasoning": False},
    ),
    ("openai", {"thinking": Thinking("adaptive")}, {}),
    ("deepseek", {"thinking": Thinking("disabled")}, {"thinking": {"type": "disabled"}}),
    (
        "deepseek",
        {"thinking": Thinking("enabled", effort="high")},
        {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
    ),
    ("openrouter", {"thinking": Thinking("enabled", budget_tokens=2000)}, {"reasoning": {"max_tokens": 2000}}),
    (
        "openrouter",
        {"thinking": Thinking("enabled", effort="low", include=False)},
        {"reasoning": {"effort": "low", "exclude": True}},
    ),
    ("openrouter", {"thinking": Thinking("disabled")}, {"reasoning": {"enabled": False}}),
    ("vllm", {"thinking": Thinking("disabled")}, {"chat_template_kwargs": {"enable_thinking": False}}),
    (
        "openai",
        {"hosted_tools": (HostedTool("web_search", '{"search_context_size":"low"}'),)},
        {"web_search_options": {"search_context_size": "low"}},
    ),
    ("groq", {"hosted_tools": (HostedTool("code_execution"),)}, {"tools": [{"type": "code_interpreter"}]}),
    (
        "custom",
        {"hosted_tools": (HostedTool("web_fetch", '{"max": 1}'),)},
        {"tools": [{"type": "web_fetch", "max": 1}]},
    ),
    (
        "openai",
        {"provider_options": '{"service_tier": "flex", "logit_bias": {"50256": -100}}'},
        {"service_tier": "flex", "logit_bias": {"50256": -100}},
    ),
    ("openai", {"temperature": 0.5, "provider_options": '{"temperature": null}'}, {}),
    (
        "vllm",
        {"thinking": Thinking("disabled"), "provider_options": '{"chat_template_kwargs": {"x": 1}}'},
        {"chat_template_kwargs": {"enable_thinking": False, "x": 1}},
    ),
]


@pytest.mark.parametrize(("preset", "fields", "expected"), FIELDS)
def test_every_field_goes_where_the_server_takes_it(
    preset: str, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    """A field alone adds exactly its own part to the body."""
    assert body(preset, **fields) == {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **expected}


def test_streams_ask_for_usage_where_the_server_knows_that() -> None:
    """stream_options goes to servers that take it; Mistral refuses it and counts anyway."""
    assert body("openai", stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in body("mistral", stream=True)
    assert body("mistral", stream=True)["stream"] is True


def test_tools_go_out_byte_for_byte() -> None:
    """A schema's own text is on the wire: spacing, key order and numbers as they came."""
    request = ChatRequest(messages=HI, tools=(Tool("f", "d", SCHEMA, strict=True),))
    sent = wire("openai").build_request(call("openai", request)).http.body
    assert SCHEMA.encode() in sent
    tool = json.loads(sent)["tools"][0]
    assert tool["type"] == "function"
    assert tool["function"]["strict"] is True


def test_a_tool_without_arguments_has_an_empty_schema() -> None:
    """Servers that insist on a schema get one."""
    (tool,) = body(tools=(Tool("f"),))["tools"]
    assert tool["function"] == {"name": "f", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize("schema", ["{", "[]", "5", '"x"', "{} {}", "{}, "])
def test_a_schema_that_is_no_object_is_refused(schema: str) -> None:
    """Text that would break the body never gets into it."""
    with pytest.raises(InvalidRequest) as caught:
        body(tools=(Tool("f", parameters=schema),))
    assert caught.value.violations[0].field == "tools[0].parameters"


CHOICES = [
    ("openai", ToolChoice("auto"), "auto", ["f", "g"]),
    ("openai", ToolChoice("none"), "none", ["f", "g"]),
    ("openai", ToolChoice("required"), "required", ["f", "g"]),
    ("openai", ToolChoice("tool", "f"), {"type": "function", "function": {"name": "f"}}, ["f", "g"]),
    ("mistral", ToolChoice("required"), "any", ["f", "g"]),
    ("llamacpp", ToolChoice("tool", "g"), "required", ["g"]),
    ("ollama", ToolChoice("auto"), "auto", ["f", "g"]),
    ("ollama", ToolChoice("none"), None, []),
]


@pytest.mark.parametrize(("preset", "choice", "expected", "sent"), CHOICES)
def test_a_tool_choice_is_said_in_the_servers_words_or_by_the_tools(
    preset: str, choice: ToolChoice, expected: object, sent: list[str]
) -> None:
    """What a server has no word for is said by sending one tool or none, which means the same: nothing to warn of."""
    fields: dict[str, Any] = {"tools": (Tool("f"), Tool("g")), "tool_choice": choice}
    built = body(preset, **fields)
    assert built.get("tool_choice") == expected
    assert [tool["function"]["name"] for tool in built.get("tools", [])] == sent
    assert warned(preset, **fields) == []


@pytest.mark.parametrize(
    ("preset", "fields", "where"),
    [
        ("ollama", {"tool_choice": ToolChoice("required")}, "tool_choice"),
        ("ollama", {"tool_choice": ToolChoice("tool", "f")}, "tool_choice"),
        ("ollama", {"tool_choice": ToolChoice("none"), "hosted_tools": (HostedTool("x"),)}, "tool_choice"),
        ("deepseek", {"response_format": ResponseFormat("json_schema", "n", SCHEMA)}, "response_format"),
    ],
)
def test_what_decides_the_answer_and_cannot_be_said_is_an_error(
    preset: str, fields: dict[str, Any], where: str
) -> None:
    """It is never left out, nor said otherwise."""
    with pytest.raises(UnsupportedParameter) as caught:
        body(preset, tools=(Tool("f"),), **fields)
    assert caught.value.violations[0].field == where


def test_a_tools_cache_marker_goes_where_it_is_known() -> None:
    """Elsewhere there is a warning."""
    tools = (Tool("f", cache=CacheControl()),)
    assert body("openrouter", tools=tools)["tools"][0]["cache_control"] == {"type": "ephemeral"}
    assert warned("openai", tools=tools) == [("parameter_stripped", "tools[0].cache_control")]


def test_parallel_tool_calls_needs_tools() -> None:
    """Sent with tools, and not without: OpenAI refuses it alone."""
    assert body(tools=(Tool("f"),), parallel_tool_calls=False)["parallel_tool_calls"] is False
    assert "parallel_tool_calls" not in body(parallel_tool_calls=False)


PARTS: list[tuple[Part, dict[str, Any]]] = [
    (Text("t"), {"type": "text", "text": "t"}),
    (Image(PNG), {"type": "image_url", "image_url": {"url": PNG_URL}}),
    (
        Image(Remote("https://a.example/i.png"), detail="low"),
        {"type": "image_url", "image_url": {"url": "https://a.example/i.png", "detail": "low"}},
    ),
    (Document(PDF, name="a.pdf"), {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF_URL}}),
    (Document(Uploaded("file-1")), {"type": "file", "file": {"file_id": "file-1"}}),
    (Document(Inline("text/plain", "é".encode()), name="n"), {"type": "text", "text": "n:\né"}),
    (
        Audio(Inline("audio/wav", b"RIFF")),
        {"type": "input_audio", "input_audio": {"data": b64encode(b"RIFF").decode(), "format": "wav"}},
    ),
    (
        Audio(Inline("audio/mpeg", b"ID3")),
        {"type": "input_audio", "input_audio": {"data": b64encode(b"ID3").decode(), "format": "mp3"}},
    ),
]


@pytest.mark.parametrize(("part", "expected"), PARTS)
def test_user_parts_of_every_kind(part: Part, expected: dict[str, Any]) -> None:
    """Text beside another part makes a list of parts."""
    (message,) = messages(user(Text("look"), part))
    assert message == {"role": "user", "content": [{"type": "text", "text": "look"}, expected]}


@pytest.mark.parametrize(
    ("preset", "part"),
    [
        ("ollama", Image(Remote("https://a.example/i.png"))),
        ("openai", Image(Uploaded("file-1"))),
        ("openai", Document(Remote("https://a.example/a.pdf"))),
        ("groq", Document(PDF)),
        ("openai", Audio(Remote("https://a.example/a.wav"))),
        ("openai", Reasoning("in a user turn")),
    ],
)
def test_a_part_that_cannot_be_said_is_refused_by_its_place(preset: str, part: Part) -> None:
    """Leaving it out would change the question, so nothing is sent."""
    with pytest.raises(UnsupportedParameter) as caught:
        body(preset, messages=(*HI, user(Text("x"), part)))
    assert caught.value.violations[0].field == "messages[1].parts[1]"


def test_system_texts_stand_where_they_were() -> None:
    """The request's system first, system turns at their place."""
    found = body(system="s", messages=(Message("system", (Text("a"), Text("b"))), *HI))["messages"]
    assert [m["role"] for m in found] == ["system", "system", "user"]
    assert found[0]["content"] == "s"
    assert found[1]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def test_calls_and_results_of_several_turns() -> None:
    """Arguments as they were, content null beside calls, a result per call in order, the name of a turn kept."""
    found = messages(
        Message("user", (Text("q"),), name="ann"),
        assistant(Text("so"), ToolCall("a", "f", '{"x": 1.0}'), ToolCall("b", "g", "")),
        Message("tool", (ToolResult("a", (Text("1"),)), ToolResult("b", (Text("2"), Text("3"))))),
        assistant(ToolCall("c", "f", "{}")),
        Message("tool", (ToolResult("c", ()),)),
    )
    assert found[0] == {"role": "user", "content": "q", "name": "ann"}
    assert found[1]["content"] == "so"
    assert [c["function"]["arguments"] for c in found[1]["tool_calls"]] == ['{"x": 1.0}', "{}"]
    assert found[2] == {"role": "tool", "tool_call_id": "a", "content": "1"}
    assert found[3]["content"] == [{"type": "text", "text": "2"}, {"type": "text", "text": "3"}]
    assert found[4]["content"] is None
    assert found[5] == {"role": "tool", "tool_call_id": "c", "content": ""}


def test_images_of_tool_results_follow_all_results_of_the_turn() -> None:
    """A tool message holds text only: images come in a user message after the last result."""
    found = messages(
        assistant(ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}")),
        Message("tool", (ToolResult("a", (Text("one"), Image(PNG))),)),
        Message("tool", (ToolResult("b", (Image(PNG),)),)),
        user(Text("and?")),
    )
    assert [m["role"] for m in found] == ["assistant", "tool", "tool", "user", "user"]
    assert found[1]["content"] == "one"
    assert found[2]["content"]
    assert [part["type"] for part in found[3]["content"]] == ["text", "image_url", "text", "image_url"]
    assert "a" in found[3]["content"][0]["text"]


HISTORY = (
    *HI,
    assistant(Reasoning("why"), Text("so"), ToolCall("a", "f", "{}")),
    Message("tool", (ToolResult("a", (Text("1"),)),)),
)


@pytest.mark.parametrize(
    ("preset", "field", "value"),
    [
        ("groq", "reasoning", "why"),
        ("deepseek", "reasoning_content", "why"),
        (
            "mistral",
            "content",
            [{"type": "thinking", "thinking": [{"type": "text", "text": "why"}]}, {"type": "text", "text": "so"}],
        ),
        ("openai", "reasoning_content", None),
    ],
)
def test_earlier_thoughts_go_back_where_the_server_wants_them(preset: str, field: str, value: object) -> None:
    """In each server's own field; where there is none, the warning says that they were left out."""
    assert body(preset, messages=HISTORY)["messages"][1].get(field) == value
    assert warned(preset, messages=HISTORY) == ([("part_dropped", "messages")] if value is None else [])


def test_deepseek_gets_the_field_even_when_nothing_was_thought() -> None:
    """It refuses a turn with tool calls that lacks reasoning_content."""
    turn = messages(assistant(ToolCall("a", "f", "{}")), preset="deepseek")[0]
    assert turn["reasoning_content"] == ""


def test_opaque_data_goes_back_to_its_own_provider_and_model_only() -> None:
    """OpenRouter's details and Gemini's signatures return unchanged, or not at all with a warning."""
    details = b'[{"type":"reasoning.encrypted","data":"zz"}]'
    mine, other = (Opaque("custom", model, details) for model in ("m", "another"))
    for opaque, expected in ((mine, json.loads(details)), (other, None)):
        turn = assistant(Reasoning("", opaque), Text("so"))
        assert body("openrouter", messages=(turn,))["messages"][0].get("reasoning_details") == expected
    signature = b'{"google":{"thought_signature":"zz"}}'
    (turn_back,) = messages(assistant(ToolCall("a", "f", "{}", Opaque("custom", "m", signature))))
    assert turn_back["tool_calls"][0]["extra_content"] == json.loads(signature)
    assert warned(messages=(assistant(ToolCall("a", "f", "{}", Opaque("gemini", "m", b"x"))),)) == [
        ("part_dropped", "messages")
    ]


@pytest.mark.parametrize("data", [b"{", b"5", b'{} , "model": "x"', b"\xff", b""])
def test_opaque_data_that_a_caller_changed_never_gets_into_the_body(data: bytes) -> None:
    """What comes back broken is refused, or is nothing; it cannot add fields to a request."""
    opaque = Opaque("custom", "m", data)
    for turn in (assistant(ToolCall("a", "f", "{}", opaque)), assistant(Reasoning("", opaque), Text("x"))):
        for preset in ("custom", "openrouter"):
            try:
                sent = body(preset, messages=(turn,))
            except InvalidRequest:
                continue
            assert sent["model"] == "m"
            assert not {"extra_content", "reasoning_details"} & set(json.dumps(sent).split('"'))


def test_mistral_ids_are_nine_characters_and_match() -> None:
    """A foreign id is replaced the same way in the call and in its result; Mistral's own stay."""
    found = messages(
        assistant(ToolCall("toolu_01ABCDEFG", "f", "{}"), ToolCall("vAKGXGFZD", "f", "{}")),
        Message("tool", (ToolResult("toolu_01ABCDEFG", (Text("1"),)), ToolResult("vAKGXGFZD", (Text("2"),)))),
        preset="mistral",
    )
    ids = [c["id"] for c in found[0]["tool_calls"]]
    assert ids[1] == "vAKGXGFZD"
    assert len(ids[0]) == 9
    assert ids[0].isalnum()
    assert [m["tool_call_id"] for m in found[1:]] == ids


@pytest.mark.parametrize(
    "message",
    [
        assistant(ServerTool("web_search_call", "i"), Text("x")),
        assistant(Image(PNG), Text("x")),
        Message("tool", (ToolResult("a", (Text("x"),), is_error=True),)),
        user(Text("x", cache=CacheControl())),
    ],
)
def test_what_of_a_turn_has_no_place_is_a_warning(message: Message) -> None:
    """Dropped, and said."""
    assert warned("openai", messages=(*HI, message)) == [("part_dropped", "messages")]


def test_cache_markers_reach_openrouter() -> None:
    """On texts, tool results and tools."""
    marker = CacheControl("5m")
    wired = body(
        "openrouter",
        tools=(Tool("f", cache=marker),),
        messages=(
            user(Text("x", cache=marker)),
            Message("tool", (ToolResult("a", (Text("1"),), cache=CacheControl()),)),
        ),
    )
    assert wired["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "5m"}
    assert wired["messages"][1]["content"][0]["cache_control"] == {"type": "ephemeral"}
    assert wired["tools"][0]["cache_control"] == {"type": "ephemeral", "ttl": "5m"}


@pytest.mark.parametrize("key", ["model", "stream", "n"])
def test_provider_options_cannot_touch_what_the_gateway_depends_on(key: str) -> None:
    """The model, the form of the answer and the number of answers are not theirs to set."""
    with pytest.raises(InvalidRequest) as caught:
        body(provider_options=json.dumps({key: 2}))
    assert caught.value.violations[0].field == f"provider_options.{key}"


@pytest.mark.parametrize("options", ["{", "[]", "1", "null"])
def test_provider_options_that_are_no_object_are_refused(options: str) -> None:
    """With the field's name."""
    with pytest.raises(InvalidRequest):
        body(provider_options=options)


# --- what a model does not take --------------------------------------------------------------------------------------

REASONER = ModelInfo(
    id="openai/r",
    name="r",
    provider="openai",
    model="r",
    rejects=("stop",),
    rejects_while_thinking=("temperature", "top_p"),
    thinking=ThinkingTraits(default_on=True, can_disable=True, efforts=("none", "low", "medium", "high")),
)
PLAIN = ModelInfo(id="openai/p", name="p", provider="openai", model="p")
STUBBORN = ModelInfo(
    id="openai/s",
    name="s",
    provider="openai",
    model="s",
    rejects_while_thinking=("temperature",),
    thinking=ThinkingTraits(default_on=True, can_disable=False, efforts=("minimal", "low")),
)

POLICY: list[tuple[ModelInfo | None, dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = [
    (None, {"temperature": 0.5, "stop": ("x",)}, {"temperature": 0.5, "stop": ["x"]}, []),
    (PLAIN, {"temperature": 0.5, "stop": ("x",)}, {"temperature": 0.5, "stop": ["x"]}, []),
    (REASONER, {"stop": ("x",)}, {}, [("parameter_stripped", "stop")]),
    (REASONER, {"temperature": 0.5}, {}, [("parameter_stripped", "temperature")]),
    (
        REASONER,
        {"temperature": 0.5, "thinking": Thinking("disabled")},
        {"temperature": 0.5, "reasoning_effort": "none"},
        [],
    ),
    (
        REASONER,
        {"temperature": 0.5, "thinking": Thinking("enabled", effort="none")},
        {"temperature": 0.5, "reasoning_effort": "none"},
        [],
    ),
    (
        REASONER,
        {"thinking": Thinking("enabled", effort="xhigh")},
        {"reasoning_effort": "high"},
        [("parameter_approximated", "thinking")],
    ),
    (REASONER, {"thinking": Thinking("enabled")}, {}, []),
    (
        REASONER,
        {"thinking": Thinking("enabled", budget_tokens=10_000)},
        {"reasoning_effort": "medium"},
        [("parameter_approximated", "thinking")],
    ),
    (
        STUBBORN,
        {"temperature": 1.0, "thinking": Thinking("disabled")},
        {"reasoning_effort": "minimal"},
        [("parameter_stripped", "temperature"), ("parameter_approximated", "thinking")],
    ),
    (PLAIN, {"thinking": Thinking("enabled", effort="low")}, {}, [("parameter_stripped", "thinking")]),
    (PLAIN, {"thinking": Thinking("disabled")}, {}, []),
]


@pytest.mark.parametrize(("info", "fields", "expected", "warnings"), POLICY)
def test_what_a_model_rejects_is_left_out_and_said(
    info: ModelInfo | None, fields: dict[str, Any], expected: dict[str, Any], warnings: list[tuple[str, str]]
) -> None:
    """By the model's row: an unknown model takes everything, a thinking one loses what it rejects while it thinks."""
    sent = body("openai", info=info, **fields)
    assert {key: value for key, value in sent.items() if key not in ("model", "messages")} == expected
    assert warned("openai", info=info, **fields) == warnings
