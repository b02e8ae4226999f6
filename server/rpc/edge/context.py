"""The context of a call that came over HTTP/1.1: `server.rpc.context.CallContext` on aiohttp's request and response."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import grpc
from aiohttp import web

from server.rpc.context import Metadata
from server.rpc.edge.frames import OK, frame, headers, seconds, status
from server.rpc.edge.request import end_with


class EdgeContext:
    """One call, and its answer. serialize: of the messages that are streamed."""

    __slots__ = ("_code", "_deadline", "_initial", "_metadata", "_request", "_response", "_serialize", "_trailing")

    def __init__(self, request: web.BaseRequest, serialize: Callable[[Any], bytes]) -> None:
        self._request = request
        timeout = request.headers.get("grpc-timeout")
        left = seconds(timeout) if timeout else None
        self._deadline = None if left is None else asyncio.get_running_loop().time() + left
        self._serialize = serialize
        self._metadata: list[tuple[str, str]] | None = None
        self._initial: Metadata = ()
        self._trailing: Metadata = ()
        self._code: grpc.StatusCode | None = None
        self._response: web.StreamResponse | None = None

    # --- what came ----------------------------------------------------------------------------------------------------

    def invocation_metadata(self) -> list[tuple[str, str]]:
        """The request's headers. Asked for several times in each call."""
        if self._metadata is None:
            self._metadata = [(name.lower(), value) for name, value in self._request.headers.items()]
        return self._metadata

    def time_remaining(self) -> float | None:
        """None where the caller set no deadline, as callers of REST never do."""
        return None if self._deadline is None else max(0.0, self._deadline - asyncio.get_running_loop().time())

    def peer(self) -> str:
        """As gRPC writes it: `ipv4:127.0.0.1:53214`, `ipv6:[::1]:53214`."""
        place = self._extra("peername")
        if not isinstance(place, tuple):
            return "unix:"
        host, port = place[:2]
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """The alternative names of the peer's certificate, under gRPC's name for them."""
        certificate = self._extra("peercert") or {}
        return {"x509_subject_alternative_name": [name.encode() for _, name in certificate.get("subjectAltName", ())]}

    # --- what goes ----------------------------------------------------------------------------------------------------

    def code(self) -> grpc.StatusCode | None:
        """How the call was aborted."""
        return self._code

    async def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        """Goes with the first message."""
        self._initial = initial_metadata

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Goes with the status."""
        self._trailing = trailing_metadata

    async def write(self, message: Any) -> None:
        """Send a message of a stream; waits while the proxy does not read. Raises CancelledError when it has gone."""
        response = self._response
        try:
            if response is None:
                response = await self._begin()
            await response.write(frame(self._serialize(message)))
        except ConnectionError as error:
            raise asyncio.CancelledError from error

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with a status."""
        self._code = code
        self._trailing = (*status(code, details), *trailing_metadata)
        raise grpc.aio.AbortError

    def whole(self, message: bytes) -> web.StreamResponse:
        """The answer of a unary call."""
        answer = web.Response(body=frame(message), headers=headers(self._initial, content_type=True))
        # Trailers need it, and the transcoder would let a content-length stand that is not its JSON's.
        answer.enable_chunked_encoding()
        end_with(self._request, headers(OK, self._trailing))
        return answer

    async def expire(self) -> web.StreamResponse:
        """The end of a call whose deadline has passed."""
        self._code = grpc.StatusCode.DEADLINE_EXCEEDED
        self._trailing = status(self._code, "Deadline Exceeded")
        return await self.end()

    async def end(self) -> web.StreamResponse:
        """The end of a stream, or of a call that was aborted: before its first message by headers alone, which gRPC
        calls Trailers-Only."""
        ended = self._trailing if self._code else (*OK, *self._trailing)
        if self._response is None and self._code:
            return web.Response(headers=headers(self._initial, ended, content_type=True))
        try:
            response = self._response or await self._begin()
            end_with(self._request, headers(ended))
            await response.write_eof()
        except ConnectionError as error:
            raise asyncio.CancelledError from error
        return response

    def cut(self) -> None:
        """Close the connection without an end of the body."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def _begin(self) -> web.StreamResponse:
        response = self._response = web.StreamResponse(headers=headers(self._initial, content_type=True))
        await response.prepare(self._request)
        return response

    def _extra(self, name: str) -> Any:
        transport = self._request.transport
        return None if transport is None else transport.get_extra_info(name)
