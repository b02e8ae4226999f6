"""A call in flight is counted once, and given back however it ends: answered, failed, cancelled, refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import pytest

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import llm_service_pb2_grpc, status_service_pb2, status_service_pb2_grpc
from server.core.errors import LimitExceeded, ProviderRateLimited
from server.services.limits import CallsInFlight, Most
from tests.rpc.house import ANSWER, STARTED, House, info, key, reason

HELLO = pb.ChatRequest(messages=[pb.Message(role="user", content="hi")])
PER_KEY, PER_WORKSPACE, BYTES = 2, 3, 100_000


@pytest.fixture
def in_flight() -> CallsInFlight:
    return CallsInFlight(Most(PER_KEY, BYTES), Most(PER_WORKSPACE))


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> llm_service_pb2_grpc.LLMServiceAsyncStub:
    return llm_service_pb2_grpc.LLMServiceStub(channel)


@pytest.fixture
async def stalled(
    house: House, stub: llm_service_pb2_grpc.LLMServiceAsyncStub
) -> AsyncIterator[Callable[[str], object]]:
    """Opens streams that stay open."""
    house.gateway.batches, house.gateway.stall = ([STARTED],), True
    opened = []

    async def open_one(role: str = "member") -> object:
        call = stub.Chat(HELLO, metadata=key(role))
        opened.append(call)
        await call.read()
        return call

    yield open_one
    for call in opened:
        call.cancel()


async def emptied(in_flight: CallsInFlight) -> None:
    async with asyncio.timeout(5):
        while len(in_flight):
            await asyncio.sleep(0.005)


async def refusal(
    stub: llm_service_pb2_grpc.LLMServiceAsyncStub, role: str = "member", request: pb.ChatRequest = HELLO
) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Complete(request, metadata=key(role))
    return caught.value


async def test_over_a_keys_limit_a_call_is_refused_with_the_limits_name_and_when_to_retry(
    house: House, stub: llm_service_pb2_grpc.LLMServiceAsyncStub, stalled: Callable, in_flight: CallsInFlight
) -> None:
    for _ in range(PER_KEY):
        await stalled("member")
    reached = len(house.gateway.calls)
    error = await refusal(stub)
    assert reason(error) == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
    assert info(error).metadata["limit"] == "calls_in_flight_per_key"
    assert dict(error.trailing_metadata())["retry-after"] == "1"
    assert len(house.gateway.calls) == reached
    assert len(in_flight) == PER_KEY


async def test_the_size_of_messages_counts_until_their_calls_end(
    house: House, stub: llm_service_pb2_grpc.LLMServiceAsyncStub, in_flight: CallsInFlight
) -> None:
    """Two that do not fit at once; after the first has ended the second does. One that never fits is not retryable."""
    house.gateway.batches, house.gateway.stall = ([STARTED],), True
    large = pb.ChatRequest(messages=[pb.Message(role="user", content="x" * (BYTES * 2 // 3))])
    first = stub.Chat(large, metadata=key())
    await first.read()
    error = await refusal(stub, request=large)
    assert info(error).metadata["limit"] == "bytes_in_flight_per_key"
    assert info(error).metadata["retryable"] == "true"
    first.cancel()
    await emptied(in_flight)
    house.gateway.batches, house.gateway.stall = ANSWER, False
    assert (await stub.Complete(large, metadata=key())).text == "Hello"
    huge = pb.ChatRequest(messages=[pb.Message(role="user", content="x" * BYTES)])
    assert info(await refusal(stub, request=huge)).metadata["retryable"] == "false"


async def test_over_a_workspaces_limit_its_other_keys_are_refused_too(
    stub: llm_service_pb2_grpc.LLMServiceAsyncStub, stalled: Callable
) -> None:
    for role in ("member", "member", "admin"):
        await stalled(role)
    error = await refusal(stub, "admin")
    assert info(error).metadata["limit"] == "calls_in_flight_per_workspace"


@pytest.mark.parametrize("end", ["cancelled", "failed", "answered", "invalid", "forbidden", "not authenticated"])
async def test_every_end_of_a_call_gives_its_place_back(
    house: House, stub: llm_service_pb2_grpc.LLMServiceAsyncStub, stalled: Callable, in_flight: CallsInFlight, end: str
) -> None:
    """More calls than there are places, one after another; were one not given back, the last would be refused."""
    house.gateway.stall = end == "cancelled"
    house.gateway.error = ProviderRateLimited("Slow down.") if end == "failed" else None
    for _ in range(PER_WORKSPACE + 2):
        if end == "cancelled":
            (await stalled("member")).cancel()
            await emptied(in_flight)
            continue
        request = pb.ChatRequest() if end == "invalid" else HELLO
        role = {"forbidden": "viewer", "not authenticated": "nobody"}.get(end, "member")
        call = stub.Chat(request, metadata=key(role))
        try:
            async for _event in call:
                pass
        except grpc.aio.AioRpcError as error:
            assert reason(error)[1] != LimitExceeded.reason  # noqa: PT017
    await emptied(in_flight)


async def test_methods_that_need_no_key_are_not_counted(
    channel: grpc.aio.Channel, stalled: Callable, in_flight: CallsInFlight
) -> None:
    for role in ("member", "member", "admin"):
        await stalled(role)
    await status_service_pb2_grpc.StatusServiceStub(channel).GetLiveness(status_service_pb2.GetLivenessRequest())
    assert len(in_flight) == PER_WORKSPACE
