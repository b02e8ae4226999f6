"""Conversations: turns, media, tool results, and answers that go back as they came, here or from another provider."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidRequest, UnsupportedParameter
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
from server.providers.anthropic.history import wire_id
from tests.providers.anthropic.support import HI, answer, betas, body, build, call, wire

PNG = b"\x89PNG\r\n"


def turns(*messages: Message) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body(messages=messages)["messages"]
    return found


def user(*parts: Part) -> Message:
    return Message("user", parts)


def called(id: str, name: str = "f", arguments: str = "{}") -> Message:
    return Message("assistant", (ToolCall(id, name, arguments),))


def answered(id: str, *content: Text | Image | Document, is_error: bool = False) -> Message:
    return Message("tool", (ToolResult(id, content, is_error),))


BLOCKS: list[tuple[Part, dict[str, Any]]] = [
    (
        Text("a", cache=CacheControl("5m")),
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "5m"}},
    ),
    (
        Image(Inline("image/png", PNG), detail="auto"),
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": b64encode(PNG).decode()}},
    ),
    (
        Image(Remote("https://e.example/a.png")),
        {"type": "image", "source": {"type": "url", "url": "https://e.example/a.png"}},
    ),
    (Image(Uploaded("file_1")), {"type": "image", "source": {"type": "file", "file_id": "file_1"}}),
    (
        Document(Inline("application/pdf", b"%PDF"), "a.pdf", citations=True, cache=CacheControl()),
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": b64encode(b"%PDF").decode()},
            "title": "a.pdf",
            "citations": {"enabled": True},
            "cache_control": {"type": "ephemeral"},
        },
    ),
    (
        Document(Inline("text/markdown", "é".encode())),
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "é"}},
    ),
    (
        Document(Remote("https://e.example/a.pdf")),
        {"type": "document", "source": {"type": "url", "url": "https://e.example/a.pdf"}},
    ),
]


@pytest.mark.parametrize(("part", "block"), BLOCKS)
def test_parts_become_blocks(part: Part, block: dict[str, Any]) -> None:
    """Text, images and documents, by bytes, address or file id, with their cache markers."""
    assert turns(user(part)) == [{"role": "user", "content": [block]}]


@pytest.mark.parametrize(
    "part",
    [
        Audio(Inline("audio/wav", b"RIFF")),
        Document(Inline("application/msword", b"doc")),
    ],
)
def test_what_the_wire_has_not_is_refused_with_its_place(part: Part) -> None:
    """Sound, and documents that are neither PDF nor text: place and model are named."""
    with pytest.raises(UnsupportedParameter) as caught:
        body(messages=(*HI, user(Text("x"), part)))
    assert caught.value.violations[0].field == "messages[1].parts[1]"
    assert "claude-x" in caught.value.violations[0].description


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (user(Document(Inline("text/plain", b"\xff"))), "messages[0].parts[0]"),
        (user(Reasoning("x")), "messages[0].parts[0]"),
        (called("a", arguments='{"x":'), "messages[0].parts[0].arguments"),
        (called("a", arguments="[1]"), "messages[0].parts[0].arguments"),
    ],
)
def test_what_is_broken_names_its_place(message: Message, field: str) -> None:
    """Text that is none, parts in the wrong turn, arguments that are no object."""
    with pytest.raises(InvalidRequest) as caught:
        body(messages=(message,))
    assert caught.value.violations[0].field == field


def test_a_file_that_was_uploaded_needs_its_beta() -> None:
    """A file id in any message asks for the Files API."""
    assert betas(build(messages=(user(Document(Uploaded("file_1"))),))) == ["files-api-2025-04-14"]


def test_results_of_parallel_calls_are_one_turn_with_what_follows() -> None:
    """Each tool turn of its own becomes a block of the next user turn, ahead of the user's words."""
    calls = Message("assistant", (Text("Both."), ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", "")))
    image = Image(Inline("image/png", PNG))
    found = turns(*HI, calls, answered("a", Text("1"), image), answered("b", is_error=True), user(Text("Well?")))
    assert [turn["role"] for turn in found] == ["user", "assistant", "user"]
    assert found[1]["content"] == [
        {"type": "text", "text": "Both."},
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {}},
    ]
    first, second, words = found[2]["content"]
    assert (first["type"], first["tool_use_id"], "is_error" in first) == ("tool_result", "a", False)
    assert [block["type"] for block in first["content"]] == ["text", "image"]
    assert second == {"type": "tool_result", "tool_use_id": "b", "is_error": True}
    assert words == {"type": "text", "text": "Well?"}


def test_two_turns_of_the_user_stay_two() -> None:
    """The API joins them by itself; only results need to be joined here."""
    assert len(turns(*HI, *HI)) == 2


def test_results_come_first_in_a_mixed_turn() -> None:
    """Wherever a user's turn holds its results."""
    found = turns(called("a"), user(Text("x"), ToolResult("a", (Text("1"),))))
    assert [block["type"] for block in found[1]["content"]] == ["tool_result", "text"]


def test_a_later_system_message_stays_in_its_place() -> None:
    """Only what stands ahead of the conversation is its system prompt."""
    found = body(messages=(*HI, Message("system", (Text("Be strict."),))))
    assert "system" not in found
    assert found["messages"][1] == {"role": "system", "content": [{"type": "text", "text": "Be strict."}]}


def test_empty_texts_and_turns_are_not_sent() -> None:
    """The API refuses them, and they say nothing."""
    found = turns(user(Text(""), Text("a")), Message("assistant", (Text(""),)), *HI)
    assert [turn["content"] for turn in found] == [[{"type": "text", "text": "a"}], [{"type": "text", "text": "Hi"}]]


ANSWER: dict[str, Any] = {
    "type": "message",
    "id": "msg_1",
    "model": "claude-x-20260101",
    "content": [
        {"type": "thinking", "thinking": "Hm 😀.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "cmVk"},
        {
            "type": "server_tool_use",
            "id": "srvtoolu_1",
            "name": "web_search",
            "input": {"query": "x"},
            "caller": {"type": "direct"},
        },
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [{"type": "web_search_result", "url": "https://e.example", "encrypted_content": "ZW5j"}],
        },
        {"type": "compaction", "content": "so far", "encrypted_content": "ZW5j"},
        {
            "type": "text",
            "text": "It is so.",
            "citations": [{"type": "web_search_result_location", "url": "https://e.example", "encrypted_index": "x"}],
        },
        {"type": "text", "text": "Next:"},
        {
            "type": "tool_use",
            "id": "toolu_1",
            "name": "f",
            "input": {"n": 9007199254740993},
            "caller": {"type": "code_execution_20260120", "tool_id": "srvtoolu_2"},
        },
    ],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 1, "output_tokens": 2},
}


def test_an_answer_goes_back_block_for_block() -> None:
    """Signatures, encrypted results, citations and callers: the second turn holds the blocks of the first."""
    said = fold(answer(ANSWER)).message
    found = turns(*HI, said, answered("toolu_1", Text("1")))
    assert found[1] == {"role": "assistant", "content": ANSWER["content"]}


@pytest.mark.parametrize("other", [call(model="claude-y"), None], ids=["another model", "another provider"])
def test_what_only_its_maker_can_read_is_left_out_with_a_warning(other: Any) -> None:
    """Thoughts, server steps and citations of others go; text and client calls stay; the caller is told each once."""
    said = fold(answer(ANSWER, at=other)).message
    if other is None:
        said = Message("assistant", tuple(_of_provider(part, "bedrock") for part in said.parts))
    built = build(messages=(*HI, said))
    assert json.loads(built.http.body)["messages"][1]["content"] == [
        {"type": "text", "text": "It is so."},
        {"type": "text", "text": "Next:"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"n": 9007199254740993}},
    ]
    assert [(w.code, w.parameter) for w in built.warnings] == [("part_dropped", "messages")] * 2


def _of_provider(part: Any, provider: str) -> Any:
    if getattr(part, "opaque", None) is None:
        return part
    fields = {name: getattr(part, name) for name in part.__struct_fields__}
    return type(part)(**{**fields, "opaque": Opaque(provider, part.opaque.model, part.opaque.data)})


@pytest.mark.parametrize(
    "part", [Reasoning("unsigned"), ServerTool("web_search_call", "ws_1"), Image(Inline("image/png", PNG))]
)
def test_parts_of_others_that_nothing_can_say_are_left_out(part: Part) -> None:
    """Unsigned thoughts, another provider's server steps, media in an answer; an answer of nothing else is no turn."""
    built = build(messages=(*HI, Message("assistant", (part,)), *HI))
    assert len(json.loads(built.http.body)["messages"]) == 2
    assert [w.code for w in built.warnings] == ["part_dropped"]


def test_names_and_details_have_no_place_and_that_is_said_once() -> None:
    """Speakers' names and how closely to look."""
    image = Image(Remote("https://e.example/a.png"), detail="high")
    built = build(messages=(Message("user", (image, image), name="Ann"), Message("user", (Text("x"),), name="Bob")))
    assert len(built.warnings) == 2


def test_opaque_data_that_was_changed_is_refused() -> None:
    """What does not come back as it was given is the caller's mistake, not the provider's."""
    spoiled = Message("assistant", (Reasoning("x", Opaque("anthropic", "claude-x", b"spoiled")),))
    with pytest.raises(InvalidRequest):
        body(messages=(*HI, spoiled))
    broken = ServerTool("t", output="{", opaque=Opaque("anthropic", "claude-x", b'{"type":"t"}'))
    with pytest.raises(InvalidRequest):
        body(messages=(*HI, Message("assistant", (broken,))))


@pytest.mark.parametrize(("id", "sent"), [("toolu_01AbC-_", "toolu_01AbC-_"), ("call_1|fc_2", "dgm_Y2FsbF8xfGZjXzI")])
def test_ids_of_others_are_mapped_alike_in_call_and_result(id: str, sent: str) -> None:
    """An id that the API takes stays; another is mapped, in the call and in its result."""
    found = turns(called(id), answered(id, Text("1")))
    assert found[0]["content"][0]["id"] == found[1]["content"][0]["tool_use_id"] == sent


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_the_mapping_of_ids_can_be_reversed(one: str, other: str) -> None:
    """Every id maps to one that the API takes, from which it can be read back; two never become one."""
    mapped = wire_id(one)
    assert all(c.isascii() and (c.isalnum() or c in "_-") for c in mapped)
    packed = mapped.removeprefix("dgm_")
    back = urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode() if mapped.startswith("dgm_") else mapped
    assert back == one
    assert (wire_id(other) == mapped) is (one == other)


def test_an_id_that_comes_again_in_a_later_turn_means_the_later_call() -> None:
    """Providers that number their calls in each turn: ids are unique here, and results follow their call."""
    found = turns(called("0"), answered("0", Text("a")), called("0"), answered("0", Text("b")))
    ids = [turn["content"][0].get("id") or turn["content"][0]["tool_use_id"] for turn in found]
    assert ids[0] == ids[1] == "0"
    assert ids[2] == ids[3] == wire_id("0#2")


def test_a_request_holds_no_secret_but_in_its_header() -> None:
    """The key is in one header and nowhere else."""
    built = wire().build_request(call(ChatRequest(messages=HI)))
    assert [name for name, value in built.http.headers if "canary" in value] == ["x-api-key"]
    assert b"canary" not in built.http.body
    assert "canary" not in built.http.url + repr(built.http)
