"""Two workspaces of one organisation, another organisation, and a key for every kind of caller."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from dragoman.v1 import (
    access_service_pb2_grpc,
    llm_service_pb2_grpc,
    model_service_pb2_grpc,
    provider_config_service_pb2_grpc,
)
from server.app import RunningServer, Services
from server.core.access import Principal, Role, Workspace, operator
from server.core.audit import AuditEntry, AuditFilter
from server.core.model_settings import ModelSettingsChange
from server.core.provider_config import ProviderConfig
from server.core.secret import Secret
from server.dev.demo_provider import DemoServer
from server.services.access import Access
from server.services.provider_configs import ConfigDraft
from server.settings import Settings

OWN, FOREIGN, ELSEWHERE = "ws_own", "ws_foreign", "ws_elsewhere"
ORG, OTHER_ORG = "org_1", "org_2"
MODEL = "custom/demo-chat"

Metadata = tuple[tuple[str, str], ...]


class World:
    """keys: callers' keys in clear, by the name of who calls. key_ids: their ids."""

    def __init__(self, server: RunningServer, settings: Settings, demo: DemoServer, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.settings = settings
        self.demo = demo
        self.channel = channel
        self.keys: dict[str, str] = {}
        self.key_ids: dict[str, str] = {}
        self.access = access_service_pb2_grpc.AccessServiceStub(channel)
        self.configs = provider_config_service_pb2_grpc.ProviderConfigServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.llm = llm_service_pb2_grpc.LLMServiceStub(channel)
        self._names = (f"n{number}" for number in itertools.count())

    @property
    def services(self) -> Services:
        return self.server.services

    def as_(self, who: str, request_id: str = "") -> Metadata:
        """Metadata of a call by `who`; "none" has no key."""
        key = () if who == "none" else (("authorization", f"Bearer {self.keys[who]}"),)
        return (*key, ("x-request-id", request_id)) if request_id else key

    def name(self) -> str:
        """One that nothing has yet."""
        return next(self._names)

    async def a_config(self, workspace: str = OWN, **draft: Any) -> ProviderConfig:
        """A new configuration, of the demo provider unless told otherwise."""
        given: dict[str, Any] = {
            "name": self.name(),
            "ai_type": "OTHER",
            "endpoint": self.demo.base_url,
            "secret": Secret(self.demo.api_key),
        }
        return await self.services.configs.create(operator(ORG), workspace, ConfigDraft(**(given | draft)))

    async def a_key(self, role: Role = Role.MEMBER, workspace: str | None = OWN, **more: Any) -> tuple[str, str]:
        """A new key: id, clear value."""
        place = self.services.store.snapshots.current().workspaces[workspace] if workspace else None
        key, clear = await self.services.access.create_key(
            workspace=place, org_id=more.pop("org_id", ORG), role=role, name=self.name(), **more
        )
        return key.id, clear.reveal()

    async def audit(self, **wanted: Any) -> list[AuditEntry]:
        """What is logged, oldest first; of attempts that were refused too."""
        await self.services.refusals.flush()
        found = await self.services.store.audit.list(
            AuditFilter(**{"org_id": ORG, **wanted}), limit=10_000, oldest_first=True
        )
        return list(found)

    async def call(self, method: str, request: Message, metadata: Metadata) -> list[Message]:
        """Any method of the contract by its path; all its answers. Raises AioRpcError."""
        service, _, name = method.removeprefix("/").partition("/")
        described = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
        answer = message_factory.GetMessageClass(described.output_type)
        encode, decode = type(request).SerializeToString, answer.FromString
        if described.server_streaming:
            stream = self.channel.unary_stream(method, encode, decode)
            return [message async for message in stream(request, metadata=metadata, timeout=60)]
        return [await self.channel.unary_unary(method, encode, decode)(request, metadata=metadata, timeout=60)]


@asynccontextmanager
async def furnished(server: RunningServer, settings: Settings, demo: DemoServer) -> AsyncIterator[World]:
    """The world, with a channel to the server."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        world = World(server, settings, demo, channel)
        await _furnish(world)
        yield world


async def _furnish(world: World) -> None:
    access = world.services.access
    own = await access.create_workspace("own", org_id=ORG, id=OWN)
    foreign = await access.create_workspace("foreign", org_id=ORG, id=FOREIGN)
    await access.create_workspace("elsewhere", org_id=OTHER_ORG, id=ELSEWHERE)
    wanted: list[tuple[str, Workspace | None, Role, str]] = [
        ("viewer", own, Role.VIEWER, ORG),
        ("member", own, Role.MEMBER, ORG),
        ("admin", own, Role.ADMIN, ORG),
        ("organisation", None, Role.ORG_ADMIN, ORG),
        ("foreign", foreign, Role.ADMIN, ORG),
        ("other_organisation", None, Role.ORG_ADMIN, OTHER_ORG),
        ("revoked", own, Role.ADMIN, ORG),
    ]
    for name, workspace, role, org in wanted:
        key, clear = await access.create_key(workspace=workspace, org_id=org, role=role, name=name)
        world.keys[name], world.key_ids[name] = clear.reveal(), key.id
    await access.revoke_key(world.key_ids["revoked"])
    await _add_expired(world, own)
    await world.a_config(name="demo")
    change = ModelSettingsChange(default_model=MODEL, enable=[MODEL])
    await world.services.model_settings.update(operator(ORG), OWN, change)


async def _add_expired(world: World, workspace: Workspace) -> None:
    store = world.services.store
    past = Access(store.snapshots, store.hasher, store.access, now=lambda: datetime(2020, 1, 1, tzinfo=UTC))
    key, clear = await past.create_key(
        workspace=workspace, org_id=ORG, role=Role.ADMIN, name="expired", expires_at=datetime(2020, 1, 2, tzinfo=UTC)
    )
    world.keys["expired"], world.key_ids["expired"] = clear.reveal(), key.id


def principal(world: World, who: str) -> Principal:
    """The caller as the services know it."""
    keys = world.services.store.snapshots.current().keys.values()
    return next(key.principal() for key in keys if key.id == world.key_ids[who])
