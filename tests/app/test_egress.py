"""Where the running server connects to: what it checked, and nothing else, whoever asks, redirects or resolves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import update

from dragoman.v1 import provider_config_service_pb2 as config_pb
from server.core.secret import Secret
from server.dev.demo_provider import DemoServer
from server.store.tables import Part, provider_configs
from tests.core.test_endpoint import REFUSED_URLS
from tests.support.gateway import gateway, origin, refused
from tests.support.scripted import Reply, ScriptedProvider


class Trap:
    """Listeners on loopback addresses, on one port, that note who connects and hang up."""

    def __init__(self, *addresses: str) -> None:
        first = socket.create_server((addresses[0], 0))
        self.port: int = first.getsockname()[1]
        self._sockets = {addresses[0]: first}
        for address in addresses[1:]:
            self._sockets[address] = socket.create_server((address, self.port))
        self.connections: list[str] = []

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Trap]:
        async with contextlib.AsyncExitStack() as stack:
            for address, listener in self._sockets.items():

                def caught(_: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str = address) -> None:
                    self.connections.append(address)
                    writer.transport.abort()

                await stack.enter_async_context(await asyncio.start_server(caught, sock=listener))
            yield self


@dataclass
class Names:
    """The machine's resolver, for names of a test: each lookup takes the next answer, the last one stays."""

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    lookups: list[str] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = socket.getaddrinfo

        def getaddrinfo(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
            left = self.answers.get(host)
            if left is None:
                return real(host, port, *arguments, **options)
            self.lookups.append(host)
            ips = left.pop(0) if len(left) > 1 else left[0]
            return [entry for ip in ips for entry in real(ip, port, *arguments, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


async def test_no_spelling_of_an_inner_address_can_be_stored(tmp_path: Path, database_url: Secret) -> None:
    """Neither when a configuration is made nor when it is changed; and nothing is connected to meanwhile."""
    async with gateway(tmp_path, database_url) as server:
        id = await server.add("https://api.example.com/v1")
        for url in REFUSED_URLS:
            error = await refused(server.add(url, name="other"))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, url
            assert "endpoint" in (error.details() or ""), url
            request = config_pb.UpdateProviderConfigRequest(id=id, endpoint=url, secret="sk-canary-0123456789")
            error = await refused(server.configs.UpdateProviderConfig(request, metadata=server.metadata))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, url


async def test_an_inner_endpoint_that_got_into_the_database_is_not_connected_to(
    tmp_path: Path, database_url: Secret
) -> None:
    """By another operator's settings, an older version, or whoever writes the database."""
    async with Trap("127.0.0.1").open() as trap, gateway(tmp_path, database_url) as server:
        id = await server.add("https://api.example.com/v1")
        for endpoint in (f"http://127.0.0.1:{trap.port}", f"https://127.0.0.1:{trap.port}", "https://localhost"):
            async with server.running.services.store.database.write() as transaction:
                values = {"endpoint": endpoint}
                await transaction.connection.execute(update(provider_configs).values(values))
                transaction.changes(Part.CONFIGS)
            assert (await server.validate(id))[0] is False
            assert (await refused(server.chat())).code() is grpc.StatusCode.FAILED_PRECONDITION
        assert trap.connections == []


async def test_a_name_that_is_rebound_is_connected_to_where_it_was_checked_and_then_not_at_all(
    tmp_path: Path, database_url: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First it resolves to an address that is allowed (where the TLS handshake fails, which does not matter here), at
    every later look to one that is not. A guard that looked twice would connect to the second one."""
    names = Names({"rebind.example.com": [["127.0.0.2"], ["127.0.0.1"]]})
    names.install(monkeypatch)
    async with (
        Trap("127.0.0.1", "127.0.0.2").open() as trap,
        gateway(tmp_path, database_url, networks=["127.0.0.2/32"]) as server,
    ):
        id = await server.add(f"https://rebind.example.com:{trap.port}")
        assert names.lookups == [], "storing an endpoint asks nobody"
        ok, message = await server.validate(id)
        assert (ok, trap.connections, len(names.lookups)) == (False, ["127.0.0.2"], 1)
        assert message.startswith(("No connection", "No secure connection", "The provider closed"))
        for count in (2, 3):
            assert (await server.validate(id)) == (
                False,
                "The provider's endpoint resolves to an address that is not public.",
            )
            assert len(names.lookups) == count
        error = await refused(server.chat())
        assert "not public" in (error.details() or "")
        assert trap.connections == ["127.0.0.2"]


@pytest.mark.parametrize(
    "answer",
    [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["127.0.0.1", "93.184.216.34"], ["::1"], ["::ffff:127.0.0.1"]],
    ids=" ".join,
)
async def test_a_public_name_with_an_inner_address_among_its_own_is_not_connected_to(
    tmp_path: Path, database_url: Secret, monkeypatch: pytest.MonkeyPatch, answer: list[str]
) -> None:
    names = Names({"mixed.example.com": [answer]})
    names.install(monkeypatch)
    async with Trap("127.0.0.1").open() as trap, gateway(tmp_path, database_url) as server:
        id = await server.add(f"https://mixed.example.com:{trap.port}")
        assert (await server.validate(id))[1].endswith("not public.")
        assert (names.lookups, trap.connections) == (["mixed.example.com"], [])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_not_a_way(
    tmp_path: Path, database_url: Secret, scripted_provider: ScriptedProvider, status: int
) -> None:
    """Also where its target would be allowed: the credential was given for another place."""
    async with Trap("127.0.0.1").open() as trap:
        target = f"http://127.0.0.1:{trap.port}/v1/models"
        hosts = [origin(scripted_provider.origin), origin(target)]
        async with gateway(tmp_path, database_url, hosts=hosts) as server:
            id = await server.add(f"{scripted_provider.origin}/v1")
            scripted_provider.reply(*[Reply([b"{}"], status, {"location": target})] * 2)
            assert (await server.validate(id))[0] is False
            await refused(server.chat())
            assert len(scripted_provider.exchanges) == 2
            assert trap.connections == []


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trap]:
    """Every variable that names a proxy names the trap."""
    trap = Trap("127.0.0.1")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY"):
        for spelling in (name, name.lower()):
            monkeypatch.setenv(spelling, f"http://127.0.0.1:{trap.port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield trap
    assert "HTTP_PROXY" in os.environ


async def test_proxies_of_the_environment_are_not_gone_through(
    tmp_path: Path, database_url: Secret, demo_provider: DemoServer, proxied: Trap
) -> None:
    async with (
        proxied.open() as trap,
        gateway(tmp_path, database_url, hosts=[origin(demo_provider.base_url)]) as server,
    ):
        id = await server.add(demo_provider.base_url, secret=demo_provider.api_key)
        assert (await server.validate(id))[0] is True
        assert (await server.chat()).text
        assert trap.connections == []


async def test_an_answer_without_end_is_given_up(
    tmp_path: Path, database_url: Secret, scripted_provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is lowered here, so that the test need not send 64 MiB."""
    monkeypatch.setattr("server.providers.runner.MAX_BODY_BYTES", 1_000_000)
    async with gateway(tmp_path, database_url, hosts=[origin(scripted_provider.origin)]) as server:
        await server.add(f"{scripted_provider.origin}/v1")
        scripted_provider.reply(Reply(b"[" * 65536 for _ in range(10_000)))
        assert "1000000 bytes" in ((await refused(server.chat())).details() or "")
        await scripted_provider.wait_for_hangup()
