"""One call of a model, as every surface makes it: the gateway called, the access log told, a late failure told too."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from server.core.access import Principal
from server.core.embedding import EmbedRequest, EmbedResponse
from server.core.events import Completed, Failed, Started, StreamEvent
from server.core.messages import ChatRequest
from server.core.ports import TokenCount
from server.core.stream import ChatResponse
from server.rpc.call import Call


class Gateway(Protocol):
    """The main job; `server.services.gateway.Gateway`."""

    def chat(
        self, caller: Principal, workspace_id: str, request: ChatRequest, *, stream: bool, timeout: float | None
    ) -> AsyncGenerator[Sequence[StreamEvent], None]: ...

    async def complete(
        self, caller: Principal, workspace_id: str, request: ChatRequest, *, timeout: float | None
    ) -> ChatResponse: ...

    async def embed(
        self, caller: Principal, workspace_id: str, request: EmbedRequest, *, timeout: float | None
    ) -> EmbedResponse: ...

    async def count_tokens(
        self, caller: Principal, workspace_id: str, request: ChatRequest, *, timeout: float | None
    ) -> TokenCount: ...


class Workspaces(Protocol):
    """Which workspace a call acts in; `server.services.access.Access`."""

    def workspace(self, caller: Principal, named: str, field: str = "workspace_id") -> str: ...


class ModelCalls:
    """Calls in the workspace that `call.workspace_id` names."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def complete(self, call: Call, request: ChatRequest) -> ChatResponse:
        """The whole answer. Raises DragomanError."""
        answer = await self._gateway.complete(call.caller, call.workspace_id, request, timeout=call.seconds_left())
        call.provider, call.model, call.usage = answer.provider, answer.model, answer.usage
        return answer

    async def embed(self, call: Call, request: EmbedRequest) -> EmbedResponse:
        """The vectors. Raises DragomanError."""
        answer = await self._gateway.embed(call.caller, call.workspace_id, request, timeout=call.seconds_left())
        call.provider, call.model, call.usage = answer.provider, answer.model, answer.usage
        return answer

    async def count_tokens(self, call: Call, request: ChatRequest) -> TokenCount:
        """The provider's count of the input; the access log gets no usage, as none was. Raises DragomanError."""
        found = await self._gateway.count_tokens(call.caller, call.workspace_id, request, timeout=call.seconds_left())
        call.provider, call.model = found.provider, found.model
        return found

    async def stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """The answer's events, in batches as they came. A failure is raised, or, once the stream has begun, is its last
        event for a caller that sees no trailers."""
        started = False
        source = self._gateway.chat(call.caller, call.workspace_id, request, stream=True, timeout=call.seconds_left())
        try:
            async with aclosing(source) as batches:
                async for batch in batches:
                    failed = _observe(call, batch)
                    good = batch[:-1] if failed else batch
                    if good:
                        yield good
                        started = True
                    if failed:
                        raise failed.error  # noqa: TRY301  a failure in the stream and one of the stream end alike
        except Exception as error:
            if not (started and call.in_band):
                raise
            yield [Failed(call.fail(error), call.usage)]


def _observe(call: Call, batch: Sequence[StreamEvent]) -> Failed | None:
    """Note what the access log tells; the failure that ends the batch, if one does."""
    first, last = batch[0], batch[-1]
    if isinstance(first, Started):
        call.provider, call.model = first.provider, first.model
    if isinstance(last, Completed | Failed):
        call.usage = last.usage
        if isinstance(last, Failed):
            return last
        call.model = last.model or call.model
    return None
