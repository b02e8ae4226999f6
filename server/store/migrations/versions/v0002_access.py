"""The audit log, aliases and disabled models of workspaces, and keys' models and last use."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import VARCHAR

revision = "0002"
down_revision = "0001"

_ID = sa.String().with_variant(VARCHAR(collation="C"), "postgresql")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables and columns, and the triggers that keep the log append-only."""
    op.add_column("workspaces", sa.Column("disabled_models", sa.JSON))
    op.add_column("workspaces", sa.Column("aliases", sa.JSON))
    op.add_column("api_keys", sa.Column("allowed_models", sa.JSON))
    op.create_table(
        "key_uses",
        sa.Column("key_id", _ID, nullable=False),
        sa.Column("last_used_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_key_uses"),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name="fk_key_uses_key_id", ondelete="CASCADE"),
    )
    _make_audit_entries()
    _refuse_changes(op.get_bind().dialect.name)


def _make_audit_entries() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("id", _ID, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("org_id", _ID, nullable=False),
        sa.Column("workspace_id", _ID),
        sa.Column("key_id", _ID, nullable=False),
        *(
            sa.Column(name, sa.String, nullable=False)
            for name in ("role", "action", "object_kind", "object_id", "object_name", "address", "request_id")
        ),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_entries"),
    )
    op.create_index("ix_audit_entries_org_id_id", "audit_entries", ["org_id", "id"])
    op.create_index("ix_audit_entries_workspace_id_id", "audit_entries", ["workspace_id", "id"])


def _refuse_changes(dialect: str) -> None:
    if dialect == "sqlite":
        for verb in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER audit_entries_no_{verb} BEFORE {verb.upper()} ON audit_entries "
                "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
            )
        # REPLACE deletes without firing the trigger above, unless recursive triggers are on.
        op.execute(
            "CREATE TRIGGER audit_entries_no_replace BEFORE INSERT ON audit_entries "
            "WHEN EXISTS (SELECT 1 FROM audit_entries WHERE id = NEW.id) "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )
        return
    op.execute(
        "CREATE FUNCTION dragoman_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries "
        "FOR EACH STATEMENT EXECUTE FUNCTION dragoman_append_only()"
    )
