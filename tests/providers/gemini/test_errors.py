"""Google's refusals, by status, word and detail; and its lists of models."""

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
    ProviderProtocolError,
    ProviderQuotaExceeded,
    ProviderRateLimited,
    ProviderUnauthenticated,
    ProviderUnavailable,
)
from server.core.ports import ListedModel
from tests.providers.gemini.support import VERTEX, target, wire

RPC = "type.googleapis.com/google.rpc."


def reason(word: str) -> dict[str, Any]:
    return {"@type": RPC + "ErrorInfo", "reason": word, "domain": "googleapis.com"}


def retry(delay: Any) -> dict[str, Any]:
    return {"@type": RPC + "RetryInfo", "retryDelay": delay}


def quota(id: str) -> dict[str, Any]:
    return {"@type": RPC + "QuotaFailure", "violations": [{"quotaId": id, "quotaValue": "50"}]}


def refusal(status: int, word: str, *details: dict[str, Any], message: str = "No.") -> ProviderError:
    body = {"error": {"code": status, "message": message, "status": word, "details": list(details)}}
    return wire().map_error(target(), status, {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "word", "details", "cls", "retryable"),
    [
        (400, "INVALID_ARGUMENT", [], ProviderInvalidRequest, False),
        (400, "INVALID_ARGUMENT", [reason("API_KEY_INVALID")], ProviderUnauthenticated, False),
        (400, "FAILED_PRECONDITION", [], ProviderPermissionDenied, False),
        (401, "UNAUTHENTICATED", [reason("ACCESS_TOKEN_EXPIRED")], ProviderUnauthenticated, False),
        (403, "PERMISSION_DENIED", [], ProviderPermissionDenied, False),
        (403, "PERMISSION_DENIED", [reason("SERVICE_DISABLED")], ProviderPermissionDenied, False),
        (403, "PERMISSION_DENIED", [reason("BILLING_DISABLED")], ProviderQuotaExceeded, False),
        (403, "PERMISSION_DENIED", [reason("SOMETHING_NEW")], ProviderPermissionDenied, False),
        (404, "NOT_FOUND", [], ProviderModelNotFound, False),
        (402, "RESOURCE_EXHAUSTED", [], ProviderQuotaExceeded, False),
        (429, "RESOURCE_EXHAUSTED", [], ProviderRateLimited, True),
        (429, "RESOURCE_EXHAUSTED", [quota("PerMinute"), retry("48s")], ProviderRateLimited, True),
        (429, "RESOURCE_EXHAUSTED", [quota("XPerDayPerModel-FreeTier")], ProviderQuotaExceeded, False),
        (429, "RESOURCE_EXHAUSTED", [quota("XPerDayPerModel"), retry("48s")], ProviderRateLimited, True),
        (499, "CANCELLED", [], ProviderUnavailable, True),
        (500, "INTERNAL", [], ProviderUnavailable, True),
        (503, "UNAVAILABLE", [], ProviderOverloaded, True),
        (504, "DEADLINE_EXCEEDED", [], ProviderUnavailable, True),
    ],
)
def test_refusals(
    status: int, word: str, details: list[dict[str, Any]], cls: type[ProviderError], retryable: bool
) -> None:
    """A bad key is a bad key at any status, a quota that waits for tomorrow is no rate limit."""
    error = refusal(status, word, *details)
    assert type(error) is cls
    assert (error.http_status, error.type, error.code, error.provider_message) == (status, word, str(status), "No.")
    assert error.retryable is retryable


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [("48s", 48.0), ("0.5s", 0.5), ("48.939935699s", 48.939935699), ("0s", None), ("-1s", None), ("nans", None),
     ("soon", None), (5, None), (None, None)],
)  # fmt: skip
def test_the_retry_hint_stands_in_the_body(delay: Any, seconds: float | None) -> None:
    """RetryInfo is a duration; what is none is no hint."""
    assert refusal(429, "RESOURCE_EXHAUSTED", retry(delay)).retry_after == seconds


def test_facts_of_the_details_are_metadata() -> None:
    """Which quota, which reason, which field."""
    bad = {"@type": RPC + "BadRequest", "fieldViolations": [{"field": "contents[0]", "description": "x"}]}
    error = refusal(429, "RESOURCE_EXHAUSTED", quota("A"), reason("R"), bad)
    assert error.metadata == {"quota": "A", "quota_value": "50", "reason": "R", "param": "contents[0]"}


@pytest.mark.parametrize(
    ("message", "metadata"),
    [
        (
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            {"requested_tokens": "1200000", "max_tokens": "1048576"},
        ),
        (
            "The input token count is 1200000 but model only supports up to 1048576.",
            {"requested_tokens": "1200000", "max_tokens": "1048576"},
        ),
        ("The input token count exceeds the maximum number of tokens allowed 1048576.", {"max_tokens": "1048576"}),
    ],
)
def test_a_prompt_that_is_too_long_names_the_lengths(message: str, metadata: dict[str, str]) -> None:
    """Google has no word for it but its message."""
    error = refusal(400, "INVALID_ARGUMENT", message=message)
    assert type(error) is ContextLengthExceeded
    assert (error.metadata, error.code, error.retryable) == (metadata, "400", False)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", None),
        (b"<html>502</html>", None),
        (b"upstream down", "upstream down"),
        (b'[{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}]', "m"),
        (b'{"error":"words"}', "words"),
        (b'{"error":{"message":5,"details":[1,{"@type":5},{"violations":3,"@type":"QuotaFailure"}]}}', "5"),
        (b"null", None),
        (b'"text"', "text"),
        (b"[" * 100_000, "[" * 2_000),
    ],
)
def test_any_body_of_a_refusal_is_taken(body: bytes, said: str | None) -> None:
    """JSON, a list, a proxy's page, nothing: the status alone says enough."""
    error = wire().map_error(target(), 503, {"x-request-id": "r"}, body)
    assert type(error) is ProviderOverloaded
    assert (error.provider_message, error.request_id) == (said, "r")


# --- models -----------------------------------------------------------------------------------------------------------


def test_models_of_the_gemini_api() -> None:
    """Names without their prefix, limits, and the next page."""
    body = {
        "models": [
            {"name": "models/a", "displayName": "A", "inputTokenLimit": 10, "outputTokenLimit": 0},
            {"name": "tunedModels/b"},
            {},
        ],
        "nextPageToken": "next/=",
    }
    page = wire().parse_models(json.dumps(body).encode())
    assert page.models == (ListedModel("a", "A", 10, None), ListedModel("tunedModels/b"))
    request = wire().build_list_models(target(), page.next_page)
    assert request.url.endswith("/v1beta/models?pageSize=1000&pageToken=next%2F%3D")
    assert wire().parse_models(b"{}").next_page is None


def test_models_of_vertex() -> None:
    """The publisher's list, that stands outside of projects."""
    assert (
        wire().build_list_models(target(VERTEX)).url
        == "https://europe-west4-aiplatform.googleapis.com/v1beta1/publishers/google/models?pageSize=1000"
    )
    body = b'{"publisherModels":[{"name":"publishers/google/models/gemini-x"}]}'
    assert wire().parse_models(body).models == (ListedModel("gemini-x"),)


def test_a_list_that_is_none_is_a_protocol_error() -> None:
    """An endpoint that is no Gemini."""
    with pytest.raises(ProviderProtocolError):
        wire().parse_models(b"<html>")
