"""A listening socket that takes all connections that wait, each time it is looked at.

uvloop's own server takes one for each turn of the event loop (libuv does so since 1.45). With 500 busy streams a turn
takes tens of milliseconds, and a burst of connections waited for seconds: 2.4 s to the first token of the last percent,
and some for longer than Envoy's `connect_timeout`. Here it is 0.2 s.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

log = logging.getLogger("dragoman.edge")

BACKLOG: Final = 1024
"""Connections that wait: a burst of streams is as many connections."""

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_SECONDS: Final = 1.0


class Listener:
    """Listens from its making on. protocol: makes one for each connection. Raises OSError where the port is taken."""

    def __init__(
        self, host: str, port: int, protocol: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._tls = tls
        self._opening: set[asyncio.Task[None]] = set()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        both = host == "::" and socket.has_dualstack_ipv6()  # as gRPC's server takes it
        self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
        # Connections have these from the socket they come by: one whose proxy is gone is noticed, no token waits for
        # another.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._accept)

    @property
    def port(self) -> int:
        """The one that it listens on."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Take no further connections. May be called again."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _accept(self) -> None:
        for _ in range(BACKLOG):
            try:
                connection, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._pause(error)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._open(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection, ssl=self._tls)
        except OSError:  # it went away, or no TLS came of it: nobody's call
            connection.close()

    def _pause(self, error: OSError) -> None:
        """Out of files or memory: those who wait go on waiting, and the loop does not turn for them in vain."""
        log.error("no connection can be taken for now: %s", error.strerror)
        self._loop.remove_reader(self._socket)
        self._loop.call_later(_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket, self._accept)
