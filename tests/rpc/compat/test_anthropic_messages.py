"""Messages bodies to requests, and answers to messages and events."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from server.core import events as ev
from server.core import messages as m
from server.core.errors import InvalidRequest, ProviderUnavailable
from server.core.stream import fold
from server.rpc.compat.anthropic.answer import NO_JSON, message
from server.rpc.compat.anthropic.models import page
from server.rpc.compat.anthropic.request import read_request
from server.rpc.compat.anthropic.stream import EventRenderer
from tests.rpc.house import Models

HELLO = {"role": "user", "content": "hello"}
TOOL = {"name": "f", "input_schema": {"b": 1, "a": 2.0}}
SIGNATURE = "c2ln"


def asked(**body: Any) -> m.ChatRequest:
    """The request for a body with these members, `hello` being all that is said unless they say more."""
    body = {"model": "m", "max_tokens": 9, "messages": [HELLO], **body}
    return read_request(msgspec.json.encode(body)).request


def native(**rest: Any) -> m.Opaque:
    """What a block of this wire held beyond its part."""
    return m.Opaque(m.NATIVE, "anthropic_messages", msgspec.json.encode(rest))


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"system": "s"}, {"system": "s"}),
        ({"stop_sequences": ["a"], "top_k": 4}, {"stop": ("a",), "top_k": 4, "max_tokens": 9}),
        ({"metadata": {"user_id": "u"}}, {"user": "u"}),
        ({"tools": [TOOL]}, {"tools": (m.Tool("f", parameters='{"b":1,"a":2.0}'),)}),
        ({"tools": [TOOL], "tool_choice": {"type": "any"}}, {"tool_choice": m.ToolChoice("required")}),
        (
            {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True}},
            {"tool_choice": m.ToolChoice("tool", "f"), "parallel_tool_calls": False},
        ),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]},
            {
                "hosted_tools": (
                    m.HostedTool("web_search_20250305", '{"name":"web_search","max_uses":2}', "anthropic_messages"),
                )
            },
        ),
        ({"tools": [{"type": "web_search"}]}, {"hosted_tools": (m.HostedTool("web_search"),)}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            {"thinking": m.Thinking("enabled", 2000), "passthrough": None},
        ),
        (
            {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "high"}},
            {"thinking": m.Thinking("adaptive", None, "high", include=False)},
        ),
        (
            {"output_config": {"effort": "low"}},
            {
                "thinking": m.Thinking("enabled", effort="low"),
                "passthrough": m.Passthrough("anthropic_messages", {"": '{"thinking":null}'}),
            },
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"a": 1}}}},
            {"response_format": m.ResponseFormat("json_schema", "response", '{"a":1}', strict=True)},
        ),
    ],
)
def test_members_become_fields(body: dict[str, Any], fields: dict[str, Any]) -> None:
    request = asked(**body)
    assert {name: getattr(request, name) for name in fields} == fields


def test_system_blocks_keep_their_markers() -> None:
    marked = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    request = asked(system=[{"type": "text", "text": "short"}, marked])
    expected = m.Message("system", (m.Text("short"), m.Text("long", cache=m.CacheControl("1h"))))
    assert (request.system, request.messages[0]) == (None, expected)


@pytest.mark.parametrize(
    ("block", "part"),
    [
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "AAEC"}},
            m.Image(m.Inline("image/gif", b"\0\1\2")),
        ),
        ({"type": "image", "source": {"type": "url", "url": "https://e.org"}}, m.Image(m.Remote("https://e.org"))),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, m.Image(m.Uploaded("f"))),
        (
            {
                "type": "document",
                "title": "T",
                "citations": {"enabled": True},
                "source": {"type": "text", "media_type": "text/plain", "data": "d"},
            },
            m.Document(m.Inline("text/plain", b"d"), "T", citations=True),
        ),
    ],
)
def test_media_become_parts(block: dict[str, Any], part: m.Part) -> None:
    assert asked(messages=[{"role": "user", "content": [block]}]).messages == (m.Message("user", (part,)),)


def test_results_are_a_message_of_their_own_ahead_of_what_is_said() -> None:
    """In the order of the core, with their failure, and with what the blocks hold beyond in the places of this wire."""
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "r"}], "is_error": True}
    turns = [
        HELLO,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "text", "text": "so", "mark": 1}, result | {"flag": 2}]},
    ]
    request = asked(messages=turns)
    assert request.messages[2:] == (
        m.Message("tool", (m.ToolResult("t1", (m.Text("r"),), is_error=True),)),
        m.Message("user", (m.Text("so"),)),
    )
    assert request.passthrough is not None
    assert request.passthrough.members == {
        "messages[2].content[0]": '{"flag":2}',
        "messages[2].content[1]": '{"mark":1}',
    }


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "text", "text": "x", "citations": None}, m.Text("x")),
        ({"type": "text", "text": "x", "citations": [{"type": "char_location"}]}, "text"),
        ({"type": "thinking", "thinking": "hm", "signature": SIGNATURE}, "thinking"),
        ({"type": "redacted_thinking", "data": "zzz"}, "redacted"),
        ({"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1.0}}, m.ToolCall("t", "f", '{"a":1.0}')),
        ({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": "x"}}, "server"),
    ],
)
def test_blocks_of_earlier_answers_keep_what_they_held(block: dict[str, Any], part: Any) -> None:
    """For a provider of this wire, as it was; a part of another meaning for all others."""
    expected = {
        "text": m.Text("x", opaque=native(type="text", citations=[{"type": "char_location"}])),
        "thinking": m.Reasoning("hm", native(type="thinking", signature=SIGNATURE)),
        "redacted": m.Reasoning("", native(type="redacted_thinking", data="zzz")),
        "server": m.ServerTool(
            "server_tool_use",
            "s",
            "web_search",
            '{"q":"x"}',
            opaque=native(type="server_tool_use", id="s", name="web_search"),
        ),
    }
    (turn,) = asked(messages=[{"role": "assistant", "content": [block]}]).messages
    assert turn.parts == (expected[part] if isinstance(part, str) else part,)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "search_result", "source": "https://e.org", "title": "E", "content": [{"type": "text", "text": "x"}]},
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}, "title": "E"},
        {"type": "image", "source": {"type": "s3", "key": 1.50}},
        {"type": "not_yet_known", "x": None},
    ],
    ids=lambda block: block["type"],
)
def test_blocks_without_a_part_are_kept_for_this_wire(block: dict[str, Any]) -> None:
    """In a turn and in a tool's result, as they came and with their place."""
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "c", "content": [block]}
    turns = [HELLO, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result, block]}]
    _, _, answered, said = asked(messages=turns).messages
    opaque = m.Opaque(m.NATIVE, "anthropic_messages", msgspec.json.encode(block))
    inner = m.NativeBlock(block["type"], "messages[2].content[0].content[0]", opaque)
    assert answered.parts == (m.ToolResult("c", (inner,)),)
    assert said.parts == (m.NativeBlock(block["type"], "messages[2].content[1]", opaque),)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": [{"role": "martian", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "thinking"}]}]}, "messages[0].content[0]"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "c",
                                "content": [{"type": "tool_result", "tool_use_id": "d"}],
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0].content[0]",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}]},
            "messages[0].content[0].source",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]"),
        ({"system": [{"type": "image", "source": {"type": "url", "url": "https://e.org"}}]}, "system[0]"),
        ({"tools": [{"input_schema": {}}]}, "tools[0]"),
        ({"tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "perhaps"}}, "tool_choice.type"),
        ({"output_config": {"format": {"type": "grammar"}}}, "output_config.format"),
    ],
)
def test_what_cannot_be_is_refused_by_name(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(**body)
    assert caught.value.violations[0].field == field


# --- answers ----------------------------------------------------------------------------------------------------------

OPAQUE = m.Opaque("gemini", "g", b"signature")
EVENTS: list[ev.StreamEvent] = [
    ev.Started("gemini", "g-1", "resp_1", warnings=(ev.Warning("parameter_stripped", "seed was left out.", "seed"),)),
    ev.BlockStart(0, "reasoning"),
    ev.BlockDelta(0, "hm"),
    ev.BlockEnd(0, opaque=OPAQUE),
    ev.BlockStart(1, "text"),
    ev.BlockDelta(1, "Hel"),
    ev.BlockDelta(1, "lo"),
    ev.BlockEnd(1, citations=(m.Citation("https://e.org", "E"),), opaque=OPAQUE),
    ev.BlockStart(2, "tool_call", "c1", "f"),
    ev.BlockDelta(2, '{"a":'),
    ev.BlockDelta(2, "1}"),
    ev.BlockEnd(2, opaque=OPAQUE),
    ev.BlockStart(3, "server_tool", "s1", "search", "google_search"),
    ev.BlockDelta(3, '{"q":"x"}'),
    ev.BlockEnd(3, output='["found"]', opaque=OPAQUE),
    ev.Completed("tool_calls", "STOP", ev.Usage(9, 3, 12, 2, 1, 1)),
]
NATIVE: list[ev.StreamEvent] = [
    ev.Started("anthropic", "claude", "msg_1", wire="anthropic_messages"),
    ev.BlockStart(0, "reasoning"),
    ev.BlockEnd(0, opaque=m.Opaque("anthropic", "claude", b'{"type":"redacted_thinking","data":"zzz"}')),
    ev.BlockStart(1, "reasoning"),
    ev.BlockDelta(1, "hm"),
    ev.BlockEnd(1, opaque=m.Opaque("anthropic", "claude", b'{"type":"thinking","signature":"c2ln"}')),
    ev.BlockStart(2, "text"),
    ev.BlockDelta(2, "x"),
    ev.BlockEnd(2, opaque=m.Opaque("anthropic", "claude", b'{"type":"text","citations":[{"type":"char_location"}]}')),
    ev.BlockStart(3, "server_tool", "s1", "web_search", "server_tool_use"),
    ev.BlockDelta(3, '{"query":"q"}'),
    ev.BlockEnd(3, opaque=m.Opaque("anthropic", "claude", b'{"type":"server_tool_use","id":"s1","name":"web_search"}')),
    ev.BlockStart(4, "server_tool", "s1", "", "web_search_tool_result"),
    ev.BlockEnd(
        4, output="[]", opaque=m.Opaque("anthropic", "claude", b'{"type":"web_search_tool_result","tool_use_id":"s1"}')
    ),
    ev.Completed(
        "pause_turn",
        "pause_turn",
        ev.Usage(1, 2, 3),
        provider_metadata='{"usage":{"input_tokens":1,"output_tokens":2,"service_tier":"batch"},"container":{"id":"c"}}',
    ),
]


def whole(events: list[ev.StreamEvent]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(message(fold(events), id="own")))
    return found


def streamed(events: list[ev.StreamEvent]) -> list[dict[str, Any]]:
    """The events' data, each held against its name."""
    found = []
    for frame in EventRenderer(id="own", request_id="req").render(events).decode().split("\n\n")[:-1]:
        name, data = frame.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def summed(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks that a stream adds up to, as Anthropic's documentation says."""
    blocks: list[dict[str, Any]] = []
    inputs: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_delta":
            block, delta = blocks[event["index"]], event["delta"]
            match delta.pop("type"):
                case "input_json_delta":
                    inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
                    block["input"] = (
                        json.loads(inputs[event["index"]]) if event["delta"]["partial_json"][-1] == "}" else {}
                    )
                case "citations_delta":
                    block.setdefault("citations", []).append(delta["citation"])
                case _:
                    ((name, text),) = delta.items()
                    block[name] = block.get(name, "") + text
    return blocks


def test_a_whole_answer() -> None:
    """Every part in its block, and beside them what Anthropic has no place for."""
    answer = whole(EVENTS)
    kinds = [block["type"] for block in answer["content"]]
    assert kinds == ["thinking", "text", "redacted_thinking", "tool_use", "redacted_thinking", "server_tool_use"]
    assert (answer["id"], answer["role"], answer["stop_reason"]) == ("resp_1", "assistant", "tool_use")
    assert answer["content"][3]["input"] == {"a": 1}
    assert answer["usage"] == {
        "input_tokens": 6,
        "output_tokens": 3,
        "cache_creation_input_tokens": 1,
        "cache_read_input_tokens": 2,
        "output_tokens_details": {"thinking_tokens": 1},
    }
    assert answer["x_dragoman"]["warnings"][0]["parameter"] == "seed"


@pytest.mark.parametrize("events", [EVENTS, NATIVE], ids=["another wire", "its own wire"])
def test_a_stream_adds_up_to_the_whole_answer(events: list[ev.StreamEvent]) -> None:
    """Block by block, in Anthropic's order, with the ending and the counts in message_delta."""
    answer, (start, ping, *blocks, delta, stop) = whole(events), streamed(events)
    assert (start["type"], ping["type"], stop["type"]) == ("message_start", "ping", "message_stop")
    assert summed(blocks) == answer["content"]
    assert delta["delta"].items() <= answer.items()
    assert {name: count for name, count in answer["usage"].items() if count is not None} == delta["usage"]
    assert delta["x_dragoman"] == answer["x_dragoman"]


def test_an_answer_goes_back_as_it_came() -> None:
    """The content of an answer, sent again, is the turn that it was: every part with its provider's own data."""
    (turn,) = asked(messages=[{"role": "assistant", "content": whole(EVENTS)["content"]}]).messages
    assert turn.parts == (
        m.Reasoning("hm", OPAQUE),
        m.Text("Hello", opaque=OPAQUE),
        m.ToolCall("c1", "f", '{"a":1}', OPAQUE),
        m.ServerTool("google_search", "s1", "search", '{"q":"x"}', '["found"]', OPAQUE),
    )


def test_what_the_providers_own_api_said_stays() -> None:
    """Blocks, stop reason, container and counts of a provider of this wire are as it gave them."""
    answer = whole(NATIVE)
    assert [block["type"] for block in answer["content"]] == [
        "redacted_thinking",
        "thinking",
        "text",
        "server_tool_use",
        "web_search_tool_result",
    ]
    assert answer["content"][1]["signature"] == SIGNATURE
    assert answer["content"][4] == {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
    assert (answer["stop_reason"], answer["container"]) == ("pause_turn", {"id": "c"})
    assert answer["usage"]["service_tier"] == "batch"


@pytest.mark.parametrize(
    ("neutral", "word"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"), ("other", "end_turn")],
)
def test_stop_reasons_of_other_providers(neutral: str, word: str) -> None:
    """Anthropic's words; the provider's own is beside them."""
    answer = whole([ev.Started("p", "m"), ev.Completed(neutral, "RAW", ev.Usage(), refusal="no")])
    assert (answer["stop_reason"], answer["x_dragoman"]["raw_finish_reason"]) == (word, "RAW")
    assert answer["stop_details"]["explanation"] == "no"
    assert answer["usage"]["input_tokens"] is None


def test_arguments_that_are_no_object_are_told_as_such() -> None:
    events: list[ev.StreamEvent] = [
        ev.Started("p", "m"),
        ev.BlockStart(0, "tool_call", "c", "f"),
        ev.BlockDelta(0, '{"a":'),
        ev.BlockEnd(0),
        ev.Completed("tool_calls", "x", ev.Usage()),
    ]
    assert whole(events)["content"][0]["input"] == {NO_JSON: '{"a":'}


def test_a_failure_is_the_error_event_and_the_last() -> None:
    events = [*EVENTS[:6], ev.Failed(ProviderUnavailable("It broke.", provider="gemini"))]
    last = streamed(events)[-1]
    assert (last["type"], last["error"]["type"], last["error"]["message"]) == ("error", "api_error", "It broke.")
    assert last["request_id"] == "req"


@pytest.mark.parametrize(
    ("limit", "after", "before", "ids", "more"),
    [
        (2, "", "", ["a", "b"], True),
        (2, "openai/b", "", ["c"], False),
        (1, "", "openai/c", ["b"], True),
        (9, "openai/c", "", [], False),
    ],
)
def test_pages_of_models(limit: int, after: str, before: str, ids: list[str], more: bool) -> None:
    """Forwards from one id, or backwards from another."""
    found = page(Models.models, limit=limit, after=after, before=before)
    assert [model["id"] for model in found["data"]] == [f"openai/{id}" for id in ids]
    assert found["has_more"] is more
    assert (found["first_id"], found["last_id"]) == ((f"openai/{ids[0]}", f"openai/{ids[-1]}") if ids else (None, None))
