"""aiohttp's exceptions as the gateway's, by type. None of these texts holds a URL or a header's value."""

from __future__ import annotations

import aiohttp
from aiohttp.http import HttpProcessingError

from server.core.errors import (
    DragomanError,
    NotConfigured,
    ProviderError,
    ProviderProtocolError,
    ProviderTimeout,
    ProviderUnavailable,
    StreamTruncated,
    TimeoutPhase,
)
from server.core.ports import CallTimeouts


def connect_limit(timeouts: CallTimeouts) -> tuple[TimeoutPhase, float]:
    """Which phase ends first for a request that has no connection yet, and its seconds."""
    phase, seconds = head_limit(timeouts)
    return (phase, seconds) if seconds < timeouts.connect else ("connect", timeouts.connect)


def head_limit(timeouts: CallTimeouts) -> tuple[TimeoutPhase, float]:
    """The same for one that waits for the response's head."""
    if timeouts.total is not None and timeouts.total < timeouts.first_token:
        return "total", timeouts.total
    return "first_token", timeouts.first_token


def before_head(exc: Exception, timeouts: CallTimeouts) -> DragomanError:
    """What went wrong between `send` and the response's head."""
    match exc:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return ProviderUnavailable(
                f"No secure connection to {exc.host}:{exc.port}: its TLS certificate or handshake was not accepted.",
                retryable=False,
                action="Check the endpoint, or give the CA that signed its certificate.",
            )
        case aiohttp.ClientConnectorDNSError():
            return ProviderUnavailable(f"The provider's host {exc.host} was not found.")
        case aiohttp.ClientConnectorError():
            return ProviderUnavailable(f"No connection to {exc.host}:{exc.port}: {_why(exc.os_error)}.")
        case TimeoutError():
            return ProviderTimeout(*connect_limit(timeouts))
        case HttpProcessingError() | aiohttp.ClientPayloadError():
            return ProviderProtocolError("The provider's answer is not HTTP.")
        case ValueError():
            return NotConfigured("The request holds a header that HTTP cannot carry (a line break in a credential?).")
        case _:
            return ProviderUnavailable("The provider closed the connection without an answer.")


def within_body(exc: Exception) -> ProviderError:
    """What ended a body before its end."""
    if isinstance(exc, HttpProcessingError):
        return ProviderProtocolError("The provider's answer is not HTTP.")
    return StreamTruncated("The connection to the provider ended in the middle of its answer.")


def cause(exc: Exception) -> BaseException | None:
    """What may stand behind our error in a traceback: aiohttp writes whole URLs into some of its messages."""
    speaks_of_url = isinstance(exc, aiohttp.ClientOSError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL)
    return exc.__cause__ if speaks_of_url else exc


def _why(error: OSError) -> str:
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError():
            return "connection reset"
        case _:
            return "not reachable"
