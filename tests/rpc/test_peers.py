"""Only a trusted proxy may say where a call came from, and by which transport."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import llm_service_pb2_grpc
from server.core.access import Principal
from server.core.proxies import TrustedProxies
from server.rpc.interceptors import CallInterceptor
from server.rpc.peers import Peer, Peers
from server.rpc.register import register
from server.rpc.tls import CertificateFiles, ServerCertificates
from server.rpc.validation import RequestValidator
from tests.rpc.house import Access, House, key
from tests.support.certificates import Authority, Certificate, move_in

HELLO = pb.ChatRequest(messages=[pb.Message(role="user", content="hi")])
CLAIMED = "203.0.113.9"
CLAIM = (("x-dragoman-transport", "rest"), ("x-envoy-external-address", CLAIMED))
NOBODY = TrustedProxies(networks=())
HOST = "dragoman.test"


class Named:
    """A call as gRPC names its peer. Counts how often it was asked for certificates."""

    def __init__(self, name: str, names: Mapping[str, list[bytes]] | None = None) -> None:
        self.name, self.names, self.asked = name, names or {}, 0

    def peer(self) -> str:
        return self.name

    def auth_context(self) -> Mapping[str, list[bytes]]:
        self.asked += 1
        return self.names


def named(name: str) -> Any:
    return cast(Any, Named(name))


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("ipv4:127.0.0.1:51234", Peer("127.0.0.1", True)),
        ("ipv4:192.0.2.7:1", Peer("192.0.2.7", False)),
        ("ipv4:10.1.2.3:65535", Peer("10.1.2.3", True)),
        ("ipv6:[::1]:51234", Peer("::1", True)),
        ("ipv6:%5B::1%5D:51234", Peer("::1", True)),
        ("ipv6:[0:0:0:0:0:0:0:1]:1", Peer("::1", True)),
        ("ipv6:[2001:DB8::7]:443", Peer("2001:db8::7", False)),
        ("ipv6:%5Bfe80::1%25eth0%5D:443", Peer("fe80::1%eth0", True)),
        ("ipv6:[::ffff:127.0.0.1]:443", Peer("127.0.0.1", True)),
        ("ipv6:[::ffff:192.0.2.7]:443", Peer("192.0.2.7", False)),
        ("unix:", Peer("", False)),
        ("unix:/run/127.0.0.1:1", Peer("", False)),
        ("unix-abstract:name", Peer("", False)),
        ("vsock:2:1", Peer("", False)),
        ("ipv4:localhost:1", Peer("", False)),
        ("ipv4:127.0.0.1", Peer("", False)),
        ("unknown", Peer("", False)),
        ("", Peer("", False)),
    ],
)
def test_a_peers_name_says_its_address_and_whether_it_is_a_proxy(name: str, peer: Peer) -> None:
    networks = ("127.0.0.0/8", "::1/128", "10.1.0.0/16", "fe80::/64")
    proxies = TrustedProxies(networks=tuple(ipaddress.ip_network(text) for text in networks))
    assert Peers(proxies).of(named(name)) == peer


def test_unix_sockets_are_trusted_where_that_is_said() -> None:
    peers = Peers(TrustedProxies(networks=(), unix=True))
    assert [peers.of(named(name)).proxy for name in ("unix:", "unix:/run/x", "ipv4:127.0.0.1:1")] == [True, True, False]


def test_a_host_is_parsed_once_whatever_its_ports_and_not_without_end() -> None:
    peers = Peers(TrustedProxies())
    first = peers.of(named("ipv4:192.0.2.1:1"))
    assert peers.of(named("ipv4:192.0.2.1:2")) is first
    for number in range(10_000):
        peers.of(named(f"ipv4:10.0.{number // 250}.{number % 250}:1"))
    assert len(peers._hosts) <= 4096


def test_a_certificate_is_asked_for_by_alternative_name_and_only_where_the_address_is_not_trusted() -> None:
    peers = Peers(TrustedProxies(certificates=frozenset({"proxy.internal", "spiffe://mesh/envoy"})))
    cases: list[tuple[str, dict[str, list[bytes]], str, int]] = [
        ("ipv4:127.0.0.1:1", {}, "sse", 0),
        ("ipv4:192.0.2.1:1", {}, "", 1),
        ("ipv4:192.0.2.1:1", {"x509_subject_alternative_name": [b"other", b"Proxy.Internal"]}, "sse", 1),
        ("ipv4:192.0.2.1:1", {"x509_subject_alternative_name": [b"spiffe://mesh/envoy"]}, "sse", 1),
        ("ipv4:192.0.2.1:1", {"x509_common_name": [b"proxy.internal"]}, "", 1),
    ]
    for name, certificate, transport, asked in cases:
        context = Named(name, certificate)
        assert peers.transport(cast(Any, context), "sse") == transport
        assert context.asked == asked


# --- real servers ----------------------------------------------------------------------------------------------------


class Noting(Access):
    """Notes the addresses that callers came from."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    async def authenticate(self, presented: str, address: str = "") -> Principal:
        self.seen.append(address)
        return await super().authenticate(presented, address)


@contextlib.asynccontextmanager
async def serving(
    proxies: TrustedProxies, place: str, files: CertificateFiles | None = None
) -> AsyncIterator[tuple[Noting, str]]:
    """Where callers come from, and the server's address."""
    house, access = House(), Noting()
    server = grpc.aio.server(interceptors=[CallInterceptor(access, RequestValidator(), proxies=proxies)])
    await register(
        server,
        gateway=house.gateway,
        access=access,  # type: ignore[arg-type]
        models=house.models,
        configs=house.configs,
        model_settings=None,  # type: ignore[arg-type]
        audit=None,  # type: ignore[arg-type]
        snapshots=house.snapshots,
        lifecycle=house.lifecycle,
        version="1.2.3",
    )
    if files is None:
        port = server.add_insecure_port(place)
    else:
        port = server.add_secure_port(place, ServerCertificates(files).credentials())
    await server.start()
    yield access, place.replace(":0", f":{port}") if place.endswith(":0") else place
    await server.stop(None)


async def claim(channel: grpc.aio.Channel) -> bool:
    """Call as a proxy would. Whether that was believed: a caller of its own is told the request's id."""
    async with channel:
        call = llm_service_pb2_grpc.LLMServiceStub(channel).Complete(HELLO, metadata=(*key(), *CLAIM), timeout=10)
        assert (await call).text == "Hello"
        return "x-request-id" not in dict(await call.trailing_metadata())


async def test_by_default_the_loopback_is_believed() -> None:
    async with serving(TrustedProxies(), "127.0.0.1:0") as (access, address):
        assert await claim(grpc.aio.insecure_channel(address))
    assert access.seen == [CLAIMED]


async def test_what_another_peer_says_of_its_callers_is_ignored_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "dragoman.rpc"):
        async with serving(NOBODY, "127.0.0.1:0") as (access, address):
            for _ in range(3):
                assert not await claim(grpc.aio.insecure_channel(address))
    assert access.seen == ["127.0.0.1"] * 3
    warnings = [record for record in caplog.records if record.name == "dragoman.rpc"]
    assert len(warnings) == 1
    assert "DRAGOMAN_TRUSTED_PROXIES" in warnings[0].getMessage()


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_unix_socket_is_what_the_setting_says(tmp_path: Path, trusted: bool) -> None:
    proxies = TrustedProxies(networks=(), unix=trusted)
    async with serving(proxies, f"unix:{tmp_path}/s") as (access, address):
        assert await claim(grpc.aio.insecure_channel(address)) is trusted
    assert access.seen == [CLAIMED if trusted else ""]


async def test_a_proxy_is_known_by_its_certificate_and_another_caller_of_the_same_host_is_not(tmp_path: Path) -> None:
    authority = Authority("inside")
    certificate, private = authority.certify(HOST).write(tmp_path, "server")
    files = CertificateFiles(certificate, private, move_in(tmp_path / "callers.pem", authority.pem))
    proxies = TrustedProxies(networks=(), certificates=frozenset({"proxy.test"}))

    def channel(client: Certificate) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(authority.pem, client.key_pem(), client.pem)
        options = (("grpc.ssl_target_name_override", HOST), ("grpc.use_local_subchannel_pool", 1))
        return grpc.aio.secure_channel(address, credentials, options)

    async with serving(proxies, "127.0.0.1:0", files) as (access, address):
        assert await claim(channel(authority.certify("proxy.test")))
        assert not await claim(channel(authority.certify("caller.test")))
    assert access.seen == [CLAIMED, "127.0.0.1"]
