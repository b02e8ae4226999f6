"""The error bodies of OpenAI and of the servers that speak its APIs, in all their shapes, and the words they use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from server.core.errors import (
    ProviderContentFiltered,
    ProviderInvalidRequest,
    ProviderModelNotFound,
    ProviderOverloaded,
    ProviderPermissionDenied,
    ProviderQuotaExceeded,
    ProviderRateLimited,
    ProviderUnauthenticated,
    ProviderUnavailable,
)
from server.providers.errors import COMMON, MAX_MESSAGE_CHARS, ErrorTable, WireError

CHAT_ERRORS: Final[ErrorTable] = COMMON.extended(
    codes={
        "billing_hard_limit_reached": ProviderQuotaExceeded,
        "billing_not_active": ProviderQuotaExceeded,
        "account_deactivated": ProviderUnauthenticated,
        "ratelimitreached": ProviderRateLimited,
        "too_many_requests": ProviderRateLimited,
        "deploymentnotfound": ProviderModelNotFound,
        "model_not_available": ProviderModelNotFound,
        "model_decommissioned": ProviderModelNotFound,
        "invalid_model": ProviderModelNotFound,
        "content_policy_violation": ProviderContentFiltered,
        "responsibleaipolicyviolation": ProviderContentFiltered,
        "unsupported_country_region_territory": ProviderPermissionDenied,
        "capacity_exceeded": ProviderOverloaded,
        "engine_overloaded": ProviderOverloaded,
        "server_overloaded": ProviderOverloaded,
        "service_tier_capacity_exceeded": ProviderOverloaded,
        "tool_use_failed": ProviderInvalidRequest,
    },
    statuses={
        424: ProviderInvalidRequest,  # Groq: a remote tool that the request names failed
        498: ProviderOverloaded,  # Groq: flex capacity exceeded
        499: ProviderUnavailable,  # Groq: cancelled
    },
    families={
        "tokens": ProviderRateLimited,
        "requests": ProviderRateLimited,
        "internal_server_error": ProviderUnavailable,
        "badrequesterror": ProviderInvalidRequest,
        "invalid-argument": ProviderInvalidRequest,
    },
)


def read_error(body: bytes, status: int | None) -> WireError:
    """What an error body says, whichever it is: `{"error": {...}}`, `{"error": "...", "code"}` (xAI), the error flat
    (`object: error`: Mistral, old vLLM), `{"detail": ...}` (FastAPI), a list of one of these, plain text, HTML."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        text = body[: MAX_MESSAGE_CHARS * 4].decode("utf-8", "replace").strip()
        return WireError(status=status, message=None if text.startswith("<") else text or None)
    return error_of(found, status)


def error_of(found: Any, status: int | None) -> WireError:
    """The same for a body that is decoded already, or for the `error` of a stream's event."""
    if isinstance(found, list) and found:
        found = found[0]
    if isinstance(found, str):
        return WireError(status=status, message=found)
    if not isinstance(found, dict):
        return WireError(status=status)
    inner = found.get("error")
    if isinstance(inner, dict):
        return _from_object(inner, status)
    if isinstance(inner, str):
        return _from_object({**found, "message": inner}, status)
    return _from_object(found, status)


def _from_object(error: Mapping[str, Any], status: int | None) -> WireError:
    metadata: dict[str, str] = {}
    if param := _text(error.get("param")):
        metadata["param"] = param
    message = _message(error)
    upstream = error.get("metadata")
    if isinstance(upstream, dict):
        # OpenRouter: which provider behind it failed, and what that one said.
        if name := _text(upstream.get("provider_name")):
            metadata["upstream_provider"] = name
        if raw := _text(upstream.get("raw")):
            message = f"{message}: {raw}" if message else raw
    code = _text(error.get("code"))
    return WireError(
        status=status if status is not None else _status(error.get("status_code"), error.get("code")),
        type=_text(error.get("type")),
        code=code,
        message=message,
        metadata=metadata,
    )


def _message(error: Mapping[str, Any]) -> str | None:
    for key in ("message", "detail", "msg"):
        value = error.get(key)
        if isinstance(value, dict):
            value = value.get("detail") or value.get("message")
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = value[0].get("msg")
        if isinstance(value, str) and value:
            return value
    return None


def _text(value: object) -> str | None:
    """Codes come as words and as numbers."""
    if isinstance(value, bool) or value is None:
        return None
    return str(value)[:MAX_MESSAGE_CHARS] if isinstance(value, (str, int)) and value != "" else None


def _status(*candidates: object) -> int | None:
    """The HTTP status that an error inside a stream names."""
    for value in candidates:
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
            return value
    return None
