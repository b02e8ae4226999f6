"""Drivers for recordings of Converse and ConverseStream."""

from __future__ import annotations

from itertools import count
from typing import Any

from server.core.ports import ProviderTarget
from server.providers.bedrock.wire import ConverseWire
from tests.providers.conformance import Case, Driver, DriverFactory, secret
from tests.providers.reverse_bedrock import normalise, request_from_wire

NOT_SPOKEN = {
    "bedrock-invoke": "InvokeModel wraps each maker's own protocol in Bedrock's frames; the gateway speaks Converse, "
    "which serves the same models with one schema (docs/providers/bedrock.md)",
}

_CORRUPT: dict[str, Any] = {"finish_reason": "error", "error": {"retryable": True}}


def _amend(expected: dict[str, Any]) -> dict[str, Any]:
    """A recording without an expectation is one of bytes that no provider meant to send (their index says: "CRC must
    fail, not hang"): it fails, and may be tried again."""
    return expected or _CORRUPT


def _driver(_: Case) -> Driver:
    ids = count()
    return Driver(
        wire=ConverseWire(clock=lambda: 1_800_000_000.0, new_id=lambda: f"tooluse_{next(ids)}"),
        target=ProviderTarget(provider="bedrock", config_id="recorded", secret=secret()),
        reverse=request_from_wire,
        normalise=normalise,
        amend=_amend,
    )


DRIVERS: dict[str, DriverFactory] = {
    "bedrock-converse": _driver,
    "models-list:bedrock": _driver,
}
