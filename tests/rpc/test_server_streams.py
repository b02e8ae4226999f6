"""Calls of models, over a real server: streams and whole answers, failures, deadlines, callers that go away."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import llm_service_pb2 as llm_pb
from dragoman.v1.llm_service_pb2_grpc import LLMServiceStub
from server.core.errors import ProviderUnavailable, StreamTruncated
from server.core.events import BlockDelta, BlockStart, Completed, Failed, Started, StreamEvent, Usage, Warning
from tests.rpc.house import ANSWER, STARTED, House, info, key, reason

HELLO = pb.ChatRequest(messages=[pb.Message(role="user", content="hi")], model="openai/gpt-x", project_id="ws_1")
CUT: tuple[list[StreamEvent], ...] = ([STARTED, BlockStart(0, "text"), BlockDelta(0, "Hel")],)


async def collect(call: Any) -> tuple[list[pb.ChatEvent], grpc.aio.AioRpcError | None]:
    """The events of a stream, and the status that it failed with."""
    events: list[pb.ChatEvent] = []
    try:
        async for event in call:
            events.append(event)  # noqa: PERF401 - those before a failure count too
    except grpc.aio.AioRpcError as error:
        return events, error
    return events, None


async def next_line(log_lines: asyncio.Queue[str]) -> str:
    """The status of the next call that the access log tells of, or the message of what else was logged."""
    return await asyncio.wait_for(log_lines.get(), 5)


async def test_a_stream_and_a_whole_answer_come_from_the_same_request(house: House, channel: grpc.aio.Channel) -> None:
    stub = LLMServiceStub(channel)
    events, error = await collect(stub.Chat(HELLO, metadata=key()))
    answer = await stub.Complete(HELLO, metadata=key())
    assert error is None
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]
    assert [event.WhichOneof("event") for event in events] == [
        "started",
        "block_start",
        "block_delta",
        "block_delta",
        "block_end",
        "completed",
    ]
    assert "".join(event.block_delta.text for event in events) == answer.text == "Hello"
    assert events[-1].completed.usage == answer.usage
    assert json_format.MessageToDict(answer.message) == {"role": "assistant", "content": "Hello"}
    streamed, whole = house.gateway.calls
    assert (streamed[3], whole[3]) == (True, False)
    assert streamed[:3] == whole[:3]
    assert (streamed[0].key_id, streamed[1], streamed[2].model) == ("key_member", "ws_1", "openai/gpt-x")


async def test_generate_answers_as_json_and_as_bare_text_that_says_beside_it_how_it_ended(
    house: House, channel: grpc.aio.Channel
) -> None:
    house.gateway.batches = (
        [Started("openai", "m", warnings=(Warning("parameter_stripped", "w", "temperature"),)), *ANSWER[0][1:]],
        ANSWER[1],
        [Completed("length", "length", Usage(1, 2, 3))],
    )
    stub = LLMServiceStub(channel)
    answer = await stub.Generate(llm_pb.GenerateRequest(prompt="p"), metadata=key())
    assert (answer.text, answer.finish_reason, answer.usage.total_tokens) == ("Hello", "length", 3)
    call = stub.GenerateText(llm_pb.GenerateRequest(prompt="p"), metadata=key())
    body = await call
    assert (body.content_type, body.data) == ("text/plain; charset=utf-8", b"Hello")
    told = dict(await call.initial_metadata())
    assert told["x-dragoman-finish-reason"] == "length"
    assert told["x-dragoman-warning"] == "parameter_stripped temperature"


@pytest.mark.parametrize("transport", ["", "grpc", "sse", "rest"])
async def test_a_failure_before_the_answer_begins_is_the_status_for_everyone(
    house: House, channel: grpc.aio.Channel, transport: str
) -> None:
    house.gateway.batches, house.gateway.error = (), ProviderUnavailable("Refused.", provider="openai")
    metadata = key(x_dragoman_transport=transport) if transport else key()
    events, error = await collect(LLMServiceStub(channel).Chat(HELLO, metadata=metadata))
    assert events == []
    assert error is not None
    assert reason(error) == ("UNAVAILABLE", "PROVIDER_UNAVAILABLE")


@pytest.mark.parametrize("transport", ["", "grpc", "sse", "rest"])
@pytest.mark.parametrize("raised", [False, True], ids=["as an event", "raised"])
@pytest.mark.parametrize("defect", [False, True], ids=["the provider's", "a defect"])
async def test_a_failure_within_the_answer_is_a_status_or_where_that_cannot_be_seen_the_last_event(
    house: House, channel: grpc.aio.Channel, transport: str, raised: bool, defect: bool
) -> None:
    cause = StreamTruncated("Cut short.", provider="openai")
    house.gateway.batches = CUT if raised or defect else (*CUT, [Failed(cause, Usage(9))])
    house.gateway.error = RuntimeError("canary") if defect else cause if raised else None
    metadata = key(x_dragoman_transport=transport) if transport else key()
    events, error = await collect(LLMServiceStub(channel).Chat(HELLO, metadata=metadata))
    expected = ("INTERNAL", "INTERNAL") if defect else ("UNAVAILABLE", "STREAM_TRUNCATED")
    assert [event.sequence for event in events[:3]] == [1, 2, 3]
    if transport in ("sse", "rest"):
        assert error is None
        (failed,) = events[3:]
        assert (failed.sequence, failed.failed.status) == (4, expected[0])
        assert failed.failed.usage.prompt_tokens == (0 if raised or defect else 9)
        assert b"canary" not in failed.SerializeToString()
    else:
        assert len(events) == 3
        assert error is not None
        assert reason(error) == expected
        assert info(error).metadata["retryable"] == ("false" if defect else "true")


async def test_the_callers_deadline_reaches_the_gateway_as_what_is_left_of_it(
    house: House, channel: grpc.aio.Channel
) -> None:
    stub = LLMServiceStub(channel)
    await stub.Complete(HELLO, metadata=key(), timeout=30)
    await collect(stub.Chat(HELLO, metadata=key(), timeout=30))
    await stub.Complete(HELLO, metadata=key())
    *bounded, free = [call[4] for call in house.gateway.calls]
    assert free is None
    assert all(left is not None and 25 < left < 31 for left in bounded)


@pytest.mark.parametrize("batches", [(), CUT], ids=["before the first event", "within the answer"])
@pytest.mark.parametrize("unary", [False, True])
@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_caller_that_goes_away_closes_the_gateways_stream(
    house: House, channel: grpc.aio.Channel, batches: Any, unary: bool, how: str, log_lines: asyncio.Queue[str]
) -> None:
    house.gateway.batches, house.gateway.stall = batches, True
    stub = LLMServiceStub(channel)
    timeout = 0.2 if how == "deadline" else None
    call: Any = (stub.Complete if unary else stub.Chat)(HELLO, metadata=key(), timeout=timeout)
    if batches and not unary:
        assert (await call.read()).WhichOneof("event") == "started"
    await asyncio.wait_for(house.gateway.called.wait(), 5)
    if how == "cancel":
        call.cancel()
    await asyncio.wait_for(house.gateway.closed.wait(), 5)
    assert await next_line(log_lines) == "CANCELLED"


async def test_a_caller_that_goes_away_without_reading_closes_the_gateways_stream(
    house: House, channel: grpc.aio.Channel, log_lines: asyncio.Queue[str]
) -> None:
    """The server then waits in a write, not in the gateway: flow control holds it there."""
    house.gateway.batches = (CUT[0], *([[BlockDelta(0, "x" * 100_000)]] * 1000))
    house.gateway.stall = True
    call: Any = LLMServiceStub(channel).Chat(HELLO, metadata=key())
    assert (await call.read()).WhichOneof("event") == "started"
    await asyncio.sleep(0.2)
    assert not house.gateway.closed.is_set()
    call.cancel()
    await asyncio.wait_for(house.gateway.closed.wait(), 5)
    assert await next_line(log_lines) == "CANCELLED"


async def test_a_server_that_is_stopped_closes_the_gateways_streams(house: House) -> None:
    house.gateway.batches, house.gateway.stall = CUT, True
    async with grpc.aio.insecure_channel(house.address) as channel:
        call: Any = LLMServiceStub(channel).Chat(HELLO, metadata=key())
        assert (await call.read()).WhichOneof("event") == "started"
        await house.stop()
        await asyncio.wait_for(house.gateway.closed.wait(), 5)
