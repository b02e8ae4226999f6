"""Two workspaces of one organisation, and another organisation with one."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from server.core.access import Role, operator
from server.core.audit import AuditEntry, AuditFilter
from server.core.model_settings import ModelSettingsChange
from server.core.provider_config import ProviderConfig
from server.core.secret import Secret
from server.dev.demo_provider import DemoServer
from server.services.provider_configs import ConfigDraft
from server.settings import Settings

OWN, FOREIGN, ELSEWHERE = "ws_own", "ws_foreign", "ws_elsewhere"
ORG, OTHER_ORG = "org_1", "org_2"
MODEL = "custom/demo-chat"

Metadata = tuple[tuple[str, str], ...]


class World:
    """keys: what callers present, by the name of who calls. key_ids: how the audit log calls them."""

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
        access = world.services.access
        for id, org in ((OWN, ORG), (FOREIGN, ORG), (ELSEWHERE, OTHER_ORG)):
            await access.create_workspace(id, org_id=org, id=id)
        await world.a_config(name="demo")
        change = ModelSettingsChange(default_model=MODEL, enable=[MODEL])
        await world.services.model_settings.update(operator(ORG), OWN, change)
        yield world
