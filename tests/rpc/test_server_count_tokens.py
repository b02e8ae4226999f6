"""Anthropic's count_tokens over a real server: what reaches the gateway, the form of the answer, and of a failure."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from google.api import httpbody_pb2

from dragoman.v1 import anthropic_service_pb2_grpc
from server.core.errors import UnsupportedParameter
from tests.rpc.house import House, key, reason

BODY = {"model": "m", "system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}]}


async def count(channel: grpc.aio.Channel, body: object, *more: tuple[str, str]) -> Any:
    stub = anthropic_service_pb2_grpc.AnthropicServiceStub(channel)
    data = httpbody_pb2.HttpBody(data=json.dumps(body).encode())
    return await stub.CountTokens(data, metadata=(*key(), *more))


async def test_the_body_is_read_as_a_messages_and_the_count_comes_with_its_warnings(
    house: House, channel: grpc.aio.Channel
) -> None:
    """max_tokens may be missing, and betas are kept for a provider of the same wire."""
    answer = await count(channel, BODY, ("anthropic-beta", "one, two"))
    assert answer.content_type == "application/json"
    told = json.loads(answer.data)
    assert told["input_tokens"] == 17
    assert told["x_dragoman"]["provider"] == "anthropic"
    assert told["x_dragoman"]["warnings"][0]["parameter"] == "user"
    ((_, _, request, stream, _),) = house.gateway.calls
    assert (request.model, request.system, request.max_tokens, stream) == ("m", "Be brief.", None, False)
    assert request.passthrough is not None
    assert json.loads(request.passthrough.members[""]) == {"betas": ["one", "two"]}


async def test_a_provider_that_counts_none_is_the_callers_error(house: House, channel: grpc.aio.Channel) -> None:
    house.gateway.error = UnsupportedParameter.field("model", "the provider groq counts no tokens")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await count(channel, BODY)
    assert reason(caught.value) == ("INVALID_ARGUMENT", "UNSUPPORTED_PARAMETER")


async def test_a_body_that_is_no_message_counts_nothing(house: House, channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await count(channel, {"model": "m", "messages": []})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert house.gateway.calls == []
