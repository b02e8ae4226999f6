"""As much HTTP/2 (RFC 9113) as a gRPC load generator needs: calls of one message each, on one connection.

Headers go out as literals and are not read when they come: an answer is judged by its messages, and a call that failed
has none, or lacks the last. What is sent keeps to the server's windows, as a large prompt must.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Mapping
from typing import Final, cast

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
INITIAL_WINDOW_SIZE = 4
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_LARGEST: Final = (1 << 31) - 1
_FRAME_BYTES: Final = 16_384
_REFILL: Final = 1 << 20


class Stream:
    """One call. body: what came, gRPC's prefixes included. first: when `mark` came, by perf_counter; 0 for not yet.
    rest: what is not sent yet, window: how much of it the server takes now."""

    __slots__ = ("body", "done", "first", "mark", "rest", "window")

    def __init__(self, mark: bytes, message: bytes, window: int) -> None:
        self.body = bytearray()
        self.first = 0.0
        self.mark = mark
        self.rest = memoryview(b"\0" + struct.pack(">I", len(message)) + message)
        self.window = window
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Connection(asyncio.Protocol):
    """One connection, any number of calls at once."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._streams: dict[int, Stream] = {}
        self._unsent: dict[int, Stream] = {}
        self._next_id = 1
        self._held = b""
        self._send_window = 65_535
        self._stream_window = 65_535
        self._received = 0

    @staticmethod
    async def open(port: int, path: str, headers: Mapping[str, str]) -> Connection:
        """Connect, by prior knowledge."""
        fields = {
            ":method": "POST", ":scheme": "http", ":path": path, ":authority": f"127.0.0.1:{port}",
            "content-type": "application/grpc", "te": "trailers", **headers,
        }  # fmt: skip
        head = b"".join(_literal(name.encode(), value.encode()) for name, value in fields.items())
        _, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(head), "127.0.0.1", port)
        return connection

    async def call(self, message: bytes, mark: bytes) -> Stream:
        """Send a message, and wait for the end of what comes. Raises ConnectionError."""
        stream = Stream(mark, message, self._stream_window)
        id, self._next_id = self._next_id, self._next_id + 2
        self._streams[id] = stream
        self._transport.write(_frame(HEADERS, END_HEADERS, id, self._head) + self._data(id, stream))
        if stream.rest:
            self._unsent[id] = stream
        await stream.done
        return stream

    def close(self) -> None:
        """End the connection, and every call on it."""
        self._transport.abort()

    def _data(self, id: int, stream: Stream) -> bytes:
        """Frames with as much of the message as the windows let pass."""
        out = []
        while (size := min(len(stream.rest), stream.window, self._send_window, _FRAME_BYTES)) > 0:
            last = size == len(stream.rest)
            out.append(_frame(DATA, END_STREAM if last else 0, id, bytes(stream.rest[:size])))
            stream.rest = stream.rest[size:]
            stream.window -= size
            self._send_window -= size
        return b"".join(out)

    def _send_more(self) -> None:
        """A window has opened."""
        for id, stream in list(self._unsent.items()):
            if self._send_window <= 0:
                return
            if frames := self._data(id, stream):
                self._transport.write(frames)
            if not stream.rest:
                del self._unsent[id]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # No dynamic table (1: 0), and windows (4) that never close: flow control is not what is measured.
        settings = struct.pack(">HIHI", 1, 0, 4, _LARGEST)
        refill = _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", _LARGEST - 65_535))
        self._transport.write(_PREFACE + _frame(SETTINGS, 0, 0, settings) + refill)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        for stream in self._streams.values():
            if not stream.done.done():
                stream.done.set_exception(ConnectionError("closed early"))
        self._streams.clear()

    def data_received(self, data: bytes) -> None:
        data = self._held + data if self._held else data
        at, end = 0, len(data)
        while end - at >= 9:
            length = int.from_bytes(data[at : at + 3], "big")
            if end - at < 9 + length:
                break
            id = int.from_bytes(data[at + 5 : at + 9], "big")
            self._on_frame(data[at + 3], data[at + 4], id, data[at + 9 : at + 9 + length])
            at += 9 + length
        self._held = data[at:]
        if self._received > _REFILL:
            self._transport.write(_frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._received)))
            self._received = 0

    def _on_frame(self, kind: int, flags: int, id: int, payload: bytes) -> None:
        if kind in (DATA, HEADERS):
            self._on_stream(kind, flags, id, payload)
        elif kind == SETTINGS and not flags & ACK:
            self._on_settings(payload)
        elif kind == PING and not flags & ACK:
            self._transport.write(_frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            self._on_window(id, int.from_bytes(payload, "big"))
        elif kind == RST_STREAM:
            self._end(id)
        elif kind == GOAWAY:
            self._transport.close()

    def _on_settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            name, value = struct.unpack_from(">HI", payload, at)
            if name == INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
        self._transport.write(_frame(SETTINGS, ACK, 0, b""))
        self._send_more()

    def _on_window(self, id: int, more: int) -> None:
        if not id:
            self._send_window += more
        elif id in self._streams:
            self._streams[id].window += more
        self._send_more()

    def _on_stream(self, kind: int, flags: int, id: int, payload: bytes) -> None:
        stream = self._streams.get(id)
        if stream is None:
            return
        if kind == DATA:
            self._received += len(payload)
            stream.body += payload
            if not stream.first and stream.mark and stream.mark in payload:
                stream.first = time.perf_counter()
        if flags & END_STREAM:
            self._end(id)

    def _end(self, id: int) -> None:
        self._unsent.pop(id, None)
        stream = self._streams.pop(id, None)
        if stream is not None and not stream.done.done():
            stream.done.set_result(None)


def _frame(kind: int, flags: int, id: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, id) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header field that enters no table (RFC 7541, 6.2.2), without Huffman coding."""
    return b"\0" + _length(name) + name + _length(value) + value


def _length(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes([len(text)])
    rest = len(text) - 127
    out = [127]
    while rest >= 128:
        out.append(rest % 128 + 128)
        rest //= 128
    return bytes([*out, rest])
