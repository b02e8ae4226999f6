"""OpenAI Responses, beside the same server's Chat Completions: a row of `servers.py` says which of the two a call goes
by."""

from __future__ import annotations

from server.providers.http import Transport
from server.providers.openai_responses.choice import TwoApiWire
from server.providers.openai_responses.servers import SERVERS
from server.providers.runner import HttpChatProvider


def adapter(slug: str, transport: Transport) -> HttpChatProvider:
    """The provider for a slug that is a server's name."""
    return HttpChatProvider(transport, TwoApiWire(SERVERS[slug]))
