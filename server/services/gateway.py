"""The main job: resolve a request to a route, call the provider, and let only a legal stream out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

import msgspec

from server.core.access import Principal
from server.core.catalog import ModelKind
from server.core.embedding import EmbedRequest, EmbedResponse, Vector, add_usage
from server.core.errors import DragomanError, ProviderError, ProviderModelNotFound, ProviderProtocolError
from server.core.events import BlockDelta, Completed, Failed, StreamEvent, Usage, Warning
from server.core.history import check_history
from server.core.messages import ChatRequest
from server.core.ports import CallTimeouts, EmbedBatch, EmbedCall, ProviderCall, Providers, ProviderTarget, TokenCount
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

    async def chat(
        self,
        caller: Principal,
        workspace_id: str,
        request: ChatRequest,
        *,
        stream: bool,
        timeout: float | None,
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """The answer's events in batches, legal by the grammar of `server.core.stream`.

        stream: whether the provider is asked for its streaming wire. timeout: seconds that the caller's deadline
        leaves. Raises DragomanError for a call that failed before Started; afterwards the failure is the last event.
        Closing the generator closes the provider's connection.
        """
        route, call = self._call(caller, workspace_id, request, stream=stream, timeout=timeout)
        guard, tally, pace = Guard(), _Tally(request), self._pace
        flows = False
        source = self._providers.get(call.target.provider).chat(call)
        try:
            async for batch in source:
                passed = guard.feed(batch)
                if not passed:
                    continue
                tally.note(passed, guard)
                # The first token never waits, nor does the end. What comes meanwhile is joined by the next read.
                if flows and not guard.ended and pace.together():
                    await pace.tick()
                yield passed
                flows = flows or (stream and any(type(event) is BlockDelta for event in passed))
            # Read past the terminal event, which nothing follows: a connection that was read to its end is used again.
            if not guard.ended:
                yield tally.note(guard.end(), guard)
        except DragomanError as error:
            if guard.started and guard.ended:
                return
            tally.fail(error)
            if guard.started:
                yield [Failed(error)]
                return
            if isinstance(error, ProviderModelNotFound):
                self._models.explain(workspace_id, route, error)
            raise
        finally:
            await source.aclose()
            self._recorder.record(call.target.config_id, tally.usage, failed=tally.failed)

    async def complete(
        self, caller: Principal, workspace_id: str, request: ChatRequest, *, timeout: float | None
    ) -> ChatResponse:
        """The whole answer: the fold of what `chat` yields. Raises DragomanError, also for an answer cut short."""
        folder = Folder()
        async for batch in self.chat(caller, workspace_id, request, stream=False, timeout=timeout):
            folder.feed(batch)
        return folder.result()

    async def embed(
        self, caller: Principal, workspace_id: str, request: EmbedRequest, *, timeout: float | None
    ) -> EmbedResponse:
        """Every input's vector. Raises DragomanError; what the provider had counted until then is recorded too."""
        route, target = self._route(caller, workspace_id, request, kind="embedding")
        call = EmbedCall(
            target=target, request=request, model=route.model, info=route.info, timeouts=self._within(timeout)
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
            timeouts=self._within(timeout),
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

    def _within(self, timeout: float | None) -> CallTimeouts:
        return msgspec.structs.replace(self._timeouts, total=timeout)


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


class _Tally:
    """What a call cost and how it ended, read off the events that pass."""

    __slots__ = ("failed", "request", "usage")

    def __init__(self, request: ChatRequest) -> None:
        self.request = request
        self.usage = Usage()
        self.failed = False

    def fail(self, error: DragomanError) -> None:
        """The call failed; the provider's words about it are added where they may be."""
        self.failed = True
        if isinstance(error, ProviderError):
            quote_provider(error, self.request)

    def note(self, events: Sequence[StreamEvent], guard: Guard) -> Sequence[StreamEvent]:
        """`events` again, or the error of a call that failed instead of beginning to answer."""
        last = events[-1]
        if isinstance(last, Completed | Failed):
            self.usage = last.usage
            if isinstance(last, Failed):
                self.fail(last.error)
                if not guard.started:
                    raise last.error
        return events
