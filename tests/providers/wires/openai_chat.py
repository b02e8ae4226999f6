"""Drivers for Chat Completions recordings, of every server that speaks it."""

from __future__ import annotations

from itertools import count

from server.core.ports import ProviderTarget
from server.providers.openai_chat.presets import PRESETS
from server.providers.openai_chat.wire import OpenAIChatWire
from tests.providers.conformance import Case, Driver, DriverFactory, secret
from tests.providers.reverse_openai_chat import normalise, request_from_wire

SLUGS = ("openai", "groq", "xai")

KNOWN_DISAGREEMENTS = {
    "compat/compat-no-finish-reason-stream": "no finish_reason was sent; tool_calls is inferred from complete calls "
    "and [DONE], as the recording's note asks for",
}

NOT_SPOKEN = {
    "ollama-chat": "the gateway calls Ollama by its /v1, as every other server of that kind; Ollama's own /api/chat "
    "says nothing that /v1 does not say (docs.ollama.com/openai)",
    "xai-grpc": "the gateway calls xAI by REST, where docs.x.ai documents all that it carries, server tools included",
}


def _driver(case: Case) -> Driver:
    """Slugs by their name, the other servers as `custom`: by the row that carries their name, else by none."""
    folder = case.name.split("/")[-1] if case.api == "models-list" else case.provider
    slug = folder if folder in SLUGS else "custom"
    ids = count()
    return Driver(
        wire=OpenAIChatWire(PRESETS[slug], clock=lambda: 1_800_000_000.0, new_id=lambda: f"call_{next(ids)}"),
        target=ProviderTarget(
            provider=slug,
            config_id="recorded",
            endpoint=None if slug != "custom" else "https://recorded.example/v1",
            secret=secret(),
            wire=folder if slug == "custom" and folder in PRESETS else "",
        ),
        reverse=request_from_wire,
        normalise=normalise,
    )


DRIVERS: dict[str, DriverFactory] = {
    "openai-chat": _driver,
    "models-list:openai": _driver,
    "models-list:openrouter": _driver,
}
