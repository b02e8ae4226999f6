"""OpenAI's POST /v1/embeddings (platform.openai.com/docs/api-reference/embeddings), to the core and back."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from server.core.embedding import OPENAI_WIRE, EmbedRequest, EmbedResponse, Tokens, vector_bytes
from server.core.errors import InvalidRequest
from server.rpc.compat.frame import passthrough, read, told_warnings

# The contract's own limits (embedding.proto), which a raw body does not meet.
MOST_INPUTS: Final = 2048
MOST_CHARS: Final = 400_000
MOST_MODEL_CHARS: Final = 512
MOST_DIMENSIONS: Final = 65_536

_PIECE_BYTES: Final = 256 * 1024
_FORMATS: Final = ("float", "base64")


class _Body(msgspec.Struct, frozen=True):
    """input: a text, token ids, or a list of texts, or of lists of token ids."""

    model: str
    input: str | list[str | int | list[int]]
    dimensions: int | None = None
    encoding_format: str | None = None
    user: str | None = None


class Embeddings(msgspec.Struct, frozen=True):
    """What is asked for; base64: in which form."""

    request: EmbedRequest
    base64: bool


_BODY: Final = msgspec.json.Decoder(_Body)


def read_embeddings(data: bytes) -> Embeddings:
    """The request in a body. Raises InvalidRequest, with OpenAI's names for what is wrong."""
    body, unknown = read(_BODY, data)
    if not 1 <= len(body.model) <= MOST_MODEL_CHARS:
        raise InvalidRequest.field("model", f"must have 1 to {MOST_MODEL_CHARS} characters (got {len(body.model)})")
    if body.dimensions is not None and not 1 <= body.dimensions <= MOST_DIMENSIONS:
        raise InvalidRequest.field("dimensions", f"must be between 1 and {MOST_DIMENSIONS} (got {body.dimensions})")
    if body.user is not None and len(body.user) > MOST_MODEL_CHARS:
        raise InvalidRequest.field("user", f"must have at most {MOST_MODEL_CHARS} characters (got {len(body.user)})")
    if body.encoding_format not in (None, *_FORMATS):
        raise InvalidRequest.field("encoding_format", "must be one of float, base64")
    request = EmbedRequest(
        input=_inputs(body.input),
        model=body.model,
        dimensions=body.dimensions,
        user=body.user or None,
        passthrough=passthrough(OPENAI_WIRE, unknown),
    )
    return Embeddings(request, body.encoding_format == "base64")


def _inputs(found: str | list[str | int | list[int]]) -> tuple[str | Tokens, ...]:
    rows: list[Any] = [found] if isinstance(found, str) or _ids(found) else list(found)
    if not 1 <= len(rows) <= MOST_INPUTS:
        raise InvalidRequest.field("input", f"must hold 1 to {MOST_INPUTS} inputs (got {len(rows)})")
    if len({type(row) for row in rows}) > 1 or isinstance(rows[0], int):
        raise InvalidRequest.field("input", "must be texts, or token ids, and not both")
    for index, row in enumerate(rows):
        if not 1 <= len(row) <= MOST_CHARS:
            raise InvalidRequest.field(f"input[{index}]", f"must have a length of 1 to {MOST_CHARS} (got {len(row)})")
    return tuple(row if isinstance(row, str) else tuple(row) for row in rows)


def _ids(found: list[str | int | list[int]]) -> bool:
    return bool(found) and all(isinstance(one, int) for one in found)


def render_embeddings(answer: EmbedResponse, *, base64: bool) -> Iterator[bytes]:
    """The answer's JSON, in pieces: thousands of vectors are too much for one message."""
    piece = bytearray(b'{"object":"list","data":[')
    for index, values in enumerate(answer.vectors):
        shown: Any = b64encode(vector_bytes(values)).decode() if base64 else values.tolist()
        piece += b"," if index else b""
        piece += msgspec.json.encode({"object": "embedding", "index": index, "embedding": shown})
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece = bytearray()
    yield bytes(piece) + b"]," + msgspec.json.encode(_rest(answer))[1:]


def _rest(answer: EmbedResponse) -> dict[str, Any]:
    """What stands beside the vectors. usage: null where the provider did not count."""
    prompt, total = answer.usage.prompt_tokens, answer.usage.total_tokens
    beside: dict[str, Any] = {"provider": answer.provider}
    if answer.warnings:
        beside["warnings"] = told_warnings(answer.warnings)
    usage = None if prompt is None else {"prompt_tokens": prompt, "total_tokens": prompt if total is None else total}
    return {"model": answer.model, "usage": usage, "x_dragoman": beside}
