"""Anthropic's errors: `{"type": "error", "error": {type, message, details}, "request_id"}` (platform.claude.com/docs,
api/errors), as the body of a refusal and as an event of a stream, where no status goes with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from server.core.errors import (
    ContextLengthExceeded,
    ProviderError,
    ProviderInvalidRequest,
    ProviderModelNotFound,
    ProviderPermissionDenied,
    ProviderQuotaExceeded,
    ProviderRateLimited,
    ProviderUnauthenticated,
    ProviderUnavailable,
)
from server.providers.anthropic.types import ERROR_BODY, ERROR_DETAILS, ErrorObject
from server.providers.errors import COMMON, MAX_MESSAGE_CHARS, ErrorClass, ErrorTable, WireError, provider_error
from server.providers.parsing import try_decode

ERRORS: Final[ErrorTable] = COMMON.extended(
    codes={
        # The month's cap of the account's tier: a 429 of type rate_limit_error without retry-after that no waiting
        # helps; `details.error_code` alone tells it apart (platform.claude.com/docs, api/rate-limits).
        "enforced_spend_limit_reached": ProviderQuotaExceeded,
        "billing_error": ProviderQuotaExceeded,
        "authentication_error": ProviderUnauthenticated,
        "permission_error": ProviderPermissionDenied,
        "rate_limit_error": ProviderRateLimited,
        "timeout_error": ProviderUnavailable,
        "request_too_large": ProviderInvalidRequest,
    },
    statuses={409: ProviderInvalidRequest},
    families={"not_found_error": ProviderModelNotFound, "conflict_error": ProviderInvalidRequest},
)

_TOO_LONG: Final = re.compile(r"prompt is too long: (\d+) tokens > (\d+) maximum")
_NO_ROOM: Final = re.compile(r"input length and `max_tokens` exceed context limit: (\d+) \+ (\d+) > (\d+)")
_SPENT: Final = re.compile(
    r"^(You have reached your specified (workspace )?API usage limits|Your credit balance is too low)"
)


def read_error(body: bytes, status: int | None) -> WireError:
    """What a body says: Anthropic's own form, a proxy's JSON, plain text, HTML (of which nothing is kept)."""
    found = try_decode(ERROR_BODY, body)
    if found is None:
        text = body[: MAX_MESSAGE_CHARS * 4].decode("utf-8", "replace").strip()
        return WireError(status=status, message=None if text.startswith("<") else text or None)
    error = found.error
    if not isinstance(error, ErrorObject):
        return WireError(status=status, message=error or found.message or found.detail)
    details = try_decode(ERROR_DETAILS, error.details)
    return WireError(
        status=status,
        type=error.type,
        code=details.error_code if details is not None else None,
        message=error.message,
    )


def map_error(error: WireError, headers: Mapping[str, str], *, now: float) -> ProviderError:
    """The core error. now: seconds since the epoch."""
    told, numbers = _told_by_message(error)
    table = ERRORS
    if told is not None:
        table = ERRORS.extended(
            statuses={error.status: told} if error.status is not None else None,
            families={error.type: told} if error.type is not None else None,
        )
    found = provider_error(error, headers, table=table, now=now)
    found.metadata |= numbers
    return found


def _told_by_message(error: WireError) -> tuple[ErrorClass | None, dict[str, str]]:
    """What an invalid_request_error is in truth, and its numbers.

    Anthropic has no type, code or field for these three: a prompt beyond the context window ("prompt is too long: N
    tokens > M maximum", anthropics/claude-code#59696), the limit that the account's owner set ("You have reached your
    specified API usage limits", named in platform.claude.com/docs api/errors and rate-limits) and an empty balance
    ("Your credit balance is too low", anthropics/claude-code#4207; a 402 billing_error by today's documentation).
    """
    if error.type != "invalid_request_error" or error.status not in (None, 400) or not error.message:
        return None, {}
    if match := _TOO_LONG.search(error.message):
        return ContextLengthExceeded, {"requested_tokens": match[1], "max_tokens": match[2]}
    if match := _NO_ROOM.search(error.message):
        return ContextLengthExceeded, {"requested_tokens": str(int(match[1]) + int(match[2])), "max_tokens": match[3]}
    if _SPENT.match(error.message):
        return ProviderQuotaExceeded, {}
    return None, {}
