"""REST requests through Envoy: paths, queries and bodies reach the server whole or are refused; how answers print."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman.v1.chat_pb2 import ChatRequest, ChatResponse, ToolCall
from dragoman.v1.model_service_pb2 import ListModelsResponse
from dragoman.v1.provider_config_pb2 import ProviderConfigStats
from dragoman.v1.provider_config_service_pb2 import GetProviderConfigStatsResponse
from tests.e2e.echo import Echo
from tests.e2e.errors import detail, error_of

GENERATE = "/api/v1/ai/llm/generate"
CHAT = "/api/v1/ai/llm/chat"
MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("path", "id_"),
    [
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("openai%2Fgpt-4o", "openai/gpt-4o"),
        ("openrouter/meta-llama/llama-3.3:free", "openrouter/meta-llama/llama-3.3:free"),
        ("bedrock/us.anthropic.claude-v2%3A0", "bedrock/us.anthropic.claude-v2:0"),
        ("custom/a%20b+c", "custom/a b+c"),
        ("custom/%C3%A9", "custom/é"),
        ("custom//x", "custom//x"),
        ("custom/100%25", "custom/100%"),
    ],
)
def test_a_model_id_arrives_as_it_was_meant(rest: httpx.Client, echo: Echo, path: str, id_: str) -> None:
    """Ids with slashes, colons, spaces and other letters reach GetModel, percent-encoded or not."""
    assert rest.get(f"/api/v1/ai/models/{path}").status_code == 200
    assert echo.last.request.id == id_


@pytest.mark.parametrize(
    ("method", "path", "body", "rpc", "request_fields"),
    [
        ("GET", "/api/v1/ai/models?kind=chat", None, "ListModels", {"kind": "chat"}),
        ("POST", GENERATE, {"prompt": "hi", "maxTokens": 5}, "Generate", {"prompt": "hi", "maxTokens": 5}),
        ("POST", GENERATE, {"prompt": "hi", "max_tokens": 5}, "Generate", {"prompt": "hi", "maxTokens": 5}),
        ("POST", f"{GENERATE}:text", {"prompt": "hi"}, "GenerateText", {"prompt": "hi"}),
        ("POST", CHAT, {"messages": [{"role": "user"}]}, "Complete", {"messages": [{"role": "user"}]}),
        ("POST", "/api/v1/runtime/v1/chat", {"projectId": "w"}, "Complete", {"projectId": "w"}),
        ("POST", f"{CHAT}:stream", {"model": "m"}, "Chat", {"model": "m"}),
        ("POST", "/api/v1/runtime/v1/chat:stream", {"model": "m"}, "Chat", {"model": "m"}),
        ("POST", "/ai/llm", {"name": "n", "endpoint": None}, "CreateProviderConfig", {"name": "n"}),
        ("GET", "/ai/llm?workspaceId=a%2Bb+c", None, "ListProviderConfigs", {"workspaceId": "a+b c"}),
        ("GET", "/ai/llm?workspace_id=w", None, "ListProviderConfigs", {"workspaceId": "w"}),
        ("GET", "/ai/llm/available", None, "ListAvailableProviderConfigs", {}),
        ("GET", "/ai/llm/stats?aiLlmId=7", None, "GetProviderConfigStats", {"aiLlmId": "7"}),
        ("GET", "/ai/llm/7", None, "GetProviderConfig", {"id": "7"}),
        ("PUT", "/ai/llm/7", {"name": "n"}, "UpdateProviderConfig", {"id": "7", "name": "n"}),
        ("DELETE", "/ai/llm/7", None, "DeleteProviderConfig", {"id": "7"}),
        ("POST", "/ai/llm/7/validate", None, "ValidateProviderConfig", {"id": "7"}),
        ("POST", "/ai/llm/7/validate", {}, "ValidateProviderConfig", {"id": "7"}),
        ("GET", "/healthz", None, "GetLiveness", {}),
        ("GET", "/readyz", None, "GetReadiness", {}),
    ],
)
def test_every_documented_path_reaches_its_rpc(
    rest: httpx.Client, echo: Echo, method: str, path: str, body: Any, rpc: str, request_fields: dict[str, Any]
) -> None:
    """Method and path choose the RPC; path, query and body fill the request."""
    assert rest.request(method, path, json=body).status_code == 200
    assert echo.last.method == rpc
    assert json_format.MessageToDict(echo.last.request) == request_fields


@pytest.mark.parametrize(
    ("path", "body", "field", "words"),
    [
        (GENERATE, '{"prompt": "a", "foo": 1}', "foo", "known here: maxTokens, model,"),
        (GENERATE, '{"maxTokens": 1, "max_tokens": 2}', "max_tokens", "given twice"),
        (CHAT, '{"messages": [{"role": "user"}, {"roles": "x"}]}', "messages[1].roles", "known here: content,"),
        (CHAT, '{"tools": [{"function": {"nam": "x"}}]}', "tools[0].function.nam", "known here: description,"),
        (
            CHAT,
            '{"messages": [{"parts": [{"text": {"text": "a"}, "x": 1}]}]}',
            "messages[0].parts[0].x",
            "known here: ",
        ),
        (CHAT, '{"thinking": {"budget": 1}}', "thinking.budget", "known here: budgetTokens,"),
    ],
)
def test_a_field_that_would_be_dropped_is_an_error(
    rest: httpx.Client, echo: Echo, path: str, body: str, field: str, words: str
) -> None:
    """Unknown and repeated members, at any depth, are named with what is known there; the server is not called."""
    error = error_of(rest.post(path, content=body), 400, "INVALID_ARGUMENT")
    (violation,) = detail(error, "BadRequest")["fieldViolations"]
    assert violation["field"] == field
    assert words in violation["description"]
    assert echo.calls == []


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("GET", "/api/v1/ai/models?foo=1", None, 'Could not find field "foo"'),
        ("POST", f"{GENERATE}?foo=1", "{}", 'Could not find field "foo"'),
        ("GET", "/ai/llm?pageSize=many", None, 'page_size: invalid value "many"'),
        ("PUT", "/ai/llm/7", '{"id": "8"}', "conflicting"),
        ("DELETE", "/ai/llm/7", '{"force": true}', "takes no body"),
        ("GET", "/ai/llm", '{"workspaceId": "w"}', "takes no body"),
    ],
)
def test_what_has_no_place_in_a_request_is_an_error(
    rest: httpx.Client, echo: Echo, method: str, path: str, body: str | None, words: str
) -> None:
    """Unknown query parameters, a body that contradicts the path, a body where none is taken: 400, not silence."""
    error = error_of(rest.request(method, path, content=body), 400, "INVALID_ARGUMENT")
    assert words in error["message"]
    assert echo.calls == []


# Text that could mislead a scanner: quotes, backslashes, brackets, colons, things that look like members.
TEXT = st.one_of(st.text(alphabet='"\\{}[]:, \nab\u2028é', max_size=12), st.sampled_from(['", "foo": "', '\\"}', "\\"]))
FREE = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
STRANGE_NAME = st.text(alphabet=string.ascii_letters + "_", min_size=1, max_size=6).map(lambda name: f"zz{name}")


def _objects(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these members, and sometimes one that the contract does not have."""
    known: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({}, optional=members)
    stranger = st.dictionaries(STRANGE_NAME, FREE, min_size=1, max_size=1)
    return known | st.builds(lambda one, other: {**one, **other}, known, stranger)


BODIES = _objects(
    model=TEXT,
    stop=st.lists(TEXT, max_size=2),
    providerOptions=st.dictionaries(TEXT, FREE, max_size=2),
    server_tools=st.lists(FREE.filter(lambda value: value is not None), max_size=2),
    messages=st.lists(
        _objects(
            content=TEXT,
            toolCalls=st.lists(_objects(id=TEXT, function=_objects(name=TEXT, arguments=TEXT)), max_size=2),
            parts=st.lists(_objects(text=_objects(text=TEXT, citations=st.lists(_objects(title=TEXT), max_size=1)))),
        ),
        max_size=3,
    ),
    tools=st.lists(_objects(function=_objects(parameters=st.dictionaries(TEXT, FREE, max_size=2))), max_size=2),
)


@given(body=BODIES, indent=st.sampled_from([None, 1]), ascii_=st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_body_arrives_whole_or_not_at_all(
    rest: httpx.Client, echo: Echo, body: dict[str, Any], indent: int | None, ascii_: bool
) -> None:
    """Envoy refuses just the bodies that strict proto JSON refuses; of the others the server gets all that they say."""
    echo.reset()
    response = rest.post(CHAT, content=json.dumps(body, indent=indent, ensure_ascii=ascii_).encode())
    try:
        expected = json_format.ParseDict(body, ChatRequest())
    except json_format.ParseError:
        error_of(response, 400, "INVALID_ARGUMENT")
        assert echo.calls == []
    else:
        assert response.status_code == 200, response.text
        assert echo.last.request == expected


def test_lists_and_records_are_printed_whole(rest: httpx.Client, echo: Echo) -> None:
    """Models and provider configurations print empty lists, zeros and empty texts; 64-bit counts are strings."""

    async def models(_request: object, _context: object) -> ListModelsResponse:
        return ListModelsResponse(success=True)

    async def stats(_request: object, _context: object) -> GetProviderConfigStatsResponse:
        return GetProviderConfigStatsResponse(success=True, stats=[ProviderConfigStats(total_api_calls=2**53 + 1)])

    echo.handlers.update(ListModels=models, GetProviderConfigStats=stats)
    assert rest.get("/api/v1/ai/models").json() == {"success": True, "message": "", "data": [], "nextPageToken": ""}
    assert rest.get("/ai/llm").json() == {"success": False, "aiLlms": [], "nextPageToken": ""}
    (counted,) = rest.get("/ai/llm/stats").json()["stats"]
    assert counted["totalApiCalls"] == "9007199254740993"
    assert counted["totalBlocks"] == "0"


def test_answers_of_models_are_printed_as_far_as_they_are_set(rest: httpx.Client, echo: Echo) -> None:
    """A chat answer has toolCalls only where there are some, and an empty text where the text is empty."""

    async def plain(_request: object, _context: object) -> ChatResponse:
        return ChatResponse(text="", finish_reason="stop")

    async def calling(_request: object, _context: object) -> ChatResponse:
        return ChatResponse(tool_calls=[ToolCall(id="a")])

    echo.handlers["Complete"] = plain
    assert rest.post(CHAT, json={}).json() == {"text": "", "finishReason": "stop"}
    echo.handlers["Complete"] = calling
    assert rest.post(CHAT, json={}).json() == {"toolCalls": [{"id": "a"}]}


def test_a_body_up_to_the_limit_passes_and_one_over_it_is_413(rest: httpx.Client, echo: Echo) -> None:
    """20 MiB of JSON reach the server whole; one byte more is refused before the server hears of it."""
    frame = len('{"prompt":""}')
    assert rest.post(GENERATE, content='{"prompt":"' + "x" * (20 * MIB - frame) + '"}').status_code == 200
    assert len(echo.last.request.prompt) == 20 * MIB - frame
    echo.reset()
    error = error_of(
        rest.post(GENERATE, content='{"prompt":"' + "x" * (20 * MIB - frame + 1) + '"}'), 413, "INVALID_ARGUMENT"
    )
    assert detail(error, "ErrorInfo")["reason"] == "BODY_TOO_LARGE"
    assert echo.calls == []


def test_a_body_without_a_length_is_held_to_the_limit_too(rest: httpx.Client, echo: Echo) -> None:
    """A chunked body is counted as it comes."""

    def chunks() -> Iterator[bytes]:
        yield b'{"prompt":"'
        yield from (b"x" * MIB for _ in range(21))
        yield b'"}'

    error_of(rest.post(GENERATE, content=chunks()), 413, "INVALID_ARGUMENT")
    assert echo.calls == []


def test_a_large_answer_passes(rest: httpx.Client, echo: Echo) -> None:
    """An answer of many MiB is not cut by the proxy's buffers."""

    async def large(_request: object, _context: object) -> ChatResponse:
        return ChatResponse(text="x" * (15 * MIB))

    echo.handlers["Complete"] = large
    assert len(rest.post(CHAT, json={}).json()["text"]) == 15 * MIB
