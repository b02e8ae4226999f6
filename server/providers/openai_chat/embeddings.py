"""POST /embeddings (platform.openai.com/docs/api-reference/embeddings), for every preset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from server.core.embedding import OPENAI_WIRE, Tokens
from server.core.errors import ProviderProtocolError
from server.core.events import Usage
from server.core.ports import EmbedCall
from server.providers.embedding import read_vector, split, with_options, without_user
from server.providers.http import HttpRequest
from server.providers.openai_chat.presets import Preset
from server.providers.params import JsonObject
from server.providers.parsing import decode, tokens
from server.providers.passthrough import put_back
from server.providers.wire import EmbedAnswer, EmbedPlan

MOST_INPUTS: Final = 2048
"""Of one request, at OpenAI."""

MOST_IN_NUMBERS: Final = 512
"""Of one request whose answer is written out in numbers: 20 characters each, and thousands a vector."""


def plan(call: EmbedCall, preset: Preset, request: Callable[[bytes], HttpRequest]) -> EmbedPlan:
    """The requests. request: makes one of its body."""
    asked = call.request
    warnings = without_user(call, preset.unsupported["user"]) if "user" in preset.unsupported else ()

    def body(inputs: Sequence[str | Tokens]) -> JsonObject:
        found: JsonObject = {"model": call.model, "input": inputs}
        if preset.embed_base64:
            found["encoding_format"] = "base64"
        if asked.dimensions is not None:
            found[preset.dimensions] = asked.dimensions
        if asked.user is not None and not warnings:
            found["user"] = asked.user
        put_back(found, asked, OPENAI_WIRE)
        return with_options(found, call, "input")

    most = MOST_INPUTS if preset.embed_base64 else MOST_IN_NUMBERS
    return EmbedPlan(split(asked.input, most, request, body), warnings, OPENAI_WIRE)


class _Item(msgspec.Struct, frozen=True):
    """embedding: numbers, or base64 of 32-bit floats, whichever was asked for: some servers know numbers alone."""

    embedding: list[float] | str | None = None
    index: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: float | None = None
    total_tokens: float | None = None


class _Answer(msgspec.Struct, frozen=True):
    data: list[_Item] | None = None
    model: str | None = None
    usage: _Usage | None = None


_ANSWER: Final = msgspec.json.Decoder(_Answer)


def read_answer(body: bytes) -> EmbedAnswer | None:
    """The vectors by their index; None for an answer that holds none. Raises ProviderProtocolError."""
    found = decode(_ANSWER, body.strip(), "embeddings")
    if not found.data:
        return None
    items = found.data
    if any(item.index is not None for item in items):
        items = sorted(items, key=lambda item: -1 if item.index is None else item.index)
        if [item.index for item in items] != list(range(len(items))):
            raise ProviderProtocolError("The provider sent embeddings whose numbers are not those of the inputs.")
    counted = found.usage or _Usage()
    prompt, total = tokens(counted.prompt_tokens), tokens(counted.total_tokens)
    usage = Usage(prompt_tokens=prompt, total_tokens=prompt if total is None else total)
    return EmbedAnswer([read_vector(item.embedding) for item in items], usage, found.model or "")
