"""Bedrock's errors: a JSON body with a message, the type in the header x-amzn-errortype; in a stream, a frame whose
headers have the type. Types and statuses are the service model's (botocore bedrock-runtime, `errors` of Converse) and
those that every AWS service shares ("Common errors", docs.aws.amazon.com/bedrock/latest/APIReference)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

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
from server.core.ports import ProviderTarget
from server.providers.bedrock.frames import EventFrame
from server.providers.bedrock.signing import hide
from server.providers.bedrock.types import ERROR_BODY, ErrorBody
from server.providers.errors import COMMON, MAX_MESSAGE_CHARS, ErrorClass, WireError, provider_error
from server.providers.parsing import try_decode

_CLASSES: Final[dict[str, ErrorClass]] = {
    "accessdeniedexception": ProviderPermissionDenied,
    "throttlingexception": ProviderRateLimited,
    "toomanyrequestsexception": ProviderRateLimited,
    "validationexception": ProviderInvalidRequest,
    "resourcenotfoundexception": ProviderModelNotFound,
    "servicequotaexceededexception": ProviderQuotaExceeded,
    # "Not ready to serve inference requests": the SDKs retry it by themselves (service model).
    "modelnotreadyexception": ProviderOverloaded,
    "modeltimeoutexception": ProviderUnavailable,
    "modelerrorexception": ProviderUnavailable,
    "modelstreamerrorexception": ProviderUnavailable,
    "internalserverexception": ProviderUnavailable,
    "internalfailure": ProviderUnavailable,
    "serviceunavailableexception": ProviderOverloaded,
    "serviceunavailable": ProviderOverloaded,
    # All of these are 403 (400 for two): the credential is wrong, expired, or its clock is.
    "unrecognizedclientexception": ProviderUnauthenticated,
    "invalidsignatureexception": ProviderUnauthenticated,
    "signaturedoesnotmatch": ProviderUnauthenticated,
    "incompletesignature": ProviderUnauthenticated,
    "incompletesignatureexception": ProviderUnauthenticated,
    "missingauthenticationtoken": ProviderUnauthenticated,
    "missingauthenticationtokenexception": ProviderUnauthenticated,
    "invalidclienttokenid": ProviderUnauthenticated,
    "expiredtoken": ProviderUnauthenticated,
    "expiredtokenexception": ProviderUnauthenticated,
    "requestexpired": ProviderUnauthenticated,
    "notauthorized": ProviderPermissionDenied,
    "optinrequired": ProviderPermissionDenied,
}

_NAMES_ORIGINAL: Final = frozenset({"modelerrorexception", "modelstreamerrorexception"})
"""Say that the model failed; `originalStatusCode` says how."""

_STATUSES: Final[dict[int, ErrorClass]] = {424: ProviderUnavailable}

_TOO_LONG: Final = re.compile(
    r"Input is too long for requested model|too many total text bytes|prompt is too long|maximum context length is"
    r"|input length and `max_tokens` exceed context limit"
)
_NUMBERS: Final = (
    re.compile(r"(?P<asked>\d+) tokens > (?P<limit>\d+) maximum"),
    re.compile(r"exceed context limit: (?P<asked>\d+) \+ (?P<more>\d+) > (?P<limit>\d+)"),
)
_NO_SUCH_MODEL: Final = re.compile(r"The provided model identifier is invalid")
_BAD_KEY: Final = re.compile(r"Authentication failed|Invalid API Key")


def read_error(body: bytes, headers: Mapping[str, str], status: int | None) -> tuple[WireError, ErrorBody]:
    """What a refusal says: AWS's JSON, a proxy's text, HTML (of which nothing is kept)."""
    found = try_decode(ERROR_BODY, body)
    type = headers.get("x-amzn-errortype")
    if found is None:
        text = body[: MAX_MESSAGE_CHARS * 4].decode("utf-8", "replace").strip()
        message = None if text.startswith("<") else text or None
        return WireError(status=status, type=type, message=message), ErrorBody()
    message = found.message or found.capital_message or found.original_message
    return WireError(status=status, type=type or found.type, message=message), found


def map_error(
    target: ProviderTarget, status: int | None, headers: Mapping[str, str], body: bytes, *, now: float
) -> ProviderError:
    """The core error of a response that is none. now: seconds since the epoch."""
    return _map(*read_error(body, headers, status), headers, target, now=now)


def map_frame(target: ProviderTarget, frame: EventFrame, headers: Mapping[str, str], *, now: float) -> ProviderError:
    """The core error of an exception or error frame. Its status is not 200, which came before it, and is not known."""
    found = try_decode(ERROR_BODY, frame.payload) or ErrorBody()
    message = found.message or found.capital_message or found.original_message or frame.message
    return _map(WireError(type=frame.name or None, message=message or None), found, headers, target, now=now)


def short_type(type: str | None) -> str:
    """`ValidationException` of `com.amazon.coral#ValidationException:http://...`, in lower case."""
    return (type or "").partition(":")[0].rpartition("#")[2].strip().lower()


def _map(
    error: WireError, body: ErrorBody, headers: Mapping[str, str], target: ProviderTarget, *, now: float
) -> ProviderError:
    cls, numbers = _classify(error, body)
    error = WireError(
        status=error.status,
        type=error.type,
        message=hide(error.message, target) if error.message else None,
    )
    table = COMMON.extended(statuses=_STATUSES)
    if cls is not None:
        # The type as it came is the word; without one the status stands for it.
        if error.type:
            table = table.extended(codes={error.type.strip().lower(): cls})
        elif error.status is not None:
            table = table.extended(statuses={error.status: cls})
    found = provider_error(error, headers, table=table, now=now)
    found.metadata |= numbers
    return found


def _classify(error: WireError, body: ErrorBody) -> tuple[ErrorClass | None, dict[str, str]]:
    """The class by type, None where the status decides; with the numbers of a context overflow.

    Three things have no type of their own and are told by their words alone: a prompt beyond the context window
    (ValidationException; texts as in strands-agents/harness-sdk#1663), a model id that is none (ValidationException;
    recorded), and an API key that is none (403; anomalyco/opencode#47073, farion1231/cc-switch#1679).
    """
    word, message = short_type(error.type), error.message or ""
    if word == "validationexception" or (not word and error.status == 400):
        if _TOO_LONG.search(message):
            return ContextLengthExceeded, _lengths(message)
        if _NO_SUCH_MODEL.search(message):
            return ProviderModelNotFound, {}
    if word in ("accessdeniedexception", "") and error.status == 403 and _BAD_KEY.match(message):
        return ProviderUnauthenticated, {}
    original = body.original_status_code
    if word in _NAMES_ORIGINAL and original is not None and 400 <= original < 600:
        return COMMON.classify(WireError(status=original)), {}
    return _CLASSES.get(word), {}


def _lengths(message: str) -> dict[str, str]:
    for pattern in _NUMBERS:
        if match := pattern.search(message):
            found = match.groupdict(default="0")
            return {
                "requested_tokens": str(int(found["asked"]) + int(found.get("more", "0"))),
                "max_tokens": found["limit"],
            }
    return {}
