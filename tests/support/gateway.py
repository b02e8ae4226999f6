"""A server that runs in the test's own process, on a database of its own, and an admin who calls it by gRPC."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import provider_config_service_pb2 as config_pb
from dragoman.v1.llm_service_pb2_grpc import LLMServiceStub
from dragoman.v1.provider_config_service_pb2_grpc import ProviderConfigServiceStub
from server.app import RunningServer, running_server
from server.core.access import Role
from server.core.endpoint import EndpointPolicy
from server.core.secret import Secret
from server.settings import Settings
from server.store.master_key import create_master_key_file

Metadata = tuple[tuple[str, str], ...]


@dataclass
class Gateway:
    """A server that runs in this process, an admin's stubs, and the organisation's metadata beside the admin's."""

    running: RunningServer
    configs: Any
    llm: Any
    metadata: Metadata
    organisation: Metadata

    async def add(
        self,
        endpoint: str,
        name: str = "it",
        secret: str = "sk-canary-0123456789",
        *,
        key: str | None = None,
        workspace: str = "ws_1",
        org: bool = False,
    ) -> str:
        """The id of a new configuration. org: made by the organisation's admin."""
        request = config_pb.CreateProviderConfigRequest(
            name=name, ai_type="OTHER", workspace_id=workspace, endpoint=endpoint, secret=secret, key=key
        )
        answer = await self.configs.CreateProviderConfig(request, metadata=self._as(org))
        return str(answer.ai_llm_id)

    async def validate(self, id: str, *, org: bool = False) -> tuple[bool, str]:
        request = config_pb.ValidateProviderConfigRequest(id=id)
        answer = await self.configs.ValidateProviderConfig(request, metadata=self._as(org))
        return answer.success, answer.message

    async def chat(self, model: str = "custom/demo-chat", *, config: str = "") -> Any:
        request = pb.ChatRequest(model=model, provider_name=config, messages=[pb.Message(role="user", content="hi")])
        return await self.llm.Complete(request, metadata=self.metadata)

    def _as(self, org: bool) -> Metadata:
        return self.organisation if org else self.metadata


@contextlib.asynccontextmanager
async def gateway(
    home: Path, url: Secret, *, hosts: Sequence[str] = (), networks: Sequence[str] = (), fresh: bool = True
) -> AsyncIterator[Gateway]:
    """With the workspace ws_1 of organisation org. url: of a migrated database. hosts, networks: endpoints that the
    operator allows. fresh: whether home and database are new ones, else they are those of an earlier gateway."""
    allowed = EndpointPolicy(
        frozenset((host, int(port)) for host, _, port in (each.rpartition(":") for each in hosts)),
        tuple(ipaddress.ip_network(each) for each in networks),
    )
    settings = Settings(
        home=home, database_url=url, grpc_port=0, edge_port=0, allowed_endpoints=allowed, shutdown_grace_seconds=0
    )
    path = settings.master_key_path()
    assert path is not None
    create_master_key_file(path)
    async with running_server(settings) as running:
        access = running.services.access
        if fresh:
            await access.create_workspace("one", org_id="org", id="ws_1")
        workspace = running.services.store.snapshots.current().workspaces["ws_1"]
        _, key = await access.create_key(workspace=workspace, org_id="org", role=Role.ADMIN, name="admin")
        _, org_key = await access.create_key(workspace=None, org_id="org", role=Role.ORG_ADMIN, name="organisation")
        # The client of the test is not to go by the environment either.
        options = [("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}", options) as channel:
            yield Gateway(
                running,
                ProviderConfigServiceStub(channel),
                LLMServiceStub(channel),
                (("authorization", f"Bearer {key.reveal()}"),),
                (("authorization", f"Bearer {org_key.reveal()}"),),
            )


def origin(url: str) -> str:
    """host:port of a URL."""
    return url.partition("://")[2].partition("/")[0]


async def refused(call: Any) -> grpc.aio.AioRpcError:
    """The status that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value
