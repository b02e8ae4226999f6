"""The one place where errors become gRPC statuses: the table of codes, the details, the limits of what fits a trailer.

docs/errors.md is this file for callers. Foreign exceptions that get this far are defects: they become InternalError,
which says nothing of them; the log has their types and frames (`server.rpc.log`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from server.core import errors as e
from server.core.endpoint import EndpointRefused

DOMAIN = "dragoman"

CODES: Mapping[type[e.DragomanError], grpc.StatusCode] = {
    e.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    e.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    e.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    e.NotFound: grpc.StatusCode.NOT_FOUND,
    e.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    e.Conflict: grpc.StatusCode.ABORTED,
    # The configuration surface documents 403 for a delete of what is in use.
    e.InUse: grpc.StatusCode.PERMISSION_DENIED,
    e.NotConfigured: grpc.StatusCode.FAILED_PRECONDITION,
    e.LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    e.Unavailable: grpc.StatusCode.UNAVAILABLE,
    e.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    e.InternalError: grpc.StatusCode.INTERNAL,
    e.ProviderError: grpc.StatusCode.UNAVAILABLE,
    e.ProviderInvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    e.ProviderUnauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    e.ProviderPermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    e.ProviderModelNotFound: grpc.StatusCode.NOT_FOUND,
    e.ProviderRateLimited: grpc.StatusCode.RESOURCE_EXHAUSTED,
    e.ProviderQuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    e.ProviderContentFiltered: grpc.StatusCode.INVALID_ARGUMENT,
    e.ProviderOverloaded: grpc.StatusCode.UNAVAILABLE,
    e.ProviderUnavailable: grpc.StatusCode.UNAVAILABLE,
    e.ProviderTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    e.ProviderProtocolError: grpc.StatusCode.UNAVAILABLE,
    e.StreamTruncated: grpc.StatusCode.UNAVAILABLE,
    # Nothing was sent: the workspace's endpoint has to change first.
    EndpointRefused: grpc.StatusCode.FAILED_PRECONDITION,
}
"""Each class stands for its subclasses too, as far as they have no row of their own."""

# A status travels in trailers, which grpc clients take up to 8 KiB of by default. It is there twice: the message in
# `grpc-message`, percent-encoded, and the whole in `grpc-status-details-bin`, base64-encoded by proxies.
MOST_MESSAGE_BYTES = 2000
MOST_STATUS_BYTES = 4096
_MOST_VALUE_CHARS = 512


def status_code(error: e.DragomanError) -> grpc.StatusCode:
    """The gRPC code of an error."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return grpc.StatusCode.INTERNAL


def as_dragoman(error: Exception) -> e.DragomanError:
    """The error to tell the caller of: itself, or an InternalError that says nothing of a foreign one."""
    if isinstance(error, e.DragomanError):
        return error
    if isinstance(error, message.DecodeError | UnicodeDecodeError):
        return e.InvalidRequest("The request is not a valid message of this method.")
    return e.InternalError("The gateway failed on this call.")


def to_status(error: e.DragomanError, request_id: str = "") -> status_pb2.Status:
    """The whole error as google.rpc.Status: code, message, ErrorInfo, BadRequest, RetryInfo; cut to fit a trailer."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=_facts(error, request_id))
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field=_text(v.field), description=_text(v.description))
        for v in getattr(error, "violations", ())
    ]
    retry = None
    if error.retryable and error.retry_after is not None:
        retry = error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_after))
    status = status_pb2.Status(code=status_code(error).value[0], message=_fit_message(error.message))
    while True:
        _set_details(status, info, violations, retry)
        if status.ByteSize() <= MOST_STATUS_BYTES:
            return status
        if len(violations) > 1:
            violations.pop()
        elif info.metadata:
            _shorten(info)
        elif violations:
            violations.pop()
        else:
            return status


def retry_after_header(error: e.DragomanError) -> str | None:
    """Whole seconds, rounded up, as HTTP's retry-after takes them; None where waiting does not help or nobody knows."""
    if not error.retryable or error.retry_after is None:
        return None
    return str(max(0, math.ceil(error.retry_after)))


def _facts(error: e.DragomanError, request_id: str) -> dict[str, str]:
    facts: dict[str, str | None] = {**error.metadata}
    facts["fault"] = error.fault.value
    facts["retryable"] = "true" if error.retryable else "false"
    facts["action"] = error.action
    facts["request_id"] = request_id
    if isinstance(error, e.ProviderError):
        facts["provider"] = error.provider
        facts["provider_status"] = None if error.http_status is None else str(error.http_status)
        facts["provider_type"] = error.type
        facts["provider_code"] = error.code
        facts["provider_request_id"] = error.request_id
    return {name: _text(value) for name, value in facts.items() if value}


def _shorten(info: error_details_pb2.ErrorInfo) -> None:
    longest = max(info.metadata, key=lambda name: len(info.metadata[name]))
    kept = info.metadata[longest][: len(info.metadata[longest]) // 2]
    if kept:
        info.metadata[longest] = kept
    else:
        del info.metadata[longest]


def _set_details(
    status: status_pb2.Status,
    info: error_details_pb2.ErrorInfo,
    violations: list[error_details_pb2.BadRequest.FieldViolation],
    retry: error_details_pb2.RetryInfo | None,
) -> None:
    del status.details[:]
    details: list[message.Message] = [info]
    if violations:
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if retry is not None:
        details.append(retry)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(max(0.0, seconds) * 1e9))
    return duration


def _text(text: str) -> str:
    """Valid, and short enough to be one of many."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _MOST_VALUE_CHARS else text[: _MOST_VALUE_CHARS - 3] + "..."


def _fit_message(text: str) -> str:
    """Valid, and cut to what a `grpc-message` trailer holds once it is percent-encoded."""
    room = MOST_MESSAGE_BYTES
    text = text.encode("utf-8", "replace").decode()
    for place, character in enumerate(text):
        plain = " " <= character <= "~" and character != "%"
        room -= 1 if plain else 3 * len(character.encode())
        if room < 0:
            return text[: max(0, place - 3)] + "..."
    return text
