"""Name lookup as a hook, so that one place decides which addresses the gateway may connect to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Address(NamedTuple):
    """One place to connect to. ip: IPv4 or IPv6 in text; port: 1 to 65535; family: AF_INET or AF_INET6."""

    ip: str
    port: int
    family: int


class Resolver(Protocol):
    """Asked at every new connection, for names and for IP literals alike; only its answers are connected to.

    The URL's host stays what it is for the Host header, SNI and the certificate check. A resolver that refuses raises
    a DragomanError, which reaches the caller of `send` unchanged; OSError means that the lookup failed. Nothing is
    cached.
    """

    async def __call__(self, host: str, port: int) -> Sequence[Address]: ...


async def system_resolver(host: str, port: int) -> Sequence[Address]:
    """The operating system's answer, in its order. Raises OSError (socket.gaierror) when there is none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(Address(str(sockaddr[0]), int(sockaddr[1]), family) for family, _, _, _, sockaddr in found)
