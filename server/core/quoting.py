"""Whether a provider's own words about an error may be passed on: not if they repeat the credential or the prompt.

A caller needs those words to mend a request, and providers quote in them what they were sent. So what quotes is
withheld as a whole, and said to be.
"""

from __future__ import annotations

from collections.abc import Iterator

from server.core.embedding import EmbedRequest
from server.core.errors import ProviderError, ProviderUnauthenticated
from server.core.messages import ChatRequest, Part, Text, ToolCall, ToolResult

WITHHELD = "(withheld: it repeats parts of the request)"

_WINDOW = 16
_STEP = 8
"""A stretch of 24 characters in common holds a whole window, wherever it begins. Shorter ones are words, not quotes."""

_SHORTEST_TEXT = 8


def quote_provider(error: ProviderError, request: ChatRequest | EmbedRequest) -> None:
    """Add the provider's words to the error's message and `metadata["provider_message"]`, or that they are withheld.

    Words about a refused credential are left out: providers show parts of it in them.
    """
    words = error.provider_message
    if not words or isinstance(error, ProviderUnauthenticated) or "provider_message" in error.metadata:
        return
    quotable = not any(_quotes(words, text) for text in _texts(request))
    error.metadata["provider_message"] = words if quotable else WITHHELD
    if quotable:
        error.message = f"{error.message.rstrip('.')}: {words}"
        error.args = (error.message,)


def _quotes(words: str, text: str) -> bool:
    if _SHORTEST_TEXT <= len(text) <= len(words) and text in words:
        return True
    return any(words[at : at + _WINDOW] in text for at in range(0, len(words) - _WINDOW + 1, _STEP))


def _texts(request: ChatRequest | EmbedRequest) -> Iterator[str]:
    if isinstance(request, EmbedRequest):
        yield from (text for text in request.input if isinstance(text, str))
        return
    if request.system:
        yield request.system
    for message in request.messages:
        for part in message.parts:
            yield from _texts_of(part)


def _texts_of(part: Part) -> Iterator[str]:
    match part:
        case Text():
            yield part.text
        case ToolCall():
            yield part.arguments
        case ToolResult():
            for inner in part.content:
                yield from _texts_of(inner)
        case _:
            return
