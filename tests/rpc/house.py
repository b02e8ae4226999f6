"""Scripted use cases for the server of these tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from server.core.access import Principal, Role
from server.core.audit import AuditObject
from server.core.catalog import ModelInfo
from server.core.embedding import EmbedRequest, EmbedResponse, vector
from server.core.errors import NotFound, PermissionDenied, Unauthenticated, UnknownModel
from server.core.events import BlockDelta, BlockEnd, BlockStart, Completed, Started, StreamEvent, Usage, Warning
from server.core.messages import ChatRequest
from server.core.ports import TokenCount
from server.core.provider_config import ConfigStats, ProviderConfig
from server.core.routing import WorkspaceModel
from server.core.snapshot import Snapshot
from server.core.stream import ChatResponse, Folder
from server.rpc.health import Lifecycle
from server.rpc.register import SERVICES
from server.services.provider_configs import ConfigChange, ConfigDraft, ConfigPage, Validation

NOW = datetime(2026, 11, 21, 12, 0, 0, 500_000, tzinfo=UTC)
WORKSPACE = "ws_1"

STARTED = Started("openai", "gpt-x", "resp_1", "req_1")
COMPLETED = Completed("stop", "stop", Usage(3, 2, 5), "gpt-x-1")
ANSWER: tuple[Sequence[StreamEvent], ...] = (
    [STARTED, BlockStart(0, "text"), BlockDelta(0, "Hel")],
    [BlockDelta(0, "lo"), BlockEnd(0)],
    [COMPLETED],
)


class Access:
    """Keys are named by their role; the key `org` has no workspace."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def authenticate(self, presented: str, address: str = "") -> Principal:
        if self.error is not None:
            raise self.error
        if presented == "org":
            return Principal("key_org", "org_1", None, Role.ORG_ADMIN, "key_org")
        if presented.upper() not in Role.__members__:
            raise Unauthenticated("The key is not valid.")
        return Principal(f"key_{presented}", "org_1", WORKSPACE, Role[presented.upper()], f"key_{presented}")

    def workspace(self, caller: Principal, named: str, field: str = "workspace_id") -> str:
        if caller.workspace_id is not None and named not in ("", caller.workspace_id):
            raise PermissionDenied("The key does not belong to that workspace.")
        return named or WORKSPACE


class Gateway:
    """Plays `batches`, then raises `error`, or waits for ever where `stall` is set. Notes what it was asked and when it
    was closed."""

    def __init__(self) -> None:
        self.batches: Sequence[Sequence[StreamEvent]] = ANSWER
        self.error: Exception | None = None
        self.stall = False
        self.calls: list[tuple[Principal, str, ChatRequest, bool, float | None]] = []
        self.embed_calls: list[tuple[str, EmbedRequest]] = []
        self.called = asyncio.Event()
        self.closed = asyncio.Event()

    async def chat(
        self, caller: Principal, workspace_id: str, request: ChatRequest, *, stream: bool, timeout: float | None
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        self.calls.append((caller, workspace_id, request, stream, timeout))
        self.called.set()
        try:
            for batch in self.batches:
                yield batch
            if self.stall:
                await asyncio.Event().wait()
            if self.error is not None:
                raise self.error
        finally:
            self.closed.set()

    async def complete(
        self, caller: Principal, workspace_id: str, request: ChatRequest, *, timeout: float | None
    ) -> ChatResponse:
        folder = Folder()
        async for batch in self.chat(caller, workspace_id, request, stream=False, timeout=timeout):
            folder.feed(batch)
        return folder.result()

    async def count_tokens(
        self, caller: Principal, workspace_id: str, request: ChatRequest, *, timeout: float | None
    ) -> TokenCount:
        self.calls.append((caller, workspace_id, request, False, timeout))
        if self.error is not None:
            raise self.error
        warned = (Warning("parameter_stripped", "user: nobody asks", "user"),)
        return TokenCount(input_tokens=17, provider="anthropic", model="m", warnings=warned)

    async def embed(
        self, caller: Principal, workspace_id: str, request: EmbedRequest, *, timeout: float | None
    ) -> EmbedResponse:
        self.embed_calls.append((workspace_id, request))
        if self.error is not None:
            raise self.error
        vectors = tuple(vector([float(len(text)), 0.5]) for text in request.input)
        warned = (Warning("parameter_stripped", "user: nobody asks", "user"),)
        return EmbedResponse(
            vectors=vectors,
            usage=Usage(3, None, 3),
            model="emb-x-1",
            provider="openai",
            warnings=warned,
            request_id="r_1",
        )


def make_config(id: str = "cfg_1", **changes: Any) -> ProviderConfig:
    given: dict[str, Any] = {
        "id": id,
        "org_id": "org_1",
        "workspace_id": WORKSPACE,
        "user_id": "key_admin",
        "name": "Main",
        "ai_type": "OPENAI",
        "provider": "openai",
        "endpoint": None,
        "sealed_key": None,
        "sealed_secret": b"sealed-canary",
        "key_mask": None,
        "secret_mask": "****cdef",
        "active": True,
        "etag": "e1",
        "created_at": NOW,
        "updated_at": NOW,
    }
    return ProviderConfig(**(given | changes))


class Configs:
    """One configuration, `cfg_1`. Notes what it was asked."""

    def __init__(self) -> None:
        self.config = make_config()
        self.asked: list[Any] = []
        self.outcome = Validation(True, "AI LLM configuration validated successfully")
        self.error: Exception | None = None

    async def create(self, caller: Principal, workspace_id: str, draft: ConfigDraft) -> ProviderConfig:
        self.asked.append((workspace_id, draft))
        if self.error:
            raise self.error
        return self.config

    async def get(self, caller: Principal, config_id: str) -> ProviderConfig:
        if config_id != self.config.id:
            raise NotFound("No such configuration.")
        return self.config

    async def list(
        self, workspace_id: str, *, available_only: bool = False, page_size: int = 0, page_token: str = ""
    ) -> ConfigPage:
        self.asked.append((workspace_id, available_only, page_size, page_token))
        return ConfigPage([self.config], "more")

    async def update(self, caller: Principal, config_id: str, change: ConfigChange) -> ProviderConfig:
        self.asked.append((config_id, change))
        return await self.get(caller, config_id)

    async def delete(self, caller: Principal, config_id: str) -> None:
        self.asked.append(config_id)
        if self.error:
            raise self.error

    async def validate(self, caller: Principal, config_id: str) -> Validation:
        return self.outcome

    async def stats(self, caller: Principal, workspace_id: str, config_id: str | None) -> Sequence[ConfigStats]:
        self.asked.append((workspace_id, config_id))
        return [
            ConfigStats(
                config_id="cfg_1",
                calls=2**40,
                errors=1,
                prompt_tokens=5,
                completion_tokens=6,
                cached_tokens=2,
                reasoning_tokens=3,
            )
        ]


class Models:
    """Three models."""

    models = tuple(
        WorkspaceModel(
            info=ModelInfo(
                id=f"openai/{name}",
                name=name.upper(),
                provider="openai",
                model=name,
                capabilities=("tools",),
                context_tokens=100,
            ),
            known=True,
            is_default=name == "b",
            configurations=("Main",),
        )
        for name in "abc"
    )

    def list(
        self,
        workspace_id: str,
        kind: str | None = None,
        *,
        limit: int | None = None,
        after: str | None = None,
        allowed: Sequence[str] = (),
    ) -> Sequence[WorkspaceModel]:
        return [model for model in self.models if after is None or model.info.id > after][:limit]

    def get(self, workspace_id: str, id: str, *, allowed: Sequence[str] = ()) -> WorkspaceModel:
        for model in self.models:
            if model.info.id == id:
                return model
        raise UnknownModel("No such model.", metadata={"candidates": "openai/a"})


class Snapshots:
    """The picture that readiness looks at."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.stale = False

    def current(self) -> Snapshot:
        if self.error is not None:
            raise self.error
        return Snapshot(7, {}, {}, {})

    async def refresh(self) -> Snapshot:
        return self.current()


class Refusals:
    """Notes what was refused."""

    def __init__(self) -> None:
        self.noted: list[tuple[Principal, str, AuditObject, dict[str, Any]]] = []

    def note(self, caller: Principal, action: str, subject: AuditObject, **more: Any) -> None:
        self.noted.append((caller, action, subject, more))


class House:
    """The server's parts, for a test to script, and its address."""

    def __init__(self) -> None:
        self.access = Access()
        self.gateway = Gateway()
        self.configs = Configs()
        self.models = Models()
        self.snapshots = Snapshots()
        self.refusals = Refusals()
        self.lifecycle = Lifecycle(SERVICES)
        self.address = ""
        self.stop: Callable[[], Awaitable[None]]


def key(role: str = "member", **metadata: str) -> list[tuple[str, str]]:
    """Metadata of a caller with that role; further metadata with _ for -."""
    further = [(name.replace("_", "-"), value) for name, value in metadata.items()]
    return [("authorization", f"Bearer {role}"), *further]


def reason(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    """Code and ErrorInfo reason of a status."""
    return error.code().name, info(error).reason


def info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    # AioRpcError has what from_call asks of a call.
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    found = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(found)
    return found
