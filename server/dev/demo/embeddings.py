"""Embeddings without a model: a hashed bag of words, so that texts sharing words lie near each other."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from collections import Counter
from typing import Literal

import msgspec

from server.dev.demo.answer import context_too_long
from server.dev.demo.errors import ErrorReply, Refused, bad_request
from server.dev.demo.scenarios import EMBEDDING_MODEL
from server.dev.demo.tokens import count_tokens

DEFAULT_DIMENSIONS = 256
MAX_DIMENSIONS = 3072
MAX_INPUTS = 2048
MAX_TOKENS = 8192


class EmbeddingsBody(msgspec.Struct):
    """A request to /v1/embeddings."""

    model: str
    input: str | list[str]
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None


def embeddings(body: bytes) -> bytes:
    """The JSON answer to a request's body. Raises Refused for what OpenAI refuses, and for token-id inputs."""
    try:
        asked = msgspec.json.decode(body, type=EmbeddingsBody)
    except msgspec.ValidationError as exc:
        raise bad_request(f"Invalid request: {exc}", code="invalid_type") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise bad_request("We could not parse the JSON body of your request.") from exc
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    dimensions = asked.dimensions if asked.dimensions is not None else DEFAULT_DIMENSIONS
    _check(asked.model, texts, dimensions)
    tokens = sum(count_tokens(text) for text in texts)
    data = [
        {"object": "embedding", "index": index, "embedding": _encode(unit_vector(text, dimensions), asked)}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": asked.model, "usage": usage})


def _check(model: str, texts: list[str], dimensions: int) -> None:
    if model != EMBEDDING_MODEL:
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise Refused(ErrorReply(404, "invalid_request_error", "model_not_found", message, "model"))
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise bad_request(f"Invalid 'dimensions': must be between 1 and {MAX_DIMENSIONS}.", param="dimensions")
    if not 1 <= len(texts) <= MAX_INPUTS or not all(texts):
        raise bad_request(f"Invalid 'input': 1 to {MAX_INPUTS} non-empty strings.", param="input")
    longest = max(count_tokens(text) for text in texts)
    if longest > MAX_TOKENS:
        raise context_too_long(MAX_TOKENS, longest)


def unit_vector(text: str, dimensions: int) -> list[float]:
    """A vector of length 1 that depends on the words of text alone."""
    sums = [0.0] * dimensions
    for word, times in Counter(re.findall(r"\w+", text.lower()) or [text]).items():
        for at, byte in enumerate(hashlib.shake_256(word.encode()).digest(dimensions)):
            sums[at] += times * (byte - 127.5)
    length = math.sqrt(math.fsum(value * value for value in sums))
    return [value / length for value in sums]


def _encode(vector: list[float], asked: EmbeddingsBody) -> list[float] | str:
    if asked.encoding_format == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return vector
