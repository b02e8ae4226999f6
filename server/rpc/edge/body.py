"""Calls by the body alone, of methods that take and give `google.api.HttpBody`: nobody has to translate their JSON.

The proxy sends such a request past its transcoder, to the method's own path: `POST /package.Service/Method` with the
caller's body and content type. The answer is the body that the method gives, and an error the body and HTTP status that
`server.rpc.compat.errors` has put into its metadata. What it saves: docs/decisions/edge-hop.md.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import grpc
from google.api.httpbody_pb2 import HttpBody

from server.rpc.compat.errors import BODY_HEADER, STATUS_HEADER
from server.rpc.context import Metadata
from server.rpc.edge.context import EdgeContext
from server.rpc.edge.frames import lines

READY_HEADER: Final = "x-dragoman-ready"
"""Tells edge/dialects.lua that an error has its dialect's shape; it goes no further."""

HTTP_STATUS: Final[Mapping[grpc.StatusCode, int]] = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
"""As Envoy's transcoder has them (`grpcToHttpStatus`, envoy/source/common/grpc/status.cc)."""

_EVENTS: Final = "text/event-stream"
_HIDDEN: Final = frozenset({BODY_HEADER, STATUS_HEADER, "grpc-status", "grpc-message", "grpc-status-details-bin"})


class BodyContext(EdgeContext):
    """One call by its body alone. A document that is written in one piece gets its length; events, and a document of
    several pieces, go as chunks."""

    __slots__ = ("_first",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As EdgeContext."""
        super().__init__(*arguments, **options)
        self._first: HttpBody | None = None

    async def write(self, message: HttpBody) -> None:
        """Send a piece of the answer; waits while the proxy does not read. Raises CancelledError when it has gone."""
        connection = self._connection
        if connection.lost:
            raise asyncio.CancelledError
        data = message.data
        if not data:  # as a chunk it would be the end
            return
        if self._begun:
            connection.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        elif self._first is None and not message.content_type.startswith(_EVENTS):
            self._first = message  # it may be all
            return
        else:
            self._begun = True
            first = b"" if self._first is None else self._first.data
            data = first + data
            head = self._http_head(200, message.content_type, b"transfer-encoding: chunked\r\n", self._initial)
            connection.transport.write(b"%b%x\r\n%b\r\n" % (head, len(data), data))
            self._first = None
        if connection.full is not None:
            await connection.flushed()

    def whole(self, message: HttpBody) -> None:
        """Send the answer of a unary call, and its end."""
        self._document(200, message.content_type, message.data, self._initial)

    def end(self) -> None:
        """Send the end, or the error. Where an answer has begun that fails without a word of its own, the connection
        is cut: an end would make it look whole."""
        if self._code is None:
            if self._begun:
                self._connection.transport.write(b"0\r\n\r\n")
            else:
                self.whole(self._first or HttpBody())
        elif self._begun:
            self._connection.cut()
        else:
            self._error(self._code)

    def _error(self, code: grpc.StatusCode) -> None:
        told = dict(self._trailing)
        status = int(told.get(STATUS_HEADER) or HTTP_STATUS.get(code, 500))
        body = told.get(BODY_HEADER)
        shown: Metadata = [(name, value) for name, value in self._trailing if name not in _HIDDEN]
        if body is None:
            # A proxy whose word does not count gets the words alone, and edge/dialects.lua puts them in shape.
            body = json.dumps({"message": unquote(str(told.get("grpc-message", "")))})
        else:
            shown = [*shown, (READY_HEADER, "1")]
        self._document(status, "application/json", body.encode() if isinstance(body, str) else body, shown)

    def _document(self, status: int, content_type: str, data: bytes, metadata: Metadata) -> None:
        length = b"content-length: %d\r\n" % len(data)
        self._connection.transport.write(self._http_head(status, content_type, length, metadata) + data)

    def _http_head(self, status: int, content_type: str, framing: bytes, metadata: Metadata) -> bytes:
        close = b"" if self._keep else b"connection: close\r\n"
        said = lines((("content-type", content_type),), metadata)
        return b"HTTP/1.1 %d \r\n%b%b%b\r\n" % (status, said, framing, close)
