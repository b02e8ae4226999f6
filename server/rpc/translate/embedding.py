"""Embeddings: from the contract's request to the core's, and back."""

from __future__ import annotations

from dragoman.v1 import embedding_pb2 as pb
from server.core.embedding import EmbedRequest, EmbedResponse, Vector, vector_bytes
from server.rpc.translate.response import usage, warning
from server.rpc.translate.structs import object_json

_VALUES_TAG = b"\x12"
"""Field 2, length-delimited: packed."""


def embed_request(request: pb.EmbedRequest) -> EmbedRequest:
    """The call. Raises InvalidRequest for a number among the options that the contract's form cannot hold."""
    options = ""
    if request.HasField("provider_options"):
        options = object_json(request.provider_options, "provider_options", "send it as a string")
    return EmbedRequest(
        input=tuple(request.input),
        model=request.model,
        provider=request.provider.lower() or None,
        provider_name=request.provider_name or None,
        dimensions=request.dimensions if request.HasField("dimensions") else None,
        user=request.user or None,
        provider_options=options,
    )


def embed_response(answer: EmbedResponse) -> pb.EmbedResponse:
    """The vectors, numbered as the inputs were."""
    rendered = pb.EmbedResponse(
        usage=usage(answer.usage),
        model=answer.model,
        provider=answer.provider,
        warnings=map(warning, answer.warnings),
        provider_request_id=answer.request_id,
    )
    for index, values in enumerate(answer.vectors):
        one = rendered.embeddings.add(index=index)
        one.MergeFromString(_packed(values))
    return rendered


def _packed(values: Vector[float]) -> bytes:
    """`Embedding.values` as it goes on the wire, which is how a vector is held: eight times the speed of handing it
    over number by number."""
    data = vector_bytes(values)
    length, prefix = len(data), bytearray(_VALUES_TAG)
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + data
