"""Embed, and OpenAI's embeddings, over a real server: limits, what reaches the gateway, and the form of the answer."""

from __future__ import annotations

import json
import struct
from base64 import b64decode
from typing import Any

import grpc
import pytest
from google.api import httpbody_pb2
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from dragoman.v1 import embedding_pb2 as pb
from dragoman.v1 import llm_service_pb2_grpc, openai_service_pb2_grpc
from server.core.embedding import OPENAI_WIRE
from server.core.errors import ProviderRateLimited
from tests.rpc.house import WORKSPACE, House, key, reason


def fields(error: grpc.aio.AioRpcError) -> list[str]:
    """The fields that a status names."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what from_call asks of a call
    assert status is not None
    found = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(found)
    return [violation.field for violation in found.field_violations]


async def embed(channel: grpc.aio.Channel, **request: Any) -> pb.EmbedResponse:
    stub = llm_service_pb2_grpc.LLMServiceStub(channel)
    answer: pb.EmbedResponse = await stub.Embed(pb.EmbedRequest(**request), metadata=key())
    return answer


async def create(channel: grpc.aio.Channel, body: object) -> bytes:
    stub = openai_service_pb2_grpc.OpenAIServiceStub(channel)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    pieces = stub.CreateEmbedding(httpbody_pb2.HttpBody(data=data), metadata=key())
    return b"".join([piece.data async for piece in pieces])


async def test_every_field_reaches_the_gateway_and_comes_back(house: House, channel: grpc.aio.Channel) -> None:
    given = {
        "input": ["one", "three"],
        "model": "openai/emb-x",
        "provider": "OpenAI",
        "providerName": "Main",
        "projectId": WORKSPACE,
        "dimensions": 2,
        "user": "u",
        "providerOptions": {"b": 1, "a": [0.5]},
    }
    answer = await embed(channel, **json_format.MessageToDict(
        json_format.ParseDict(given, pb.EmbedRequest()), preserving_proto_field_name=True
    ))  # fmt: skip
    ((workspace, request),) = house.gateway.embed_calls
    assert workspace == WORKSPACE
    assert (request.input, request.model, request.provider) == (("one", "three"), "openai/emb-x", "openai")
    assert (request.provider_name, request.dimensions, request.user) == ("Main", 2, "u")
    assert request.provider_options == '{"a":[0.5],"b":1}'
    assert [(one.index, list(one.values)) for one in answer.embeddings] == [(0, [3.0, 0.5]), (1, [5.0, 0.5])]
    assert (answer.model, answer.provider, answer.provider_request_id) == ("emb-x-1", "openai", "r_1")
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (3, 3)
    assert not answer.usage.HasField("completion_tokens")
    assert [warning.parameter for warning in answer.warnings] == ["user"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"model": "m"}, "input"),
        ({"model": "m", "input": ["x"] * 2049}, "input"),
        ({"model": "m", "input": ["x", ""]}, "input[1]"),
        ({"model": "m", "input": ["x" * 400_001]}, "input[0]"),
        ({"input": ["x"]}, "model"),
        ({"model": "m", "input": ["x"], "dimensions": 0}, "dimensions"),
        ({"model": "m", "input": ["x"], "provider": "nobody"}, "provider"),
    ],
)
async def test_the_contracts_limits(
    house: House, channel: grpc.aio.Channel, request_: dict[str, Any], field: str
) -> None:
    """What breaks one is refused by its name, and goes no further."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await embed(channel, **request_)
    assert reason(caught.value) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert fields(caught.value) == [field]
    assert house.gateway.embed_calls == []


async def test_a_failure_is_the_rpcs_status(house: House, channel: grpc.aio.Channel) -> None:
    house.gateway.error = ProviderRateLimited("slow down")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await embed(channel, model="m", input=["x"])
    assert reason(caught.value) == ("RESOURCE_EXHAUSTED", "PROVIDER_RATE_LIMITED")


# --- OpenAI's dialect -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [None, "float", "base64"])
async def test_openais_form_of_the_answer(channel: grpc.aio.Channel, format: str | None) -> None:
    body = {"model": "emb-x", "input": ["one", "three"], "encoding_format": format}
    answer = json.loads(await create(channel, body))
    assert (answer["object"], answer["model"]) == ("list", "emb-x-1")
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert [(one["object"], one["index"]) for one in answer["data"]] == [("embedding", 0), ("embedding", 1)]
    vectors = [one["embedding"] for one in answer["data"]]
    if format == "base64":
        vectors = [list(struct.unpack("<2f", b64decode(text))) for text in vectors]
    assert vectors == [[3.0, 0.5], [5.0, 0.5]]
    assert answer["x_dragoman"]["warnings"][0]["parameter"] == "user"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("one", ("one",)), (["a", "b"], ("a", "b")), ([1, 2], ((1, 2),)), ([[1, 2], [3]], ((1, 2), (3,)))],
)
async def test_every_form_of_input(house: House, channel: grpc.aio.Channel, given: object, wanted: object) -> None:
    await create(channel, {"model": "emb-x", "input": given, "dimensions": 4, "user": "u", "new": {"x": 1}})
    ((_, request),) = house.gateway.embed_calls
    assert (request.input, request.dimensions, request.user) == (wanted, 4, "u")
    assert request.passthrough is not None
    assert (request.passthrough.wire, request.passthrough.members) == (OPENAI_WIRE, {"": '{"new":{"x":1}}'})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        ({"input": "x"}, "body"),
        ({"model": "", "input": "x"}, "model"),
        ({"model": "m", "input": []}, "input"),
        ({"model": "m", "input": ""}, "input[0]"),
        ({"model": "m", "input": [[]]}, "input[0]"),
        ({"model": "m", "input": ["a", [1]]}, "input"),
        ({"model": "m", "input": ["a", 1]}, "input"),
        ({"model": "m", "input": ["x"] * 2049}, "input"),
        ({"model": "m", "input": "x" * 400_001}, "input[0]"),
        ({"model": "m", "input": "x", "dimensions": 0}, "dimensions"),
        ({"model": "m", "input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"model": "m", "input": "x", "user": "u" * 513}, "user"),
    ],
)
async def test_what_openais_form_may_not_say(house: House, channel: grpc.aio.Channel, body: object, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(channel, body)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields(caught.value) == [field]
    assert house.gateway.embed_calls == []


async def test_a_large_answer_is_one_document_in_pieces(channel: grpc.aio.Channel) -> None:
    answer = json.loads(await create(channel, {"model": "m", "input": ["x"] * 2048}))
    assert [one["index"] for one in answer["data"]] == list(range(2048))
