"""The one error tree. Every failure that a caller can meet is one of these.

    DragomanError
    ├── InvalidRequest ........... the request breaks the contract (fields named in `violations`)
    │   ├── UnsupportedParameter .. the model does not take this parameter
    │   └── AmbiguousModel ........ a bare model name fits several providers
    ├── Unauthenticated .......... no key, or one that is unknown, revoked or expired
    ├── PermissionDenied ......... the key's workspace or role does not allow it
    ├── NotFound ................. no such thing in this workspace
    │   └── UnknownModel .......... no such model (near names in `metadata`)
    ├── AlreadyExists ............ the name is taken
    ├── Conflict ................. somebody else changed it first (stale etag)
    ├── InUse .................... something still refers to it (`metadata["used_by"]`)
    ├── NotConfigured ............ the workspace lacks what the call needs (credential, default model)
    ├── LimitExceeded ............ one of the gateway's own limits (in flight, size, count)
    ├── Unavailable .............. a part of the gateway is down (database, draining)
    ├── DeadlineExceeded ......... the caller's own deadline ran out
    ├── InternalError ............ a defect of the gateway
    └── ProviderError ............ the provider answered with an error, or not at all
        ├── ProviderInvalidRequest
        │   └── ContextLengthExceeded
        ├── ProviderUnauthenticated
        ├── ProviderPermissionDenied
        ├── ProviderModelNotFound
        ├── ProviderRateLimited
        ├── ProviderQuotaExceeded
        ├── ProviderContentFiltered
        ├── ProviderOverloaded
        ├── ProviderUnavailable
        ├── ProviderTimeout
        ├── ProviderProtocolError
        └── StreamTruncated

An error says in fields, never in prose alone: what happened (`reason`), whose fault it is (`fault`), whether the same
call may succeed later (`retryable`) and when (`retry_after`, seconds), and what to do (`action`). `message` is for
people; it never holds a secret, a prompt or a stack trace. Only `server/rpc/errors.py` turns these into gRPC statuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import ClassVar, Literal

import msgspec


class Fault(StrEnum):
    """Who has to act for the call to succeed."""

    CALLER = "caller"
    """Whoever sent the request."""
    WORKSPACE = "workspace"
    """An administrator of the workspace: its credentials, its models, its account at the provider."""
    PROVIDER = "provider"
    """The LLM provider."""
    GATEWAY = "gateway"
    """Whoever operates this gateway."""


class Violation(msgspec.Struct, frozen=True):
    """One field that breaks the contract: its path (proto names, e.g. `messages[0].role`), what is allowed, what
    came."""

    field: str
    description: str


class DragomanError(Exception):
    """Root of the tree; never raised itself.

    message: one sentence for people. action: what to do about it. retry_after: seconds to wait, None if unknown.
    metadata: facts by name (strings), safe to show to the caller.
    """

    reason: ClassVar[str]
    """UPPER_SNAKE_CASE, stable: programs compare it."""
    fault: ClassVar[Fault]
    default_retryable: ClassVar[bool] = False
    default_action: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        action: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.action = self.default_action if action is None else action
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.metadata: dict[str, str] = dict(metadata or {})


class InvalidRequest(DragomanError):
    """The request breaks the contract; `violations` names each field."""

    reason = "INVALID_REQUEST"
    fault = Fault.CALLER
    default_action = "Correct the named fields and send the request again."

    def __init__(
        self,
        message: str,
        *,
        violations: Sequence[Violation] = (),
        action: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, action=action, metadata=metadata)
        self.violations = tuple(violations)

    @classmethod
    def field(cls, field: str, description: str) -> InvalidRequest:
        """The common case: one field, one reason."""
        return cls(f"{field}: {description}", violations=(Violation(field, description),))


class UnsupportedParameter(InvalidRequest):
    """The model or its provider does not take this parameter; nothing was sent."""

    reason = "UNSUPPORTED_PARAMETER"
    default_action = "Leave the parameter out, or choose a model that takes it."


class AmbiguousModel(InvalidRequest):
    """A bare model name fits several providers; `metadata["candidates"]` lists the full ids."""

    reason = "AMBIGUOUS_MODEL"
    default_action = "Name the model as provider/model."


class Unauthenticated(DragomanError):
    """No caller key, or one that is unknown, revoked or expired. The message never says which of the last three."""

    reason = "UNAUTHENTICATED"
    fault = Fault.CALLER
    default_action = "Send a valid key as 'authorization: Bearer <key>' or 'x-api-key: <key>'."


class PermissionDenied(DragomanError):
    """The caller is known, and its workspace or role does not allow this."""

    reason = "PERMISSION_DENIED"
    fault = Fault.CALLER
    default_action = "Use a key of that workspace with the role that the call needs."


class NotFound(DragomanError):
    """No such thing that this caller may see."""

    reason = "NOT_FOUND"
    fault = Fault.CALLER


class UnknownModel(NotFound):
    """No model of that name here; `metadata["candidates"]` offers near names."""

    reason = "UNKNOWN_MODEL"
    default_action = "List the models of the workspace and use one of their ids."


class AlreadyExists(DragomanError):
    """The name is taken in this workspace."""

    reason = "ALREADY_EXISTS"
    fault = Fault.CALLER
    default_action = "Choose another name, or update the existing one."


class Conflict(DragomanError):
    """The thing changed since the caller read it (stale etag)."""

    reason = "CONFLICT"
    fault = Fault.CALLER
    default_action = "Read it again and repeat the change."


class InUse(DragomanError):
    """The thing cannot be deleted while something refers to it; `metadata["used_by"]` says what."""

    reason = "IN_USE"
    fault = Fault.CALLER
    default_action = "Point what uses it elsewhere first."


class NotConfigured(DragomanError):
    """The workspace lacks what the call needs: a credential for the provider, or a default model."""

    reason = "NOT_CONFIGURED"
    fault = Fault.WORKSPACE
    default_action = "An administrator of the workspace must configure it."


class LimitExceeded(DragomanError):
    """One of the gateway's own limits; `metadata["limit"]` names it."""

    reason = "LIMIT_EXCEEDED"
    fault = Fault.CALLER
    default_retryable = True
    default_action = "Wait and try again, or ask for a higher limit."


class Unavailable(DragomanError):
    """A part of the gateway cannot serve now (its database, or it is draining)."""

    reason = "UNAVAILABLE"
    fault = Fault.GATEWAY
    default_retryable = True
    default_action = "Try again."


class DeadlineExceeded(DragomanError):
    """The caller's own deadline ran out before the provider had answered."""

    reason = "DEADLINE_EXCEEDED"
    fault = Fault.CALLER
    default_retryable = True
    default_action = "Allow more time."


class InternalError(DragomanError):
    """A defect of the gateway. The message says nothing of the cause; the log holds it under the request's id."""

    reason = "INTERNAL"
    fault = Fault.GATEWAY
    default_action = "Report it with the request id."


# --- the provider's side ---------------------------------------------------------------------------------------------


class ProviderError(DragomanError):
    """The provider answered with an error, or not at all.

    provider: its slug. http_status, type, code: as the provider sent them (type and code as strings), None where
    there was none. provider_message: the provider's own words, already scrubbed of the credential. request_id: the
    provider's id of the call.
    """

    reason = "PROVIDER_ERROR"
    fault = Fault.PROVIDER

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        http_status: int | None = None,
        type: str | None = None,
        code: str | None = None,
        provider_message: str | None = None,
        request_id: str | None = None,
        action: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, action=action, retryable=retryable, retry_after=retry_after, metadata=metadata)
        self.provider = provider
        self.http_status = http_status
        self.type = type
        self.code = code
        self.provider_message = provider_message
        self.request_id = request_id


class ProviderInvalidRequest(ProviderError):
    """The provider says that the request is wrong (400, 413, 422 and their like)."""

    reason = "PROVIDER_INVALID_REQUEST"
    fault = Fault.CALLER
    default_action = "Correct what the provider names."


class ContextLengthExceeded(ProviderInvalidRequest):
    """Prompt and answer do not fit the model; `metadata` has `max_tokens` and `requested_tokens` where known."""

    reason = "CONTEXT_LENGTH_EXCEEDED"
    default_action = "Shorten the messages, lower max_tokens, or choose a model with a longer context."


class ProviderUnauthenticated(ProviderError):
    """The provider does not accept the stored credential, whatever HTTP status it says that with."""

    reason = "PROVIDER_UNAUTHENTICATED"
    fault = Fault.WORKSPACE
    default_action = "An administrator of the workspace must store a valid credential."


class ProviderPermissionDenied(ProviderError):
    """The credential is valid and may not do this (model not enabled, region, policy)."""

    reason = "PROVIDER_PERMISSION_DENIED"
    fault = Fault.WORKSPACE
    default_action = "Give the credential access to the model at the provider."


class ProviderModelNotFound(ProviderError):
    """The provider does not know the model, or not at this endpoint."""

    reason = "PROVIDER_MODEL_NOT_FOUND"
    fault = Fault.CALLER
    default_action = "Use a model that the provider serves."


class ProviderRateLimited(ProviderError):
    """Too many requests or tokens for now."""

    reason = "PROVIDER_RATE_LIMITED"
    fault = Fault.WORKSPACE
    default_retryable = True
    default_action = "Wait and try again."


class ProviderQuotaExceeded(ProviderError):
    """The account at the provider is out of credit or over its spend limit: waiting does not help."""

    reason = "PROVIDER_QUOTA_EXCEEDED"
    fault = Fault.WORKSPACE
    default_action = "Raise the account's quota at the provider."


class ProviderContentFiltered(ProviderError):
    """The provider refused the prompt as an error (a refusal in the answer is a finish reason instead)."""

    reason = "PROVIDER_CONTENT_FILTERED"
    fault = Fault.CALLER
    default_action = "Change the prompt."


class ProviderOverloaded(ProviderError):
    """The provider has no capacity now."""

    reason = "PROVIDER_OVERLOADED"
    default_retryable = True
    default_action = "Wait and try again, or use another provider."


class ProviderUnavailable(ProviderError):
    """The provider failed (5xx), or could not be reached: refused, reset, no such host."""

    reason = "PROVIDER_UNAVAILABLE"
    default_retryable = True
    default_action = "Try again, or use another provider."


TimeoutPhase = Literal["connect", "first_token", "idle", "total"]


class ProviderTimeout(ProviderError):
    """The provider took too long; `metadata["phase"]` says in which phase: connect, first_token, idle or total."""

    reason = "PROVIDER_TIMEOUT"
    default_retryable = True
    default_action = "Try again, allow more time, or use another provider."

    def __init__(self, phase: TimeoutPhase, seconds: float, *, provider: str = "") -> None:
        super().__init__(
            f"The provider gave no answer in time ({phase.replace('_', ' ')} timeout, {seconds:g} s).",
            provider=provider,
            metadata={"phase": phase, "timeout_seconds": f"{seconds:g}"},
        )
        self.phase: TimeoutPhase = phase


class ProviderProtocolError(ProviderError):
    """What came is not the provider's protocol: no JSON, a malformed frame, an event out of order, too large."""

    reason = "PROVIDER_PROTOCOL_ERROR"
    default_retryable = True
    default_action = "Try again; if it persists, check the endpoint of the configuration."


class StreamTruncated(ProviderError):
    """The connection ended before the provider had said that the answer is complete. What came before is partial."""

    reason = "STREAM_TRUNCATED"
    default_retryable = True
    default_action = "Try again; do not take the partial answer for a whole one."
