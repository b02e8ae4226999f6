"""Errors as OpenAI's error object: what its SDKs make their typed exceptions of, by HTTP status, and show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from server.core import errors as e
from server.rpc.compat.facts import error_facts

_WORDS: Final[Mapping[type[e.DragomanError], tuple[str, str | None]]] = {
    e.InvalidRequest: ("invalid_request_error", None),
    e.UnsupportedParameter: ("invalid_request_error", "unsupported_parameter"),
    e.AmbiguousModel: ("invalid_request_error", "ambiguous_model"),
    e.Unauthenticated: ("invalid_request_error", "invalid_api_key"),
    e.PermissionDenied: ("permission_error", "permission_denied"),
    e.NotFound: ("invalid_request_error", "not_found"),
    e.UnknownModel: ("invalid_request_error", "model_not_found"),
    e.NotConfigured: ("invalid_request_error", "not_configured"),
    e.LimitExceeded: ("rate_limit_error", "rate_limit_exceeded"),
    e.DeadlineExceeded: ("server_error", "timeout"),
    e.ProviderInvalidRequest: ("invalid_request_error", None),
    e.ContextLengthExceeded: ("invalid_request_error", "context_length_exceeded"),
    e.ProviderUnauthenticated: ("invalid_request_error", "provider_unauthenticated"),
    e.ProviderPermissionDenied: ("permission_error", "provider_permission_denied"),
    e.ProviderModelNotFound: ("invalid_request_error", "model_not_found"),
    e.ProviderRateLimited: ("rate_limit_error", "rate_limit_exceeded"),
    e.ProviderQuotaExceeded: ("insufficient_quota", "insufficient_quota"),
    e.ProviderContentFiltered: ("invalid_request_error", "content_filter"),
    e.ProviderTimeout: ("server_error", "timeout"),
}
"""type and code by class, for subclasses too. A code of None: the provider's own where it gave one. Any other error is
a `server_error` with its reason as code."""

_FIELDS: Final = {
    "thinking": "reasoning_effort",
    "hosted_tools": "tools",
    "server_tools": "tools",
    "system": "messages",
}
"""The request's names for what the core calls otherwise."""


def error_object(error: e.DragomanError, request_id: str) -> dict[str, Any]:
    """What stands under `error`, in a body and in a stream."""
    type, code = "server_error", error.reason.lower()
    for kind in type_of(error):
        if kind in _WORDS:
            found = _WORDS[kind]
            type, code = found[0], found[1] or (getattr(error, "code", None) or "")
            break
    violations = getattr(error, "violations", ())
    return {
        "message": error.message,
        "type": type,
        "param": _param(violations[0].field) if violations else None,
        "code": code or None,
        "x_dragoman": error_facts(error, request_id),
    }


def type_of(error: e.DragomanError) -> tuple[type[Any], ...]:
    """Its classes, most particular first."""
    return type(error).__mro__


def _param(field: str) -> str | None:
    head, dot, rest = field.partition(".")
    if field == "body":
        return None
    return _FIELDS[head] if head in _FIELDS else head + dot + rest
