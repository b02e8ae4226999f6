"""Embeddings by InvokeModel, whose bodies are each maker's own: Amazon Titan and Nova, Cohere.

Facts: docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html, model-parameters-embed.html
(Cohere), docs.aws.amazon.com/nova/latest/userguide/embeddings-schema.html. A text that is too long is an error, and
never cut in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from server.core.errors import ProviderProtocolError, UnsupportedParameter
from server.core.events import Usage, Warning
from server.core.ports import EmbedCall
from server.providers.embedding import (
    has_option,
    read_vector,
    refuse_dimensions,
    split,
    texts,
    with_options,
    without_user,
)
from server.providers.http import HttpRequest
from server.providers.params import JsonObject, approximated
from server.providers.parsing import decode, tokens
from server.providers.wire import EmbedAnswer, EmbedExchange, EmbedPlan

COUNT_HEADER: Final = "x-amzn-bedrock-input-token-count"
"""Tokens of the input, where the body has none."""

_NO_USER: Final = "Bedrock has no field for the end user"


class _Family(msgspec.Struct, frozen=True, kw_only=True):
    """One form of body. most: inputs of one request. purpose: option by which the model must be told what the vectors
    are for, and what it is told unless the caller says, "" where it need not be."""

    body: Callable[[EmbedCall, Sequence[str]], JsonObject]
    most: int = 1
    purpose: str = ""
    purpose_value: str = ""


def _titan(call: EmbedCall, inputs: Sequence[str]) -> JsonObject:
    body: JsonObject = {"inputText": inputs[0]}
    if call.request.dimensions is not None:
        body["dimensions"] = call.request.dimensions
    return with_options(body, call, "inputText")


def _titan_1(call: EmbedCall, inputs: Sequence[str]) -> JsonObject:
    refuse_dimensions(call, "Titan Text Embeddings G1 takes none")
    return with_options({"inputText": inputs[0]}, call, "inputText")


def _cohere(call: EmbedCall, inputs: Sequence[str]) -> JsonObject:
    body: JsonObject = {
        "texts": inputs,
        "input_type": "search_document",
        "truncate": "NONE",
        "embedding_types": ["float"],
    }
    if call.request.dimensions is not None:
        body["output_dimension"] = call.request.dimensions
    return with_options(body, call, "texts", "images", "inputs")


def _cohere_3(call: EmbedCall, inputs: Sequence[str]) -> JsonObject:
    refuse_dimensions(call, "Cohere Embed v3 takes none")
    return _cohere(call, inputs)


def _nova(call: EmbedCall, inputs: Sequence[str]) -> JsonObject:
    """provider_options are members of singleEmbeddingParams."""
    parameters: JsonObject = {"embeddingPurpose": "GENERIC_INDEX"}
    if call.request.dimensions is not None:
        parameters["embeddingDimension"] = call.request.dimensions
    parameters["text"] = {"truncationMode": "NONE", "value": inputs[0]}
    with_options(parameters, call, "text", "image", "audio", "video")
    return {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": parameters}


def _of_cohere(body: Callable[[EmbedCall, Sequence[str]], JsonObject]) -> _Family:
    return _Family(body=body, most=96, purpose="input_type", purpose_value="search_document")


FAMILIES: Final[Mapping[str, _Family]] = {
    "amazon.titan-embed-text-v1": _Family(body=_titan_1),
    "amazon.titan-embed-g1-text": _Family(body=_titan_1),
    "amazon.titan-embed-text": _Family(body=_titan),
    "amazon.nova-2-multimodal-embeddings": _Family(
        body=_nova, purpose="embeddingPurpose", purpose_value="GENERIC_INDEX"
    ),
    "cohere.embed-english-v3": _of_cohere(_cohere_3),
    "cohere.embed-multilingual-v3": _of_cohere(_cohere_3),
    "cohere.embed": _of_cohere(_cohere),
}
"""By how the model's id begins, behind a region's prefix or in an ARN; the first that fits."""


def _family(call: EmbedCall) -> _Family:
    names = (call.info.model if call.info is not None else "", call.model)
    for start, family in FAMILIES.items():
        if any(start in name for name in names):
            return family
    known = "Titan Text Embeddings, Nova Multimodal Embeddings, Cohere Embed"
    raise UnsupportedParameter.field("model", f"is none whose embeddings can be asked for at Bedrock ({known})")


def plan(call: EmbedCall, request: Callable[[bytes], HttpRequest]) -> EmbedPlan:
    """The requests. request: makes one, signed, of its body."""
    family = _family(call)
    warnings: tuple[Warning, ...] = without_user(call, _NO_USER)
    if family.purpose and not has_option(call, family.purpose):
        told = f"the model must be told what its vectors are for, and was told {family.purpose_value}"
        warnings += (approximated(f"provider_options.{family.purpose}", told),)
    return EmbedPlan(split(texts(call), family.most, request, partial(family.body, call)), warnings)


class _ByType(msgspec.Struct, frozen=True, rename={"floats": "float"}):
    floats: list[list[float]] | None = None


class _NovaRow(msgspec.Struct, frozen=True):
    embedding: list[float] | None = None


class _One(msgspec.Struct, frozen=True, rename="camel"):
    """Titan's."""

    embedding: list[float] | None = None
    input_text_token_count: float | None = None
    embeddings: msgspec.Raw = msgspec.Raw(b"")


_ANSWER: Final = msgspec.json.Decoder(_One)
_NOVA: Final = msgspec.json.Decoder(list[_NovaRow])
_FLOATS: Final = msgspec.json.Decoder(list[list[float]])
_BY_TYPE: Final = msgspec.json.Decoder(_ByType)


def read_answer(exchange: EmbedExchange, body: bytes) -> EmbedAnswer:
    """The vectors, and the tokens that the body or a header counts. Raises ProviderProtocolError."""
    found = decode(_ANSWER, body, "embeddings")
    vectors = [found.embedding] if found.embedding else _rows(found.embeddings)
    if not vectors:
        raise ProviderProtocolError("The provider's answer holds no embeddings.")
    counted = tokens(found.input_text_token_count)
    if counted is None and (told := exchange.headers.get(COUNT_HEADER, "")).isdecimal():
        counted = tokens(int(told))
    return EmbedAnswer([read_vector(row) for row in vectors], Usage(prompt_tokens=counted, total_tokens=counted))


def _rows(embeddings: msgspec.Raw) -> list[list[float]]:
    """Cohere's lists, bare or by type, and Nova's objects."""
    data = bytes(embeddings).lstrip()
    if data.startswith(b"{"):
        return decode(_BY_TYPE, data, "embeddings").floats or []
    if data.lstrip(b"[ \t\r\n").startswith(b"{"):
        return [row.embedding or [] for row in decode(_NOVA, data, "embeddings")]
    return decode(_FLOATS, data, "embeddings") if data else []
