"""Connections to providers: made to the addresses that the resolver gives, and kept for the next request."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Final

import aiohappyeyeballs

from server.providers.transport.connection import Connection
from server.providers.transport.failures import no_address, no_connection, not_found
from server.providers.transport.request import Target
from server.providers.transport.resolver import Address, Resolver

_NEXT_ADDRESS_AFTER: Final = 0.25
"""Seconds until another address is tried beside one that does not answer (RFC 8305, section 5)."""


class Pool:
    """Made and used on one event loop. keepalive: seconds that an idle connection is kept at most."""

    def __init__(self, resolver: Resolver, ssl_context: ssl.SSLContext | None, keepalive: float) -> None:
        self.loop = asyncio.get_running_loop()
        self._resolver = resolver
        self._ssl = ssl_context
        self._keepalive = keepalive
        self._idle: dict[tuple[str, int, bool], list[Connection]] = {}
        self._opened: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None

    def take(self, target: Target) -> Connection | None:
        """A kept connection, the one that was used last. None: there is none that can be used."""
        idle = self._idle.get((target.host, target.port, target.tls))
        if idle:
            now = self.loop.time()
            while idle:
                connection = idle.pop()
                if connection.usable(now):
                    return connection
                connection.abort()
        return None

    async def connect(self, target: Target) -> Connection:
        """A new connection. Raises ProviderUnavailable, and what the resolver raises to refuse an address."""
        infos = _infos(await self._addresses(target))
        connection = Connection(self.loop, self._opened)
        try:
            reached = await aiohappyeyeballs.start_connection(
                infos, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER, loop=self.loop, socket_factory=_socket
            )
            tls = self._tls() if target.tls else None
            name = target.host.removesuffix(".") if target.tls else None
            await self.loop.create_connection(lambda: connection, sock=reached, ssl=tls, server_hostname=name)
        except (OSError, RuntimeError) as error:  # uvloop says RuntimeError for some of what the system refuses
            raise no_connection(target.host, target.port, error) from error
        return connection

    def give_back(self, target: Target, connection: Connection) -> None:
        """A call is over: keep its connection, or close it where the answer has not ended or was its last."""
        if not connection.finish(self._keepalive):
            connection.abort()
            return
        origin = (target.host, target.port, target.tls)
        idle = self._idle.get(origin)
        if idle is None:
            self._idle[origin] = [connection]
        else:
            idle.append(connection)
        if self._sweep is None:
            self._sweep = self.loop.call_later(self._keepalive, self._close_old)

    async def close(self) -> None:
        """Close every connection, those in use too."""
        if self._sweep is not None:
            self._sweep.cancel()
        self._idle.clear()
        if opened := tuple(self._opened):
            for connection in opened:
                connection.abort()
            await asyncio.wait([connection.closed for connection in opened])

    async def _addresses(self, target: Target) -> Sequence[Address]:
        try:
            addresses = await self._resolver(target.host, target.port)
        except (OSError, UnicodeError) as error:
            raise not_found(target.host) from error
        if not addresses:
            raise no_address(target.host)
        return addresses

    def _tls(self) -> ssl.SSLContext:
        if self._ssl is None:
            self._ssl = ssl.create_default_context()
            self._ssl.set_alpn_protocols(["http/1.1"])
        return self._ssl

    def _close_old(self) -> None:
        self._sweep = None
        now = self.loop.time()
        for origin, idle in tuple(self._idle.items()):
            kept = [connection for connection in idle if connection.usable(now)]
            for connection in set(idle).difference(kept):
                connection.abort()
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        if self._idle:
            self._sweep = self.loop.call_later(self._keepalive, self._close_old)


_Info = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]


def _infos(addresses: Sequence[Address]) -> list[_Info]:
    """As getaddrinfo gives them; the addresses are numbers, so nothing is looked up again."""
    return [
        (
            address.family,
            socket.SOCK_STREAM,
            socket.IPPROTO_TCP,
            "",
            (address.ip, address.port, 0, 0) if address.family == socket.AF_INET6 else (address.ip, address.port),
        )
        for address in addresses
    ]


def _socket(info: _Info) -> socket.socket:
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return made
