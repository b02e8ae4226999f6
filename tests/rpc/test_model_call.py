"""The loop that writes a stream: however it ends, the gateway's stream is closed before it returns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from server.core.access import Principal, Role
from server.core.errors import ProviderUnavailable, StreamTruncated
from server.core.events import Failed, Started, StreamEvent, Usage, Warning
from server.core.messages import ChatRequest
from server.core.proxies import TrustedProxies
from server.rpc.call import Call
from server.rpc.model_call import ModelCalls
from server.rpc.peers import Peers
from tests.rpc.house import ANSWER, Gateway

CALLER = Principal("key_1", "org_1", "ws_1", Role.MEMBER, "key_1")
REQUEST = ChatRequest(messages=(), model="openai/gpt-x")
EVENTS = [event for batch in ANSWER for event in batch]


class Context:
    """A context that keeps what is written, and may fail at the message of a number (from 1)."""

    def __init__(self, fails_at: int = 0, error: BaseException | None = None) -> None:
        self.written: list[Any] = []
        self.fails_at = fails_at
        self.error = error

    def time_remaining(self) -> float | None:
        return None

    async def write(self, message: Any) -> None:
        if self.error is not None and len(self.written) + 1 == self.fails_at:
            raise self.error
        self.written.append(message)


def make_call(context: Any, transport: str = "") -> Call:
    return Call("/m", "r", transport, context, Peers(TrustedProxies()), principal=CALLER, workspace_id="ws_1")


def same(batch: Sequence[StreamEvent]) -> Sequence[StreamEvent]:
    return batch


async def test_each_event_is_written_in_order_and_the_access_log_told() -> None:
    gateway, context = Gateway(), Context()
    call = make_call(context)
    await ModelCalls(gateway).stream(call, REQUEST, same)
    assert context.written == EVENTS
    assert (call.provider, call.model, call.usage) == ("openai", "gpt-x-1", Usage(3, 2, 5))
    assert gateway.closed.is_set()


async def test_what_begins_a_stream_is_sent_once_before_its_first_message() -> None:
    context = Context()
    begun: list[tuple[Sequence[Warning], int]] = []

    async def begin(_call: Call, warnings: Sequence[Warning]) -> None:
        begun.append((warnings, len(context.written)))

    await ModelCalls(Gateway()).stream(make_call(context), REQUEST, same, begin)
    assert begun == [((), 0)]
    assert isinstance(context.written[0], Started)


@pytest.mark.parametrize("transport", ["", "sse"])
@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("error", [asyncio.CancelledError(), grpc.aio.InternalError("the call is over")])
async def test_a_write_that_nobody_waits_for_ends_the_stream_and_is_told_to_nobody(
    transport: str, number: int, error: BaseException
) -> None:
    gateway, context = Gateway(), Context(number, error)
    with pytest.raises(type(error)):
        await ModelCalls(gateway).stream(make_call(context, transport), REQUEST, same)
    assert context.written == EVENTS[: number - 1]
    assert gateway.closed.is_set()


async def test_a_renderer_that_fails_ends_the_stream() -> None:
    gateway = Gateway()

    def render(batch: Sequence[StreamEvent]) -> Sequence[StreamEvent]:
        raise RuntimeError("defect")

    with pytest.raises(RuntimeError, match="defect"):
        await ModelCalls(gateway).stream(make_call(Context()), REQUEST, render)
    assert gateway.closed.is_set()


@pytest.mark.parametrize("raised", [False, True], ids=["as an event", "raised"])
async def test_a_late_failure_is_the_one_last_message_in_band_behind_what_came_with_it(raised: bool) -> None:
    gateway, context = Gateway(), Context()
    cause = StreamTruncated("Cut short.", provider="openai")
    gateway.batches = ANSWER[:1] if raised else ([*ANSWER[0], Failed(cause, Usage(9))],)
    gateway.error = cause if raised else ProviderUnavailable("never seen")
    call = make_call(context, "sse")
    await ModelCalls(gateway).stream(call, REQUEST, same)
    assert context.written[:-1] == ANSWER[0]
    assert context.written[-1] == Failed(cause, Usage() if raised else Usage(9))
    assert call.reason == "STREAM_TRUNCATED"
    assert gateway.closed.is_set()


@pytest.mark.parametrize("started", [False, True])
async def test_a_stream_that_is_cancelled_while_it_waits_for_the_gateway_closes_it(started: bool) -> None:
    gateway, context = Gateway(), Context()
    gateway.batches, gateway.stall = ANSWER[:1] if started else (), True
    task = asyncio.ensure_future(ModelCalls(gateway).stream(make_call(context, "sse"), REQUEST, same))
    await gateway.called.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert context.written == (ANSWER[0] if started else [])
    assert gateway.closed.is_set()
