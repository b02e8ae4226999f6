"""From status, type, code and headers to the error tree; and the credential out of every error."""

from __future__ import annotations

import pytest

from server.core.errors import (
    ContextLengthExceeded,
    ProviderContentFiltered,
    ProviderError,
    ProviderInvalidRequest,
    ProviderModelNotFound,
    ProviderOverloaded,
    ProviderPermissionDenied,
    ProviderProtocolError,
    ProviderQuotaExceeded,
    ProviderRateLimited,
    ProviderUnauthenticated,
    ProviderUnavailable,
)
from server.core.ports import ProviderTarget
from server.core.secret import Secret
from server.providers.errors import WireError, provider_error, rate_limit, request_id, retry_after, scrub
from server.providers.openai_chat.errors import CHAT_ERRORS, read_error
from tests.providers.chat_support import KEY, NOW, target, wire
from tests.support.canary import assert_absent

CLASSES = [
    (400, None, None, ProviderInvalidRequest, False),
    (400, "invalid_request_error", "context_length_exceeded", ContextLengthExceeded, False),
    (400, None, "content_filter", ProviderContentFiltered, False),
    (401, None, None, ProviderUnauthenticated, False),
    (402, None, None, ProviderQuotaExceeded, False),
    (403, None, None, ProviderPermissionDenied, False),
    (404, None, None, ProviderModelNotFound, False),
    (404, "invalid_request_error", "model_not_found", ProviderModelNotFound, False),
    (405, None, None, ProviderInvalidRequest, False),
    (408, None, None, ProviderUnavailable, True),
    (409, None, None, ProviderInvalidRequest, True),
    (413, None, None, ProviderInvalidRequest, False),
    (422, None, None, ProviderInvalidRequest, False),
    (429, None, None, ProviderRateLimited, True),
    (429, "insufficient_quota", "insufficient_quota", ProviderQuotaExceeded, False),
    (429, "requests", "rate_limit_exceeded", ProviderRateLimited, True),
    (498, None, "capacity_exceeded", ProviderOverloaded, True),
    (500, "server_error", None, ProviderUnavailable, True),
    (503, None, None, ProviderOverloaded, True),
    (504, None, None, ProviderUnavailable, True),
    (520, None, None, ProviderUnavailable, True),
    (529, "overloaded_error", None, ProviderOverloaded, True),
    (302, None, None, ProviderProtocolError, False),
    (None, "rate_limit_error", None, ProviderRateLimited, True),
    (None, None, "429", ProviderRateLimited, True),
    (None, None, None, ProviderUnavailable, True),
]


@pytest.mark.parametrize(("status", "type", "code", "expected", "retryable"), CLASSES)
def test_status_type_and_code_decide_the_class(
    status: int | None, type: str | None, code: str | None, expected: type[ProviderError], retryable: bool
) -> None:
    """An exact word beats the status, the status beats a vague word."""
    error = provider_error(WireError(status=status, type=type, code=code), {}, table=CHAT_ERRORS, now=NOW)
    assert error.__class__ is expected
    assert error.retryable is retryable
    assert (error.http_status, error.type, error.code) == (status, type, code)


HINTS = [
    ({"retry-after-ms": "1500"}, 1.5),
    ({"retry-after": "2"}, 2.0),
    ({"retry-after": "0.5"}, 0.5),
    ({"retry-after-ms": "0", "retry-after": "1"}, 1.0),
    ({"retry-after-ms": "x", "retry-after": "1"}, 1.0),
    ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30.0),
    ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, None),
    ({"retry-after": "0"}, None),
    ({"retry-after": "-3"}, None),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "inf"}, None),
    ({"retry-after": "9999999"}, None),
    ({"retry-after": "soon"}, None),
    ({"retry-after": ""}, None),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), HINTS)
def test_retry_hints_of_every_form_are_read(headers: dict[str, str], seconds: float | None) -> None:
    """Milliseconds, then seconds, then a date; what cannot be waited for is no hint."""
    assert retry_after(headers, now=NOW) == seconds


@pytest.mark.parametrize(
    ("status", "code", "headers", "retryable", "seconds"),
    [
        (400, None, {"x-should-retry": "true", "retry-after": "3"}, True, 3.0),
        (503, None, {"x-should-retry": "false", "retry-after": "3"}, False, None),
        (429, "insufficient_quota", {"x-should-retry": "true", "retry-after": "3"}, False, None),
        (429, None, {"retry-after": "3"}, True, 3.0),
        (400, None, {"retry-after": "3"}, False, None),
    ],
)
def test_a_hint_is_given_only_where_a_retry_may_help(
    status: int, code: str | None, headers: dict[str, str], retryable: bool, seconds: float | None
) -> None:
    """x-should-retry wins over the status; an empty account is never worth a retry."""
    error = provider_error(WireError(status=status, code=code), headers, now=NOW)
    assert (error.retryable, error.retry_after) == (retryable, seconds)


BODIES = [
    (b'{"error":{"message":"m","type":"t","param":"p","code":"c"}}', ("t", "c", "m")),
    (b'{"error":{"message":"m","code":404}}', (None, "404", "m")),
    (b'{"code":"invalid-argument","error":"m"}', (None, "invalid-argument", "m")),
    (b'{"error":"m"}', (None, None, "m")),
    (b'{"object":"error","message":"m","type":"BadRequest","param":null,"code":400}', ("BadRequest", "400", "m")),
    (b'{"object":"error","message":{"detail":"m"},"type":"t","code":"1"}', ("t", "1", "m")),
    (b'{"object":"error","message":{"detail":[{"type":"missing","msg":"m"}]},"type":"t"}', ("t", None, "m")),
    (b'{"detail":"m"}', (None, None, "m")),
    (b'{"detail":[{"loc":["body"],"msg":"m","type":"missing"}]}', (None, None, "m")),
    (b'{"message":"m"}', (None, None, "m")),
    (b'[{"error":{"message":"m","code":400}}]', (None, "400", "m")),
    (b'{"error":{"code":403,"message":"m","metadata":{"provider_name":"P","raw":"r"}}}', (None, "403", "m: r")),
    (b"upstream connect error", (None, None, "upstream connect error")),
    (b"<html><body>502</body></html>", (None, None, None)),
    (b"", (None, None, None)),
    (b"null", (None, None, None)),
    (b'{"error":null}', (None, None, None)),
    (b'{"error":{"message":5,"type":["x"],"code":{}}}', (None, None, None)),
    (b"\xff\xfe", (None, None, "��")),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), BODIES)
def test_error_bodies_of_every_shape_are_read(body: bytes, expected: tuple[str | None, str | None, str | None]) -> None:
    """Type, code and words come out of each known shape, and nothing makes the reading fail."""
    error = read_error(body, 400)
    assert (error.type, error.code, error.message) == expected


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "context_length_exceeded",
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        ),
        (
            "exceed_context_size_error",
            "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
        ),
    ],
    ids=["OpenAI", "llama.cpp"],
)
def test_the_numbers_of_a_context_overflow_are_facts(code: str, words: str) -> None:
    """Limit and request stand in metadata, for whoever shortens the conversation."""
    error = provider_error(WireError(status=400, code=code, message=words), {}, now=NOW)
    assert isinstance(error, ContextLengthExceeded)
    assert error.metadata == {"max_tokens": "8192", "requested_tokens": "9000"}


def test_param_and_upstream_are_metadata() -> None:
    """Which parameter, and which provider behind OpenRouter."""
    body = b'{"error":{"message":"m","param":"top_p","metadata":{"provider_name":"P"}}}'
    error = wire().map_error(target(), 400, {}, body)
    assert error.metadata == {"param": "top_p", "upstream_provider": "P"}


def test_a_bad_key_at_xai_is_told_from_a_bad_request() -> None:
    """xAI answers a bad key with a 400 like any other; the workspace is at fault, not the caller."""
    bad_key = b'{"code":"invalid-argument","error":"Incorrect API key provided: x***y."}'
    assert type(wire("xai").map_error(target("xai"), 400, {}, bad_key)) is ProviderUnauthenticated
    other = b'{"code":"invalid-argument","error":"Argument not supported: stop"}'
    assert type(wire("xai").map_error(target("xai"), 400, {}, other)) is ProviderInvalidRequest


def test_openrouter_403_is_moderation() -> None:
    """A row of the table, for that server only."""
    assert type(wire().map_error(target("openrouter"), 403, {}, b"")) is ProviderContentFiltered
    assert type(wire().map_error(target(), 403, {}, b"")) is ProviderPermissionDenied


def test_the_credential_is_in_no_text_of_an_error() -> None:
    """Providers repeat keys in their messages: message, code, type, words and metadata are cleaned."""
    where = ProviderTarget(provider="custom", config_id="c", secret=Secret(KEY), key=Secret("AKIDCANARY012345"))
    words = f"bad key {KEY} of AKIDCANARY012345"
    error = provider_error(
        WireError(status=401, type=KEY, code=KEY, message=words, metadata={"param": KEY}), {}, now=NOW
    )
    scrub(error, where, request_id="req_1")
    shown = f"{error!r} {error} {error.args} {error.__dict__}"
    assert_absent(KEY, shown)
    assert_absent("AKIDCANARY012345", shown)
    assert (error.provider, error.request_id) == ("custom", "req_1")
    assert error.provider_message == "bad key *** of ***"


def test_rate_limits_and_request_ids_are_read_from_the_head() -> None:
    """As each provider names them."""
    headers = {"x-ratelimit-limit-requests": "500", "anthropic-ratelimit-tokens-reset": "2027", "date": "x"}
    assert rate_limit(headers) == {"limit-requests": "500", "tokens-reset": "2027"}
    for name in ("x-request-id", "request-id", "x-amzn-requestid", "apim-request-id"):
        assert request_id({name: "r1"}) == "r1"
    assert request_id({}) == ""
