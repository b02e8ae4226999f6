"""aiohttp's request and writer, with the trailers that gRPC ends its answers with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler


class TrailerWriter(StreamWriter):
    """Ends a chunked body with `trailers` (RFC 9112, section 7.1.2), which aiohttp's own has no way to do."""

    trailers: Mapping[str, str] = {}

    async def write_eof(self, chunk: bytes = b"") -> None:
        """The last chunk, and the end."""
        if self.chunked and self.trailers:
            if chunk:
                await self.write(chunk, drain=False)
            self.send_headers()
            lines = "".join(f"{_line(name)}: {_line(value)}\r\n" for name, value in self.trailers.items())
            chunk = f"0\r\n{lines}\r\n".encode()
            self.chunked = False  # what is left is written as it is
        await super().write_eof(chunk)


def edge_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    _writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """A `request_factory` for `web.Server`: requests whose `writer` is a TrailerWriter."""
    loop = task.get_loop()
    return web.BaseRequest(message, payload, protocol, TrailerWriter(protocol, loop), task, loop)


def end_with(request: web.BaseRequest, trailers: Mapping[str, str]) -> None:
    """Let the request's response end with them."""
    writer = request.writer
    if not isinstance(writer, TrailerWriter):
        raise TypeError("the request was not made by edge_request")
    writer.trailers = trailers


def _line(text: str) -> str:
    """Raises ValueError for what would begin another line."""
    if "\r" in text or "\n" in text or "\0" in text:
        raise ValueError("a trailer holds a line break")
    return text
