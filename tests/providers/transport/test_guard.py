"""The guard connects to what was checked, and to nothing else."""

from __future__ import annotations

import socket

import pytest

from server.core.endpoint import EndpointPolicy, EndpointRefused
from server.core.ports import CallTimeouts
from server.providers.http import HttpRequest
from server.providers.transport.client import AiohttpTransport
from server.providers.transport.guard import GuardedResolver
from server.providers.transport.resolver import Address


def answering(*ips: str):
    """A lookup with one fixed answer."""

    async def resolve(host: str, port: int) -> list[Address]:
        return [Address(ip, port, socket.AF_INET6 if ":" in ip else socket.AF_INET) for ip in ips]

    return resolve


@pytest.mark.parametrize("ips", [("127.0.0.1",), ("93.184.216.34", "10.0.0.1"), ("::1",), ("::ffff:127.0.0.1",)])
async def test_a_name_with_an_inner_address_among_its_answers_is_refused(ips: tuple[str, ...]) -> None:
    with pytest.raises(EndpointRefused):
        await GuardedResolver(EndpointPolicy(), answering(*ips))("api.example.com", 443)


async def test_public_addresses_pass_in_their_order() -> None:
    addresses = await GuardedResolver(EndpointPolicy(), answering("93.184.216.34", "1.1.1.1"))("api.example.com", 443)
    assert [address.ip for address in addresses] == ["93.184.216.34", "1.1.1.1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "rebinding.example"])
async def test_the_real_transport_makes_no_connection_that_the_guard_refused(host: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    port = listener.getsockname()[1]
    lookup = answering("127.0.0.1") if host == "rebinding.example" else None
    guard = GuardedResolver(EndpointPolicy(), lookup) if lookup else GuardedResolver(EndpointPolicy())
    transport = AiohttpTransport(guard)
    try:
        with pytest.raises(EndpointRefused):
            async with transport.send(HttpRequest("GET", f"https://{host}:{port}/"), CallTimeouts()):
                pass
        with pytest.raises(TimeoutError):
            listener.accept()
    finally:
        await transport.aclose()
        listener.close()
