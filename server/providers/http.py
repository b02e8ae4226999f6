"""The port through which every adapter's pure functions reach a provider: `HttpRequest` out, `HttpResponse` back.

Adapters do no I/O. They build an `HttpRequest`, and are fed what came back; a runner holds the `Transport` between the
two. The real transport is `transport/client.py`, the one for tests is `transport/fake.py`.

How a stream is run, and who enforces which timeout:

    async with transport.send(request, timeouts) as response:     # connect; first_token until the head is here
        while chunk := await response.receive():                  # first_token or idle in each read; total always
            for event in parser.feed(chunk):
                if event.is_content and not started:              # a comment, a ping or an empty delta is none
                    started = True
                    response.mark_first_token()                   # from now on idle instead of first_token
                yield event
            if parser.finished:                                   # the terminal event is out
                await response.discard_rest(seconds=0.25)         # read to the end: the connection can be used again
                break
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from server.core.ports import CallTimeouts


class HttpRequest(msgspec.Struct, frozen=True):
    """One request, complete as it goes on the wire; the transport adds only host, content-length and what is missing of
    user-agent and accept-encoding.

    method: not HEAD, whose answers are framed otherwise. url: absolute http(s) and ASCII, already percent-encoded: it
    is sent as it stands, never normalised (Bedrock signs `%3A`).
    The repr shows neither header values nor body nor query.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __repr__(self) -> str:
        names = ", ".join(name for name, _ in self.headers)
        place = self.url.partition("?")[0]
        return f"HttpRequest({self.method} {place}, headers=[{names}], body={len(self.body)} bytes)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Rich would otherwise print every field, as msgspec's own method tells it to."""
        return [("method", self.method), ("url", self.url.partition("?")[0])]


class HttpResponse(Protocol):
    """A response whose head has come. Its body can be read once, by `read` or piece by piece by `receive`.

    Bodies are inflated where the head says gzip or deflate, and where gzip came without being announced.
    Both ways of reading raise ProviderTimeout, StreamTruncated (the connection ended before the body did) or
    ProviderProtocolError (what came is not HTTP, or cannot be inflated).
    """

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name; the values of a repeated header are joined by `, `."""
        ...

    async def read(self, limit: int) -> bytes:
        """The whole body, inflated. Raises ProviderProtocolError if that is more than `limit` bytes."""
        ...

    def receive(self) -> Awaitable[bytes]:
        """The next piece of the body as it arrives, nothing held back; b"" at its end."""
        ...

    def mark_first_token(self) -> None:
        """The caller has seen the first event with content: the first-token timeout ends, the idle one begins."""
        ...

    async def discard_rest(self, seconds: float) -> None:
        """Read on for at most `seconds` and drop it, so that the connection can go back to the pool. Raises nothing but
        cancellation; for the moment after a stream's terminal event."""
        ...


class Transport(Protocol):
    """Sends requests. One long-lived instance per family of provider configurations; it owns the connection pool."""

    def send(self, request: HttpRequest, timeouts: CallTimeouts) -> AbstractAsyncContextManager[HttpResponse]:
        """Send, and give the response as soon as its head is here, whatever its status. Redirects are not followed.

        A request may go out twice, where a connection kept from an earlier one ends without a byte of an answer within
        a second.

        The phases of `timeouts`, each of them a ProviderTimeout of its own:
        connect: name lookup, TCP, TLS, and waiting for a free place in the pool.
        first_token: from `send` to `mark_first_token` (`read`: to the first byte of the body that is not blank). The
            head does not end it, and keep-alive comments do not; a caller that waits for a whole answer at once gives
            it more.
        idle: the longest silence within one read after that. Any byte ends a silence, so a keep-alive does.
        total: from `send` to the end of the body.

        Leaving the context before the end of the body, or being cancelled, closes the connection at once: it is not
        drained and not reused. Raises ProviderUnavailable (no such host, refused, reset, bad certificate),
        ProviderTimeout, ProviderProtocolError, NotConfigured (the URL or a header cannot be sent), Unavailable (the
        transport is closed), and whatever the resolver raised to refuse an address.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection, those in use too. Idempotent."""
        ...
