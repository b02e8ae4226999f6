"""Workspaces, callers' keys, provider configurations, their counts, and the keys that seal credentials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import VARCHAR

revision = "0001"
down_revision = None

_ID = sa.String().with_variant(VARCHAR(collation="C"), "postgresql")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the first tables."""
    _make_state()
    _make_access()
    _make_configs()
    _make_wrapped_keys()


def _make_state() -> None:
    state = op.create_table(
        "store_state",
        sa.Column("id", sa.SmallInteger, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("workspaces_revision", sa.BigInteger, nullable=False),
        sa.Column("keys_revision", sa.BigInteger, nullable=False),
        sa.Column("configs_revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_store_state"),
        sa.CheckConstraint("id = 1", name=op.f("ck_store_state_one_row")),
    )
    revisions = dict.fromkeys(("revision", "workspaces_revision", "keys_revision", "configs_revision"), 1)
    op.bulk_insert(state, [{"id": 1, **revisions}])


def _make_access() -> None:
    op.create_table(
        "workspaces",
        sa.Column("id", _ID, nullable=False),
        sa.Column("org_id", _ID, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("default_model", sa.String),
        sa.Column("enabled_models", sa.JSON, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workspaces"),
        sa.UniqueConstraint("org_id", "name", name="uq_workspaces_org_id_name"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", _ID, nullable=False),
        sa.Column("org_id", _ID, nullable=False),
        sa.Column("workspace_id", _ID),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("hint", sa.String, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT),
        sa.Column("revoked_at", _MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name="fk_api_keys_workspace_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
    )
    op.create_index("ix_api_keys_workspace_id", "api_keys", ["workspace_id"])


def _make_configs() -> None:
    op.create_table(
        "provider_configs",
        sa.Column("id", _ID, nullable=False),
        sa.Column("org_id", _ID, nullable=False),
        sa.Column("workspace_id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("ai_type", sa.String, nullable=False),
        sa.Column("provider", sa.String, nullable=False),
        sa.Column("endpoint", sa.String),
        sa.Column("sealed_key", sa.LargeBinary),
        sa.Column("sealed_secret", sa.LargeBinary),
        sa.Column("key_mask", sa.String),
        sa.Column("secret_mask", sa.String),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("etag", sa.String, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("validated_at", _MOMENT),
        sa.Column("valid", sa.Boolean),
        sa.Column("validation_message", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_provider_configs"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name="fk_provider_configs_workspace_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("workspace_id", "name", name="uq_provider_configs_workspace_id_name"),
    )
    counts = ("calls", "errors", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
    op.create_table(
        "config_stats",
        sa.Column("config_id", _ID, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in counts),
        sa.PrimaryKeyConstraint("config_id", name="pk_config_stats"),
        sa.ForeignKeyConstraint(
            ["config_id"], ["provider_configs.id"], name="fk_config_stats_config_id", ondelete="CASCADE"
        ),
    )


def _make_wrapped_keys() -> None:
    op.create_table(
        "wrapped_keys",
        sa.Column("id", _ID, nullable=False),
        sa.Column("purpose", sa.String, nullable=False),
        sa.Column("workspace_id", _ID),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("retired_at", _MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_wrapped_keys"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name="fk_wrapped_keys_workspace_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint("(purpose = 'data-key') = (workspace_id IS NOT NULL)", name=op.f("ck_wrapped_keys_scope")),
    )
    active_data_key = sa.text("retired_at IS NULL AND purpose = 'data-key'")
    op.create_index(
        "uq_wrapped_keys_active_data_key",
        "wrapped_keys",
        ["workspace_id"],
        unique=True,
        sqlite_where=active_data_key,
        postgresql_where=active_data_key,
    )
    active_pepper = sa.text("retired_at IS NULL AND purpose = 'caller-key-pepper'")
    op.create_index(
        "uq_wrapped_keys_active_pepper",
        "wrapped_keys",
        ["purpose"],
        unique=True,
        sqlite_where=active_pepper,
        postgresql_where=active_pepper,
    )
