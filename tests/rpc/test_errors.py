"""Each error of the tree has one gRPC code, and its status tells a program everything that its fields say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core import errors as e
from server.core.endpoint import EndpointRefused
from server.rpc.errors import (
    CODES,
    MOST_MESSAGE_BYTES,
    MOST_STATUS_BYTES,
    as_dragoman,
    retry_after_header,
    status_code,
    to_status,
)

DOCS = Path(__file__).parents[2] / "docs" / "errors.md"

# What the contract's comments and the REST surfaces promise, written down a second time on purpose.
PROMISED = {
    e.InvalidRequest: "INVALID_ARGUMENT",
    e.UnsupportedParameter: "INVALID_ARGUMENT",
    e.AmbiguousModel: "INVALID_ARGUMENT",
    e.Unauthenticated: "UNAUTHENTICATED",
    e.PermissionDenied: "PERMISSION_DENIED",
    e.NotFound: "NOT_FOUND",
    e.UnknownModel: "NOT_FOUND",
    e.AlreadyExists: "ALREADY_EXISTS",
    e.Conflict: "ABORTED",
    e.InUse: "PERMISSION_DENIED",
    e.NotConfigured: "FAILED_PRECONDITION",
    e.LimitExceeded: "RESOURCE_EXHAUSTED",
    e.Unavailable: "UNAVAILABLE",
    e.DeadlineExceeded: "DEADLINE_EXCEEDED",
    e.InternalError: "INTERNAL",
    e.ProviderError: "UNAVAILABLE",
    e.ProviderInvalidRequest: "INVALID_ARGUMENT",
    e.ContextLengthExceeded: "INVALID_ARGUMENT",
    e.ProviderUnauthenticated: "UNAUTHENTICATED",
    e.ProviderPermissionDenied: "PERMISSION_DENIED",
    e.ProviderModelNotFound: "NOT_FOUND",
    e.ProviderRateLimited: "RESOURCE_EXHAUSTED",
    e.ProviderQuotaExceeded: "RESOURCE_EXHAUSTED",
    e.ProviderContentFiltered: "INVALID_ARGUMENT",
    e.ProviderOverloaded: "UNAVAILABLE",
    e.ProviderUnavailable: "UNAVAILABLE",
    e.ProviderTimeout: "DEADLINE_EXCEEDED",
    e.ProviderProtocolError: "UNAVAILABLE",
    e.StreamTruncated: "UNAVAILABLE",
    EndpointRefused: "FAILED_PRECONDITION",
}


def tree(root: type[e.DragomanError] = e.DragomanError) -> Iterator[type[e.DragomanError]]:
    """Every error of the core, wherever it is defined."""
    for kind in root.__subclasses__():
        if kind.__module__.startswith("server.core."):
            yield kind
            yield from tree(kind)


def make(kind: type[e.DragomanError], message: str = "It went wrong.") -> e.DragomanError:
    return e.ProviderTimeout("idle", 60.0) if kind is e.ProviderTimeout else kind(message)


def details(status: status_pb2.Status) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for packed in status.details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            detail = kind()
            if packed.Unpack(detail):
                found[kind.DESCRIPTOR.name] = detail
    assert len(found) == len(status.details)
    return found


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_every_error_has_the_promised_code(kind: type[e.DragomanError]) -> None:
    assert status_code(make(kind)).name == PROMISED[kind]


def test_the_table_knows_no_class_that_is_not_in_the_tree() -> None:
    assert set(CODES) <= set(tree())


def test_the_docs_list_every_reason_with_its_code_and_fault() -> None:
    rows = {}
    for line in DOCS.read_text("utf-8").splitlines():
        if found := re.match(r"\| `([A-Z_]+)` \| `([A-Z_]+)` \| ([a-z]+) \| (yes|no) \|", line):
            rows[found[1]] = found.groups()[1:]
    real = {
        kind.reason: (PROMISED[kind], kind.fault.value, "yes" if kind.default_retryable else "no") for kind in tree()
    }
    assert rows == real


def test_a_provider_error_tells_its_facts_in_fields() -> None:
    error = e.ProviderRateLimited(
        "Too many requests.",
        provider="openai",
        http_status=429,
        type="requests",
        code="rate_limit_exceeded",
        request_id="req_1",
        retry_after=1.25,
        metadata={"limit": "60 rpm"},
    )
    found = details(to_status(error, "call-7"))
    info = found["ErrorInfo"]
    assert (info.reason, info.domain) == ("PROVIDER_RATE_LIMITED", "dragoman")
    assert dict(info.metadata) == {
        "fault": "workspace",
        "retryable": "true",
        "action": "Wait and try again.",
        "request_id": "call-7",
        "provider": "openai",
        "provider_status": "429",
        "provider_type": "requests",
        "provider_code": "rate_limit_exceeded",
        "provider_request_id": "req_1",
        "limit": "60 rpm",
    }
    assert found["RetryInfo"].retry_delay.ToTimedelta().total_seconds() == 1.25


def test_violations_become_a_bad_request() -> None:
    error = e.InvalidRequest.field("messages[0].role", "must be one of user, assistant (got 'martian')")
    (violation,) = details(to_status(error))["BadRequest"].field_violations
    assert violation.field == "messages[0].role"
    assert violation.description == "must be one of user, assistant (got 'martian')"


@pytest.mark.parametrize(
    ("error", "header"),
    [
        pytest.param(e.ProviderRateLimited("m", retry_after=1.2), "2", id="rounded up"),
        pytest.param(e.ProviderRateLimited("m", retry_after=0.0), "0", id="at once"),
        pytest.param(e.ProviderRateLimited("m"), None, id="unknown is not invented"),
        pytest.param(e.ProviderQuotaExceeded("m", retry_after=5.0), None, id="waiting does not help"),
    ],
)
def test_the_wait_is_told_only_where_it_is_known_and_helps(error: e.DragomanError, header: str | None) -> None:
    assert retry_after_header(error) == header
    assert ("RetryInfo" in details(to_status(error))) == (header is not None)


def test_a_foreign_exception_becomes_an_internal_error_that_says_nothing_of_it() -> None:
    told = as_dragoman(ValueError("prompt-canary sk-canary"))
    assert isinstance(told, e.InternalError)
    assert b"canary" not in to_status(told, "id").SerializeToString()


def test_undecodable_bytes_are_the_callers_fault() -> None:
    assert status_code(as_dragoman(DecodeError("bad"))) is grpc.StatusCode.INVALID_ARGUMENT


@settings(deadline=None)
@given(
    message=st.text() | st.integers(0, 5000).map("é🎉%".__mul__),
    metadata=st.dictionaries(st.text(max_size=20), st.integers(0, 3000).map("ü".__mul__), max_size=20),
    violations=st.lists(st.builds(e.Violation, st.text(), st.integers(0, 1500).map("🎉".__mul__)), max_size=40),
)
def test_whatever_an_error_says_its_status_fits_a_trailer(
    message: str, metadata: dict[str, str], violations: list[e.Violation]
) -> None:
    status = to_status(e.InvalidRequest(message, violations=violations, metadata=metadata), "id")
    assert status.ByteSize() <= MOST_STATUS_BYTES
    encoded = sum(1 if " " <= c <= "~" and c != "%" else 3 * len(c.encode()) for c in status.message)
    assert encoded <= MOST_MESSAGE_BYTES + 3
    info = details(status)["ErrorInfo"]
    assert info.reason == "INVALID_REQUEST"


def test_text_that_is_no_valid_unicode_does_not_break_the_status() -> None:
    assert to_status(e.NotFound("half \ud83d pair", metadata={"x": "\ud83d"})).message == "half ? pair"
