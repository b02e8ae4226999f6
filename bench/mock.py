"""A provider faster than any gateway: OpenAI's Chat Completions from constants, by a bare protocol on uvloop.

`python -m bench.mock PORT`. The model's name in the request chooses what comes:

    ...paced        SSE, PACED_TOKENS of them PACE_SECONDS apart (always streams)
    "stream": true  SSE, BURST_TOKENS of them in one write
    ...delay        the whole answer, after DELAY_SECONDS
    ...fail         status 500
    ...cut          SSE, half of the tokens, and the connection ends
    else            the whole answer

About 20 us a call and 8 us a paced event on the machine where a gateway's are hundreds; not counted for any of them.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Final, cast

import uvloop

BURST_TOKENS: Final = 200
PACED_TOKENS: Final = 50
PACE_SECONDS: Final = 0.02
DELAY_SECONDS: Final = 0.1
MARK: Final = b" tok"
"""What each token begins with: what a client counts, however a gateway has joined tokens."""

_MODEL: Final = re.compile(rb'"model"\s*:\s*"([^"]*)"')
_STREAM: Final = re.compile(rb'"stream"\s*:\s*true')
_LENGTH: Final = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED_END: Final = b"\r\n0\r\n\r\n"

_CHUNK: Final = (
    b'data: {"id":"chatcmpl-bench0001","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o-mini",'
    b'"service_tier":"default","system_fingerprint":"fp_bench","choices":[%s]%s}\n\n'
)
_CHOICE: Final = b'{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}'
_USAGE: Final = b'"usage":{"prompt_tokens":20,"completion_tokens":200,"total_tokens":220}'


def token(number: int) -> bytes:
    """One event with one token: its mark and its number, so that a client sees what is lost or out of its place."""
    return _CHUNK % (_CHOICE % (b'{"content":"%s%d"}' % (MARK, number), b"null"), b"")


def words(tokens: int) -> str:
    """The text of a stream of so many tokens."""
    return "".join(f"{MARK.decode()}{number}" for number in range(tokens))


FIRST: Final = _CHUNK % (_CHOICE % (b'{"role":"assistant","content":"","refusal":null}', b"null"), b"")
LAST: Final = _CHUNK % (_CHOICE % (b"{}", b'"stop"'), b"") + _CHUNK % (b"", b"," + _USAGE) + b"data: [DONE]\n\n"
TEXT: Final = "The quick brown fox jumps over the lazy dog. " * 11
"""Of a whole answer."""
ANSWER: Final = (
    b'{"id":"chatcmpl-bench0001","object":"chat.completion","created":1760000000,"model":"gpt-4o-mini","choices":[{"index":'
    b'0,"message":{"role":"assistant","content":"%s","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":'
    b'{"prompt_tokens":20,"completion_tokens":110,"total_tokens":130},"service_tier":"default","system_fingerprint":'
    b'"fp_bench"}' % TEXT.encode()
)
MODELS: Final = b'{"object":"list","data":[{"id":"mock","object":"model","created":1760000000,"owned_by":"bench"}]}'


def _whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_END: Final = b"0\r\n\r\n"
_ANSWER: Final = _whole(ANSWER)
_MODELS: Final = _whole(MODELS)
_FAILED: Final = _whole(b'{"error":{"message":"no","type":"server_error","code":null,"param":null}}').replace(
    b"200 OK", b"500 Internal Server Error", 1
)
_HALF: Final = _STREAM_HEAD + _chunked(FIRST + b"".join(map(token, range(BURST_TOKENS // 2))))
_BURST: Final = _STREAM_HEAD + _chunked(FIRST + b"".join(map(token, range(BURST_TOKENS))) + LAST) + _END
_PACED_FIRST: Final = _STREAM_HEAD + _chunked(FIRST + token(0))
_PACED: Final = [_chunked(token(number)) for number in range(PACED_TOKENS)]
_PACED_LAST: Final = _chunked(LAST) + _END


class Provider(asyncio.Protocol):
    """One connection: requests one after the other, as HTTP/1.1 clients of this kind send them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._held = bytearray()
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def close(self) -> None:
        """End the connection now."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self._gone = True

    def data_received(self, data: bytes) -> None:
        self._held += data
        head = self._held.find(b"\r\n\r\n") + 4
        if head < 4:
            return
        length = _LENGTH.search(self._held, 0, head)
        if length is not None:
            if len(self._held) < head + int(length[1]):
                return
        elif self._held.startswith(b"POST") and not self._held.endswith(_CHUNKED_END):
            return
        request = bytes(self._held)
        self._held.clear()
        self._answer(request, head)

    def _answer(self, request: bytes, head: int) -> None:
        if request.startswith(b"GET"):
            self._transport.write(_MODELS)
            return
        named = _MODEL.search(request, head)
        model = named[1] if named else b""
        if model.endswith(b"paced"):
            self._transport.write(_PACED_FIRST)
            began = self._loop.time()
            self._loop.call_at(began + PACE_SECONDS, self._next, began, 1)
        elif model.endswith(b"fail"):
            self._transport.write(_FAILED)
        elif model.endswith(b"cut"):
            self._transport.write(_HALF)
            self._transport.close()
        elif _STREAM.search(request, head):
            self._transport.write(_BURST)
        elif model.endswith(b"delay"):
            self._loop.call_later(DELAY_SECONDS, self._transport.write, _ANSWER)
        else:
            self._transport.write(_ANSWER)

    def _next(self, began: float, number: int) -> None:
        if self._gone:
            return
        if number == PACED_TOKENS:
            self._transport.write(_PACED_LAST)
            return
        self._transport.write(_PACED[number])
        self._loop.call_at(began + (number + 1) * PACE_SECONDS, self._next, began, number + 1)


async def serve(port: int) -> None:
    """Serve for ever."""
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
