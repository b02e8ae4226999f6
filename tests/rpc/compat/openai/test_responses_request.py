"""What a response request becomes: one row for each member and item."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from server.core import messages as m
from server.core.errors import InvalidRequest, UnsupportedParameter
from server.core.ports import ProviderCall, ProviderTarget
from server.core.secret import Secret
from server.providers.openai_responses.servers import SERVERS
from server.providers.openai_responses.wire import ResponsesWire
from server.rpc.compat.opaque import PREVIOUS, seal
from server.rpc.compat.openai.responses_request import in_own_words, read_response_request
from server.rpc.compat.openai.responses_types import WIRE

SIGNED = m.Opaque("anthropic", "claude-x", b"signature")
HELLO = {"role": "user", "content": "hello"}
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}


def read(**body: Any) -> m.ChatRequest:
    """The neutral request."""
    return read_response_request(json.dumps({"input": "hello", **body}).encode()).request


def turns(*items: Any) -> tuple[m.Message, ...]:
    return read(input=list(items)).messages


def native(data: Any) -> m.Opaque:
    return m.Opaque(m.NATIVE, WIRE, json.dumps(data, separators=(",", ":")).encode())


def sent(**body: Any) -> Any:
    """The body that a server of this wire gets for it."""
    target = ProviderTarget(provider="openai", config_id="c1", secret=Secret("sk-canary-0123456789"))
    call = ProviderCall(target=target, request=read(**body), model="m", stream=False)
    built = ResponsesWire(SERVERS["openai"]).build_request(call)
    assert not built.warnings
    return json.loads(built.http.body or b"")


PLAIN = [
    ({"input": "hi"}, "messages", (m.Message("user", (m.Text("hi"),)),)),
    ({"instructions": "Be brief."}, "system", "Be brief."),
    ({"max_output_tokens": 9}, "max_tokens", 9),
    ({"temperature": 0.5}, "temperature", 0.5),
    ({"top_p": 0.5}, "top_p", 0.5),
    ({"top_logprobs": 2}, "top_logprobs", 2),
    ({"top_logprobs": 2}, "logprobs", True),
    ({"include": ["message.output_text.logprobs"]}, "logprobs", True),
    ({"user": "u"}, "user", "u"),
    ({"parallel_tool_calls": False}, "parallel_tool_calls", False),
    ({"tool_choice": "required"}, "tool_choice", m.ToolChoice("required")),
    ({"reasoning": {"effort": "low"}}, "thinking", m.Thinking("enabled", effort="low")),
    ({"reasoning": {"effort": "none"}}, "thinking", m.Thinking("disabled", effort="none")),
    ({"reasoning": {"effort": "low", "summary": "auto"}}, "thinking",
     m.Thinking("enabled", effort="low", include=True)),
    ({"reasoning": {"summary": "auto"}}, "thinking", m.Thinking("adaptive", include=True)),
    ({"reasoning": {}}, "thinking", None),
    ({"text": {"format": {"type": "json_object"}}}, "response_format", m.ResponseFormat("json_object")),
    ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"a": 1.0}, "strict": True}}},
     "response_format", m.ResponseFormat("json_schema", "n", '{"a": 1.0}', True)),
    ({"tools": [FUNCTION | {"strict": True, "description": "d"}]}, "tools",
     (m.Tool("f", "d", '{"type": "object"}', True),)),
    ({"tools": [{"type": "web_search"}]}, "hosted_tools", (m.HostedTool("web_search"),)),
    ({"tools": [{"type": "web_search", "filters": {}}]}, "hosted_tools",
     (m.HostedTool("web_search", '{"filters":{}}'),)),
    ({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, "hosted_tools",
     (m.HostedTool("code_execution"),)),
    ({"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}, "hosted_tools",
     (m.HostedTool("code_interpreter", '{"container":"cntr_1"}'),)),
    ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}}, "tool_choice", m.ToolChoice("tool", "f")),
    ({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}, "tool_choice",
     m.ToolChoice("tool", "web_search")),
    ({"store": False, "background": False, "previous_response_id": None, "conversation": None}, "passthrough",
     m.Passthrough(WIRE, {})),
]  # fmt: skip


@pytest.mark.parametrize(("body", "field", "value"), PLAIN)
def test_each_member_has_its_place(body: dict[str, Any], field: str, value: object) -> None:
    """A member of the body is that field of the request."""
    assert getattr(read(**body), field) == value


def test_allowed_tools_leave_the_others_out() -> None:
    """What may not be called is not offered; the mode is the choice."""
    other = FUNCTION | {"name": "g"}
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]}
    request = read(tools=[FUNCTION, other, {"type": "web_search"}], tool_choice=choice)
    assert [tool.name for tool in request.tools] == ["g"]
    assert (request.hosted_tools, request.tool_choice) == ((), m.ToolChoice("required"))


def test_what_the_model_made_is_one_turn() -> None:
    """Thoughts, words and calls that follow each other are one message; results are one each."""
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    step = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    found = turns(
        HELLO,
        reasoning,
        step,
        {"type": "message", "role": "assistant", "id": "msg_1", "content": [{"type": "output_text", "text": "Hm."}]},
        {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": '{"x":1}'},
        {"type": "function_call", "call_id": "b", "name": "g", "arguments": ""},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "2"}]},
    )
    assert [message.role for message in found] == ["user", "assistant", "tool", "tool"]
    raw = [m.Opaque(m.NATIVE, WIRE, json.dumps(item).encode()) for item in (reasoning, step)]
    assert found[1].parts == (
        m.Reasoning("", raw[0]),
        m.ServerTool("web_search_call", opaque=raw[1]),
        m.Text("Hm."),
        m.ToolCall("a", "f", '{"x":1}'),
        m.ToolCall("b", "g", "{}"),
    )
    assert found[2].parts == (m.ToolResult("a", (m.Text("1"),)),)
    assert found[3].parts == (m.ToolResult("b", (m.Text("2"),)),)


@pytest.mark.parametrize("first", [False, True], ids=["behind", "before"])
def test_our_containers_go_to_what_they_belong_to(first: bool) -> None:
    """A thought's to the thought, a call's to the call wherever it stands, words' to the words before it."""
    kept = {"type": "reasoning", "summary": [], "encrypted_content": seal(SIGNED, "a")}
    call = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "So."}]}
    words = {"role": "assistant", "content": "Hm."}
    (_, turn) = turns(
        HELLO,
        thought | {"encrypted_content": seal(SIGNED)},
        words,
        thought | {"encrypted_content": seal(SIGNED, PREVIOUS)},
        *([kept, call] if first else [call, kept]),
    )
    assert turn.parts == (
        m.Reasoning("So.", SIGNED),
        m.Text("Hm.", opaque=SIGNED),
        m.ToolCall("a", "f", "{}", SIGNED),
    )


def test_parts_of_a_message() -> None:
    """Each kind of part, a cache marker, and who speaks."""
    pdf = "data:application/pdf;base64,JVBERg=="
    (system, user) = turns(
        {"role": "developer", "content": [{"type": "input_text", "text": "a"}]},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "b", "prompt_cache_breakpoint": {"mode": "explicit"}},
                {"type": "input_image", "image_url": "https://host/i.png", "detail": "low"},
                {"type": "input_image", "file_id": "file_1"},
                {"type": "input_file", "filename": "f.pdf", "file_data": pdf},
                {"type": "input_file", "file_url": "https://host/f.pdf"},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            ],
        },
    )
    assert system == m.Message("system", (m.Text("a"),))
    assert user.parts == (
        m.Text("b", cache=m.CacheControl()),
        m.Image(m.Remote("https://host/i.png"), "low"),
        m.Image(m.Uploaded("file_1")),
        m.Document(m.Inline("application/pdf", b"%PDF"), "f.pdf"),
        m.Document(m.Remote("https://host/f.pdf")),
        m.Audio(m.Inline("audio/mpeg", b"\0\0\0")),
    )


def test_custom_tools() -> None:
    """A call with text is one with an argument for those that know no other, and stays what it is for this wire."""
    call = {"type": "custom_tool_call", "call_id": "a", "name": "c", "input": 'say "x"'}
    result = {"type": "custom_tool_call_output", "call_id": "a", "output": "done"}
    tools = [{"type": "custom", "name": "c"}]
    request = read(input=[HELLO, call, result], tools=tools)
    part = request.messages[1].parts[0]
    assert isinstance(part, m.ToolCall)
    assert json.loads(part.arguments) == {"input": 'say "x"'}
    body = sent(input=[HELLO, call, result], tools=tools)
    assert body["input"][1:] == [call, result]
    assert body["tools"] == tools


SAME_WIRE: list[dict[str, Any]] = [
    {"truncation": "auto", "service_tier": "flex", "prompt_cache_key": "k", "unheard_of": {"a": [1]}},
    {"text": {"verbosity": "low"}},
    {"text": {"verbosity": "low", "format": {"type": "json_object"}}},
    {"reasoning": {"summary": "detailed", "context": "all_turns", "effort": "low"}},
    {"reasoning": {"summary": "auto"}},
    {"tools": [FUNCTION | {"defer_loading": True}]},
    {"tools": [{"type": "web_search", "search_context_size": "low"}]},
    {"tools": [{"type": "mcp", "server_label": "s", "server_url": "https://host"}]},
    {"include": ["computer_call_output.output.image_url"]},
    {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a", "unheard_of": 1}]}]},
    {"input": [{"role": "user", "content": "a", "unheard_of": 1}]},
    {"input": [HELLO, {"role": "assistant", "content": "b", "phase": "commentary"},
               {"role": "assistant", "content": "c", "phase": "final_answer"}]},
    {"input": [HELLO, {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
               {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}", "namespace": "n"},
               {"type": "function_call_output", "call_id": "a", "output": "1", "unheard_of": 1}]},
    {"input": [HELLO, {"type": "computer_call", "id": "cu_1", "call_id": "a", "action": {"type": "wait"}},
               {"type": "computer_call_output", "call_id": "a", "output": {"type": "computer_screenshot"}}]},
]  # fmt: skip


@pytest.mark.parametrize("body", SAME_WIRE)
def test_a_server_of_this_wire_gets_what_only_it_can_read(body: dict[str, Any]) -> None:
    """Members and items without a neutral meaning reach it as they came."""
    found = sent(**body)
    for name, value in body.items():
        if name == "include":
            assert set(value) <= set(found["include"])
        else:
            assert found[name] == value


REFUSED = [
    ({"store": True}, "store", UnsupportedParameter),
    ({"background": True}, "background", UnsupportedParameter),
    ({"previous_response_id": "resp_1"}, "previous_response_id", UnsupportedParameter),
    ({"conversation": {"id": "conv_1"}}, "conversation", UnsupportedParameter),
    ({"prompt": {"id": "pmpt_1"}}, "prompt", UnsupportedParameter),
    ({"input": None}, "input", InvalidRequest),
    ({"input": ""}, "input", InvalidRequest),
    ({"input": [{"id": "x"}]}, "input[0].type", InvalidRequest),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]", UnsupportedParameter),
    ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role", InvalidRequest),
    ({"input": [HELLO, {"type": "function_call", "name": "f"}]}, "input[1]", InvalidRequest),
    ({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "dgm1.AAAA"}]},
     "input[0].encrypted_content", InvalidRequest),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]", InvalidRequest),
    ({"stream_options": {}}, "stream_options", InvalidRequest),
    ({"max_output_tokens": 0}, "max_output_tokens", InvalidRequest),
    ({"tools": [{"name": "f"}]}, "tools[0].type", InvalidRequest),
    ({"tools": [{"type": "function"}]}, "tools[0].name", InvalidRequest),
    ({"tool_choice": "maybe"}, "tool_choice", InvalidRequest),
    ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice.name", InvalidRequest),
    ({"tool_choice": {"type": "mcp", "server_label": "s"}}, "tool_choice", UnsupportedParameter),
    ({"tool_choice": {"type": "allowed_tools", "mode": "auto"}}, "tool_choice", InvalidRequest),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", InvalidRequest),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type", InvalidRequest),
    ({"temperature": "hot"}, "temperature", InvalidRequest),
]  # fmt: skip


@pytest.mark.parametrize(("body", "field", "kind"), REFUSED)
def test_what_is_refused_is_named(body: dict[str, Any], field: str, kind: type[InvalidRequest]) -> None:
    """State, contradictions and what is none of the API's forms, by its place in the body."""
    with pytest.raises(InvalidRequest) as caught:
        read(**body)
    assert caught.value.violations[0].field == field
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("messages[1].tool_call_id", "input[3].call_id"),
        ("messages[0].parts[2]", "input[0]"),
        ("messages[9].role", "input"),
        ("max_tokens", "max_output_tokens"),
        ("thinking.budget_tokens", "reasoning.budget_tokens"),
        ("response_format", "text.format"),
        ("server_tools[0]", "tools"),
        ("tools[0].parameters", "tools"),
        ("temperature", "temperature"),
    ],
)
def test_later_errors_have_this_apis_names(field: str, name: str) -> None:
    """What the core and the adapters name is found in the caller's body."""
    error = in_own_words(InvalidRequest.field(field, "is wrong"), (0, 3))
    assert (error.violations[0].field, error.message) == (name, f"{name}: is wrong")


def test_the_answer_repeats_the_request_as_it_came() -> None:
    """Byte for byte, nulls left to the defaults."""
    data = b'{"input":"hi","metadata":{"a":"b"},"tools":[{"type": "web_search"}],"temperature":1.0,"user":null}'
    echo = read_response_request(data).echo
    assert dict(echo) == {
        "metadata": msgspec.Raw(b'{"a":"b"}'),
        "tools": msgspec.Raw(b'[{"type": "web_search"}]'),
        "temperature": msgspec.Raw(b"1.0"),
    }
