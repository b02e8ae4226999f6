"""A conversation as input items, and an answer that goes back as it came."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from server.core.errors import UnsupportedParameter
from server.core.messages import (
    Audio,
    CacheControl,
    ChatRequest,
    Document,
    Image,
    Inline,
    Message,
    Opaque,
    Part,
    Reasoning,
    Remote,
    ServerTool,
    Text,
    ToolCall,
    ToolResult,
    Uploaded,
)
from server.core.stream import fold
from tests.providers.openai_responses.support import (
    answer,
    body,
    build,
    call,
    function,
    items,
    kept,
    message,
    response,
    thought,
    wire,
)

PNG = Inline("image/png", b"png")
PDF = Inline("application/pdf", b"pdf")


def uri(source: Inline) -> str:
    return f"data:{source.media_type};base64,{b64encode(source.data).decode()}"


PARTS: list[tuple[Part, dict[str, Any]]] = [
    (Image(PNG), {"type": "input_image", "image_url": uri(PNG)}),
    (Image(Remote("https://e.x/a"), "low"), {"type": "input_image", "image_url": "https://e.x/a", "detail": "low"}),
    (Image(Uploaded("file_1")), {"type": "input_image", "file_id": "file_1"}),
    (Document(PDF, "a.pdf"), {"type": "input_file", "filename": "a.pdf", "file_data": uri(PDF)}),
    (Document(PDF), {"type": "input_file", "filename": "document.pdf", "file_data": uri(PDF)}),
    (Document(Remote("https://e.x/b")), {"type": "input_file", "file_url": "https://e.x/b"}),
    (Document(Uploaded("file_2")), {"type": "input_file", "file_id": "file_2"}),
    (Document(Inline("text/plain", b"hello"), "a.txt"), {"type": "input_text", "text": "a.txt:\nhello"}),
]


@pytest.mark.parametrize(("part", "expected"), PARTS)
def test_parts_of_users_and_of_tool_results(part: Part, expected: dict[str, Any]) -> None:
    """Media as bytes, by address and by id; in a message and in the result of a tool alike."""
    look = {"type": "input_text", "text": "Look:"}
    assert items(Message("user", (Text("Look:"), part)))[0]["content"] == [look, expected]
    assert isinstance(part, (Image, Document))
    called = Message("assistant", (ToolCall("c", "f", "{}"),))
    result = items(called, Message("tool", (ToolResult("c", (Text("Look:"), part)),)))[1]
    assert result == {"type": "function_call_output", "call_id": "c", "output": [look, expected]}


@pytest.mark.parametrize("source", [Inline("audio/wav", b"x"), Remote("https://e.x/a.wav")])
def test_audio_is_refused_before_anything_is_sent(source: Inline | Remote) -> None:
    """With its place and the model's name."""
    with pytest.raises(UnsupportedParameter) as caught:
        items(Message("user", (Text("x"), Audio(source))), model="gpt-9")
    assert caught.value.violations[0].field == "messages[0].parts[1]"
    assert "gpt-9" in caught.value.message


def test_a_conversation() -> None:
    """System text on the way, calls, parallel results, an error among them, and the next question."""
    built = build(
        messages=(
            Message("system", (Text("Be brief."),)),
            Message("user", (Text("Hi"),)),
            Message("assistant", (Text("Let me see."), ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", ""))),
            Message("tool", (ToolResult("b", (Text("two"),)), ToolResult("a", (), is_error=True))),
            Message("user", (Text("And?"),)),
        )
    )
    assert json.loads(built.http.body)["input"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x":1}'},
        {"type": "function_call", "call_id": "b", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "b", "output": "two"},
        {"type": "function_call_output", "call_id": "a", "output": ""},
        {"role": "user", "content": "And?"},
    ]
    assert [warning.code for warning in built.warnings] == ["part_dropped"]
    assert "failed tool" in built.warnings[0].message


def test_an_answer_goes_back_as_it_came() -> None:
    """Trap 25: reasoning and steps byte for byte and in their places, `phase` and `namespace` where they were, a custom
    tool's call and result as such; no id of a message or call, which mean nothing to a server that stores nothing."""
    custom = {"type": "custom_tool_call", "id": "ct_1", "call_id": "call_c", "name": "sql", "input": "SELECT 1"}
    search = {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "q"},
    }
    output = [
        thought("One.", "Two."),
        search,
        thought(id="rs_2"),
        message("Looking.", phase="commentary"),
        function(arguments='{"a":1}', namespace="crm"),
        custom,
    ]
    first = fold(answer(response("completed", output))).message
    results = tuple(ToolResult(id, (Text("ok"),)) for id in ("call_a", "call_c"))
    built = build(messages=(Message("user", (Text("Hi"),)), first, Message("tool", results)))
    wire_items = json.loads(built.http.body)["input"]
    assert wire_items[1:] == [
        thought("One.", "Two."),
        search,
        thought(id="rs_2"),
        {"role": "assistant", "content": "Looking.", "phase": "commentary"},
        {"type": "function_call", "call_id": "call_a", "name": "f", "arguments": '{"a":1}', "namespace": "crm"},
        {"type": "custom_tool_call", "call_id": "call_c", "name": "sql", "input": "SELECT 1"},
        {"type": "function_call_output", "call_id": "call_a", "output": "ok"},
        {"type": "custom_tool_call_output", "call_id": "call_c", "output": "ok"},
    ]
    assert built.warnings == ()
    assert json.loads(built.http.body)["include"] == ["reasoning.encrypted_content"]


@pytest.mark.parametrize(("provider", "model"), [("anthropic", "m"), ("openai", "another"), ("xai", "m")])
def test_what_another_provider_or_model_sealed_is_left_out(provider: str, model: str) -> None:
    """Thoughts and steps go with a warning, text and calls stay, without what was kept of them."""

    def sealed(data: dict[str, Any]) -> Opaque:
        return kept(data, slug=provider, model=model)

    built = build(
        messages=(
            Message(
                "assistant",
                (
                    Reasoning("Hm.", sealed(thought())),
                    ServerTool("web_search_call", opaque=sealed({"type": "web_search_call"})),
                    Text("Yes.", opaque=sealed({"phase": "final_answer"})),
                    ToolCall("c", "f", "{}", opaque=sealed({"namespace": "n"})),
                ),
            ),
            Message("tool", (ToolResult("c", (Text("ok"),)),)),
        )
    )
    assert json.loads(built.http.body)["input"] == [
        {"role": "assistant", "content": "Yes."},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "ok"},
    ]
    assert {warning.code for warning in built.warnings} == {"part_dropped"}
    assert "include" not in json.loads(built.http.body)


def test_opaque_data_that_is_not_ours_to_read() -> None:
    """Of this provider and model, and no item: left out instead of breaking the body."""
    built = build(messages=(Message("assistant", (Reasoning("Hm.", Opaque("openai", "m", b"\xff")), Text("Yes."))),))
    assert json.loads(built.http.body)["input"] == [{"role": "assistant", "content": "Yes."}]
    assert built.warnings


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((Text(""),), []),
        (
            (Text("a"), Text("b")),
            [
                {
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}],
                }
            ],
        ),
        (
            (Text("a", opaque=kept({"phase": "commentary"})), Text("b", opaque=kept({"phase": "final_answer"}))),
            [
                {"role": "assistant", "content": "a", "phase": "commentary"},
                {"role": "assistant", "content": "b", "phase": "final_answer"},
            ],
        ),
        ((Text("a"), Image(PNG)), [{"role": "assistant", "content": "a"}]),
    ],
)
def test_what_the_model_said(parts: tuple[Part, ...], expected: list[dict[str, Any]]) -> None:
    """Text that belongs together is one message; another phase is another one."""
    assert items(Message("assistant", parts)) == expected


def test_ids_that_are_too_long_are_shortened_the_same_way_for_call_and_result() -> None:
    """Trap 26: the API takes 64 characters; ids within that stay, and two long ones stay apart."""
    long, other = "x" * 65, "x" * 66
    made = items(
        Message("assistant", (ToolCall(long, "f", "{}"), ToolCall(other, "f", "{}"), ToolCall("y" * 64, "f", "{}"))),
        Message("tool", (ToolResult(long, (Text("1"),)),)),
    )
    ids = [item["call_id"] for item in made]
    assert ids[0] == ids[3]
    assert len(set(ids)) == 3
    assert ids[2] == "y" * 64
    assert all(len(id) <= 64 for id in ids)


def test_an_id_that_comes_again_means_the_later_call() -> None:
    """Bedrock's endpoint numbers its calls from 0 in every answer: a custom call and a function may share an id."""
    turns = (
        Message("assistant", (ToolCall("call_0", "sql", '{"input":"1"}', opaque=kept({"type": "custom_tool_call"})),)),
        Message("tool", (ToolResult("call_0", (Text("a"),)),)),
        Message("assistant", (ToolCall("call_0", "f", "{}"),)),
        Message("tool", (ToolResult("call_0", (Text("b"),)),)),
    )
    assert [item["type"] for item in items(*turns)] == [
        "custom_tool_call", "custom_tool_call_output", "function_call", "function_call_output",
    ]  # fmt: skip


MARK = {"prompt_cache_breakpoint": {"mode": "explicit"}}


@pytest.mark.parametrize(("model", "marked"), [("gpt-5.6-sol", True), ("gpt-6-astra", True), ("gpt-5.5", False)])
def test_cache_markers_where_the_model_takes_them(model: str, marked: bool) -> None:
    """Breakpoints from GPT-5.6 on; before that OpenAI caches by itself, and the answer says so."""
    parts = (Text("long", cache=CacheControl()), Image(PNG, cache=CacheControl()), Text("short"))
    built = build(messages=(Message("user", parts),), model=model)
    content = json.loads(built.http.body)["input"][0]["content"]
    assert [MARK.items() <= part.items() for part in content] == [marked, marked, False]
    assert [warning.code for warning in built.warnings] == ([] if marked else ["part_dropped"])


def test_a_cache_lifetime_that_there_is_not() -> None:
    """30 minutes is the only one; another is approximated, with a warning."""
    parts = (Text("long", cache=CacheControl("1h")),)
    (warning,) = build(messages=(Message("user", parts),), model="gpt-5.6-sol").warnings
    assert warning.code == "parameter_approximated"


def test_a_marked_tool_result() -> None:
    """Its last part carries the marker."""
    turns = (
        Message("assistant", (ToolCall("c", "f", "{}"),)),
        Message("tool", (ToolResult("c", (Text("long"),), cache=CacheControl()),)),
    )
    (_, result) = body(messages=turns, model="gpt-5.6-sol")["input"]
    assert result["output"] == [{"type": "input_text", "text": "long", **MARK}]
    assert body(messages=turns, model="gpt-5")["input"][1]["output"] == "long"


def test_what_has_no_place_is_said() -> None:
    """Names of speakers, citations from a document: once each, however often they come."""
    parts = (Document(PDF, citations=True), Document(PDF, citations=True))
    built = build(messages=(Message("user", parts, name="Ann"), Message("user", (Text("x"),), name="Ben")))
    assert len(built.warnings) == 2
    assert {warning.parameter for warning in built.warnings} == {"messages"}


def test_a_part_in_the_wrong_role() -> None:
    """The contract forbids it; the wire names the place instead of guessing."""
    request = ChatRequest(messages=(Message("user", (Reasoning("x"),)),))
    with pytest.raises(UnsupportedParameter, match="Reasoning"):
        wire().build_request(call(request))
