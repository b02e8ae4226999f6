"""The context of a call that came over HTTP/1.1: `server.rpc.context.CallContext` on a connection of the proxy's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn

import grpc

from server.rpc.context import Metadata
from server.rpc.edge.connection import Connection
from server.rpc.edge.frames import OK, PREFIX_BYTES, lines, status

_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n"
_CLOSE: Final = b"connection: close\r\n"
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"
_ALONE: Final = b"content-length: 0\r\n"
_CHUNK: Final = b"%x\r\n\0%b%b\r\n"
"""A framed message as a chunk: the size of both, the message's in four bytes, the message."""
_LAST_CHUNK: Final = b"0\r\n"
_OK_LINES: Final = lines(OK)


class EdgeContext:
    """One call, and its answer.

    metadata: the request's. serialize: of the messages that are sent. deadline: by the event loop's clock. keep:
    whether the connection serves another request afterwards. expired: the deadline has passed.
    """

    __slots__ = (
        "_begun", "_code", "_connection", "_deadline", "_initial", "_keep", "_loop", "_metadata", "_serialize",
        "_trailing", "expired",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
        metadata: list[tuple[str, str]],
        serialize: Callable[[Any], bytes],
        *,
        deadline: float | None = None,
        keep: bool = True,
    ) -> None:
        self._connection = connection
        self._loop = loop
        self._metadata = metadata
        self._serialize = serialize
        self._deadline = deadline
        self._keep = keep
        self._initial: Metadata = ()
        self._trailing: Metadata = ()
        self._code: grpc.StatusCode | None = None
        self._begun = False
        self.expired = False

    # --- what came ----------------------------------------------------------------------------------------------------

    def invocation_metadata(self) -> list[tuple[str, str]]:
        """The request's headers."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """None where the caller set no deadline, as callers of REST never do."""
        return None if self._deadline is None else max(0.0, self._deadline - self._loop.time())

    def peer(self) -> str:
        """As gRPC writes it: `ipv4:127.0.0.1:53214`, `ipv6:[::1]:53214`."""
        return self._connection.peer

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """The alternative names of the peer's certificate, under gRPC's name for them."""
        return {"x509_subject_alternative_name": self._connection.alternative_names()}

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
        connection = self._connection
        if connection.lost:
            raise asyncio.CancelledError
        payload = self._serialize(message)
        size = len(payload)
        chunk = _CHUNK % (size + PREFIX_BYTES, size.to_bytes(4, "big"), payload)
        if not self._begun:
            self._begun = True
            chunk = self._head() + chunk
        connection.transport.write(chunk)
        if connection.full is not None:
            await connection.flushed()

    def fail(self, code: grpc.StatusCode, details: str, trailing_metadata: Metadata = ()) -> None:
        """Note that the call ends with a status."""
        self._code = code
        self._trailing = (*status(code, details), *trailing_metadata)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with a status."""
        self.fail(code, details, trailing_metadata)
        raise grpc.aio.AbortError

    def whole(self, message: Any) -> None:
        """Send the answer of a unary call, and its end."""
        payload = self._serialize(message)
        size = len(payload)
        chunk = _CHUNK % (size + PREFIX_BYTES, size.to_bytes(4, "big"), payload)
        self._connection.transport.write(b"".join((self._head(), chunk, self._tail())))

    def end(self) -> None:
        """Send the end of a stream, or of a call that was aborted: before its first message by headers alone, which
        gRPC calls Trailers-Only."""
        if self._begun:
            sent = self._tail()
        elif self._code is None:
            sent = self._head() + self._tail()
        else:
            close = b"" if self._keep else _CLOSE
            sent = _HEAD + _ALONE + close + lines(self._initial, self._trailing) + b"\r\n"
        self._connection.transport.write(sent)

    def expire(self) -> None:
        """The deadline has passed: end the call's work; what `end` then sends says why."""
        self.expired = True
        self.fail(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        if self._connection.task is not None:
            self._connection.task.cancel()

    def _head(self) -> bytes:
        close = b"" if self._keep else _CLOSE
        said = lines(self._initial) if self._initial else b""
        # Chunked, as trailers need it; and the transcoder would let a content-length stand that is not its JSON's.
        return _HEAD + _CHUNKED + close + said + b"\r\n"

    def _tail(self) -> bytes:
        if self._code is not None:
            said = lines(self._trailing)
        else:
            said = _OK_LINES + lines(self._trailing) if self._trailing else _OK_LINES
        return _LAST_CHUNK + said + b"\r\n"
