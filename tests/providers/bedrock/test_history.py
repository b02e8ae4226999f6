"""The conversation as Converse has it."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from server.core.catalog import ModelInfo
from server.core.errors import InvalidRequest, UnsupportedParameter
from server.core.messages import (
    Audio,
    CacheControl,
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
from server.providers.bedrock.history import wire_id
from tests.providers.bedrock.support import CLAUDE, HI, LLAMA, NOVA, R1, body, build, turns

CALL = ToolCall("tooluse_1", "f", '{"a":1}')
USE = {"toolUse": {"toolUseId": "tooluse_1", "name": "f", "input": {"a": 1}}}


def user(*parts: Part) -> Message:
    return Message("user", parts)


def said(*parts: Part) -> Message:
    return Message("assistant", parts)


def result(*content: Any, id: str = "tooluse_1", is_error: bool = False) -> Message:
    return Message("tool", (ToolResult(id, content, is_error),))


def own(data: dict[str, Any], model: str = "anthropic.claude-x") -> Opaque:
    return Opaque("bedrock", model, json.dumps(data).encode())


def test_turns_alternate() -> None:
    """Messages of one role that follow one another are one turn, which Converse insists on."""
    found = turns(user(Text("a")), user(Text("b")), said(Text("c")), said(Text("d")), user(Text("e")))
    assert found == [
        {"role": "user", "content": [{"text": "a"}, {"text": "b"}]},
        {"role": "assistant", "content": [{"text": "c"}, {"text": "d"}]},
        {"role": "user", "content": [{"text": "e"}]},
    ]


def test_parallel_results_are_one_turn_and_stand_first() -> None:
    """With what the user says beside them, whichever came first."""
    calls = said(CALL, ToolCall("tooluse_2", "g", "{}"))
    found = turns(*HI, calls, user(Text("now")), result(Text("1")), result(Text("2"), id="tooluse_2"))
    assert found[2] == {
        "role": "user",
        "content": [
            {"toolResult": {"toolUseId": "tooluse_1", "content": [{"text": "1"}]}},
            {"toolResult": {"toolUseId": "tooluse_2", "content": [{"text": "2"}]}},
            {"text": "now"},
        ],
    }


def test_system_text_from_both_places() -> None:
    """Ahead of the conversation it is `system`; later it stays where it is."""
    messages = (Message("system", (Text("b", cache=CacheControl("5m")),)), *HI, Message("system", (Text("later"),)))
    sent = body(system="a", messages=messages)
    assert sent["system"] == [{"text": "a"}, {"text": "b"}, {"cachePoint": {"type": "default", "ttl": "5m"}}]
    assert sent["messages"][1] == {"role": "system", "content": [{"text": "later"}]}


PNG, PDF = b"\x89PNG", b"%PDF"


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (Image(Inline("image/png", PNG)), {"image": {"format": "png", "source": {"bytes": b64encode(PNG).decode()}}}),
        (
            Image(Remote("s3://bucket/a.webp")),
            {"image": {"format": "webp", "source": {"s3Location": {"uri": "s3://bucket/a.webp"}}}},
        ),
        (
            Document(Inline("application/pdf", PDF), "My report", citations=True),
            {
                "document": {
                    "format": "pdf", "name": "My report", "source": {"bytes": b64encode(PDF).decode()},
                    "citations": {"enabled": True},
                }
            },
        ),
        (
            Document(Inline("text/x-python; charset=utf-8", b"x")),
            {"document": {"format": "txt", "name": "Document 1", "source": {"bytes": "eA=="}}},
        ),
        (
            Document(Remote("s3://b/x", "text/csv"), "t"),
            {"document": {"format": "csv", "name": "t", "source": {"s3Location": {"uri": "s3://b/x"}}}},
        ),
        (Audio(Inline("audio/mpeg", b"x")), {"audio": {"format": "mp3", "source": {"bytes": "eA=="}}}),
    ],
)  # fmt: skip
def test_media(part: Part, block: dict[str, Any]) -> None:
    """A format word, and bytes or a place in S3."""
    assert turns(user(part))[0]["content"] == [block]


@pytest.mark.parametrize(
    ("part", "info", "said"),
    [
        (Image(Remote("https://example.org/a.png", "image/png")), None, "s3://"),
        (Image(Uploaded("file-1", "image/png")), None, "uploaded"),
        (Image(Inline("image/bmp", b"x")), None, "image/bmp"),
        (Image(Inline("image/png", b"x")), LLAMA, "images"),
        (Audio(Inline("audio/mpeg", b"x")), CLAUDE, "audio"),
        (Document(Inline("application/zip", b"x")), None, "application/zip"),
    ],
)
def test_media_that_converse_or_the_model_does_not_take(part: Part, info: ModelInfo | None, said: str) -> None:
    """Refused with its place and the model, before anything is sent."""
    with pytest.raises(UnsupportedParameter, match=said) as caught:
        build(messages=(user(Text("x"), part),), info=info)
    assert caught.value.violations[0].field == "messages[0].parts[1]"


def test_an_address_that_does_not_say_what_it_is_needs_a_media_type() -> None:
    """It names the part."""
    with pytest.raises(InvalidRequest, match="media type"):
        build(messages=(user(Image(Remote("s3://b/x"))),))


@pytest.mark.parametrize(
    ("names", "sent", "warned"),
    [
        ((None, None), ["Document 1", "Document 2"], False),
        (("report.pdf",), ["report-pdf"], True),
        (("a (1) [b]-c",), ["a (1) [b]-c"], False),
        (("x", "x", "x"), ["x", "x (2)", "x (3)"], True),
        (("Übersicht  2026.pdf", "報告"), ["-bersicht 2026-pdf", "Document 2"], True),
        (("n" * 300,), ["n" * 200], True),
        (("n" * 200, "n" * 200), ["n" * 200, "n" * 196 + " (2)"], True),
    ],
)
def test_names_of_documents(names: tuple[str | None, ...], sent: list[str], warned: bool) -> None:
    """What Converse takes, each once in a request, results of tools included; a changed name is told."""
    parts = [Document(Inline("application/pdf", b"x"), name) for name in names]
    built = build(messages=(user(*parts[:1]), said(CALL), result(*parts[1:])))
    blocks = [block for turn in json.loads(built.http.body)["messages"] for block in turn["content"]]
    blocks += [inner for block in blocks if "toolResult" in block for inner in block["toolResult"]["content"]]
    assert [block["document"]["name"] for block in blocks if "document" in block] == sent
    assert any(warning.code == "part_approximated" for warning in built.warnings) == warned


def test_cache_marks_stand_behind_their_part() -> None:
    """In a turn, behind a call and behind a result."""
    cache = CacheControl()
    found = turns(
        user(Text("a", cache=cache), Text("b")),
        said(ToolCall("tooluse_1", "f", "{}", cache=CacheControl("1h"))),
        Message("tool", (ToolResult("tooluse_1", (Text("r"),), cache=cache),)),
    )
    assert found[0]["content"] == [{"text": "a"}, {"cachePoint": {"type": "default"}}, {"text": "b"}]
    assert found[1]["content"][1] == {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert found[2]["content"][1] == {"cachePoint": {"type": "default"}}


@pytest.mark.parametrize(
    ("message", "info", "expected", "warned"),
    [
        (result(Text("a"), Image(Inline("image/png", b"x"))), None,
         {"content": [{"text": "a"}, {"image": {"format": "png", "source": {"bytes": "eA=="}}}]}, None),
        (result(), None, {"content": [{"text": ""}]}, None),
        (result(Text("")), None, {"content": [{"text": ""}]}, None),
        (result(Text("boom"), is_error=True), CLAUDE, {"content": [{"text": "boom"}], "status": "error"}, None),
        (result(Text("boom"), is_error=True), None, {"content": [{"text": "boom"}], "status": "error"}, None),
        (result(Text(" "), is_error=True), NOVA, {"content": [{"text": "error"}], "status": "error"}, "error"),
        (result(is_error=True), NOVA, {"content": [{"text": "error"}], "status": "error"}, "error"),
        (result(Text("boom"), is_error=True), LLAMA, {"content": [{"text": "boom"}]}, "status"),
    ],
)  # fmt: skip
def test_results(message: Message, info: ModelInfo | None, expected: dict[str, Any], warned: str | None) -> None:
    """Content of all kinds, none at all, and errors, which must say something, to models that are told their
    status."""
    built = build(messages=(*HI, said(CALL), message), info=info)
    block = json.loads(built.http.body)["messages"][2]["content"][0]["toolResult"]
    assert block == {"toolUseId": "tooluse_1", **expected}
    words = [warning.message for warning in built.warnings if warning.code == "part_approximated"]
    assert bool(words) == (warned is not None)


def test_a_history_of_tools_without_tools_still_declares_them() -> None:
    """Converse refuses it otherwise. They are declared as not available, and Claude is told to call none."""
    messages = (*HI, said(CALL), result(Text("1")))
    built = build(messages=messages, info=NOVA)
    sent = json.loads(built.http.body)
    (declared,) = sent["toolConfig"]["tools"]
    assert declared["toolSpec"]["name"] == "f"
    assert "Not available" in declared["toolSpec"]["description"]
    assert "additionalModelRequestFields" not in sent
    assert [(w.code, w.parameter) for w in built.warnings] == [("parameter_approximated", "tools")]
    assert body(messages=messages, info=CLAUDE)["additionalModelRequestFields"] == {"tool_choice": {"type": "none"}}


def test_an_answer_goes_back_as_it_came() -> None:
    """Thought with its signature, hidden thought, text with citations, a system tool's call and result, a call."""
    citations = [{"title": "t", "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}}}]
    parts = (
        Reasoning("Hm.", own({"signature": "SIG=="})),
        Reasoning("", own({"redactedContent": "UkVE"})),
        Reasoning("Plain.", own({})),
        Text("cited", opaque=own({"citations": citations})),
        ServerTool("toolUse", "s1", "nova_code_interpreter", '{"snippet":"1"}',
                   opaque=own({"toolUseId": "s1", "name": "nova_code_interpreter", "type": "server_tool_use"})),
        ServerTool("toolResult", "s1", output='[{"json":{"stdOut":"1"}}]',
                   opaque=own({"toolUseId": "s1", "type": "nova_code_interpreter_result", "status": "success"})),
        CALL,
    )  # fmt: skip
    built = build(messages=(*HI, said(*parts), result(Text("1"))))
    assert json.loads(built.http.body)["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "SIG=="}}},
        {"reasoningContent": {"redactedContent": "UkVE"}},
        {"reasoningContent": {"reasoningText": {"text": "Plain."}}},
        {"citationsContent": {"content": [{"text": "cited"}], "citations": citations}},
        {"toolUse": {"toolUseId": "s1", "name": "nova_code_interpreter", "type": "server_tool_use",
                     "input": {"snippet": "1"}}},
        {"toolResult": {"toolUseId": "s1", "type": "nova_code_interpreter_result", "status": "success",
                        "content": [{"json": {"stdOut": "1"}}]}},
        USE,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "opaque",
    [None, Opaque("anthropic", "anthropic.claude-x", b'{"signature":"S"}'), own({"signature": "S"}, "another.model")],
)
def test_what_another_provider_or_model_made_is_left_out(opaque: Opaque | None) -> None:
    """Thoughts and steps with a warning each; text and calls stay."""
    parts = (Reasoning("x", opaque), ServerTool("toolUse", "s", "n", opaque=opaque), Text("t", opaque=opaque), CALL)
    built = build(messages=(*HI, said(*parts), result(Text("1"))))
    assert json.loads(built.http.body)["messages"][1]["content"] == [{"text": "t"}, USE]
    assert [w.code for w in built.warnings if w.parameter == "messages"] == ["part_dropped", "part_dropped"]


def test_thoughts_do_not_go_back_to_a_model_that_refuses_them() -> None:
    """DeepSeek-R1's own."""
    built = build(info=R1, messages=(*HI, said(Reasoning("x", own({}, R1.model)), Text("a")), *HI))
    assert json.loads(built.http.body)["messages"][1]["content"] == [{"text": "a"}]
    assert [w.code for w in built.warnings] == ["part_dropped"]


def test_an_answer_of_which_nothing_is_left_is_no_turn() -> None:
    """Blank text is refused by Converse and says nothing; media are no part of an answer there."""
    built = build(messages=(*HI, said(Text("\n\n"), Image(Inline("image/png", b"x"))), *HI))
    assert json.loads(built.http.body)["messages"] == [{"role": "user", "content": [{"text": "Hi"}, {"text": "Hi"}]}]
    assert [w.code for w in built.warnings] == ["part_dropped"]


def test_opaque_data_that_is_not_ours_any_more() -> None:
    """The caller changed it: an error, not a request that the provider would refuse."""
    broken = Opaque("bedrock", "anthropic.claude-x", b"not json")
    with pytest.raises(InvalidRequest, match="opaque"):
        build(messages=(*HI, said(Reasoning("x", broken))))


@pytest.mark.parametrize(
    ("id", "sent"),
    [
        ("tooluse_abc-1.2:3", "tooluse_abc-1.2:3"),
        ("call 1", "dgm_Y2FsbCAx"),
        ("dgm_x", "dgm_ZGdtX3g"),
        ("é", "dgm_w6k"),
    ],
)
def test_foreign_ids_are_mapped(id: str, sent: str) -> None:
    """In the call and in its result alike."""
    found = turns(*HI, said(ToolCall(id, "f", "{}")), result(Text("1"), id=id))
    assert found[1]["content"][0]["toolUse"]["toolUseId"] == sent
    assert found[2]["content"][0]["toolResult"]["toolUseId"] == sent


def test_a_long_id_stays_within_the_limit_and_its_own() -> None:
    """A hash stands for what 64 characters cannot hold."""
    one, two = wire_id("x" * 65), wire_id("x" * 66)
    assert one != two
    assert max(len(one), len(two)) <= 64


def test_an_id_that_comes_again_gets_its_ordinal() -> None:
    """Servers that number their calls from the start in each turn; results belong to the latest call."""
    found = turns(*HI, said(ToolCall("0", "f", "{}")), result(Text("1"), id="0"),
                  said(ToolCall("0", "f", "{}")), result(Text("2"), id="0"))  # fmt: skip
    ids = [block["toolUse"]["toolUseId"] for turn in found for block in turn["content"] if "toolUse" in block]
    answers = [block["toolResult"]["toolUseId"] for turn in found for block in turn["content"] if "toolResult" in block]
    assert ids == answers
    assert len(set(ids)) == 2


def test_what_has_no_place_is_told() -> None:
    """Names of speakers, how closely to look, a cache mark inside a result."""
    messages = (
        Message("user", (Image(Inline("image/png", b"x"), detail="low"),), name="Ann"),
        said(CALL),
        result(Text("1", cache=CacheControl())),
    )
    codes = sorted(w.code for w in build(messages=messages).warnings if w.parameter == "messages")
    assert codes == ["part_approximated", "part_approximated", "part_dropped"]


def test_a_users_turn_holds_no_thought() -> None:
    """The contract does not let it through; here it is an error that names the part."""
    with pytest.raises(InvalidRequest, match=r"messages\[0\]\.parts\[0\]"):
        build(messages=(user(Reasoning("x")),))
