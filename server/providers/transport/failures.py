"""What goes wrong between us and a provider, in words. None of them holds a path, a query or a header's value."""

from __future__ import annotations

import ssl

from server.core.errors import ProviderProtocolError, ProviderUnavailable, StreamTruncated, Unavailable


def not_found(host: str) -> ProviderUnavailable:
    """The lookup failed."""
    return ProviderUnavailable(f"The provider's host {host} was not found.")


def no_address(host: str) -> ProviderUnavailable:
    """The lookup found nothing."""
    return ProviderUnavailable(f"The provider's host {host} has no address.")


def no_connection(host: str, port: int, error: Exception) -> ProviderUnavailable:
    """None of the addresses could be connected to, or TLS was not agreed upon."""
    match error:
        case ssl.SSLError():
            return ProviderUnavailable(
                f"No secure connection to {host}:{port}: its TLS certificate or handshake was not accepted.",
                retryable=False,
                action="Check the endpoint, or give the CA that signed its certificate.",
            )
        case ConnectionRefusedError():
            why = "connection refused"
        case ConnectionResetError():
            why = "connection reset"
        case _:
            why = "not reachable"
    return ProviderUnavailable(f"No connection to {host}:{port}: {why}.")


def no_answer() -> ProviderUnavailable:
    """The connection ended before the head of an answer had come."""
    return ProviderUnavailable("The provider closed the connection without an answer.")


def cut() -> StreamTruncated:
    """The connection ended before the body did."""
    return StreamTruncated("The connection to the provider ended in the middle of its answer.")


def not_http() -> ProviderProtocolError:
    """What came is no HTTP/1.1, or more of a head than anybody needs."""
    return ProviderProtocolError("The provider's answer is not HTTP.")


def shutting_down() -> Unavailable:
    """The transport is closed."""
    return Unavailable("The gateway is shutting down: its connections to providers are closed.")
