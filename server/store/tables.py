"""The tables. Migrations make them; a test holds the two to each other on both databases."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import VARCHAR
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Part(StrEnum):
    """What the snapshot is made of; each is read whole."""

    WORKSPACES = "workspaces"
    KEYS = "keys"
    CONFIGS = "configs"


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware datetimes in, UTC ones out. SQLite keeps no zone, so everything is stored in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored moment must be timezone-aware")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Ids sort by their bytes on both databases, whatever the language Postgres was set up for: pages are cut by id.
Id = String().with_variant(VARCHAR(collation="C"), "postgresql")


def _workspace_column(*, nullable: bool = False) -> Column[str]:
    return Column("workspace_id", Id, ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=nullable)


store_state = Table(
    "store_state",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    # Moves in the transaction of every write that the snapshot shows. Its row lock orders the writers of Postgres.
    Column("revision", BigInteger, nullable=False),
    # The revision of the last write to each part, so that one part's change reloads that part alone.
    *(Column(f"{part}_revision", BigInteger, nullable=False) for part in Part),
    CheckConstraint("id = 1", name="one_row"),
)

workspaces = Table(
    "workspaces",
    metadata,
    Column("id", Id, primary_key=True),
    Column("org_id", Id, nullable=False),
    Column("name", String, nullable=False),
    Column("default_model", String),
    Column("enabled_models", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # Null where they were never set: the rows are older than these columns.
    Column("disabled_models", JSON(none_as_null=True)),
    Column("aliases", JSON(none_as_null=True)),
    UniqueConstraint("org_id", "name"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Id, primary_key=True),
    Column("org_id", Id, nullable=False),
    _workspace_column(nullable=True),
    Column("role", String, nullable=False),
    Column("name", String, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("hint", String, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    # Null: every model.
    Column("allowed_models", JSON(none_as_null=True)),
    Index(None, "workspace_id"),
)

# Beside the keys, not in them: written behind the calls, and no change that the snapshot shows.
key_uses = Table(
    "key_uses",
    metadata,
    Column("key_id", Id, ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True),
    Column("last_used_at", UtcDateTime, nullable=False),
)

# Triggers refuse to change or delete a row. No references: entries outlive what they tell of.
audit_entries = Table(
    "audit_entries",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("org_id", Id, nullable=False),
    Column("workspace_id", Id),
    Column("key_id", Id, nullable=False),
    Column("role", String, nullable=False),
    Column("action", String, nullable=False),
    Column("object_kind", String, nullable=False),
    Column("object_id", String, nullable=False),
    Column("object_name", String, nullable=False),
    Column("address", String, nullable=False),
    Column("request_id", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("details", JSON, nullable=False),
    Index(None, "org_id", "id"),
    Index(None, "workspace_id", "id"),
)

provider_configs = Table(
    "provider_configs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("org_id", Id, nullable=False),
    _workspace_column(),
    Column("user_id", Id, nullable=False),
    Column("name", String, nullable=False),
    Column("ai_type", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("endpoint", String),
    Column("sealed_key", LargeBinary),
    Column("sealed_secret", LargeBinary),
    Column("key_mask", String),
    Column("secret_mask", String),
    Column("active", Boolean, nullable=False),
    Column("etag", String, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("validated_at", UtcDateTime),
    Column("valid", Boolean),
    Column("validation_message", String, nullable=False),
    Column("flavor", String, nullable=False, server_default=text("''")),
    UniqueConstraint("workspace_id", "name"),
)

config_stats = Table(
    "config_stats",
    metadata,
    Column("config_id", Id, ForeignKey("provider_configs.id", ondelete="CASCADE"), primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
)

wrapped_keys = Table(
    "wrapped_keys",
    metadata,
    # The fingerprint of the key inside, in hex: sealed values name it.
    Column("id", Id, primary_key=True),
    Column("purpose", String, nullable=False),
    _workspace_column(nullable=True),
    # The key, sealed by the master key that the bytes name. All that a master-key rotation rewrites.
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # A retired key still opens what it sealed, and seals no more.
    Column("retired_at", UtcDateTime),
    CheckConstraint("(purpose = 'data-key') = (workspace_id IS NOT NULL)", name="scope"),
    # One key of a kind seals at a time: two processes that make the first one at once agree on the winner's.
    Index(
        "uq_wrapped_keys_active_data_key",
        "workspace_id",
        unique=True,
        sqlite_where=text("retired_at IS NULL AND purpose = 'data-key'"),
        postgresql_where=text("retired_at IS NULL AND purpose = 'data-key'"),
    ),
    Index(
        "uq_wrapped_keys_active_pepper",
        "purpose",
        unique=True,
        sqlite_where=text("retired_at IS NULL AND purpose = 'caller-key-pepper'"),
        postgresql_where=text("retired_at IS NULL AND purpose = 'caller-key-pepper'"),
    ),
)
