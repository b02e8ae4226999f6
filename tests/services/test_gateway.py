"""The gateway's one path: what it asks of a provider, what it lets out, and that it closes and counts every call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import msgspec
import pytest

from server.core.access import Principal, Role
from server.core.catalog import Catalog
from server.core.endpoint import EndpointPolicy
from server.core.errors import (
    DragomanError,
    InternalError,
    NotConfigured,
    PermissionDenied,
    ProviderModelNotFound,
    ProviderRateLimited,
    ProviderTimeout,
    StreamTruncated,
)
from server.core.events import BlockDelta, BlockEnd, BlockStart, Completed, Failed, Started, StreamEvent, Usage
from server.core.messages import ChatRequest, Message, Text
from server.core.ports import CallTimeouts, ProviderCall
from server.core.provider_config import PROVIDERS
from server.services.gateway import Gateway
from server.services.models import ModelService
from server.services.targets import Targets
from tests.services.fakes import Ledger, MarkingVault, OneProvider, ScriptedProvider, provider_config, snapshot_of

CALLER = Principal("key_1", "org_1", "ws_1", Role.MEMBER, "key_1")
REQUEST = ChatRequest(messages=(Message("user", (Text("Hi"),)),), model="custom/demo")
STARTED = Started("custom", "demo-1")
DONE = Completed("stop", "stop", Usage(3, 2, 5))
ANSWER: list[StreamEvent] = [STARTED, BlockStart(0, "text"), BlockDelta(0, "Hello"), BlockEnd(0), DONE]


class Bench:
    """A gateway over a scripted provider."""

    def __init__(self, adapter: ScriptedProvider, **config: object) -> None:
        self.provider = adapter
        self.ledger = Ledger()
        models = ModelService(
            snapshot_of(provider_config(**config)), Catalog((), providers=dict.fromkeys(PROVIDERS, ()))
        )
        targets = Targets(MarkingVault(), EndpointPolicy())
        self.gateway = Gateway(models, OneProvider(adapter), targets, self.ledger, CallTimeouts())

    async def events(self, request: ChatRequest = REQUEST) -> list[StreamEvent]:
        batches = self.gateway.chat(CALLER, "ws_1", request, stream=True, timeout=7.0)
        return [event async for batch in batches for event in batch]


def by_batches_of(size: int) -> Sequence[Sequence[StreamEvent]]:
    return [ANSWER[i : i + size] for i in range(0, len(ANSWER), size)]


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_a_whole_answer_is_the_fold_of_what_is_streamed(size: int) -> None:
    bench = Bench(ScriptedProvider(*by_batches_of(size)))
    assert await bench.events() == ANSWER
    answer = await bench.gateway.complete(CALLER, "ws_1", REQUEST, timeout=None)
    assert (answer.text, answer.finish_reason, answer.usage) == ("Hello", "stop", Usage(3, 2, 5))
    assert [call.stream for call in bench.provider.calls] == [True, False]


async def test_the_provider_is_called_with_the_opened_credential_the_deadline_and_its_own_model_name() -> None:
    bench = Bench(ScriptedProvider(ANSWER))
    await bench.events()
    (call,) = bench.provider.calls
    assert call.target.secret is not None
    assert call.target.secret.reveal() == "sk-demo"
    assert (call.target.endpoint, call.model, call.timeouts.total) == ("https://llm.example.com/v1", "demo", 7.0)


async def test_a_key_without_a_secret_is_the_credential() -> None:
    bench = Bench(ScriptedProvider(ANSWER), sealed_secret=None, sealed_key=b"ws_1|cfg_1|key|sk-key")
    await bench.events()
    target = bench.provider.calls[0].target
    assert target.secret is not None
    assert (target.secret.reveal(), target.key) == ("sk-key", None)


async def test_a_provider_that_needs_a_credential_is_not_called_without_one() -> None:
    bench = Bench(ScriptedProvider(ANSWER), provider="anthropic", ai_type="ANTHROPIC", sealed_secret=None)
    with pytest.raises(NotConfigured) as caught:
        await bench.events(ChatRequest(messages=REQUEST.messages, model="claude-x", provider="anthropic"))
    assert caught.value.message == "No credential configured for ANTHROPIC"
    assert bench.provider.calls == []


@pytest.mark.parametrize(
    ("batches", "error", "raised"),
    [
        ([], ProviderRateLimited("slow down"), ProviderRateLimited),
        ([[Failed(ProviderRateLimited("slow down"))]], None, ProviderRateLimited),
        ([], None, StreamTruncated),
    ],
)
async def test_a_failure_before_the_answer_begins_is_raised(
    batches: Sequence[Sequence[StreamEvent]], error: DragomanError | None, raised: type[DragomanError]
) -> None:
    bench = Bench(ScriptedProvider(*batches, error=error))
    with pytest.raises(raised):
        await bench.events()
    assert [failed for _, _, failed in bench.ledger.calls] == [True]


@pytest.mark.parametrize(
    ("tail", "error", "failed"),
    [
        ([], ProviderTimeout("idle", 60), ProviderTimeout),
        ([[Failed(ProviderTimeout("idle", 60), Usage(3))]], None, ProviderTimeout),
        ([], None, StreamTruncated),
        ([[DONE]], None, InternalError),
    ],
)
async def test_a_failure_within_the_answer_is_its_last_event(
    tail: Sequence[Sequence[StreamEvent]], error: DragomanError | None, failed: type[DragomanError]
) -> None:
    bench = Bench(ScriptedProvider(ANSWER[:3], *tail, error=error))
    events = await bench.events()
    assert events[:3] == ANSWER[:3]
    (last,) = events[3:]
    assert isinstance(last, Failed)
    assert isinstance(last.error, failed)
    assert [failed for _, _, failed in bench.ledger.calls] == [True]
    with pytest.raises(failed):
        await bench.gateway.complete(CALLER, "ws_1", REQUEST, timeout=None)


async def test_closing_the_stream_closes_the_provider_and_counts_the_call_once() -> None:
    bench = Bench(ScriptedProvider(ANSWER[:3], hang=True))
    stream = bench.gateway.chat(CALLER, "ws_1", REQUEST, stream=True, timeout=None)
    assert list(await anext(stream)) == ANSWER[:3]
    await stream.aclose()
    assert bench.provider.closed == 1
    assert bench.ledger.calls == [("cfg_1", Usage(), False)]


async def test_cancelling_a_waiting_call_closes_the_provider() -> None:
    bench = Bench(ScriptedProvider(hang=True))
    task = asyncio.create_task(bench.events())
    await bench.provider.called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.provider.closed == 1


async def test_a_stream_that_is_closed_before_it_is_read_calls_nobody_and_counts_nothing() -> None:
    bench = Bench(ScriptedProvider(ANSWER))
    stream = bench.gateway.chat(CALLER, "ws_1", REQUEST, stream=True, timeout=None)
    await stream.aclose()
    assert [batch async for batch in stream] == []
    assert (bench.provider.calls, bench.ledger.calls) == ([], [])


@pytest.mark.parametrize("read", ["one batch", "to its end"])
async def test_a_stream_that_is_closed_twice_is_counted_once_and_exhausted(read: str) -> None:
    bench = Bench(ScriptedProvider(*by_batches_of(2)))
    stream = bench.gateway.chat(CALLER, "ws_1", REQUEST, stream=True, timeout=None)
    await anext(stream)
    if read == "to its end":
        assert [batch async for batch in stream]
    for _ in range(2):
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert bench.provider.closed == 1
    assert len(bench.ledger.calls) == 1


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("before", [[], ANSWER[:3]], ids=["before the first event", "within the answer"])
async def test_a_call_that_is_cancelled_while_it_is_read_is_closed_by_itself_and_counted_once(
    before: list[StreamEvent], whole: bool
) -> None:
    bench = Bench(ScriptedProvider(*([before] if before else []), hang=True))
    stream = bench.gateway.chat(CALLER, "ws_1", REQUEST, stream=True, timeout=None)

    async def read() -> None:
        if whole:
            await bench.gateway.complete(CALLER, "ws_1", REQUEST, timeout=None)
        async for _ in stream:
            pass

    task = asyncio.create_task(read())
    await bench.provider.called.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.provider.closed == 1
    assert bench.ledger.calls == [("cfg_1", Usage(), False)]
    await stream.aclose()
    assert len(bench.ledger.calls) == 1


async def test_a_defect_below_is_raised_as_it_is_and_the_call_is_closed_and_counted() -> None:
    bench = Bench(ScriptedProvider(ANSWER[:3], error=RuntimeError("defect")))
    with pytest.raises(RuntimeError, match="defect"):
        await bench.events()
    assert bench.provider.closed == 1
    assert len(bench.ledger.calls) == 1


async def test_what_goes_wrong_behind_the_terminal_event_is_of_no_interest() -> None:
    bench = Bench(ScriptedProvider(ANSWER, error=ProviderTimeout("idle", 60)))
    assert await bench.events() == ANSWER
    assert bench.ledger.calls == [("cfg_1", Usage(3, 2, 5), False)]


async def test_a_provider_that_cannot_be_closed_is_counted_all_the_same() -> None:
    """The call took place, whatever becomes of its connection."""

    class Stuck(ScriptedProvider):
        async def chat(self, call: ProviderCall) -> AsyncGenerator[Sequence[StreamEvent], None]:
            try:
                yield ANSWER[:3]
            finally:
                raise RuntimeError("stuck")

    bench = Bench(Stuck())
    stream = bench.gateway.chat(CALLER, "ws_1", REQUEST, stream=True, timeout=None)
    await anext(stream)
    with pytest.raises(RuntimeError, match="stuck"):
        await stream.aclose()
    assert len(bench.ledger.calls) == 1


async def test_usage_is_counted_with_the_configuration_that_was_used() -> None:
    bench = Bench(ScriptedProvider(ANSWER))
    await bench.events()
    assert bench.ledger.calls == [("cfg_1", Usage(3, 2, 5), False)]


async def test_a_model_that_the_provider_does_not_know_is_answered_with_near_names() -> None:
    bench = Bench(ScriptedProvider(error=ProviderModelNotFound("no such model")))
    with pytest.raises(ProviderModelNotFound) as caught:
        await bench.events(ChatRequest(messages=REQUEST.messages, model="custom/demoo"))
    assert caught.value.metadata["candidates"] == "custom/demo"


async def test_a_stored_endpoint_that_is_not_allowed_any_more_is_not_called() -> None:
    bench = Bench(ScriptedProvider(ANSWER), endpoint="http://127.0.0.1:9100/v1")
    with pytest.raises(NotConfigured):
        await bench.events()
    assert bench.provider.calls == []


async def test_a_count_of_tokens_is_the_providers_and_no_call_of_a_model() -> None:
    """It goes to the adapter as the call itself would, and the statistics do not change."""
    bench = Bench(ScriptedProvider())
    found = await bench.gateway.count_tokens(CALLER, "ws_1", REQUEST, timeout=7.0)
    assert (found.input_tokens, found.provider, found.model) == (17, "custom", "demo")
    (call,) = bench.provider.calls
    assert (call.request, call.stream, call.timeouts.total) == (REQUEST, False, 7.0)
    assert bench.ledger.calls == []


async def test_a_count_that_fails_is_the_providers_error_and_is_not_recorded_either() -> None:
    bench = Bench(ScriptedProvider(error=ProviderRateLimited("Slow down.", provider_message="wait a while")))
    with pytest.raises(ProviderRateLimited, match="wait a while"):
        await bench.gateway.count_tokens(CALLER, "ws_1", REQUEST, timeout=None)
    assert bench.ledger.calls == []


async def test_a_key_for_other_models_counts_nothing() -> None:
    caller = msgspec.structs.replace(CALLER, allowed_models=("custom/other",))
    bench = Bench(ScriptedProvider())
    with pytest.raises(PermissionDenied):
        await bench.gateway.count_tokens(caller, "ws_1", REQUEST, timeout=None)
    assert bench.provider.calls == []
