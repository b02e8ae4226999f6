"""Embeddings: batchEmbedContents at the Gemini API (ai.google.dev/api/embeddings); at Vertex AI embedContent, and
predict for the models that came before it (docs.cloud.google.com/vertex-ai: model-reference/text-embeddings-api)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from server.core.errors import ProviderProtocolError
from server.core.events import Usage
from server.core.ports import EmbedCall
from server.providers.embedding import read_vector, split, texts, with_options, without_user
from server.providers.gemini.endpoint import Place, credentials
from server.providers.gemini.request import UNSUPPORTED
from server.providers.http import HttpRequest
from server.providers.params import JsonObject
from server.providers.parsing import decode, tokens
from server.providers.wire import EmbedAnswer, EmbedPlan

MOST_INPUTS: Final = 100
""""BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch" (geldata/gel#9032)."""


def plan(call: EmbedCall, place: Place) -> EmbedPlan:
    """One request for each hundred inputs; at Vertex, one for each: its newer models take no more at a time."""
    headers = (
        *credentials(call.target, place),
        ("content-type", "application/json"),
        ("accept", "application/json"),
    )
    verb, most = "batchEmbedContents", MOST_INPUTS
    if place.vertex:
        verb, most = "predict" if _predicts(call.model) else "embedContent", 1
    url = place.model_url(call.model, verb)
    body = partial(_BODIES[verb], call)
    pieces = split(texts(call), most, lambda data: HttpRequest("POST", url, headers, data), body)
    return EmbedPlan(pieces, without_user(call, UNSUPPORTED["user"]))


def _predicts(model: str) -> bool:
    """Whether Vertex serves it by predict, as google-genai tells them apart (`_transformers.py`)."""
    name = model.rpartition("/")[2]
    return "maas" not in name and (not name.startswith("gemini") or name == "gemini-embedding-001")


def _dimensions(call: EmbedCall) -> JsonObject:
    return {} if call.request.dimensions is None else {"outputDimensionality": call.request.dimensions}


def _batch(call: EmbedCall, inputs: Sequence[str]) -> JsonObject:
    model = call.model if "/" in call.model else f"models/{call.model}"
    rows = ({"model": model, "content": {"parts": [{"text": text}]}, **_dimensions(call)} for text in inputs)
    return {"requests": [with_options(row, call, "content") for row in rows]}


def _content(call: EmbedCall, inputs: Sequence[str]) -> JsonObject:
    # A text that is too long is an error, and not cut in silence.
    config = {"autoTruncate": False, **_dimensions(call)}
    content = {"role": "user", "parts": [{"text": inputs[0]}]}
    return with_options({"content": content, "embedContentConfig": config}, call, "content")


def _prediction(call: EmbedCall, inputs: Sequence[str]) -> JsonObject:
    """provider_options are members of the instance (`task_type`, `title`), but for `parameters`."""
    row: JsonObject = {"content": inputs[0], "parameters": {"autoTruncate": False, **_dimensions(call)}}
    with_options(row, call, "content")
    parameters = row.pop("parameters", {})
    return {"instances": [row], "parameters": parameters}


_BODIES: Final[Mapping[str, Callable[[EmbedCall, Sequence[str]], JsonObject]]] = {
    "batchEmbedContents": _batch,
    "embedContent": _content,
    "predict": _prediction,
}


class _Statistics(msgspec.Struct, frozen=True):
    token_count: float | None = None


class _Embedding(msgspec.Struct, frozen=True):
    values: list[float] | None = None
    statistics: _Statistics | None = None


class _Prediction(msgspec.Struct, frozen=True):
    embeddings: _Embedding | None = None


class _Usage(msgspec.Struct, frozen=True, rename="camel"):
    prompt_token_count: float | None = None
    total_token_count: float | None = None


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    """Of all three: `embeddings` of a batch, `embedding` of one content, `predictions`."""

    embeddings: list[_Embedding] | None = None
    embedding: _Embedding | None = None
    predictions: list[_Prediction] | None = None
    usage_metadata: _Usage | None = None


_ANSWER: Final = msgspec.json.Decoder(_Answer)


def read_answer(body: bytes) -> EmbedAnswer:
    """The vectors. Tokens where the answer has them: the Gemini API counts those of its newer models alone. Raises
    ProviderProtocolError."""
    found = decode(_ANSWER, body, "embeddings")
    rows = list(found.embeddings or ())
    if found.embedding is not None:
        rows.append(found.embedding)
    rows += [row.embeddings for row in found.predictions or () if row.embeddings is not None]
    if not rows:
        raise ProviderProtocolError("The provider's answer holds no embeddings.")
    counted = found.usage_metadata or _Usage()
    counts = [tokens(row.statistics.token_count) for row in rows if row.statistics is not None]
    prompt = tokens(counted.prompt_token_count)
    if prompt is None and len(counts) == len(rows):
        prompt = sum(count or 0 for count in counts)
    total = tokens(counted.total_token_count)
    usage = Usage(prompt_tokens=prompt, total_tokens=prompt if total is None else total)
    return EmbedAnswer([read_vector(row.values) for row in rows], usage)
