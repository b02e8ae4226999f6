"""Drivers for recordings of generateContent, at the Gemini API and at Vertex AI."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from server.core.events import StreamEvent
from server.core.ports import ProviderTarget
from server.providers.gemini.answer import Answer
from server.providers.gemini.wire import GeminiWire
from server.providers.wire import Exchange
from tests.providers.conformance import Case, Driver, DriverFactory, secret
from tests.providers.reverse_gemini import normalise, request_from_wire

VERTEX = "https://europe-west4-aiplatform.googleapis.com/v1beta1/projects/a-project/locations/europe-west4"


class RecordedWire(GeminiWire):
    """Numbers the ids that it makes anew in each answer, so that two readings of one are equal."""

    def answer(self, exchange: Exchange, emit: Callable[[StreamEvent], None]) -> Answer:
        ids = count()
        self._new_id = lambda: f"call_{next(ids)}"
        return super().answer(exchange, emit)


def _driver(case: Case) -> Driver:
    """Vertex where the recorded URL says so."""
    vertex = "aiplatform.googleapis.com" in str((case.request or {}).get("url", ""))
    return Driver(
        wire=RecordedWire(clock=lambda: 1_800_000_000.0),
        target=ProviderTarget(
            provider="gemini", config_id="recorded", endpoint=VERTEX if vertex else None, secret=secret()
        ),
        reverse=request_from_wire,
        normalise=normalise,
        listed=lambda id: id.removeprefix("models/"),
    )


DRIVERS: dict[str, DriverFactory] = {
    "gemini": _driver,
    "models-list:gemini": _driver,
}
