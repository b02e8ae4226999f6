"""One RPC while it runs: who calls, until when, and what its line in the access log will say."""

from __future__ import annotations

import logging
import re

import grpc
import msgspec

from server.core.access import Principal
from server.core.errors import DragomanError
from server.core.events import Usage
from server.rpc.context import CallContext
from server.rpc.errors import as_dragoman, status_code
from server.rpc.log import ERROR_LOGGER
from server.rpc.peers import Peers

_ADDRESS = re.compile(r"[0-9A-Fa-f.:%]{2,64}")

IN_BAND_TRANSPORTS = frozenset({"rest", "sse"})
"""Values of `x-dragoman-transport`, which only the proxy sets, whose callers see no trailers."""


class Call(msgspec.Struct):
    """Handed to the handlers of this project's services in the place of grpc's context.

    transport: `rest`, `sse` or `grpc` as a trusted proxy says, "" for a direct caller. peers: says who is connected.
    external: the caller's address as a proxy says it. principal: None only where the method is public. trailing:
    metadata to send at the end of a call that succeeds. The rest is what the access log tells.
    """

    method: str
    request_id: str
    transport: str
    context: CallContext
    peers: Peers
    external: str = ""
    principal: Principal | None = None
    trailing: list[tuple[str, str | bytes]] = []
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    workspace_id: str = ""
    provider: str = ""
    model: str = ""
    usage: Usage = Usage()

    @staticmethod
    def of(context: object) -> Call:
        """What the interceptor handed over, typed."""
        if not isinstance(context, Call):
            raise TypeError("the server runs without its CallInterceptor")
        return context

    @property
    def caller(self) -> Principal:
        """The authenticated caller."""
        if self.principal is None:
            raise TypeError(f"{self.method} is public: it has no caller")
        return self.principal

    @property
    def in_band(self) -> bool:
        """Whether the caller can learn of a failed stream only from the stream."""
        return self.transport in IN_BAND_TRANSPORTS

    def seconds_left(self) -> float | None:
        """Until the caller's deadline; None where it set none."""
        return self.context.time_remaining()

    def peer(self) -> str:
        """Network address of who is connected: a proxy, or a direct caller. "" for another kind of connection."""
        return self.peers.of(self.context).address

    def address(self) -> str:
        """Network address of the caller: what a trusted proxy saw, where the call came through one; else the peer's."""
        if self.transport and _ADDRESS.fullmatch(self.external):
            return self.external
        return self.peer()

    def fail(self, error: Exception) -> DragomanError:
        """Note how the call ends, and give the error to tell the caller of. A defect goes to the error log."""
        failure = as_dragoman(error)
        self.code, self.reason = status_code(failure), failure.reason
        if self.code is grpc.StatusCode.INTERNAL:
            fields = {"request_id": self.request_id, "method": self.method}
            logging.getLogger(ERROR_LOGGER).error("call failed", exc_info=error, extra={"fields": fields})
        return failure
