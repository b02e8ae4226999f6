"""What the wires' embeddings share: splitting the input, reading vectors, what is left out with a warning."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from server.core.embedding import Tokens, Vector, vector, vector_of_bytes
from server.core.errors import ProviderProtocolError, UnsupportedParameter
from server.core.events import Warning
from server.core.ports import EmbedCall
from server.providers.http import HttpRequest
from server.providers.params import JsonObject, merge_options, stripped
from server.providers.wire import EmbedPiece

T = TypeVar("T", str, str | Tokens)


def split(
    inputs: Sequence[T], most: int, request: Callable[[bytes], HttpRequest], body: Callable[[Sequence[T]], JsonObject]
) -> tuple[EmbedPiece, ...]:
    """The inputs in runs of at most `most`, each as the request that `request` makes of its body."""
    runs = ((at, inputs[at : at + most]) for at in range(0, len(inputs), most))
    return tuple(EmbedPiece(request(msgspec.json.encode(body(run))), at, len(run)) for at, run in runs)


def texts(call: EmbedCall) -> tuple[str, ...]:
    """The call's inputs, for a wire that takes texts alone. Raises UnsupportedParameter for tokens."""
    found = tuple(text for text in call.request.input if isinstance(text, str))
    if len(found) != len(call.request.input):
        raise UnsupportedParameter.field("input", "is token ids, which this provider's models cannot read; send texts")
    return found


def with_options(body: JsonObject, call: EmbedCall, *reserved: str) -> JsonObject:
    """The body with provider_options merged in; reserved: the keys that hold the input."""
    merge_options(body, call.request.provider_options, reserved)
    return body


def has_option(call: EmbedCall, name: str) -> bool:
    """Whether provider_options has a member of this name. Raises InvalidRequest where they are no JSON object."""
    options: JsonObject = {}
    merge_options(options, call.request.provider_options)
    return name in options


def without_user(call: EmbedCall, why: str) -> tuple[Warning, ...]:
    """For a wire that has no field for the end user."""
    return () if call.request.user is None else (stripped("user", why),)


def refuse_dimensions(call: EmbedCall, why: str) -> None:
    """For a model whose vectors have one length. Raises UnsupportedParameter where the call asks for another."""
    if call.request.dimensions is not None:
        raise UnsupportedParameter.field("dimensions", why)


def read_vector(found: Sequence[float] | str | None) -> Vector[float]:
    """Numbers, or base64 of 32-bit floats, little endian. Raises ProviderProtocolError for what is neither."""
    try:
        if not isinstance(found, str):
            return vector(found or ())
        return vector_of_bytes(b64decode(found, validate=True))
    except (ValueError, OverflowError, binascii.Error) as error:
        raise ProviderProtocolError("The provider sent an embedding that is no list of numbers.") from error
