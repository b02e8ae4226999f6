"""Embeddings through the gateway: the right model, all vectors or an error, every call counted and closed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from server.core.access import Principal, Role
from server.core.catalog import Catalog, ModelInfo
from server.core.embedding import EmbedRequest, vector
from server.core.endpoint import EndpointPolicy
from server.core.errors import (
    DragomanError,
    InvalidRequest,
    PermissionDenied,
    ProviderInvalidRequest,
    ProviderProtocolError,
    ProviderRateLimited,
)
from server.core.events import Usage, Warning
from server.core.ports import CallTimeouts, EmbedBatch
from server.core.quoting import WITHHELD
from server.services.gateway import Gateway
from server.services.models import ModelService
from server.services.targets import Targets
from tests.services.fakes import Ledger, MarkingVault, OneProvider, ScriptedProvider, provider_config, snapshot_of

CALLER = Principal("key_1", "org_1", "ws_1", Role.MEMBER, "key_1")
TEXT = "a text that is longer than what a provider may quote"
REQUEST = EmbedRequest(input=(TEXT, "two"), model="custom/emb")
CHAT = ModelInfo(id="custom/talks", name="Talks", provider="custom", model="talks")
EMBEDS = ModelInfo(id="custom/emb", name="Embeds", provider="custom", model="emb", kind="embedding")
ODD = Warning("parameter_stripped", "user: nobody asks.", "user")


def batch(start: int, *numbers: float, usage: Usage = Usage(3, None, 3), warned: bool = False) -> EmbedBatch:  # noqa: B008
    vectors = [vector([number]) for number in numbers]
    warnings = (ODD,) if warned else ()
    return EmbedBatch(
        start=start, vectors=vectors, usage=usage, model="emb-1", request_id=f"r{start}", warnings=warnings
    )


class Bench:
    """A gateway over a scripted provider."""

    def __init__(self, *batches: EmbedBatch, error: DragomanError | None = None) -> None:
        self.provider = ScriptedProvider(error=error)
        self.provider.embed_batches = batches
        self.ledger = Ledger()
        models = ModelService(snapshot_of(provider_config()), Catalog((CHAT, EMBEDS), providers={"custom": ()}))
        targets = Targets(MarkingVault(), EndpointPolicy())
        self.gateway = Gateway(models, OneProvider(self.provider), targets, self.ledger, CallTimeouts())


async def test_batches_in_any_order_are_one_answer_and_each_warning_is_told_once() -> None:
    bench = Bench(batch(1, 2.0, warned=True), batch(0, 1.0, warned=True))
    answer = await bench.gateway.embed(CALLER, "ws_1", REQUEST, timeout=7.0)
    assert [values.tolist() for values in answer.vectors] == [[1.0], [2.0]]
    assert (answer.usage, answer.model, answer.provider) == (Usage(6, None, 6), "emb-1", "custom")
    assert answer.warnings == (ODD,)
    (call,) = bench.provider.embed_calls
    assert (call.model, call.info, call.timeouts.total) == ("emb", EMBEDS, 7.0)
    assert bench.ledger.calls == [("cfg_1", Usage(6, None, 6), False)]
    assert bench.provider.closed == 1


@pytest.mark.parametrize("batches", [(), (batch(0, 1.0),), (batch(1, 2.0),), (batch(0, 1.0), batch(0, 1.0))])
async def test_an_answer_that_leaves_inputs_out_is_an_error_and_is_counted(batches: Sequence[EmbedBatch]) -> None:
    bench = Bench(*batches)
    with pytest.raises(ProviderProtocolError):
        await bench.gateway.embed(CALLER, "ws_1", REQUEST, timeout=None)
    ((_, _, failed),) = bench.ledger.calls
    assert failed


async def test_what_was_paid_for_before_a_failure_is_counted() -> None:
    bench = Bench(batch(0, 1.0), error=ProviderRateLimited("slow down"))
    with pytest.raises(ProviderRateLimited):
        await bench.gateway.embed(CALLER, "ws_1", REQUEST, timeout=None)
    assert bench.ledger.calls == [("cfg_1", Usage(3, None, 3), True)]
    assert bench.provider.closed == 1


@pytest.mark.parametrize(("words", "told"), [("too many inputs", "too many inputs"), (f"bad: {TEXT}", WITHHELD)])
async def test_the_providers_words_are_passed_on_unless_they_repeat_an_input(words: str, told: str) -> None:
    bench = Bench(error=ProviderInvalidRequest("The provider refused it.", provider_message=words))
    with pytest.raises(ProviderInvalidRequest) as caught:
        await bench.gateway.embed(CALLER, "ws_1", REQUEST, timeout=None)
    assert caught.value.metadata["provider_message"] == told
    assert TEXT not in str(caught.value)


async def test_a_model_that_talks_is_refused_and_nothing_is_sent() -> None:
    bench = Bench()
    with pytest.raises(InvalidRequest, match="kind chat"):
        await bench.gateway.embed(CALLER, "ws_1", msgspec.structs.replace(REQUEST, model="custom/talks"), timeout=None)
    assert (bench.provider.embed_calls, bench.ledger.calls) == ([], [])


async def test_a_key_for_other_models_is_refused() -> None:
    caller = msgspec.structs.replace(CALLER, allowed_models=("custom/talks",))
    bench = Bench(batch(0, 1.0, 2.0))
    with pytest.raises(PermissionDenied):
        await bench.gateway.embed(caller, "ws_1", REQUEST, timeout=None)
    assert bench.provider.embed_calls == []
