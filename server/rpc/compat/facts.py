"""What an error says of itself beyond a dialect's own words, for programs: `x_dragoman` in every dialect's error."""

from __future__ import annotations

from server.core.errors import DragomanError, ProviderError

_MOST_CHARS = 300


def error_facts(error: DragomanError, request_id: str) -> dict[str, str]:
    """reason, fault, retryable, action and request_id as the contract's ErrorInfo has them, with what else is known."""
    facts: dict[str, str | None] = {name: value for name, value in error.metadata.items() if name != "provider_message"}
    facts["reason"] = error.reason
    facts["fault"] = error.fault.value
    facts["retryable"] = "true" if error.retryable else "false"
    facts["action"] = error.action
    facts["request_id"] = request_id
    if isinstance(error, ProviderError):
        facts["provider"] = error.provider
        facts["provider_status"] = None if error.http_status is None else str(error.http_status)
        facts["provider_request_id"] = error.request_id
    return {name: value[:_MOST_CHARS] for name, value in facts.items() if value}
