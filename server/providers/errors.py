"""From a provider's refusal to the error tree: by status, type and code as tables, never by the words of a message.

Every adapter reads its own error body into a `WireError`, and `provider_error` does the rest: class, retry hint, the
provider's id of the call. The credential is taken out by `scrub`, which the runner applies to every error it lets go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Final

import msgspec

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
    ProviderTimeout,
    ProviderUnauthenticated,
    ProviderUnavailable,
    StreamTruncated,
)
from server.core.ports import ProviderTarget

ErrorClass = type[ProviderError]

MAX_RETRY_AFTER: Final = 86_400.0
"""Seconds. A hint above this, or not above 0, is no hint."""

MAX_MESSAGE_CHARS: Final = 2_000
"""What is kept of a provider's own words."""

REQUEST_ID_HEADERS: Final = (
    "x-request-id",
    "request-id",
    "x-amzn-requestid",
    "apim-request-id",
    "x-generation-id",
    "x-trace-id",
)
"""Where providers put the id of a call, best first: OpenAI, Anthropic, Bedrock, Azure, OpenRouter."""

RATE_LIMIT_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-")

_UNCONSTRUCTIBLE: Final = (ProviderTimeout, StreamTruncated)


class WireError(msgspec.Struct, frozen=True, kw_only=True):
    """What an error body says, in every wire's own words.

    status: HTTP status, or the status that an in-stream error names; None where there is none. retry_after: seconds,
    where the body itself says when. metadata: further facts that are safe to show (`param`).
    """

    status: int | None = None
    type: str | None = None
    code: str | None = None
    message: str | None = None
    retry_after: float | None = None
    metadata: dict[str, str] = {}


class ErrorTable(msgspec.Struct, frozen=True, kw_only=True):
    """How one wire's errors are told apart. Keys of codes and families are lower case.

    codes: words (of `code` or `type`) that say exactly what happened, whatever the status. statuses: what a status
    means by itself. families: vague words, used only where no status says it better (errors inside a stream).
    """

    codes: Mapping[str, ErrorClass]
    statuses: Mapping[int, ErrorClass]
    families: Mapping[str, ErrorClass]

    def extended(
        self,
        *,
        codes: Mapping[str, ErrorClass] | None = None,
        statuses: Mapping[int, ErrorClass] | None = None,
        families: Mapping[str, ErrorClass] | None = None,
    ) -> ErrorTable:
        """This table with a wire's own rows, which win."""
        return ErrorTable(
            codes={**self.codes, **(codes or {})},
            statuses={**self.statuses, **(statuses or {})},
            families={**self.families, **(families or {})},
        )

    def classify(self, error: WireError) -> ErrorClass:
        """The class of an error: by exact word, then by status, then by vague word."""
        words = [word.strip().lower() for word in (error.code, error.type) if word]
        for word in words:
            if word in self.codes:
                return self.codes[word]
        status = error.status
        if status is not None and not 200 <= status < 300:
            return self.statuses.get(status) or _by_family(status)
        for word in words:
            if word in self.families:
                return self.families[word]
            if word.isdecimal() and len(word) == 3 and int(word) in self.statuses:
                return self.statuses[int(word)]
        return ProviderUnavailable


def _by_family(status: int) -> ErrorClass:
    if status >= 500:
        return ProviderUnavailable
    if 300 <= status < 400:
        return ProviderProtocolError
    return ProviderInvalidRequest


COMMON: Final = ErrorTable(
    codes={
        "insufficient_quota": ProviderQuotaExceeded,
        "context_length_exceeded": ContextLengthExceeded,
        "exceed_context_size_error": ContextLengthExceeded,  # llama.cpp, in each of the protocols that it speaks
        "model_not_found": ProviderModelNotFound,
        "invalid_api_key": ProviderUnauthenticated,
        "overloaded_error": ProviderOverloaded,
        "rate_limit_exceeded": ProviderRateLimited,
        "content_filter": ProviderContentFiltered,
    },
    statuses={
        400: ProviderInvalidRequest,
        401: ProviderUnauthenticated,
        402: ProviderQuotaExceeded,
        403: ProviderPermissionDenied,
        404: ProviderModelNotFound,
        408: ProviderUnavailable,
        413: ProviderInvalidRequest,
        422: ProviderInvalidRequest,
        429: ProviderRateLimited,
        500: ProviderUnavailable,
        502: ProviderUnavailable,
        503: ProviderOverloaded,
        504: ProviderUnavailable,
        529: ProviderOverloaded,
    },
    families={
        "invalid_request_error": ProviderInvalidRequest,
        "authentication_error": ProviderUnauthenticated,
        "permission_error": ProviderPermissionDenied,
        "not_found_error": ProviderModelNotFound,
        "rate_limit_error": ProviderRateLimited,
        "server_error": ProviderUnavailable,
        "api_error": ProviderUnavailable,
    },
)
"""What holds for every provider; a wire extends it."""

RETRYABLE_STATUSES: Final = frozenset({408, 409, 429})
"""Besides 5xx: what the official OpenAI and Anthropic SDKs retry (their `_base_client`)."""


def provider_error(
    error: WireError, headers: Mapping[str, str], *, table: ErrorTable = COMMON, now: float
) -> ProviderError:
    """The core error. headers: of the response, lower-case names. now: seconds since the epoch, for HTTP dates."""
    cls = table.classify(error)
    if issubclass(cls, _UNCONSTRUCTIBLE):
        cls = ProviderUnavailable
    retryable = _retryable(cls, error.status, headers)
    hint = error.retry_after if valid_delay(error.retry_after) else retry_after(headers, now=now)
    metadata = dict(error.metadata)
    if issubclass(cls, ContextLengthExceeded):
        metadata |= _context_numbers(error.message or "")
    said = error.code or error.type
    where = f"HTTP {error.status}" if error.status is not None else "in its answer"
    return cls(
        f"The provider answered with an error ({where}{f', {said[:80]}' if said else ''}).",
        http_status=error.status,
        type=error.type,
        code=error.code,
        provider_message=(error.message or "")[:MAX_MESSAGE_CHARS] or None,
        request_id=request_id(headers) or None,
        retryable=retryable,
        retry_after=hint if retryable else None,
        metadata=metadata,
    )


def _retryable(cls: ErrorClass, status: int | None, headers: Mapping[str, str]) -> bool:
    """x-should-retry wins; an empty account stays empty whatever a header says."""
    if issubclass(cls, ProviderQuotaExceeded):
        return False
    told = headers.get("x-should-retry", "").strip().lower()
    if told in ("true", "false"):
        return told == "true"
    if cls is ProviderProtocolError:
        return False
    return cls.default_retryable or (
        status is not None and (status in RETRYABLE_STATUSES or status >= 500) and not _settled(cls)
    )


def _settled(cls: ErrorClass) -> bool:
    """Errors whose meaning says that the same call fails again, whatever status carried them."""
    return issubclass(
        cls,
        (
            ContextLengthExceeded,
            ProviderUnauthenticated,
            ProviderPermissionDenied,
            ProviderModelNotFound,
            ProviderContentFiltered,
        ),
    )


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds to wait: retry-after-ms, then retry-after as seconds, then as an HTTP date; None without a usable one.

    Azure sends `retry-after-ms: 0` beside `retry-after: 1`: a hint that is not above 0 is passed over.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None and valid_delay(milliseconds / 1000):
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is None and text:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds if valid_delay(seconds) else None


def valid_delay(seconds: float | None) -> bool:
    """Whether it can be waited for: above 0, at most MAX_RETRY_AFTER."""
    return seconds is not None and isfinite(seconds) and 0 < seconds <= MAX_RETRY_AFTER


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def request_id(headers: Mapping[str, str]) -> str:
    """The provider's id of the call, "" where it gives none."""
    for name in REQUEST_ID_HEADERS:
        if value := headers.get(name):
            return value[:200]
    return ""


def rate_limit(headers: Mapping[str, str]) -> dict[str, str]:
    """What the headers say of the account's limits, as the provider words it: `{"remaining-requests": "499", ...}`."""
    found: dict[str, str] = {}
    for name in headers:
        if name.startswith(RATE_LIMIT_PREFIXES):
            _, _, limit = name.partition("ratelimit-")
            found[limit] = headers[name]
    return found


_CONTEXT_LIMIT: Final = re.compile(
    r"(?:maximum context length|context (?:size|window|limit))\D{0,40}?(\d{3,9})", re.IGNORECASE
)
_CONTEXT_ASKED: Final = re.compile(
    r"(?:resulted in|requested|request \(|prompt is too long:)\D{0,20}?(\d{3,9})", re.IGNORECASE
)


def _context_numbers(message: str) -> dict[str, str]:
    """The two numbers of a context overflow, for `metadata`. Only read, never what the class depends on."""
    found: dict[str, str] = {}
    for key, pattern in (("max_tokens", _CONTEXT_LIMIT), ("requested_tokens", _CONTEXT_ASKED)):
        if match := pattern.search(message):
            found[key] = match.group(1)
    return found


# --- the credential ---------------------------------------------------------------------------------------------------


def scrub(error: ProviderError, target: ProviderTarget, *, request_id: str = "") -> ProviderError:
    """The same error, fit to leave: the target's credentials out of every text, provider and request id filled in."""
    secrets = [secret.reveal() for secret in (target.secret, target.key) if secret is not None]
    secrets = [value for value in secrets if len(value) >= 4]

    def clean(text: str) -> str:
        for value in secrets:
            text = text.replace(value, "***")
        return text

    error.message = clean(error.message)
    error.args = (error.message,)
    error.provider = error.provider or target.provider
    error.request_id = error.request_id or request_id or None
    error.provider_message = error.provider_message and clean(error.provider_message)
    error.type = error.type and clean(error.type)
    error.code = error.code and clean(error.code)
    error.metadata = {key: clean(value) for key, value in error.metadata.items()}
    return error
