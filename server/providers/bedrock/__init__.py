"""Amazon Bedrock: every model of it through one wire, Converse and ConverseStream."""

from __future__ import annotations

from server.providers.bedrock.wire import ConverseWire
from server.providers.http import Transport
from server.providers.runner import HttpChatProvider


def adapter(slug: str, transport: Transport) -> HttpChatProvider:  # noqa: ARG001  one wire for its one slug
    """The provider over Converse."""
    return HttpChatProvider(transport, ConverseWire())
