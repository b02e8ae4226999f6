"""One call of a model, as every surface makes it: the gateway called, the access log told, a stream written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import grpc

from server.core.access import Principal
from server.core.embedding import EmbedRequest, EmbedResponse
from server.core.events import Failed, Started, StreamEvent, Terminal, Warning
from server.core.messages import ChatRequest
from server.core.ports import EventStream, TokenCount
from server.core.stream import ChatResponse
from server.rpc.call import Call

Render = Callable[[Sequence[StreamEvent]], Iterable[Any]]
"""A surface's messages for some events of one stream, in order."""

Begin = Callable[[Call, Sequence[Warning]], Awaitable[None]]
"""What a surface sends before its first message: the headers that tell the warnings."""

Writing = Any
"""An awaitable: what a method gives that writes its stream itself. grpc.aio takes it, its generated types do not."""


class Gateway(Protocol):
    """The main job; `server.services.gateway.Gateway`."""

    def chat(
        self, caller: Principal, workspace_id: str, request: ChatRequest, *, stream: bool, timeout: float | None
    ) -> EventStream: ...

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

    async def stream(self, call: Call, request: ChatRequest, render: Render, begin: Begin | None = None) -> None:
        """Write the answer, each batch as it came. A failure is raised, or, once the stream has begun, is its last
        event for a caller that sees no trailers.

        The one coroutine between the call's own and the gateway's stream: every event passes each that there is twice.
        """
        source = self._gateway.chat(call.caller, call.workspace_id, request, stream=True, timeout=call.seconds_left())
        write, begun = call.context.write, False
        try:
            async for batch in source:
                first, last = batch[0], batch[-1]
                if type(first) is Started:
                    call.provider, call.model = first.provider, first.model
                    if begin is not None:
                        await begin(call, first.warnings)
                failed = _note_end(call, last) if isinstance(last, Terminal) else None
                good = batch if failed is None else batch[:-1]
                for message in render(good):
                    await write(message)
                begun = begun or len(good) > 0
                if failed is not None:
                    raise failed.error  # noqa: TRY301  a failure in the stream and one of the stream end alike
        except grpc.aio.InternalError:  # of a write: nobody is there to be told
            raise
        except Exception as error:
            if not (begun and call.in_band):
                raise
            for message in render([Failed(call.fail(error), call.usage)]):
                await write(message)
        finally:
            await source.aclose()


def _note_end(call: Call, last: Terminal) -> Failed | None:
    """Note what the access log tells of the end; the failure, if it is one."""
    call.usage = last.usage
    if isinstance(last, Failed):
        return last
    call.model = last.model or call.model
    return None
