"""The KeyUseStore port over SQL."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select

from server.store.db import Database
from server.store.tables import api_keys, key_uses


class SqlKeyUseStore:
    """The later of two moments stays, so that several processes may write of one key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, uses: Mapping[str, datetime]) -> None:
        """As the port says. A key that is deleted meanwhile takes its last use with it."""
        if not uses:
            return
        existing = select(api_keys.c.id).where(api_keys.c.id.in_(uses)).order_by(api_keys.c.id)
        existing = existing.with_for_update(read=True, key_share=True)
        insert = self._database.insert(key_uses)
        later = insert.excluded.last_used_at
        upsert = insert.on_conflict_do_update(
            index_elements=[key_uses.c.key_id],
            set_={"last_used_at": later},
            where=key_uses.c.last_used_at < later,
        )
        async with self._database.write() as transaction:
            # In the order of their ids: two processes that write of the same keys then wait, and never deadlock.
            ids = (await transaction.connection.execute(existing)).scalars().all()
            if ids:
                rows = [{"key_id": id, "last_used_at": uses[id]} for id in ids]
                await transaction.connection.execute(upsert, rows)
