"""Drivers for recordings of the Messages API."""

from __future__ import annotations

from itertools import count
from typing import Any

from server.core.ports import ProviderTarget
from server.providers.anthropic.wire import MessagesWire
from tests.providers.conformance import Case, Driver, DriverFactory, secret
from tests.providers.reverse_anthropic import normalise, request_from_wire

KNOWN_DISAGREEMENTS = {
    "anthropic/trap-spliced-message-start": "the documented flow has one message_start (platform.claude.com/docs, "
    "streaming: event flow); what was streamed of the first message cannot be unsaid, and a whole answer must not be "
    "made of two, so the stream fails, retryable",
}


def _amend(expected: dict[str, Any]) -> dict[str, Any]:
    """The script behind expected.json left out `output_tokens_details.thinking_tokens`, which is the part of
    output_tokens that was thought (api/messages, usage) and by the rules of the recordings the reasoning count."""
    details = (expected.get("raw_usage") or {}).get("output_tokens_details") or {}
    thought = details.get("thinking_tokens")
    if not thought or "reasoning_tokens" in expected["usage"]:
        return expected
    return {**expected, "usage": {**expected["usage"], "reasoning_tokens": thought}}


def _driver(_: Case) -> Driver:
    ids = count()
    return Driver(
        wire=MessagesWire(clock=lambda: 1_800_000_000.0, new_id=lambda: f"call_{next(ids)}"),
        target=ProviderTarget(provider="anthropic", config_id="recorded", secret=secret()),
        reverse=request_from_wire,
        normalise=normalise,
        amend=_amend,
    )


DRIVERS: dict[str, DriverFactory] = {
    "anthropic-messages": _driver,
    "models-list:anthropic": _driver,
}
