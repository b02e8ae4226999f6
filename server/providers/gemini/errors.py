"""Google's error bodies (google.rpc.Status as JSON) and what their words mean."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from server.core.errors import (
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
from server.providers.errors import COMMON, MAX_MESSAGE_CHARS, ErrorTable, WireError, provider_error

ERRORS: Final[ErrorTable] = COMMON.extended(
    codes={
        # Reasons of google.rpc.ErrorInfo (googleapis: google/api/error_reason.proto). A bad key comes with 400.
        "api_key_invalid": ProviderUnauthenticated,
        "api_key_service_blocked": ProviderPermissionDenied,
        "credentials_missing": ProviderUnauthenticated,
        "access_token_expired": ProviderUnauthenticated,
        "access_token_type_unsupported": ProviderUnauthenticated,
        "account_state_invalid": ProviderUnauthenticated,
        "access_token_scope_insufficient": ProviderPermissionDenied,
        "service_disabled": ProviderPermissionDenied,
        "consumer_suspended": ProviderPermissionDenied,
        "consumer_invalid": ProviderPermissionDenied,
        "billing_disabled": ProviderQuotaExceeded,
        "resource_quota_exceeded": ProviderQuotaExceeded,
        # 400 of the Gemini API: the free tier is not served where the caller is
        # (ai.google.dev/gemini-api/docs/troubleshooting).
        "failed_precondition": ProviderPermissionDenied,
    },
    statuses={499: ProviderUnavailable},
    families={
        "invalid_argument": ProviderInvalidRequest,
        "out_of_range": ProviderInvalidRequest,
        "unauthenticated": ProviderUnauthenticated,
        "permission_denied": ProviderPermissionDenied,
        "not_found": ProviderModelNotFound,
        "resource_exhausted": ProviderRateLimited,
        "unavailable": ProviderOverloaded,
        "internal": ProviderUnavailable,
        "unknown": ProviderUnavailable,
        "aborted": ProviderUnavailable,
        "cancelled": ProviderUnavailable,
        "deadline_exceeded": ProviderUnavailable,
    },
)

_TOO_LONG: Final = re.compile(
    r"input token count(?: is)?(?: \(?(\d+)\)?)?(?: but| exceeds).{0,80}?(?:up to|tokens allowed) \(?(\d+)",
    re.IGNORECASE | re.DOTALL,
)
"""A prompt that is too long is a plain INVALID_ARGUMENT without details: its message is all there is to tell it by.
"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."; Vertex: "The input token
count is 1200000 but model only supports up to 1048576." """


class _Said(msgspec.Struct, frozen=True):
    """A body's error, and what of its details decides. daily: a quota that renews with the day is used up."""

    error: WireError
    reason: str | None = None
    daily: bool = False


def map_error(error: Any, status: int | None, headers: Mapping[str, str], *, now: float) -> ProviderError:
    """The core error for a decoded body, the `error` of one, or text. status: None inside a stream."""
    said = _read(error, status)
    wire = said.error
    too_long = _TOO_LONG.search(wire.message or "") if (wire.type or "") == "INVALID_ARGUMENT" else None
    if too_long is not None:
        # provider_error classifies by word: lend it the one that Google does not send.
        lengths = {key: n for key, n in (("requested_tokens", too_long[1]), ("max_tokens", too_long[2])) if n}
        told = msgspec.structs.replace(wire, code="context_length_exceeded", metadata={**wire.metadata, **lengths})
    elif said.daily and wire.retry_after is None:
        told = msgspec.structs.replace(wire, code="insufficient_quota")
    elif said.reason is not None:
        told = msgspec.structs.replace(wire, code=said.reason)
    else:
        told = wire
    mapped = provider_error(told, headers, table=ERRORS, now=now)
    mapped.code = wire.code
    return mapped


def read_body(body: bytes) -> Any:
    """A body decoded, or as text where it is no JSON. Behind a stream the same error may stand twice: the first one
    counts (googleapis/python-genai#1162)."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
    if text.startswith("{"):
        with suppress(ValueError, RecursionError):
            return json.JSONDecoder().raw_decode(text)[0]
    return None if text.startswith("<") else text[: MAX_MESSAGE_CHARS * 4]


def _read(found: Any, status: int | None) -> _Said:
    # A stream without alt=sse is a list, and so is its error.
    if isinstance(found, list) and found:
        found = found[0]
    if isinstance(found, str):
        return _Said(WireError(status=status, message=found or None))
    if not isinstance(found, dict):
        return _Said(WireError(status=status))
    inner = found.get("error", found)
    if not isinstance(inner, dict):
        return _Said(WireError(status=status, message=_text(inner)))
    code = inner.get("code")
    details = inner.get("details")
    facts = _Details(details if isinstance(details, list) else [])
    if status is None and isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600:
        status = code
    return _Said(
        WireError(
            status=status,
            type=_text(inner.get("status")),
            code=_text(code),
            message=_text(inner.get("message")),
            retry_after=facts.retry_after,
            metadata=facts.metadata,
        ),
        facts.reason,
        facts.daily,
    )


class _Details:
    """The typed details of a google.rpc.Status: ErrorInfo, RetryInfo, QuotaFailure, BadRequest."""

    def __init__(self, details: list[Any]) -> None:
        self.reason: str | None = None
        self.retry_after: float | None = None
        self.daily = False
        self.metadata: dict[str, str] = {}
        for detail in details:
            if isinstance(detail, dict):
                self._read(str(detail.get("@type", "")).rpartition(".")[2], detail)

    def _read(self, kind: str, detail: Mapping[str, Any]) -> None:
        if kind == "ErrorInfo" and (reason := _text(detail.get("reason"))):
            self.reason = reason
            self.metadata["reason"] = reason
        elif kind == "RetryInfo":
            self.retry_after = _seconds(detail.get("retryDelay"))
        elif kind in ("QuotaFailure", "BadRequest"):
            rows = detail.get("violations") or detail.get("fieldViolations")
            for row in rows if isinstance(rows, list) else ():
                if isinstance(row, dict):
                    self._violation(row)

    def _violation(self, row: Mapping[str, Any]) -> None:
        for key, name in (("quotaId", "quota"), ("quotaValue", "quota_value"), ("field", "param")):
            if value := _text(row.get(key)):
                self.metadata.setdefault(name, value)
        if "PerDay" in (_text(row.get("quotaId")) or ""):
            self.daily = True


def _seconds(value: object) -> float | None:
    """A protobuf duration as JSON: "48s", "0.5s"."""
    try:
        return float(value[:-1]) if isinstance(value, str) and value.endswith("s") else None
    except ValueError:
        return None


def _text(value: object) -> str | None:
    """Words and numbers as text."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        return None
    return str(value)[:MAX_MESSAGE_CHARS]
