"""The small protocols between the floors: services call them, providers and store implement them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from server.core.access import ApiKey, Workspace
from server.core.audit import AuditEntry, AuditFilter
from server.core.catalog import ModelInfo
from server.core.embedding import EmbedRequest, Vector
from server.core.events import StreamEvent, Usage, Warning
from server.core.messages import ChatRequest
from server.core.provider_config import ConfigStats, ProviderConfig, SecretField
from server.core.secret import Secret


class ProviderTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where and as whom a provider is called. One per call, dropped with it: it holds the credential in clear.

    provider: slug. config_id: the configuration that it was made from, so that connections are kept apart by it.
    endpoint: base URL, None for the provider's own. secret: API key, or AWS secret key. key: AWS access key id, else
    None. wire: the protocol to speak where a provider has several (`chat`, `responses`, ...), "" for its default.
    """

    provider: str
    config_id: str
    endpoint: str | None = None
    secret: Secret | None = None
    key: Secret | None = None
    wire: str = ""


class CallTimeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. connect: until connected. first_token: until the first event of the answer. idle: between two reads,
    keep-alives included. total: what the caller's own deadline leaves, None for none."""

    connect: float = 10.0
    first_token: float = 120.0
    idle: float = 60.0
    total: float | None = None


class ProviderCall(msgspec.Struct, frozen=True, kw_only=True):
    """One chat call. model: the provider's own name for it. info: its row of the catalogue, None for an unknown model
    (then every parameter passes). stream: which form of the wire to use; the events are the same."""

    target: ProviderTarget
    request: ChatRequest
    model: str
    info: ModelInfo | None = None
    stream: bool
    timeouts: CallTimeouts = CallTimeouts()


class EmbedCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of an embedding model; fields as in ProviderCall."""

    target: ProviderTarget
    request: EmbedRequest
    model: str
    info: ModelInfo | None = None
    timeouts: CallTimeouts = CallTimeouts()


class EmbedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors of the inputs from `start` on, as they came in one answer, with what that answer said."""

    start: int
    vectors: Sequence[Vector[float]]
    usage: Usage
    model: str
    request_id: str = ""
    warnings: Sequence[Warning] = ()


class TokenCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many tokens the input of a call is, by the count of the provider that would serve it. warnings: what of the
    request was not counted as it stands."""

    input_tokens: int
    provider: str
    model: str
    warnings: tuple[Warning, ...] = ()


class ListedModel(msgspec.Struct, frozen=True):
    """A model as the provider's own list names it. Limits in tokens, None where the list does not say."""

    name: str
    display_name: str | None = None
    context_tokens: int | None = None
    output_tokens: int | None = None


class EventStream(Protocol):
    """A call's events, in batches; none is empty. Nothing is sent before the first batch is asked for.

    Whoever asked for it closes it, however the reading ends (`finally: await stream.aclose()`): no garbage collector
    does. One that has ended, raised or was cancelled while it was read has closed itself.
    """

    def __aiter__(self) -> AsyncIterator[Sequence[StreamEvent]]: ...

    def __anext__(self) -> Awaitable[Sequence[StreamEvent]]: ...

    def aclose(self) -> Awaitable[None]:
        """End it at once, whatever of it was read. Idempotent; afterwards it is exhausted."""
        ...


class ChatProvider(Protocol):
    """One provider's adapter over its transport."""

    def chat(self, call: ProviderCall) -> EventStream:
        """The answer's events, in batches as they came off the wire; one batch for a unary call.

        Reading raises DragomanError (ProviderError mostly) for a call that failed before its first event; once Started
        was given, failures are the Failed event. Closing the stream closes the provider's connection at once.
        """
        ...

    async def list_models(self, target: ProviderTarget, timeouts: CallTimeouts) -> Sequence[ListedModel]:
        """The provider's models, by its cheapest token-free call. Raises ProviderError."""
        ...

    async def validate(self, target: ProviderTarget, timeouts: CallTimeouts) -> None:
        """Return when the provider accepts the credential, by its cheapest call. Raises ProviderError when not."""
        ...


class EmbeddingProvider(Protocol):
    """One provider's embedding models."""

    def embed(self, call: EmbedCall) -> AsyncGenerator[EmbedBatch, None]:
        """The vectors, each input's once, in as many batches as the provider's limits ask for and in any order.

        Raises UnsupportedParameter for a provider that makes none, InvalidRequest for what its wire cannot say, and
        ProviderError; batches that came before were paid for. Closing the generator closes all its connections.
        """
        ...


class TokenCounter(Protocol):
    """One provider's own count of what a call's input is."""

    async def count_tokens(self, call: ProviderCall) -> TokenCount:
        """The count of the call as `chat` would send it; nothing is generated, `stream` means nothing.

        Raises UnsupportedParameter for a provider that counts none, InvalidRequest for what its wire cannot say, and
        ProviderError. Never an estimate.
        """
        ...


class Provider(ChatProvider, EmbeddingProvider, TokenCounter, Protocol):
    """All that an adapter does."""


class Providers(Protocol):
    """All adapters, by slug."""

    def get(self, slug: str) -> Provider:
        """The adapter; imports it on first use. Raises InvalidRequest for an unknown slug."""
        ...

    def slugs(self) -> Mapping[str, str]:
        """Every slug that a configuration can name, with the provider's display name."""
        ...


# --- the store -------------------------------------------------------------------------------------------------------


class Vault(Protocol):
    """Seals and opens credentials. What is sealed for one workspace, configuration and field opens for no other."""

    async def seal(self, workspace_id: str, config_id: str, field: SecretField, value: Secret) -> bytes:
        """Cipher bytes that carry their key ids. Makes the workspace's data key on first use."""
        ...

    def open(self, workspace_id: str, config_id: str, field: SecretField, sealed: bytes) -> Secret:
        """The clear value; CPU only, no I/O. Raises InternalError where the bytes do not belong there or were
        changed."""
        ...


DeleteCheck = Callable[[Workspace, Sequence[ProviderConfig]], None]
"""Raises where a configuration may not be deleted, by its workspace and all configurations of that, oldest first."""

ModelsChange = Callable[[Workspace, Sequence[ProviderConfig]], tuple[Workspace, AuditEntry | None]]
"""From a workspace, with its configurations, oldest first, to the same with other model settings and what to log of it.
Pure; raises where the change may not be."""


class ConfigStore(Protocol):
    """Provider configurations in the database. Every write moves the revision and is durable when it returns, and the
    audit entry given with it is written in the same transaction.

    All raise Unavailable when the database cannot be reached.
    """

    async def create(self, config: ProviderConfig, *, audit: AuditEntry | None = None) -> ProviderConfig:
        """Raises AlreadyExists when the name is taken in the workspace (decided by the database), LimitExceeded when
        the workspace has its most."""
        ...

    async def get(self, config_id: str) -> ProviderConfig | None: ...

    async def list(
        self, workspace_id: str, *, available_only: bool = False, limit: int | None = None, after: str | None = None
    ) -> Sequence[ProviderConfig]:
        """Newest first. available_only: active ones whose last validation held. after: the id that a page ended
        with."""
        ...

    async def update(
        self, config: ProviderConfig, *, expected_etag: str, audit: AuditEntry | None = None
    ) -> ProviderConfig:
        """Store `config` with a new etag. Raises NotFound; Conflict when the stored etag is another; AlreadyExists."""
        ...

    async def delete(
        self, config_id: str, *, check: DeleteCheck | None = None, audit: AuditEntry | None = None
    ) -> None:
        """check: asked within the transaction. Raises NotFound, and what `check` raises."""
        ...

    async def record_validation(
        self,
        config_id: str,
        *,
        valid: bool,
        message: str,
        expected_etag: str | None = None,
        audit: AuditEntry | None = None,
    ) -> None:
        """Note when and how a validation ended; changes nothing else, the etag neither.

        expected_etag: of the configuration that was validated, so that its outcome is not noted of a later one. Raises
        NotFound; Conflict when the stored etag is another.
        """
        ...


class AccessStore(Protocol):
    """Workspaces and callers' keys in the database; audit entries as in ConfigStore. All raise Unavailable when it
    cannot be reached."""

    async def create_workspace(self, workspace: Workspace, *, audit: AuditEntry | None = None) -> Workspace:
        """Raises AlreadyExists, LimitExceeded."""
        ...

    async def list_workspaces(self) -> Sequence[Workspace]: ...

    async def change_models(self, workspace_id: str, change: ModelsChange) -> Workspace:
        """Store the model settings that `change`, called within the transaction, makes of the present ones. Raises
        NotFound, and what `change` raises."""
        ...

    async def create_key(self, key: ApiKey, *, audit: AuditEntry | None = None) -> ApiKey:
        """Raises NotFound for an unknown workspace, LimitExceeded."""
        ...

    async def get_key(self, key_id: str) -> ApiKey | None: ...

    async def list_keys(self, workspace_id: str | None = None) -> Sequence[ApiKey]: ...

    async def page_keys(
        self, org_id: str, workspace_id: str | None, *, limit: int | None = None, after: str | None = None
    ) -> Sequence[ApiKey]:
        """Newest first, of one workspace or of the whole organisation. after: the id that a page ended with."""
        ...

    async def revoke_key(self, key_id: str, *, audit: AuditEntry | None = None) -> ApiKey:
        """Raises NotFound."""
        ...


class KeyUseStore(Protocol):
    """When keys were last used."""

    async def note(self, uses: Mapping[str, datetime]) -> None:
        """Store the last use of these keys, by id; an older moment than the stored one changes nothing. Raises
        Unavailable."""
        ...


class AuditStore(Protocol):
    """The audit log. All raise Unavailable when the database cannot be reached."""

    async def append(self, entries: Sequence[AuditEntry]) -> None:
        """Add entries that belong to no other write."""
        ...

    async def list(
        self, wanted: AuditFilter, *, limit: int, after: str | None = None, oldest_first: bool = False
    ) -> Sequence[AuditEntry]:
        """Newest first unless told otherwise. after: the id that a page ended with."""
        ...


class StatsStore(Protocol):
    """Counters per configuration."""

    async def add(self, deltas: Sequence[ConfigStats]) -> None:
        """Add to the stored counts, in one transaction."""
        ...

    async def read(self, workspace_id: str, config_id: str | None = None) -> Sequence[ConfigStats]:
        """One per configuration, zeros for one without traffic."""
        ...


class KeyHasher(Protocol):
    """The keyed hash that callers' keys are stored and found by."""

    def digest(self, key: str) -> bytes: ...
