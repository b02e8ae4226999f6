"""The guard connects to what was checked, and to nothing else."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.endpoint import EndpointPolicy, EndpointRefused, _split
from server.core.errors import InvalidRequest
from server.core.ports import CallTimeouts
from server.providers.http import HttpRequest
from server.providers.transport.client import HttpTransport
from server.providers.transport.guard import GuardedResolver
from server.providers.transport.request import Target
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


HOSTS = st.one_of(
    st.from_regex(r"[a-z0-9.\-_%@:\[\]\\/?#;,~!]{1,24}", fullmatch=True),
    st.ip_addresses().map(lambda ip: f"[{ip}]" if ip.version == 6 else str(ip)),
    st.sampled_from(["api.example.com", "API.example.com.", "8.8.8.8", "[2606:4700::1111]"]),
)
PORTS = st.sampled_from(["", ":443", ":8443", ":0", ":", ":65536", ":80@8.8.8.8"])


@given(HOSTS, PORTS)
def test_what_is_checked_is_what_the_transport_connects_to(host: str, port: str) -> None:
    """For every URL that the policy lets through, the transport reads the same host and port in it."""
    asked: list[tuple[str, int]] = []

    class Noting(EndpointPolicy, frozen=True):
        def check_url(self, url: str, field: str = "endpoint") -> str:
            asked.append(_split(url, field)[1:])
            return super().check_url(url, field)

    try:
        kept = Noting().check_url(f"https://{host}{port}/v1")
    except InvalidRequest:
        return
    seen = Target(f"{kept}/chat/completions")
    assert seen.tls
    assert [(seen.host.removesuffix("."), seen.port)] == asked
    assert seen.path.endswith("/chat/completions")


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
    transport = HttpTransport(guard)
    try:
        with pytest.raises(EndpointRefused):
            async with transport.send(HttpRequest("GET", f"https://{host}:{port}/"), CallTimeouts()):
                pass
        with pytest.raises(TimeoutError):
            listener.accept()
    finally:
        await transport.aclose()
        listener.close()
