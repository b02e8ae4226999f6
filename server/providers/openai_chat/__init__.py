"""OpenAI Chat Completions, and every server that speaks it: one wire, a row for each server in `presets.py`."""

from __future__ import annotations

from server.providers.http import Transport
from server.providers.openai_chat.presets import PRESETS
from server.providers.openai_chat.wire import OpenAIChatWire
from server.providers.runner import HttpChatProvider


def adapter(slug: str, transport: Transport) -> HttpChatProvider:
    """The provider for a slug that is a preset's name."""
    return HttpChatProvider(transport, OpenAIChatWire(PRESETS[slug]))
