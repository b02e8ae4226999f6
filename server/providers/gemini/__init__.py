"""Google Gemini: generateContent and streamGenerateContent, at the Gemini API and at Vertex AI."""

from __future__ import annotations

from server.providers.gemini.wire import GeminiWire
from server.providers.http import Transport
from server.providers.runner import HttpChatProvider


def adapter(slug: str, transport: Transport) -> HttpChatProvider:  # noqa: ARG001  one wire, one slug
    """The provider for slug `gemini`."""
    return HttpChatProvider(transport, GeminiWire())
