"""Drivers for Responses recordings, of every server that speaks it."""

from __future__ import annotations

from itertools import count
from typing import Any

from server.core.catalog import Effort, ModelInfo, ThinkingTraits
from server.core.ports import ProviderTarget
from server.providers.openai_responses.servers import OPENAI_SERVER, SERVERS
from server.providers.openai_responses.wire import ResponsesWire
from tests.providers.conformance import Case, Driver, DriverFactory, secret
from tests.providers.reverse_openai_responses import ENCRYPTED, normalise, request_from_wire

EFFORTS: tuple[Effort, ...] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def _amend(expected: dict[str, Any]) -> dict[str, Any]:
    """Custom tools are run by the client (api-reference/responses: custom_tool_call), so their calls are client tool
    calls, which expected.json lists apart. Their free text is the one argument `input`."""
    calls = [
        {"id": call["id"], "name": call["name"], "arguments": {"input": call["input"]}}
        for call in expected.get("custom_tool_calls") or ()
    ]
    return {**expected, "tool_calls": [*(expected.get("tool_calls") or ()), *calls]} if calls else expected


def _info(case: Case, slug: str) -> ModelInfo | None:
    """What the catalogue would say of a model that was asked for encrypted thoughts: that it thinks."""
    body = (case.request or {}).get("body") or {}
    if ENCRYPTED not in (body.get("include") or ()):
        return None
    model = body["model"]
    thinking = ThinkingTraits(default_on=True, efforts=EFFORTS)
    return ModelInfo(id=f"{slug}/{model}", name=model, provider=slug, model=model, thinking=thinking)


def _driver(case: Case) -> Driver:
    slug = case.provider if case.provider in SERVERS else "openai"
    ids = count()
    return Driver(
        wire=ResponsesWire(
            SERVERS.get(slug, OPENAI_SERVER), clock=lambda: 1_800_000_000.0, new_id=lambda: f"call_{next(ids)}"
        ),
        target=ProviderTarget(provider=slug, config_id="recorded", secret=secret()),
        reverse=request_from_wire,
        normalise=normalise,
        amend=_amend,
        options={"info": _info(case, slug)},
    )


DRIVERS: dict[str, DriverFactory] = {"openai-responses": _driver}
