"""The one runner: what it makes of every way in which a provider can answer, break off, or say nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.core.errors import (
    DragomanError,
    ProviderError,
    ProviderProtocolError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnauthenticated,
    ProviderUnavailable,
    StreamTruncated,
    Unavailable,
)
from server.core.events import BlockDelta, Completed, Failed, Started, StreamEvent
from server.core.ports import CallTimeouts
from server.core.stream import fold
from server.providers.http import HttpRequest, HttpResponse
from server.providers.runner import WHOLE_ANSWER_PATIENCE, HttpChatProvider
from server.providers.transport.fake import FakeReply, FakeTransport
from tests.providers.chat_support import KEY, call, delta, sse, target, wire
from tests.support.canary import assert_absent

SSE = {"content-type": "text/event-stream", "x-request-id": "req_1"}
GOOD = sse(delta(content="a"), delta(content="b"), delta(finish="stop"), "[DONE]")
DOCUMENT = json.dumps({"id": "r", "choices": [{"message": {"content": "ab"}, "finish_reason": "stop"}]}).encode()


def reply(*chunks: bytes | DragomanError | asyncio.Event, status: int = 200, **headers: str) -> FakeReply:
    return FakeReply(status=status, headers={**SSE, **headers}, chunks=chunks)


async def batches(
    *replies: FakeReply | DragomanError, stream: bool = True
) -> tuple[list[list[StreamEvent]], FakeTransport]:
    transport = FakeTransport(*replies)
    provider = HttpChatProvider(transport, wire())
    return [list(batch) async for batch in provider.chat(call(stream=stream))], transport


def flat(found: list[list[StreamEvent]]) -> list[StreamEvent]:
    return [event for batch in found for event in batch]


async def test_each_read_is_one_batch_with_its_deltas_joined() -> None:
    """One batch per read of the connection; adjacent deltas of a block are one delta; no token is lost."""
    found, transport = await batches(reply(sse(delta(content="a"), delta(content="b")), sse(delta(content="c")),
                                           sse(delta(finish="stop"), "[DONE]")))  # fmt: skip
    assert [[type(event).__name__ for event in batch] for batch in found] == [
        ["Started", "BlockStart", "BlockDelta"],
        ["BlockDelta"],
        ["BlockEnd", "Completed"],
    ]
    assert fold(flat(found)).text == "abc"
    assert transport.closed_early == 0


async def test_started_has_the_provider_request_id() -> None:
    """The provider's id of the call is in Started."""
    found, _ = await batches(reply(GOOD))
    assert isinstance(found[0][0], Started)
    assert found[0][0].request_id == "req_1"


async def test_a_whole_answer_is_one_batch() -> None:
    """A call without streaming has the same events, at once."""
    found, transport = await batches(reply(DOCUMENT), stream=False)
    assert len(found) == 1
    assert fold(found[0]).text == "ab"
    assert json.loads(transport.requests[0].body).get("stream") is None


async def test_a_document_instead_of_a_stream_is_read_as_an_answer() -> None:
    """Some servers do not stream: their document counts, blank lines before it or not, however it is cut."""
    for chunks in ([DOCUMENT], [b"\n", b"\r\n", DOCUMENT[:5], DOCUMENT[5:]]):
        found, _ = await batches(reply(*chunks))
        assert fold(flat(found)).text == "ab"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error":{"message":"m","code":429}}', ProviderRateLimited),
        (b"<html>captive portal</html>", ProviderProtocolError),
        (b"", StreamTruncated),
        (b": keep-alive\n\n", StreamTruncated),
        (b"\n\n\n", StreamTruncated),
        (sse("garbage"), ProviderProtocolError),
        (sse({"error": {"message": "m", "code": 429}}), ProviderRateLimited),
    ],
)
async def test_what_fails_before_the_first_event_is_raised(body: bytes, error: type[ProviderError]) -> None:
    """Nothing was shown yet, so another provider can be tried: the error is raised, not streamed."""
    with pytest.raises(error) as caught:
        await batches(reply(body))
    assert caught.value.provider == "custom"
    assert caught.value.request_id == "req_1"


async def test_an_error_status_is_raised_with_the_providers_words() -> None:
    """Status, words, hint and request id."""
    body = b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}'
    with pytest.raises(ProviderRateLimited) as caught:
        await batches(reply(body, status=429, **{"retry-after": "7"}))
    error = caught.value
    assert (error.provider_message, error.retry_after, error.request_id) == ("slow down", 7.0, "req_1")
    assert error.http_status == 429


async def test_an_error_body_that_breaks_off_still_has_its_status() -> None:
    """The status is enough when the body cannot be read to its end."""
    with pytest.raises(ProviderRateLimited):
        await batches(reply(b'{"error":', ProviderUnavailable("reset"), status=429))


async def test_an_endless_error_body_is_cut() -> None:
    """An error is read to a bound, and the connection closed."""
    transport = FakeTransport(reply(*[b"x" * 65_536] * 100, status=500))
    with pytest.raises(ProviderUnavailable):
        [batch async for batch in HttpChatProvider(transport, wire()).chat(call())]
    assert transport.closed_early == 1


@pytest.mark.parametrize("error", [ProviderUnavailable("reset"), ProviderTimeout("idle", 60), StreamTruncated("cut"),
                                   Unavailable("draining")])  # fmt: skip
async def test_a_connection_that_breaks_before_and_after_started(error: DragomanError) -> None:
    """Before the first event it is raised; after it, it is the Failed event."""
    with pytest.raises(type(error)):
        await batches(error)
    with pytest.raises(type(error)):
        await batches(reply(error))
    found, _ = await batches(reply(sse(delta(content="a")), error))
    last = flat(found)[-1]
    assert isinstance(last, Failed)
    assert last.error is error


async def test_an_answer_that_was_called_whole_stays_whole() -> None:
    """After the finish reason, a reset instead of [DONE] costs nothing but the usage."""
    found, _ = await batches(reply(sse(delta(content="a"), delta(finish="stop")), ProviderUnavailable("reset")))
    assert isinstance(flat(found)[-1], Completed)


async def test_garbage_after_started_fails_in_band() -> None:
    """The part that came stays, then Failed."""
    found, _ = await batches(reply(sse(delta(content="a")), sse("garbage")))
    events = flat(found)
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, ProviderProtocolError)
    assert any(isinstance(event, BlockDelta) for event in events)


async def test_only_content_ends_the_first_token_timeout() -> None:
    """Comments and an empty first delta do not; the first text does."""
    _, quiet = await batches(
        reply(b": ping\n\n", sse(delta(role="assistant", content="")), ProviderTimeout("first_token", 1))
    )
    assert quiet.first_tokens == 0
    _, spoken = await batches(reply(GOOD))
    assert spoken.first_tokens == 1


async def test_closing_the_iterator_closes_the_connection() -> None:
    """A caller who goes away costs no more tokens."""
    transport = FakeTransport(reply(sse(delta(content="a")), asyncio.Event()))
    stream = HttpChatProvider(transport, wire()).chat(call())
    await anext(stream)
    await stream.aclose()
    assert transport.closed_early == 1


class Leaving(FakeTransport):
    """And counts the responses that were left."""

    left = 0

    @asynccontextmanager
    async def send(self, request: HttpRequest, timeouts: CallTimeouts) -> AsyncIterator[HttpResponse]:
        async with super().send(request, timeouts) as response:
            try:
                yield response
            finally:
                self.left += 1


async def test_nothing_is_sent_before_the_first_event_is_asked_for_nor_once_the_stream_is_closed() -> None:
    """What nobody reads costs nothing."""
    transport = FakeTransport(reply(GOOD))
    stream = HttpChatProvider(transport, wire()).chat(call())
    await stream.aclose()
    assert [batch async for batch in stream] == []
    assert transport.requests == []


@pytest.mark.parametrize("whole", [False, True])
async def test_a_stream_that_is_closed_again_or_was_read_to_its_end_stays_exhausted(whole: bool) -> None:
    """Closed twice, read on: nothing more, and the response was left once, at its end."""
    transport = FakeTransport(reply(DOCUMENT if whole else GOOD))
    stream = HttpChatProvider(transport, wire()).chat(call(stream=not whole))
    assert [batch async for batch in stream]
    for _ in range(2):
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert (transport.closed_early, len(transport.requests)) == (0, 1)


async def test_a_whole_answers_connection_is_free_when_the_answer_is_out() -> None:
    """It does not wait until the caller asks for more."""
    transport = Leaving(reply(DOCUMENT))
    await anext(HttpChatProvider(transport, wire()).chat(call(stream=False)))
    assert transport.left == 1


@pytest.mark.parametrize("first", [[], [sse(delta(content="a"))]], ids=["before the first byte", "within the answer"])
async def test_a_read_that_is_cancelled_leaves_the_response_and_the_stream_exhausted(first: list[bytes]) -> None:
    """The one who was cancelled need not close: the connection is gone with the read."""
    transport = Leaving(reply(*first, asyncio.Event()))
    stream = HttpChatProvider(transport, wire()).chat(call())
    for _ in first:
        await anext(stream)
    read = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    read.cancel()
    with pytest.raises(asyncio.CancelledError):
        await read
    assert (transport.left, transport.closed_early) == (1, 1)
    assert [batch async for batch in stream] == []


async def test_a_stream_that_broke_off_has_left_its_response_and_is_exhausted() -> None:
    """Failed is the last event, and nothing is held for it."""
    transport = Leaving(reply(sse(delta(content="a")), ProviderUnavailable("reset")))
    stream = HttpChatProvider(transport, wire()).chat(call())
    await anext(stream)
    assert isinstance((await anext(stream))[-1], Failed)
    assert transport.left == 1
    assert [batch async for batch in stream] == []


async def test_cancelling_closes_the_connection() -> None:
    """Cancelled while waiting for the provider: closed, and the cancellation passes."""
    transport = FakeTransport(reply(sse(delta(content="a")), asyncio.Event()))

    async def consume() -> None:
        async for _ in HttpChatProvider(transport, wire()).chat(call()):
            arrived.set()

    arrived = asyncio.Event()
    task = asyncio.create_task(consume())
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transport.closed_early == 1


async def test_whole_answers_have_more_patience_than_first_tokens() -> None:
    """A whole answer takes longer than the first token of a stream; the other timeouts are the caller's."""
    _, whole = await batches(reply(DOCUMENT), stream=False)
    _, stream = await batches(reply(GOOD))
    defaults = CallTimeouts()
    assert stream.timeouts == [defaults]
    assert whole.timeouts[0].first_token == defaults.first_token * WHOLE_ANSWER_PATIENCE
    assert (whole.timeouts[0].idle, whole.timeouts[0].total) == (defaults.idle, defaults.total)


@pytest.mark.parametrize(
    "replies",
    [
        [reply(json.dumps({"error": {"message": f"bad {KEY}", "code": KEY}}).encode(), status=401)],
        [reply(json.dumps({"error": {"message": f"bad {KEY}", "code": KEY}}).encode())],
        [reply(sse(delta(content="a"), {"error": {"message": f"bad {KEY}", "type": KEY}}))],
        [ProviderUnavailable(f"cannot reach {KEY}")],
    ],
)
async def test_the_key_is_in_no_error(replies: list[Any]) -> None:
    """However the provider repeats the key, no error shows it."""
    try:
        found, _ = await batches(*replies)
        last = flat(found)[-1]
        assert isinstance(last, Failed)
        error = last.error
    except ProviderError as raised:
        error = raised
    assert_absent(KEY, f"{error!r} {error.args} {error.__dict__}")


async def test_models_are_listed_in_one_shape() -> None:
    """Names, display names and limits, whichever of the known fields a server uses."""
    body = json.dumps({"object": "list", "data": [
        {"id": "a"}, {"id": "b", "name": "B", "context_length": 8192, "top_provider": {"max_completion_tokens": 100}},
        {"id": "c", "context_window": 4096.0, "max_completion_tokens": 50}, {"id": "d", "max_model_len": 2048},
        {"name": "no id"}]}).encode()  # fmt: skip
    transport = FakeTransport(reply(body))
    models = await HttpChatProvider(transport, wire()).list_models(target(), CallTimeouts())
    assert [(m.name, m.display_name, m.context_tokens, m.output_tokens) for m in models] == [
        ("a", None, None, None), ("b", "B", 8192, 100), ("c", None, 4096, 50), ("d", None, 2048, None)]  # fmt: skip
    assert transport.requests[0].url == "https://llm.example/v1/models"


@pytest.mark.parametrize("body", [b'{"data": null}', b"[]", b'{"models": []}'])
async def test_an_empty_list_of_models_is_empty(body: bytes) -> None:
    """Null, a bare list and another key are lists too."""
    assert await HttpChatProvider(FakeTransport(reply(body)), wire()).list_models(target(), CallTimeouts()) == []


async def test_validation_asks_cheaply_and_raises_what_the_provider_says() -> None:
    """200 is a good credential; OpenRouter is asked where a key is needed."""
    transport = FakeTransport(reply(b"{}"), reply(b"{}"), reply(b'{"error":{"message":"no"}}', status=401))
    provider = HttpChatProvider(transport, wire())
    await provider.validate(target(), CallTimeouts())
    await provider.validate(target("openrouter"), CallTimeouts())
    with pytest.raises(ProviderUnauthenticated):
        await provider.validate(target(), CallTimeouts())
    assert [request.url for request in transport.requests[:2]] == [
        "https://llm.example/v1/models",
        "https://llm.example/v1/key",
    ]
    assert all(request.method == "GET" and not request.body for request in transport.requests)
