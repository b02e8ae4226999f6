"""Anthropic's Messages API, and every server that speaks it (by endpoint)."""

from __future__ import annotations

from server.providers.anthropic.wire import MessagesWire
from server.providers.http import Transport
from server.providers.runner import HttpChatProvider


def adapter(slug: str, transport: Transport) -> HttpChatProvider:  # noqa: ARG001  one wire for its one slug
    """The provider over the Messages API."""
    return HttpChatProvider(transport, MessagesWire())
