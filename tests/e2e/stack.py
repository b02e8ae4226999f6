"""The whole gateway for end-to-end tests: real server process, real Envoy, real HTTP to a provider, real database."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import httpx

from dragoman.v1 import (
    access_service_pb2_grpc,
    llm_service_pb2_grpc,
    model_service_pb2_grpc,
    provider_config_service_pb2_grpc,
    status_service_pb2_grpc,
)
from server.app import Services, open_services
from server.core.access import Role, Workspace, operator
from server.core.model_settings import ModelSettingsChange
from server.core.secret import Secret
from server.dev.envoy import Address
from server.services.access import Access
from server.services.provider_configs import ConfigDraft
from server.settings import Settings, load_settings
from server.store.master_key import create_master_key_file
from server.store.schema import migrate
from tests.e2e.envoy import Proxy, proxy
from tests.support.ports import free_port
from tests.support.process import RunningProcess

OWN, FOREIGN = "ws_own", "ws_foreign"
PROVIDER_SECRET = "sk-canary-provider-7f3a91c05d"
"""What the provider is called with; it may be in no log, answer or file in clear."""

NOBODY = "127.0.0.1:1"
"""An allowed endpoint where nothing listens (port 1 is tcpmux, which nobody runs)."""

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """A running gateway. keys: callers' keys by name: admin, member, viewer, foreign (an admin of another workspace),
    organisation, revoked, expired. demo: base URL of the provider."""

    home: Path
    settings: Settings
    environ: dict[str, str]
    keys: dict[str, str]
    demo: str
    server: RunningProcess
    envoy: Proxy

    @property
    def port(self) -> int:
        return self.settings.grpc_port

    @property
    def server_address(self) -> Address:
        return Address("127.0.0.1", self.settings.grpc_port)

    @property
    def edge_address(self) -> Address:
        return Address("127.0.0.1", self.settings.edge_port)

    def headers(self, key: str = "member") -> dict[str, str]:
        """REST headers of the caller with that key."""
        return {"authorization": f"Bearer {self.keys[key]}"}

    def metadata(self, key: str = "member") -> Metadata:
        """gRPC metadata of the caller with that key."""
        return (("authorization", f"Bearer {self.keys[key]}"),)

    @contextmanager
    def rest(self, key: str | None = "member") -> Iterator[httpx.Client]:
        """A REST client through Envoy; key None: without one."""
        headers = self.headers(key) if key else {}
        with httpx.Client(base_url=self.envoy.url, headers=headers, timeout=30) as client:
            yield client

    @asynccontextmanager
    async def grpc(self) -> AsyncIterator[Stubs]:
        """Stubs over a channel straight to the server."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            yield Stubs(channel)

    def demo_stats(self) -> dict[str, int]:
        """The provider's counts: requests, open, clientWentAway."""
        stats: dict[str, int] = httpx.get(
            self.demo.removesuffix("/v1") + "/demo/stats", headers={"authorization": f"Bearer {PROVIDER_SECRET}"}
        ).json()
        return stats


class Stubs:
    """One stub for each service of the contract."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.access = access_service_pb2_grpc.AccessServiceStub(channel)
        self.llm = llm_service_pb2_grpc.LLMServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.configs = provider_config_service_pb2_grpc.ProviderConfigServiceStub(channel)
        self.status = status_service_pb2_grpc.StatusServiceStub(channel)


def server_environ(home: Path, **settings: str) -> dict[str, str]:
    """The environment of a server process: this one's without DRAGOMAN_ variables, and the given ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DRAGOMAN_")}
    own = {f"DRAGOMAN_{name.upper()}": value for name, value in settings.items()}
    return {**inherited, **own, "DRAGOMAN_HOME": str(home)}


def start_server(environ: dict[str, str], log: Path | None = None, *, names: Sequence[str] = ()) -> RunningProcess:
    """`dragoman serve` as a process, returned once it takes calls. names: hosts that lead to this machine for it."""
    module = ["tests.e2e.named_server", ",".join(names)] if names else ["server", "serve"]
    process = RunningProcess([sys.executable, "-m", *module], env=environ, log=log)
    try:
        process.wait_for_port(int(environ["DRAGOMAN_GRPC_PORT"]))
    except BaseException:
        process.stop()
        raise
    return process


@contextmanager
def running_stack(
    folder: Path,
    *,
    template: str | None = None,
    allowed: Sequence[str] = (),
    names: Sequence[str] = (),
    **settings: str,
) -> Iterator[Stack]:
    """A gateway with two workspaces; the own one has the demo provider as `demo` and its model as default.

    folder: an empty one. template: in the place of envoy.yaml. allowed: further endpoints, as host:port. names: hosts
    that lead to this machine for it. settings: DRAGOMAN_ variables beyond the defaults, by lower-case name.
    """
    home = folder / "home"
    home.mkdir()
    key_file = folder / "provider.key"
    key_file.write_text(PROVIDER_SECRET)
    with ExitStack() as stack:
        provider = stack.enter_context(
            RunningProcess(
                [sys.executable, "-m", "server.dev.demo_provider", "--port", "0", "--key-file", key_file],
                log=folder / "demo.log",
            )
        )
        demo = provider.wait_for_line(r"listening on (http://\S+)$")[1]
        environ = server_environ(
            home,
            grpc_port=str(free_port()),
            edge_port=str(free_port()),
            allowed_endpoints=",".join((demo.removeprefix("http://").removesuffix("/v1"), NOBODY, *allowed)),
            # All tests of a stack share its address, and many of them fail to authenticate on purpose.
            **({"max_failed_authentications": "0"} | settings),
        )
        config = load_settings({name: value for name, value in environ.items() if name.startswith("DRAGOMAN_")})
        keys = asyncio.run(_furnish(config, demo))
        server = stack.enter_context(start_server(environ, folder / "server.log", names=names))
        (folder / "envoy").mkdir()
        addresses = Address("127.0.0.1", config.grpc_port), Address("127.0.0.1", config.edge_port)
        envoy = stack.enter_context(proxy(folder / "envoy", *addresses, template=template))
        yield Stack(home, config, environ, keys, demo, server, envoy)


async def _furnish(settings: Settings, demo: str) -> dict[str, str]:
    path = settings.master_key_path()
    if path is not None:
        create_master_key_file(path)
    await migrate(settings.database())
    async with open_services(settings) as services:
        own = await services.access.create_workspace("own", org_id="org_1", id=OWN)
        foreign = await services.access.create_workspace("foreign", org_id="org_1", id=FOREIGN)
        wanted: list[tuple[str, Workspace | None, Role]] = [
            ("admin", own, Role.ADMIN),
            ("member", own, Role.MEMBER),
            ("viewer", own, Role.VIEWER),
            ("foreign", foreign, Role.ADMIN),
            ("organisation", None, Role.ORG_ADMIN),
            ("revoked", own, Role.ADMIN),
        ]
        keys = {}
        for name, workspace, role in wanted:
            key, clear = await services.access.create_key(workspace=workspace, org_id="org_1", role=role, name=name)
            keys[name] = clear.reveal()
            if name == "revoked":
                await services.access.revoke_key(key.id)
            if name == "admin":
                draft = ConfigDraft(name="demo", ai_type="OTHER", endpoint=demo, secret=Secret(PROVIDER_SECRET))
                await services.configs.create(key.principal(), OWN, draft)
        keys["expired"] = await _expired_key(services, own)
        change = ModelSettingsChange(default_model="custom/demo-chat")
        await services.model_settings.update(operator("org_1"), own.id, change)
    return keys


async def _expired_key(services: Services, workspace: Workspace) -> str:
    store = services.store
    past = Access(store.snapshots, store.hasher, store.access, now=lambda: datetime(2020, 1, 1, tzinfo=UTC))
    _, clear = await past.create_key(
        workspace=workspace,
        org_id="org_1",
        role=Role.ADMIN,
        name="expired",
        expires_at=datetime(2020, 1, 2, tzinfo=UTC),
    )
    return clear.reveal()
