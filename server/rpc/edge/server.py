"""Serves the RPCs to the proxy over HTTP/1.1. Why not by gRPC's own server alone: docs/decisions/edge-hop.md.

A call is `POST /package.Service/Method` with one framed message. Its answer is framed messages and a status in the
trailers, as gRPC has them over HTTP/2; headers alone if it fails before its first message. Methods that take and give
bodies as they are may be called by the body alone: see `body.py`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import grpc
from google.api.httpbody_pb2 import HttpBody

from server.core.errors import DragomanError, LimitExceeded, Unavailable
from server.core.setup import SetupError
from server.rpc.compat.errors import dialect_trailers
from server.rpc.context import MESSAGE_BYTES
from server.rpc.edge.body import BodyContext
from server.rpc.edge.connection import Connection, Request
from server.rpc.edge.context import EdgeContext
from server.rpc.edge.frames import (
    CONTENT_TYPE,
    ENCODINGS,
    PREFIX_BYTES,
    FrameError,
    TooLarge,
    UnknownEncoding,
    seconds,
    unframe,
)
from server.rpc.edge.listener import Listener
from server.rpc.errors import retry_after_header, status_code, to_status

log = logging.getLogger("dragoman.edge")

Handler = Any
"""A `grpc.RpcMethodHandler`, whose stubs say that its parts may be missing."""

_CONTENT_TYPES: Final = frozenset({CONTENT_TYPE, f"{CONTENT_TYPE}+proto"})
_CODES: Final = {
    FrameError: grpc.StatusCode.INTERNAL,
    UnknownEncoding: grpc.StatusCode.UNIMPLEMENTED,
}
_NO_METHOD: Final[Handler] = grpc.unary_unary_rpc_method_handler(bytes, bytes, bytes)
_CUT_SECONDS: Final = 0.5
"""How long calls get to notice that they were cut."""
_SAID: Final = b"gRPC's messages only, by POST: callers use the proxy's port\n"
_NOT_GRPC: Final = (
    b"HTTP/1.1 415 Unsupported Media Type\r\ncontent-type: text/plain\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_SAID), _SAID)
)


class MethodTable:
    """Takes services as a `grpc.aio.Server` does, from the generated `add_..._to_server` functions."""

    def __init__(self) -> None:
        self.methods: dict[str, Handler] = {}
        self.bodies: set[str] = set()
        """Paths of methods that take a body as it is (`google.api.HttpBody`)."""

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """The same methods once more, without their names."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        """Raises ValueError for a method that takes a stream, which the proxy's callers have no form for."""
        for name, handler in method_handlers.items():
            if handler.request_streaming:
                raise ValueError(f"{service_name}/{name} takes a stream")
            path = f"/{service_name}/{name}"
            self.methods[path] = handler
            if handler.request_deserializer == HttpBody.FromString:
                self.bodies.add(path)


class EdgeServer:
    """Listens from `start` on. methods: by their paths, as `CallInterceptor.wrap` makes them (decoding never raises,
    streams write themselves). bodies: the paths of those that may be called by the body alone. max_message_bytes: of a
    request."""

    def __init__(self, methods: Mapping[str, Handler], bodies: Collection[str] = (), *, max_message_bytes: int) -> None:
        self._methods = {path.encode(): handler for path, handler in methods.items()}
        self._bodies = {path.encode() for path in bodies}
        self._most = max_message_bytes
        self._draining = False
        self._cut = asyncio.Event()
        self._listener: Listener | None = None
        self._connections: set[Connection] = set()

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; the port, which is a free one for 0. Raises SetupError where it is taken."""
        self._loop = asyncio.get_running_loop()
        try:
            self._listener = Listener(host.strip("[]"), port, self._connection, tls)
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
        for connection in tuple(self._connections):
            connection.retire()
        if not grace:
            self._cut.set()
        running = self._running()
        if running:
            ended = asyncio.ensure_future(asyncio.wait(running))
            cut = asyncio.ensure_future(self._cut.wait())
            await asyncio.wait((ended, cut), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            cut.cancel()
        for connection in tuple(self._connections):
            connection.cut()
        if running := self._running():
            await asyncio.wait(running, timeout=_CUT_SECONDS)

    def _running(self) -> list[asyncio.Task[None]]:
        return [connection.task for connection in self._connections if connection.task is not None]

    def _connection(self) -> Connection:
        return Connection(self._serve, self._most + PREFIX_BYTES, self._connections)

    async def _serve(self, connection: Connection, request: Request) -> None:
        """A whole call, from its request to the end of its answer. Raises nothing but CancelledError, for a caller who
        has gone."""
        found = dict(request.headers)
        keep = request.keep and not self._draining
        deadline = self._deadline(found)
        path = request.path.partition(b"?")[0]
        by_body = path in self._bodies and not found.get("content-type", "").startswith(CONTENT_TYPE)
        handler: Handler = self._methods.get(path if by_body else request.path, _NO_METHOD)
        context = (BodyContext if by_body else EdgeContext)(
            connection, self._loop, request.headers, handler.response_serializer, deadline=deadline, keep=keep
        )
        timer = None
        try:
            message = self._body(request, found) if by_body else self._message(handler, request, found)
            request.body = None  # the message holds its own copy, and a prompt may be large
            if deadline is not None:
                timer = self._loop.call_at(deadline, context.expire)
            if handler.unary_unary is not None:
                context.whole(await handler.unary_unary(message, context))
            else:
                await handler.unary_stream(message, context)
                context.end()
        except _Refused as refused:
            context.fail(*refused.args)
            context.end()
        except grpc.aio.AbortError:
            context.end()
        except _NotGrpc:
            keep = False
            connection.transport.write(_NOT_GRPC)
        except asyncio.CancelledError:
            if not context.expired or connection.lost:
                raise
            context.end()
        except Exception:
            # The interceptor lets nothing pass but aborts, so this is a defect of the server's own.
            log.exception("call failed", extra={"fields": {"method": request.path.decode("latin-1")}})
            connection.cut()
        finally:
            if timer is not None:
                timer.cancel()
            connection.ended(keep)

    def _deadline(self, found: Mapping[str, str]) -> float | None:
        timeout = found.get("grpc-timeout")
        left = seconds(timeout) if timeout else None
        return None if left is None else self._loop.time() + left

    def _message(self, handler: Handler, request: Request, found: Mapping[str, str]) -> Any:
        """The call's message. Raises _Refused, _NotGrpc."""
        content_type = found.get("content-type", "")
        if request.method != b"POST" or content_type.partition(";")[0].rstrip() not in _CONTENT_TYPES:
            raise _NotGrpc
        if self._draining:
            raise _failed(_going())
        if handler is _NO_METHOD:
            path = request.path.decode("utf-8", "replace")
            raise _refused(grpc.StatusCode.UNIMPLEMENTED, f"There is no method {path}.")
        if request.body is None or len(request.body) > self._most + PREFIX_BYTES:
            raise _failed(_too_large(self._most))
        try:
            return handler.request_deserializer(unframe(request.body, found.get("grpc-encoding", ""), self._most))
        except TooLarge:
            raise _failed(_too_large(self._most)) from None
        except FrameError as error:
            raise _refused(_CODES[type(error)], str(error)) from None

    def _body(self, request: Request, found: Mapping[str, str]) -> HttpBody:
        """The message of a call by its body alone. Raises _Refused, _NotGrpc."""
        if request.method != b"POST":
            raise _NotGrpc
        error: DragomanError | None = _going() if self._draining else None
        if request.body is None or len(request.body) > self._most:
            error = _too_large(self._most)
        if error is not None:
            told = dialect_trailers(request.path.decode("latin-1"), error, found.get("x-request-id", ""))
            raise _failed(error, told)
        MESSAGE_BYTES.set(len(request.body or b""))
        return HttpBody(content_type=found.get("content-type", ""), data=request.body or b"")


class _NotGrpc(Exception):
    """Not a call: somebody took this port for another one."""


class _Refused(Exception):
    """A call that no handler sees. args: its status, message and metadata."""


def _refused(code: grpc.StatusCode, message: str) -> _Refused:
    return _Refused(code, message, (("grpc-accept-encoding", ENCODINGS),))


def _failed(error: DragomanError, told: Sequence[tuple[str, str]] = ()) -> _Refused:
    """The gateway's own refusals say in fields whose fault they are and when to try again, as those of the calls do.
    told: the same in a dialect."""
    said = to_status(error)
    trailing: list[tuple[str, str | bytes]] = [*told, ("grpc-status-details-bin", said.SerializeToString())]
    wait = retry_after_header(error)
    if wait is not None:
        trailing.append(("retry-after", wait))
    return _Refused(status_code(error), said.message, trailing)


def _going() -> Unavailable:
    return Unavailable("The gateway is shutting down.", retry_after=1.0)


def _too_large(most: int) -> LimitExceeded:
    return LimitExceeded(
        f"The message is larger than {most} bytes.",
        retryable=False,
        action="Send a smaller message.",
        metadata={"limit": f"{most} bytes"},
    )
