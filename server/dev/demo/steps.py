"""What a response body does, step by step: bytes are sent, the rest is what can go wrong between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing for `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing ever again, with the connection held open until the caller leaves."""


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """The TCP connection is closed (FIN) in the middle of the body: no final chunk."""


@dataclass(frozen=True, slots=True)
class ResetConnection:
    """The TCP connection is reset (RST)."""


Step = bytes | Pause | Silence | CloseConnection | ResetConnection


async def play(
    request: web.Request,
    response: web.StreamResponse,
    steps: Iterable[Step],
    on_cut: Callable[[], None],
) -> web.StreamResponse:
    """Send `steps` as the body of `response`, each bytes step in a write of its own.

    on_cut is called right before this side breaks the connection. A caller that leaves ends it with CancelledError or
    ConnectionError, whichever comes first.
    """
    await response.prepare(request)
    for step in steps:
        match step:
            case bytes():
                await response.write(step)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Silence():
                await silence()
            case CloseConnection():
                on_cut()
                if request.transport is not None:
                    request.transport.close()
                return response
            case ResetConnection():
                on_cut()
                _reset(request.transport)
                return response
    await response.write_eof()
    return response


def silence() -> Awaitable[object]:
    """Wait until cancelled."""
    return asyncio.Event().wait()


def _reset(transport: asyncio.Transport | None) -> None:
    if transport is None:
        return
    peer = transport.get_extra_info("socket")
    if peer is not None:
        # A duplicate of the descriptor: the socket object that uvloop hands out cannot be configured.
        with contextlib.closing(socket.socket(fileno=os.dup(peer.fileno()))) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
