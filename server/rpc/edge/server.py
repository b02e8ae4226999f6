"""Serves the RPCs to the proxy over HTTP/1.1. Why not by gRPC's own server alone: docs/decisions/edge-hop.md.

A call is `POST /package.Service/Method` with one framed message. Its answer is framed messages and a status in the
trailers, as gRPC has them over HTTP/2; headers alone if it fails before its first message.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from typing import Any, Final

import grpc
from aiohttp import web

from server.core.errors import DragomanError, LimitExceeded, Unavailable
from server.core.setup import SetupError
from server.rpc.edge.context import EdgeContext
from server.rpc.edge.frames import (
    CONTENT_TYPE,
    ENCODINGS,
    PREFIX_BYTES,
    FrameError,
    TooLarge,
    UnknownEncoding,
    headers,
    status,
    unframe,
)
from server.rpc.edge.listener import Listener
from server.rpc.edge.request import edge_request
from server.rpc.errors import retry_after_header, status_code, to_status

log = logging.getLogger("dragoman.edge")

Handler = Any
"""A `grpc.RpcMethodHandler`, whose stubs say that its parts may be missing."""

_HEADER_BYTES: Final = 64 * 1024
"""Of one header, and of the request line: as much as the proxy lets pass in all."""
_CONTENT_TYPES: Final = frozenset({CONTENT_TYPE, f"{CONTENT_TYPE}+proto"})
_CODES: Final = {
    FrameError: grpc.StatusCode.INTERNAL,
    UnknownEncoding: grpc.StatusCode.UNIMPLEMENTED,
}
_CUT_SECONDS: Final = 0.05
"""How long calls get to notice that they were cut. (aiohttp takes 0 for no limit.)"""


class MethodTable:
    """Takes services as a `grpc.aio.Server` does, from the generated `add_..._to_server` functions."""

    def __init__(self) -> None:
        self.methods: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """The same methods once more, without their names."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        """Raises ValueError for a method that takes a stream, which the proxy's callers have no form for."""
        for name, handler in method_handlers.items():
            if handler.request_streaming:
                raise ValueError(f"{service_name}/{name} takes a stream")
            self.methods[f"/{service_name}/{name}"] = handler


class EdgeServer:
    """Listens from `start` on. methods: by their paths, as `CallInterceptor.wrap` makes them (decoding never raises,
    streams write themselves). max_message_bytes: of a request."""

    def __init__(self, methods: Mapping[str, Handler], *, max_message_bytes: int) -> None:
        self._methods = methods
        self._most = max_message_bytes
        self._draining = False
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._cut = asyncio.Event()
        self._listener: Listener | None = None
        self._server = web.Server(
            self._answer,
            request_factory=edge_request,
            # A caller who goes away ends its call.
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; the port, which is a free one for 0. Raises SetupError where it is taken."""
        try:
            self._listener = Listener(host.strip("[]"), port, self._server, tls)
        except OSError as exc:
            raise SetupError(
                f"The server cannot listen on {host}:{port} for its proxy; is the port taken?",
                mend="Stop what uses it, or set DRAGOMAN_EDGE_PORT.",
            ) from exc
        return self._listener.port

    async def stop(self, grace: float | None) -> None:
        """Take no further calls; running ones may finish for `grace` seconds, None for none. May be called again, with
        less."""
        self._draining = True
        if self._listener is not None:
            self._listener.close()
        self._server.pre_shutdown()
        if not grace:
            self._cut.set()
        ended = [asyncio.ensure_future(event.wait()) for event in (self._idle, self._cut)]
        await asyncio.wait(ended, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        for each in ended:
            each.cancel()
        await self._server.shutdown(_CUT_SECONDS)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.content_type not in _CONTENT_TYPES or request.method != "POST":
            return web.Response(status=415, text="gRPC's messages only, by POST: callers use the proxy's port\n")
        if self._draining:
            return _failed(Unavailable("The gateway is shutting down.", retry_after=1.0))
        handler = self._methods.get(request.raw_path)
        if handler is None:
            return _refused(grpc.StatusCode.UNIMPLEMENTED, f"There is no method {request.raw_path}.")
        self._running += 1
        self._idle.clear()
        try:
            message = await self._read(request, handler)
            if isinstance(message, web.Response):
                return message
            return await _call(handler, request, message)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _read(self, request: web.BaseRequest, handler: Handler) -> Any:
        """The call's message, or what to answer instead. The bytes are left behind here: the message holds its own
        copy, and a prompt may be large."""
        pieces: list[bytes] = []
        size = 0
        while piece := await request.content.readany():
            size += len(piece)
            if size > self._most + PREFIX_BYTES:
                return _failed(_too_large(self._most))
            pieces.append(piece)
        try:
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            return handler.request_deserializer(unframe(body, request.headers.get("grpc-encoding", ""), self._most))
        except TooLarge:
            return _failed(_too_large(self._most))
        except FrameError as error:
            return _refused(_CODES[type(error)], str(error))


async def _call(handler: Handler, request: web.BaseRequest, message: Any) -> web.StreamResponse:
    context = EdgeContext(request, handler.response_serializer)
    left = context.time_remaining()
    if left is None:
        return await _run(handler, request, message, context)
    try:
        async with asyncio.timeout(left):
            return await _run(handler, request, message, context)
    except TimeoutError:
        return await context.expire()


async def _run(handler: Handler, request: web.BaseRequest, message: Any, context: EdgeContext) -> web.StreamResponse:
    try:
        if handler.unary_unary is not None:
            answer = await handler.unary_unary(message, context)
            return context.whole(handler.response_serializer(answer))
        await handler.unary_stream(message, context)
        return await context.end()
    except grpc.aio.AbortError:
        return await context.end()
    except Exception:
        # The interceptor lets nothing pass but aborts, so this is a defect of the server's own.
        log.exception("call failed", extra={"fields": {"method": request.raw_path}})
        context.cut()
        raise asyncio.CancelledError from None


def _refused(code: grpc.StatusCode, message: str) -> web.Response:
    accepted = (("grpc-accept-encoding", ENCODINGS),)
    return web.Response(headers=headers(status(code, message), accepted, content_type=True))


def _failed(error: DragomanError) -> web.Response:
    """The gateway's own refusals say in fields whose fault they are and when to try again, as those of the calls do."""
    said = to_status(error)
    trailing: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", said.SerializeToString())]
    wait = retry_after_header(error)
    if wait is not None:
        trailing.append(("retry-after", wait))
    return web.Response(headers=headers(status(status_code(error), said.message), trailing, content_type=True))


def _too_large(most: int) -> LimitExceeded:
    return LimitExceeded(
        f"The message is larger than {most} bytes.",
        retryable=False,
        action="Send a smaller message.",
        metadata={"limit": f"{most} bytes"},
    )
