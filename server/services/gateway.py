"""The main job: resolve a request to a route, call the provider, and let only a legal stream out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, Self

import msgspec

from server.core.access import Principal
from server.core.catalog import ModelKind
from server.core.embedding import EmbedRequest, EmbedResponse, Vector, add_usage
from server.core.errors import DragomanError, ProviderError, ProviderModelNotFound, ProviderProtocolError
from server.core.events import BlockDelta, Failed, StreamEvent, Terminal, Usage, Warning
from server.core.history import check_history
from server.core.messages import ChatRequest
from server.core.ports import (
    CallTimeouts,
    EmbedBatch,
    EmbedCall,
    EventStream,
    ProviderCall,
    Providers,
    ProviderTarget,
    TokenCount,
)
from server.core.quoting import quote_provider
from server.core.routing import Route
from server.core.stream import ChatResponse, Folder, Guard
from server.services.models import ModelService, require_allowed
from server.services.pacing import Pace
from server.services.targets import Targets


class CallRecorder(Protocol):
    """Where finished calls are counted."""

    def record(self, config_id: str, usage: Usage, *, failed: bool) -> None: ...


class Gateway:
    """Calls of language models. One path for streams and for whole answers: `complete` folds what `chat` yields.

    pace: by which streams leave together under load; None: each piece leaves as it comes.
    """

    def __init__(
        self,
        models: ModelService,
        providers: Providers,
        targets: Targets,
        recorder: CallRecorder,
        timeouts: CallTimeouts,
        pace: Pace | None = None,
    ) -> None:
        self._models = models
        self._providers = providers
        self._targets = targets
        self._recorder = recorder
        self._timeouts = timeouts
        self._pace = pace or Pace(0.0)

    def chat(
        self,
        caller: Principal,
        workspace_id: str,
        request: ChatRequest,
        *,
        stream: bool,
        timeout: float | None,
    ) -> EventStream:
        """The answer's events in batches, legal by the grammar of `server.core.stream`.

        stream: whether the provider is asked for its streaming wire. timeout: seconds that the caller's deadline
        leaves. Raises DragomanError for a call that cannot be made, and reading does for one that failed before
        Started; afterwards the failure is the last event.
        """
        route, call = self._call(caller, workspace_id, request, stream=stream, timeout=timeout)
        source = self._providers.get(call.target.provider).chat(call)
        explain = partial(self._models.explain, workspace_id, route)
        return _Answer(call, source, self._recorder, self._pace, explain)

    async def complete(
        self, caller: Principal, workspace_id: str, request: ChatRequest, *, timeout: float | None
    ) -> ChatResponse:
        """The whole answer: the fold of what `chat` gives. Raises DragomanError, also for an answer cut short."""
        folder = Folder()
        answer = self.chat(caller, workspace_id, request, stream=False, timeout=timeout)
        try:
            while not folder.ended:
                folder.feed(await anext(answer))
        finally:
            await answer.aclose()
        return folder.result()

    async def embed(
        self, caller: Principal, workspace_id: str, request: EmbedRequest, *, timeout: float | None
    ) -> EmbedResponse:
        """Every input's vector. Raises DragomanError; what the provider had counted until then is recorded too."""
        route, target = self._route(caller, workspace_id, request, kind="embedding")
        call = EmbedCall(
            target=target,
            request=request,
            model=route.model,
            info=route.info,
            timeouts=msgspec.structs.replace(self._timeouts, total=timeout),
        )
        batches: list[EmbedBatch] = []
        failed = True
        source = self._providers.get(target.provider).embed(call)
        try:
            async for batch in source:
                batches.append(batch)  # noqa: PERF401  what came before a failure counts
            answer = _joined(call, batches)
            failed = False
        except ProviderError as error:
            quote_provider(error, request)
            if isinstance(error, ProviderModelNotFound):
                self._models.explain(workspace_id, route, error)
            raise
        finally:
            await source.aclose()
            used = add_usage([batch.usage for batch in batches])
            self._recorder.record(target.config_id, used, failed=failed)
        return answer

    async def count_tokens(
        self, caller: Principal, workspace_id: str, request: ChatRequest, *, timeout: float | None
    ) -> TokenCount:
        """The provider's own count of the request's input. No model is called: nothing is recorded. Raises
        DragomanError, for a provider that counts none too."""
        route, call = self._call(caller, workspace_id, request, stream=False, timeout=timeout)
        try:
            return await self._providers.get(call.target.provider).count_tokens(call)
        except ProviderError as error:
            quote_provider(error, request)
            if isinstance(error, ProviderModelNotFound):
                self._models.explain(workspace_id, route, error)
            raise

    def _call(
        self, caller: Principal, workspace_id: str, request: ChatRequest, *, stream: bool, timeout: float | None
    ) -> tuple[Route, ProviderCall]:
        check_history(request.messages)
        route, target = self._route(caller, workspace_id, request, kind="chat", legacy=request.legacy)
        return route, ProviderCall(
            target=target,
            request=request,
            model=route.model,
            info=route.info,
            stream=stream,
            timeouts=msgspec.structs.replace(self._timeouts, total=timeout),
        )

    def _route(
        self,
        caller: Principal,
        workspace_id: str,
        request: ChatRequest | EmbedRequest,
        *,
        kind: ModelKind,
        legacy: bool = False,
    ) -> tuple[Route, ProviderTarget]:
        route = self._models.resolve(
            workspace_id, request.model, request.provider, request.provider_name, legacy=legacy, kind=kind
        )
        if caller.allowed_models:
            require_allowed(caller.allowed_models, *route.ids())
        return route, self._targets.open(route.config, wire=route.wire)


def _joined(call: EmbedCall, batches: Sequence[EmbedBatch]) -> EmbedResponse:
    """The batches as one answer. Raises ProviderProtocolError where they do not cover the input."""
    vectors: list[Vector[float]] = []
    warnings: dict[Warning, None] = {}
    for batch in sorted(batches, key=lambda batch: batch.start):
        if batch.start != len(vectors):
            break
        vectors += batch.vectors
        warnings |= dict.fromkeys(batch.warnings)
    if len(vectors) != len(call.request.input):
        raise ProviderProtocolError("The provider gave no embedding for some inputs.", provider=call.target.provider)
    return EmbedResponse(
        vectors=tuple(vectors),
        usage=add_usage([batch.usage for batch in batches]),
        model=batches[0].model,
        provider=call.target.provider,
        warnings=tuple(warnings),
        request_id=batches[0].request_id,
    )


class _Answer:
    """An EventStream: a provider's, of which a Guard lets the legal part out. The call is recorded once, as it ends.

    explain: adds near names to the error of a model that the provider does not know. An object and no generator, as
    every event of every stream passes here: docs/decisions/performance.md.
    """

    __slots__ = ("_begun", "_call", "_closed", "_explain", "_failed", "_flows", "_guard", "_pace", "_recorder",
                 "_source", "_usage")  # fmt: skip

    def __init__(
        self,
        call: ProviderCall,
        source: EventStream,
        recorder: CallRecorder,
        pace: Pace,
        explain: Callable[[ProviderModelNotFound], object],
    ) -> None:
        self._call = call
        self._source = source
        self._recorder = recorder
        self._pace = pace
        self._explain = explain
        self._guard = Guard()
        self._usage = Usage()
        self._failed = False
        self._flows = False
        self._begun = False
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[StreamEvent]:
        if self._closed:
            raise StopAsyncIteration
        self._begun = True
        guard = self._guard
        passed: Sequence[StreamEvent] = ()
        try:
            try:
                # Past the terminal event too, which nothing follows: a connection read to its end is used again.
                while not passed:
                    passed = guard.feed(await anext(self._source))
            except StopAsyncIteration:
                passed = guard.end()
                if not passed:
                    raise
            last = passed[-1]
            if isinstance(last, Terminal):
                self._note_end(last)
            elif self._flows and self._pace.together():
                # The first token never waits, nor does the end. What comes meanwhile is joined by the next read.
                await self._pace.tick()
            elif self._call.stream and not self._flows:
                self._flows = BlockDelta in map(type, passed)
        except DragomanError as error:
            return await self._failure(error)
        except BaseException:
            await self.aclose()
            raise
        return passed

    async def aclose(self) -> None:
        """Close the provider's stream, and record the call if it was made. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._source.aclose()
        finally:
            if self._begun:
                self._recorder.record(self._call.target.config_id, self._usage, failed=self._failed)

    def _note_end(self, last: Terminal) -> None:
        """What the call cost and how it ended. Raises the error of one that failed instead of beginning to answer."""
        self._usage = last.usage
        if isinstance(last, Failed):
            self._fail(last.error)
            if not self._guard.started:
                raise last.error

    async def _failure(self, error: DragomanError) -> Sequence[StreamEvent]:
        """The last batch of a call that ends with an error, which is raised where no event came before it."""
        guard = self._guard
        if guard.started and guard.ended:  # the answer is out: what becomes of its connection is of no interest
            await self.aclose()
            raise StopAsyncIteration
        self._fail(error)
        await self.aclose()
        if guard.started:
            return [Failed(error)]
        if isinstance(error, ProviderModelNotFound):
            self._explain(error)
        raise error

    def _fail(self, error: DragomanError) -> None:
        """The call failed; the provider's words about it are added where they may be."""
        self._failed = True
        if isinstance(error, ProviderError):
            quote_provider(error, self._call.request)
