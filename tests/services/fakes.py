"""Ports' fakes for tests of use cases: a store in memory, a vault that marks what it seals, a scripted provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from server.core.access import Workspace
from server.core.audit import AuditEntry
from server.core.errors import AlreadyExists, Conflict, DragomanError, NotFound
from server.core.events import StreamEvent, Usage
from server.core.ports import (
    CallTimeouts,
    DeleteCheck,
    EmbedBatch,
    EmbedCall,
    ListedModel,
    Provider,
    ProviderCall,
    ProviderTarget,
    TokenCount,
)
from server.core.provider_config import ConfigStats, ProviderConfig, SecretField
from server.core.secret import Secret
from server.core.snapshot import Snapshot

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WORKSPACE = Workspace(id="ws_1", org_id="org_1", name="one", default_model="custom/demo", created_at=NOW)


class FixedSnapshot:
    """A snapshot that does not change by itself."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.stale = False
        self.refreshes = 0
        self.after_refresh: Snapshot | None = None

    def current(self) -> Snapshot:
        return self.snapshot

    async def refresh(self) -> Snapshot:
        self.refreshes += 1
        self.snapshot = self.after_refresh or self.snapshot
        return self.snapshot


class MarkingVault:
    """Seals by naming what it seals for; opens only for the same."""

    async def seal(self, workspace_id: str, config_id: str, field: SecretField, value: Secret) -> bytes:
        return f"{workspace_id}|{config_id}|{field}|{value.reveal()}".encode()

    def open(self, workspace_id: str, config_id: str, field: SecretField, sealed: bytes) -> Secret:
        bound, _, value = sealed.decode().rpartition("|")
        assert bound == f"{workspace_id}|{config_id}|{field}"
        return Secret(value)


class ScriptedProvider:
    """Yields the batches it was given, then raises what it was given; notes its calls and that it was closed."""

    def __init__(self, *batches: Sequence[StreamEvent], error: BaseException | None = None, hang: bool = False) -> None:
        self.batches = batches
        self.error = error
        self.hang = hang
        self.calls: list[ProviderCall] = []
        self.targets: list[ProviderTarget] = []
        self.embed_batches: Sequence[EmbedBatch] = ()
        self.embed_calls: list[EmbedCall] = []
        self.closed = 0
        self.called = asyncio.Event()

    async def chat(self, call: ProviderCall) -> AsyncGenerator[Sequence[StreamEvent], None]:
        self.calls.append(call)
        self.called.set()
        try:
            for batch in self.batches:
                yield batch
            if self.hang:
                await asyncio.Event().wait()
            if self.error is not None:
                raise self.error
        finally:
            self.closed += 1

    async def embed(self, call: EmbedCall) -> AsyncGenerator[EmbedBatch, None]:
        self.embed_calls.append(call)
        try:
            for batch in self.embed_batches:
                yield batch
            if self.error is not None:
                raise self.error
        finally:
            self.closed += 1

    async def count_tokens(self, call: ProviderCall) -> TokenCount:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        return TokenCount(input_tokens=17, provider=call.target.provider, model=call.model)

    async def list_models(self, target: ProviderTarget, timeouts: CallTimeouts) -> Sequence[ListedModel]:
        return ()

    async def validate(self, target: ProviderTarget, timeouts: CallTimeouts) -> None:
        self.targets.append(target)
        if self.error is not None:
            raise self.error


class OneProvider:
    """Every slug is the same adapter."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    def get(self, slug: str) -> Provider:
        return self.provider

    def slugs(self) -> Mapping[str, str]:
        return {"custom": "Custom"}


class Ledger:
    """Notes what was recorded, and can be told to fail."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Usage, bool]] = []
        self.totals: dict[str, ConfigStats] = {}
        self.down: DragomanError | None = None

    def record(self, config_id: str, usage: Usage, *, failed: bool) -> None:
        self.calls.append((config_id, usage, failed))

    async def add(self, deltas: Sequence[ConfigStats]) -> None:
        if self.down is not None:
            raise self.down
        for row in deltas:
            self.totals[row.config_id] = self.totals.get(row.config_id, ConfigStats(config_id=row.config_id)).plus(row)

    async def read(self, workspace_id: str, config_id: str | None = None) -> Sequence[ConfigStats]:
        return [row for row in self.totals.values() if config_id in (None, row.config_id)]


class MemoryConfigs:
    """Configurations in a dict, by the rules of the port; `audit` has what was logged of them."""

    def __init__(self, *configs: ProviderConfig, workspace: Workspace = WORKSPACE) -> None:
        self.rows = {config.id: config for config in configs}
        self.workspace = workspace
        self.audit: list[AuditEntry | None] = []

    async def create(self, config: ProviderConfig, *, audit: AuditEntry | None = None) -> ProviderConfig:
        self._unique(config)
        self.rows[config.id] = config
        self.audit.append(audit)
        return config

    async def get(self, config_id: str) -> ProviderConfig | None:
        return self.rows.get(config_id)

    async def list(
        self, workspace_id: str, *, available_only: bool = False, limit: int | None = None, after: str | None = None
    ) -> Sequence[ProviderConfig]:
        rows = sorted(
            (c for c in self.rows.values() if c.workspace_id == workspace_id), key=lambda c: c.id, reverse=True
        )
        rows = [c for c in rows if (after is None or c.id < after) and (not available_only or (c.active and c.valid))]
        return rows[:limit]

    async def update(
        self, config: ProviderConfig, *, expected_etag: str, audit: AuditEntry | None = None
    ) -> ProviderConfig:
        stored = self.rows.get(config.id)
        if stored is None:
            raise NotFound("gone")
        if stored.etag != expected_etag:
            raise Conflict("stale")
        self._unique(config)
        self.rows[config.id] = msgspec.structs.replace(config, etag=stored.etag + "+")
        self.audit.append(audit)
        return self.rows[config.id]

    async def delete(
        self, config_id: str, *, check: DeleteCheck | None = None, audit: AuditEntry | None = None
    ) -> None:
        if check is not None:
            check(self.workspace, list(self.rows.values()))
        if self.rows.pop(config_id, None) is None:
            raise NotFound("gone")
        self.audit.append(audit)

    async def record_validation(
        self,
        config_id: str,
        *,
        valid: bool,
        message: str,
        expected_etag: str | None = None,
        audit: AuditEntry | None = None,
    ) -> None:
        self.audit.append(audit)
        if expected_etag not in (None, self.rows[config_id].etag):
            return
        self.rows[config_id] = msgspec.structs.replace(
            self.rows[config_id], valid=valid, validation_message=message, validated_at=NOW
        )

    def _unique(self, config: ProviderConfig) -> None:
        if any(
            (c.workspace_id, c.name) == (config.workspace_id, config.name) and c.id != config.id
            for c in self.rows.values()
        ):
            raise AlreadyExists("taken")


def provider_config(**changes: object) -> ProviderConfig:
    """A usable custom configuration of WORKSPACE, changed as told."""
    config = ProviderConfig(
        id="cfg_1",
        org_id="org_1",
        workspace_id="ws_1",
        user_id="key_1",
        name="demo",
        ai_type="OTHER",
        provider="custom",
        endpoint="https://llm.example.com/v1",
        sealed_key=None,
        sealed_secret=b"ws_1|cfg_1|secret|sk-demo",
        key_mask=None,
        secret_mask="****",
        active=True,
        etag="e1",
        created_at=NOW,
        updated_at=NOW,
    )
    return msgspec.structs.replace(config, **changes)


def snapshot_of(*configs: ProviderConfig, workspace: Workspace = WORKSPACE) -> FixedSnapshot:
    """A snapshot of one workspace with these configurations."""
    return FixedSnapshot(Snapshot(1, {workspace.id: workspace}, {}, {workspace.id: configs}))
