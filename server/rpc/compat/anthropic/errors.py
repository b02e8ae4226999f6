"""Errors as Anthropic's error object (platform.claude.com/docs/en/api/errors)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from server.core import errors as e
from server.rpc.compat.facts import error_facts

OVERLOADED: Final = 529
"""Anthropic's own status, which its SDKs know as OverloadedError."""

_TYPES: Final[Mapping[type[e.DragomanError], str]] = {
    e.InvalidRequest: "invalid_request_error",
    e.Unauthenticated: "authentication_error",
    e.PermissionDenied: "permission_error",
    e.NotFound: "not_found_error",
    e.NotConfigured: "invalid_request_error",
    e.LimitExceeded: "rate_limit_error",
    e.DeadlineExceeded: "timeout_error",
    e.ProviderInvalidRequest: "invalid_request_error",
    e.ProviderUnauthenticated: "authentication_error",
    e.ProviderPermissionDenied: "permission_error",
    e.ProviderModelNotFound: "not_found_error",
    e.ProviderRateLimited: "rate_limit_error",
    e.ProviderQuotaExceeded: "rate_limit_error",
    e.ProviderContentFiltered: "invalid_request_error",
    e.ProviderOverloaded: "overloaded_error",
    e.ProviderTimeout: "timeout_error",
}
"""By class, for subclasses too; any other error is an `api_error`."""


def error_body(error: e.DragomanError, request_id: str) -> dict[str, Any]:
    """The whole body, and the data of a stream's `error` event."""
    type = next((_TYPES[kind] for kind in error.__class__.__mro__ if kind in _TYPES), "api_error")
    inner = {"type": type, "message": error.message, "x_dragoman": error_facts(error, request_id)}
    return {"type": "error", "error": inner, "request_id": request_id or None}


def http_status(error: e.DragomanError) -> int | None:
    """529 for a provider without capacity; otherwise the gRPC code's own."""
    return OVERLOADED if isinstance(error, e.ProviderOverloaded) else None
