"""Refusals: what each status, type, code and documented message is, and whether and when to try again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.errors import (
    ContextLengthExceeded,
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
from tests.providers.anthropic.support import answer, target, wire


def body(type: str, message: str = "m", **members: Any) -> bytes:
    error = {"type": type, "message": message, **members}
    return json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()


CAP = {"error_code": "enforced_spend_limit_reached"}

CASES: list[tuple[int, bytes, type, bool]] = [
    (400, body("invalid_request_error", "max_tokens: Field required"), ProviderInvalidRequest, False),
    (401, body("authentication_error", "invalid x-api-key"), ProviderUnauthenticated, False),
    (400, body("authentication_error"), ProviderUnauthenticated, False),
    (402, body("billing_error"), ProviderQuotaExceeded, False),
    (403, body("permission_error"), ProviderPermissionDenied, False),
    (404, body("not_found_error", "model: claude-x"), ProviderModelNotFound, False),
    (409, body("conflict_error"), ProviderInvalidRequest, True),
    (413, body("request_too_large"), ProviderInvalidRequest, False),
    (429, body("rate_limit_error"), ProviderRateLimited, True),
    (429, body("rate_limit_error", details=CAP), ProviderQuotaExceeded, False),
    (500, body("api_error"), ProviderUnavailable, True),
    (504, body("timeout_error"), ProviderUnavailable, True),
    (529, body("overloaded_error", "Overloaded", details=None), ProviderOverloaded, True),
    (503, b"<html>bad gateway</html>", ProviderOverloaded, True),
    (502, b"", ProviderUnavailable, True),
    (400, b'{"detail":"no"}', ProviderInvalidRequest, False),
    (401, b'{"error":"unauthorized"}', ProviderUnauthenticated, False),
    (
        400,
        body("invalid_request_error", "You have reached your specified API usage limits."),
        ProviderQuotaExceeded,
        False,
    ),
    (
        400,
        body("invalid_request_error", "You have reached your specified workspace API usage limits."),
        ProviderQuotaExceeded,
        False,
    ),
    (
        400,
        body("invalid_request_error", "Your credit balance is too low."),
        ProviderQuotaExceeded,
        False,
    ),
    (429, body("rate_limit_error", "prompt is too long: 1 tokens > 0 maximum"), ProviderRateLimited, True),
]


@pytest.mark.parametrize(("status", "raw", "cls", "retryable"), CASES)
def test_each_refusal_is_its_own_error(status: int, raw: bytes, cls: type, retryable: bool) -> None:
    """By type, code and status; never retried where waiting cannot help."""
    error = wire().map_error(target(), status, {}, raw)
    assert type(error) is cls
    assert (error.retryable, error.http_status) == (retryable, status)


@pytest.mark.parametrize(
    ("message", "asked", "most"),
    [
        ("prompt is too long: 208310 tokens > 200000 maximum", "208310", "200000"),
        ("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease", "210000", "200000"),
    ],
)
def test_a_prompt_that_is_too_long_names_both_lengths(message: str, asked: str, most: str) -> None:
    """The API says it in words alone; both numbers become facts."""
    error = wire().map_error(target(), 400, {}, body("invalid_request_error", message))
    assert type(error) is ContextLengthExceeded
    assert not error.retryable
    assert error.metadata == {"requested_tokens": asked, "max_tokens": most}
    assert error.provider_message == message


HINTS: list[tuple[dict[str, str], bool, float | None]] = [
    ({"retry-after": "12"}, True, 12.0),
    ({"retry-after": "12", "retry-after-ms": "1500"}, True, 1.5),
    ({"retry-after": "12", "x-should-retry": "false"}, False, None),
    ({}, True, None),
]


@pytest.mark.parametrize(("headers", "retryable", "after"), HINTS)
def test_a_rate_limit_says_when_to_come_back(headers: dict[str, str], retryable: bool, after: float | None) -> None:
    """retry-after-ms, then retry-after; x-should-retry has the last word."""
    error = wire().map_error(target(), 429, {**headers, "request-id": "req_9"}, body("rate_limit_error"))
    assert (error.retryable, error.retry_after, error.request_id) == (retryable, after, "req_9")


def test_an_error_in_a_200_is_an_error() -> None:
    """A server that answers an error with a good status does not make it an answer."""
    with pytest.raises(ProviderOverloaded):
        answer(body("overloaded_error", "Overloaded"))


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"[]", b"{}", b'{"type":"message"}', b"<html>"])
def test_what_is_no_message_is_no_answer(raw: bytes) -> None:
    """A 200 that holds something else."""
    with pytest.raises(ProviderProtocolError):
        answer(raw)
