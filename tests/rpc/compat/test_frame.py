"""What dialects share: bodies read strictly, media, containers for opaque data, errors as the proxy gets them."""

from __future__ import annotations

import inspect
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core import errors as e
from server.core.messages import Inline, Opaque, Remote
from server.rpc.compat.errors import MOST_BYTES, dialect_trailers
from server.rpc.compat.frame import base64_bytes, read, source_of_url
from server.rpc.compat.opaque import MARK, Sealed, seal, unseal

OPENAI = "/dragoman.v1.OpenAIService/CreateChatCompletion"
ANTHROPIC = "/dragoman.v1.AnthropicService/CreateMessage"


class Inner(msgspec.Struct, tag="inner"):
    a: int = 0


class Outer(msgspec.Struct):
    one: Inner | None = None
    many: list[Inner] = []


DECODER = msgspec.json.Decoder(Outer)


def test_members_that_are_not_known_are_found_where_they_are() -> None:
    """By place, at any depth; a tag is known, and a null says nothing."""
    body = b'{"x":1,"n":null,"one":{"type":"inner","y":2},"many":[{"type":"inner"},{"type":"inner","z":[3]}]}'
    _, unknown = read(DECODER, body)
    assert unknown == {"": {"x": 1}, "one": {"y": 2}, "many[1]": {"z": [3]}}
    assert set(read(DECODER, body, "tools[0]")[1]) == {"tools[0]", "tools[0].one", "tools[0].many[1]"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"one":{"type":"inner","a":"canary"}}', "one.a"),
        (b'{"many":[{"type":"canary"}]}', "many[0].type"),
        (b"[]", "body"),
        (b"canary", "body"),
        (b'"\xff"', "body"),
        (b'{"x":' + b"[" * 10_000, "body"),
    ],
)
def test_a_body_that_is_none_says_where_and_quotes_nothing(body: bytes, field: str) -> None:
    with pytest.raises(e.InvalidRequest) as caught:
        read(DECODER, body)
    assert caught.value.violations[0].field == field
    assert "canary" not in caught.value.message


def test_media_by_url() -> None:
    """A data URL is the bytes themselves; another is left to the provider; what is neither is refused."""
    assert source_of_url("data:image/png;base64,AAEC", "x") == Inline("image/png", b"\0\1\2")
    assert source_of_url("DATA:text/plain;charset=utf-8;base64,AAEC", "x") == Inline("text/plain", b"\0\1\2")
    assert source_of_url("https://example.com/a.png", "x") == Remote("https://example.com/a.png")
    for bad in ("", "data:image/png,AAEC", "data:;base64,AAEC", "data:image/png;base64,A?", "data:image/png;base64,"):
        with pytest.raises(e.InvalidRequest):
            source_of_url(bad, "x")
    with pytest.raises(e.InvalidRequest):
        base64_bytes("not base64", "x")


@given(st.text(), st.text(), st.binary(), st.none() | st.text())
def test_a_container_gives_back_what_went_in(provider: str, model: str, data: bytes, of: str | None) -> None:
    sealed = seal(Opaque(provider, model, data), of)
    assert sealed.isascii()
    assert unseal(sealed) == Sealed(provider, model, data, of)


@given(st.text() | st.text().map(lambda text: MARK + text))
def test_any_other_string_is_no_container(text: str) -> None:
    """A provider's own signature is left alone; a damaged container is nothing."""
    assert unseal(text) is None
    whole = seal(Opaque("p", "m", b"data"))
    assert unseal(whole[:-2]) is None


# --- errors -----------------------------------------------------------------------------------------------------------


def _all_errors() -> list[e.DragomanError]:
    kinds = [kind for _, kind in inspect.getmembers(e, inspect.isclass) if issubclass(kind, e.DragomanError)]
    made: list[e.DragomanError] = []
    for kind in kinds:
        if kind is e.ProviderTimeout:
            made.append(e.ProviderTimeout("idle", 2.0, provider="openai"))
        elif kind is not e.DragomanError:
            made.append(kind("It failed, ü."))
    return made


@pytest.mark.parametrize("method", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize("error", _all_errors(), ids=lambda error: type(error).__name__)
def test_every_error_has_a_body_in_every_dialect(method: str, error: e.DragomanError) -> None:
    """With the words, a type, and what programs may know of it, in ASCII."""
    trailers = dict(dialect_trailers(method, error, "req_1"))
    body: dict[str, Any] = json.loads(trailers["x-dragoman-error"])
    assert trailers["x-dragoman-error"].isascii()
    assert body["error"]["message"] == error.message
    assert body["error"]["type"]
    assert body["error"]["x_dragoman"]["reason"] == error.reason
    assert body["error"]["x_dragoman"]["request_id"] == "req_1"
    assert trailers["x-should-retry"] == ("true" if error.retryable else "false")


@pytest.mark.parametrize("method", [OPENAI, ANTHROPIC])
def test_a_long_message_is_cut_to_what_a_header_holds(method: str) -> None:
    trailers = dict(dialect_trailers(method, e.InvalidRequest("ü😀" * 5000), "req_1"))
    assert len(trailers["x-dragoman-error"]) <= MOST_BYTES
    assert json.loads(trailers["x-dragoman-error"])["error"]["message"].endswith("…")


def test_a_method_of_the_contract_has_no_dialect() -> None:
    assert dialect_trailers("/dragoman.v1.LLMService/Chat", e.InvalidRequest("x"), "") == []


@pytest.mark.parametrize(
    ("error", "type", "param", "code"),
    [
        (e.InvalidRequest.field("messages[0].content", "x"), "invalid_request_error", "messages[0].content", None),
        (
            e.UnsupportedParameter.field("thinking.effort", "x"),
            "invalid_request_error",
            "reasoning_effort",
            "unsupported_parameter",
        ),
        (e.InvalidRequest.field("body", "x"), "invalid_request_error", None, None),
        (e.Unauthenticated("x"), "invalid_request_error", None, "invalid_api_key"),
        (e.UnknownModel("x"), "invalid_request_error", None, "model_not_found"),
        (e.ContextLengthExceeded("x"), "invalid_request_error", None, "context_length_exceeded"),
        (e.ProviderInvalidRequest("x", code="bad_thing"), "invalid_request_error", None, "bad_thing"),
        (e.ProviderQuotaExceeded("x"), "insufficient_quota", None, "insufficient_quota"),
        (e.LimitExceeded("x"), "rate_limit_error", None, "rate_limit_exceeded"),
        (e.InternalError("x"), "server_error", None, "internal"),
    ],
)
def test_openais_words(error: e.DragomanError, type: str, param: str | None, code: str | None) -> None:
    """Type, parameter and code as OpenAI's own errors have them."""
    body = json.loads(dict(dialect_trailers(OPENAI, error, ""))["x-dragoman-error"])["error"]
    assert (body["type"], body["param"], body["code"]) == (type, param, code)


@pytest.mark.parametrize(
    ("error", "type", "status"),
    [
        (e.InvalidRequest("x"), "invalid_request_error", None),
        (e.Unauthenticated("x"), "authentication_error", None),
        (e.PermissionDenied("x"), "permission_error", None),
        (e.UnknownModel("x"), "not_found_error", None),
        (e.ProviderRateLimited("x"), "rate_limit_error", None),
        (e.ProviderOverloaded("x"), "overloaded_error", "529"),
        (e.ProviderTimeout("idle", 1.0), "timeout_error", None),
        (e.InternalError("x"), "api_error", None),
    ],
)
def test_anthropics_words(error: e.DragomanError, type: str, status: str | None) -> None:
    """Type as Anthropic's own errors have it, and 529 where gRPC has no code for it."""
    trailers = dict(dialect_trailers(ANTHROPIC, error, "req_1"))
    body = json.loads(trailers["x-dragoman-error"])
    assert (body["type"], body["error"]["type"], body["request_id"]) == ("error", type, "req_1")
    assert trailers.get("x-dragoman-http-status") == status
