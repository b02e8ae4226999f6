"""Which OpenAI-compatible server a custom configuration calls."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; what is stored has none."""
    op.add_column("provider_configs", sa.Column("flavor", sa.String, nullable=False, server_default=sa.text("''")))
