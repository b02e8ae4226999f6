"""Refusals, and errors in the middle of a stream: whose fault, whether to try again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.errors import (
    ContextLengthExceeded,
    ProviderError,
    ProviderInvalidRequest,
    ProviderModelNotFound,
    ProviderOverloaded,
    ProviderPermissionDenied,
    ProviderQuotaExceeded,
    ProviderRateLimited,
    ProviderUnauthenticated,
    ProviderUnavailable,
)
from server.core.events import Failed, Started
from tests.providers.bedrock.support import answer, exception, frame, run, start, target, text, wire

COM = ":http://internal.amazon.com/coral/com.amazon.coral.service/"


def refused(status: int, type: str | None, body: bytes | dict[str, Any]) -> ProviderError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"x-amzn-requestid": "req-1"} | ({"x-amzn-errortype": type} if type is not None else {})
    return wire().map_error(target(), status, headers, raw)


@pytest.mark.parametrize(
    ("status", "type", "message", "expected", "retryable"),
    [
        (400, "ValidationException", "bad", ProviderInvalidRequest, False),
        (400, None, "bad", ProviderInvalidRequest, False),
        (400, "ServiceQuotaExceededException", "quota", ProviderQuotaExceeded, False),
        (403, "AccessDeniedException", "no access", ProviderPermissionDenied, False),
        (403, "UnrecognizedClientException", "invalid token", ProviderUnauthenticated, False),
        (403, "InvalidSignatureException", "signature", ProviderUnauthenticated, False),
        (403, "ExpiredTokenException", "expired", ProviderUnauthenticated, False),
        (403, "MissingAuthenticationTokenException", "missing", ProviderUnauthenticated, False),
        (400, "IncompleteSignatureException", "incomplete", ProviderUnauthenticated, False),
        (403, None, "Authentication failed: Please make sure your API Key is valid.", ProviderUnauthenticated, False),
        (403, "AccessDeniedException", "Invalid API Key format: Must start with", ProviderUnauthenticated, False),
        (403, None, "no", ProviderPermissionDenied, False),
        (404, "ResourceNotFoundException", "no such", ProviderModelNotFound, False),
        (400, "ValidationException", "The provided model identifier is invalid.", ProviderModelNotFound, False),
        (408, "ModelTimeoutException", "slow", ProviderUnavailable, True),
        (424, "ModelErrorException", "failed", ProviderUnavailable, True),
        (424, None, "failed", ProviderUnavailable, True),
        (429, "ThrottlingException", "Too many tokens", ProviderRateLimited, True),
        (429, "ModelNotReadyException", "loading", ProviderOverloaded, True),
        (500, "InternalServerException", "oops", ProviderUnavailable, True),
        (503, "ServiceUnavailableException", "later", ProviderOverloaded, True),
        (418, "ANewException", "tea", ProviderInvalidRequest, False),
        (502, None, "gateway", ProviderUnavailable, True),
    ],
)
def test_refusals(status: int, type: str | None, message: str, expected: type[ProviderError], retryable: bool) -> None:
    """By type, then by status; the type as it came, with the address that AWS puts behind it."""
    for suffix in ("", COM):
        sent = type + suffix if type is not None else None
        error = refused(status, sent, {"message": message})
        assert (error.__class__, error.retryable) == (expected, retryable)
        assert (error.http_status, error.type, error.provider_message) == (status, sent, message)
        assert (error.request_id, error.retry_after) == ("req-1", None)


@pytest.mark.parametrize(
    ("message", "lengths"),
    [
        ("Input is too long for requested model.", {}),
        (
            "The model returned the following errors: prompt is too long: 200049 tokens > 200000 maximum",
            {"requested_tokens": "200049", "max_tokens": "200000"},
        ),
        (
            "input length and `max_tokens` exceed context limit: 197000 + 8192 > 200000, decrease input length",
            {"requested_tokens": "205192", "max_tokens": "200000"},
        ),
        (
            "This model's maximum context length is 131072 tokens. However, you requested 140000 tokens",
            {"requested_tokens": "140000", "max_tokens": "131072"},
        ),
    ],
)
def test_a_prompt_that_is_too_long(message: str, lengths: dict[str, str]) -> None:
    """A ValidationException like any other, told by its words alone, in a refusal and in a stream; both lengths where
    they are named."""
    for error in (
        refused(400, "ValidationException" + COM, {"message": message}),
        failure(exception("validationException", message=message)),
    ):
        assert isinstance(error, ContextLengthExceeded)
        assert error.metadata == lengths
        assert not error.retryable


def test_words_are_not_enough_where_the_type_says_another_thing() -> None:
    """A model's own text in a throttling is none of these."""
    assert isinstance(refused(429, "ThrottlingException", {"message": "prompt is too long"}), ProviderRateLimited)


@pytest.mark.parametrize(
    ("original", "expected"),
    [(400, ProviderInvalidRequest), (429, ProviderRateLimited), (503, ProviderOverloaded), (99, ProviderUnavailable)],
)
def test_how_the_model_failed(original: int, expected: type[ProviderError]) -> None:
    """ModelErrorException has the status that the model gave; its own stays what came."""
    error = refused(424, "ModelErrorException", {"message": "x", "originalStatusCode": original})
    assert (type(error), error.http_status) == (expected, 424)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"Message":"Big M"}', "Big M"),
        (b'{"__type":"com.amazon.coral#ThrottlingException","message":"slow"}', "slow"),
        (b'{"message":null}', None),
        (b"plain text", "plain text"),
        (b"<html>a proxy</html>", None),
        (b"", None),
        (b"[]", "[]"),
    ],
)
def test_bodies_of_all_kinds(body: bytes, message: str | None) -> None:
    """AWS's, a proxy's, none."""
    error = refused(429, None, body)
    assert (type(error), error.provider_message) == (ProviderRateLimited, message)


def failure(*frames: bytes) -> ProviderError:
    end = run(b"".join(frames))[-1]
    assert isinstance(end, Failed)
    assert isinstance(end.error, ProviderError)
    return end.error


@pytest.mark.parametrize(
    ("name", "payload", "expected", "retryable"),
    [
        ("internalServerException", {"message": "x"}, ProviderUnavailable, True),
        ("modelStreamErrorException", {"message": "x"}, ProviderUnavailable, True),
        (
            "modelStreamErrorException",
            {"originalStatusCode": 400, "originalMessage": "x"},
            ProviderInvalidRequest,
            False,
        ),
        ("validationException", {"message": "x"}, ProviderInvalidRequest, False),
        ("throttlingException", {"message": "x"}, ProviderRateLimited, True),
        ("serviceUnavailableException", {"message": "x"}, ProviderOverloaded, True),
        ("aNewException", {"message": "x"}, ProviderUnavailable, True),
    ],
)
def test_exceptions_in_a_stream(
    name: str, payload: dict[str, Any], expected: type[ProviderError], retryable: bool
) -> None:
    """The type stands in the frame's headers alone, and the status that came before it means nothing."""
    for before in (b"", start(), start() + text(0, "a")):
        error = failure(before, exception(name, **payload))
        assert (type(error), error.retryable) == (expected, retryable)
        assert (error.http_status, error.type, error.provider_message) == (None, name, "x")


def test_an_exception_before_the_answer_is_one_of_the_call() -> None:
    """Nothing was said yet, so the call itself failed and may go elsewhere."""
    (only,) = run(start() + exception("throttlingException", message="x"))
    assert isinstance(only, Failed)
    assert isinstance(run(start() + text(0, "a") + exception("throttlingException"))[0], Started)


def test_an_error_message_of_the_framing_itself() -> None:
    """Code and words are headers there, and there is no payload."""
    error = failure(frame({":message-type": "error", ":error-code": "InternalFailure", ":error-message": "boom"}))
    assert (type(error), error.type, error.provider_message) == (ProviderUnavailable, "InternalFailure", "boom")


def test_an_error_that_came_with_a_200() -> None:
    """By a proxy's hand."""
    with pytest.raises(ProviderRateLimited):
        answer({"__type": "ThrottlingException", "message": "slow"})
