"""The main job: resolve a request to a route, call the provider, and let only a legal stream out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

import msgspec

from server.core.access import Principal
from server.core.errors import DragomanError, ProviderError, ProviderModelNotFound
from server.core.events import Completed, Failed, StreamEvent, Usage
from server.core.history import check_history
from server.core.messages import ChatRequest
from server.core.ports import CallTimeouts, ProviderCall, Providers
from server.core.quoting import quote_provider
from server.core.routing import Route
from server.core.stream import ChatResponse, Folder, Guard
from server.services.models import ModelService, require_allowed
from server.services.targets import Targets


class CallRecorder(Protocol):
    """Where finished calls are counted."""

    def record(self, config_id: str, usage: Usage, *, failed: bool) -> None: ...


class Gateway:
    """Calls of language models. One path for streams and for whole answers: `complete` folds what `chat` yields."""

    def __init__(
        self,
        models: ModelService,
        providers: Providers,
        targets: Targets,
        recorder: CallRecorder,
        timeouts: CallTimeouts,
    ) -> None:
        self._models = models
        self._providers = providers
        self._targets = targets
        self._recorder = recorder
        self._timeouts = timeouts

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
        guard, tally = Guard(), _Tally(request)
        source = self._providers.get(call.target.provider).chat(call)
        try:
            async for batch in source:
                passed = guard.feed(batch)
                if passed:
                    yield tally.note(passed, guard)
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

    def _call(
        self, caller: Principal, workspace_id: str, request: ChatRequest, *, stream: bool, timeout: float | None
    ) -> tuple[Route, ProviderCall]:
        check_history(request.messages)
        route = self._models.resolve(
            workspace_id, request.model, request.provider, request.provider_name, legacy=request.legacy
        )
        if caller.allowed_models:
            require_allowed(caller.allowed_models, *route.ids())
        return route, ProviderCall(
            target=self._targets.open(route.config, wire=route.wire),
            request=request,
            model=route.model,
            info=route.info,
            stream=stream,
            timeouts=msgspec.structs.replace(self._timeouts, total=timeout),
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
