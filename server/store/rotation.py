"""New keys in place of old ones, while servers run: the master key of an installation, the data key of a workspace.

Both go row by row in small transactions, find out from the rows themselves what is left to do, and can therefore be
killed and started again anywhere. What was readable stays so at every moment: a row names its key, and no key goes
before the last row that names it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Column, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from server.core.errors import DragomanError, InternalError, NotFound
from server.core.setup import SetupError
from server.store.cipher import CipherError, Keyring, Purpose, UnknownKey, sealed_by
from server.store.db import Database
from server.store.rotation_log import RotationLog, listed
from server.store.tables import Part, provider_configs, wrapped_keys
from server.store.wrapped_keys import WrappedKey, insert_data_key, load_wrapped, unwrap, wrap

SETTLE_SECONDS = 2.0
"""How long a new data key is there before the first credential needs it: servers look for changes four times a second,
and one that did not look for so long takes its first look together with the credential."""

_ROWS_A_TRANSACTION = 20
_MOST_ROUNDS = 20


class MasterRotation(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is. key_id: the master key that everything is to be wrapped by. rewrapped: keys that this run moved.
    unreadable: ids of keys in the database that no master key at hand opens. still_needed: ids of other master keys
    that rows name; only when it is empty may the others be taken away."""

    key_id: str
    rewrapped: int
    unreadable: tuple[str, ...]
    still_needed: tuple[str, ...]


class DataRotation(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is. key_id: the data key that seals, None where the workspace never stored a credential. resumed: an
    earlier run's rotation was finished instead of a new one begun. resealed: credentials that this run moved. removed:
    ids of data keys that nothing used any more. still_used: ids of old ones that something names. unreadable:
    credentials that do not open, as `configuration.field`; the keys that they name stay."""

    key_id: str | None
    resumed: bool = False
    resealed: int = 0
    removed: tuple[str, ...] = ()
    still_used: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


async def rotate_master(database: Database, master: Keyring, log: RotationLog) -> MasterRotation:
    """Wrap everything by `master.active`; the others of the ring open what is not yet. Nothing to do is fine.

    Raises SetupError where the pepper does not open (then nothing was changed), Unavailable.
    """
    key_id = master.active.id
    try:
        done = await _rotate_master(database, master, log)
    except (SetupError, DragomanError) as error:
        with contextlib.suppress(DragomanError):
            async with database.write() as transaction:
                await log.master(transaction, "rotate", key_id, outcome="failed", reason=_reason(error))
        raise
    if done.unreadable or done.still_needed:
        async with database.write() as transaction:
            await log.master(
                transaction,
                "rotate",
                key_id,
                outcome="failed",
                reason="UNREADABLE" if done.unreadable else "STILL_NEEDED",
                unreadable=listed(done.unreadable),
                still_needed=listed(done.still_needed),
            )
    return done


async def note_master_removed(database: Database, log: RotationLog, key_ids: Sequence[str]) -> None:
    """Log that master keys are about to be taken from where they are kept: before it, since both cannot be one
    transaction, so that a kill in between leaves an entry too many and never one too few. Raises Unavailable."""
    async with database.write() as transaction:
        for key_id in key_ids:
            await log.master(transaction, "remove", key_id)


async def _rotate_master(database: Database, master: Keyring, log: RotationLog) -> MasterRotation:
    rewrapped = 0
    unreadable = []
    pepper = select(wrapped_keys).where(wrapped_keys.c.purpose == Purpose.CALLER_KEY_PEPPER.value)
    # First of all, and alone: see `wrapped_keys`.
    for row in await _rows(database, pepper):
        rewrapped += await _rewrap_pepper(database, master, row, log)
    for row in await _rows(database, select(wrapped_keys)):
        try:
            rewrapped += await _rewrap(database, master, row.id)
        except CipherError:
            unreadable.append(row.id)
    named = {_named(row) for row in await _rows(database, select(wrapped_keys))}
    return MasterRotation(
        key_id=master.active.id,
        rewrapped=rewrapped,
        unreadable=tuple(unreadable),
        still_needed=tuple(sorted(named - {master.active.id})),
    )


async def _rewrap_pepper(database: Database, master: Keyring, row: WrappedKey, log: RotationLog) -> bool:
    try:
        return await _rewrap(database, master, row.id, log)
    except UnknownKey as exc:
        raise SetupError(
            f"This database was made with the master key {exc.key_id}, which is not among those given.",
            mend="Give the old key behind the new one until the rotation is done.",
        ) from None
    except CipherError as exc:
        raise SetupError(f"The database's keys do not unwrap: {exc}.", mend="Restore the database.") from exc


async def _rewrap(database: Database, master: Keyring, id: str, log: RotationLog | None = None) -> bool:
    """Whether there was something to do. log: where this makes the rotation effective. Raises UnknownKey,
    CipherError."""
    async with database.write() as transaction:
        statement = select(wrapped_keys).where(wrapped_keys.c.id == id).with_for_update()
        rows = await load_wrapped(transaction.connection, statement)
        if not rows or sealed_by(rows[0].wrapped) == master.active.id:
            return False
        (row,) = rows
        renewed = wrap(master.active, unwrap(master, row), row.purpose, row.workspace_id)
        # What is about to replace the only copy is opened once before.
        unwrap(Keyring(master.active), msgspec.structs.replace(row, wrapped=renewed))
        await transaction.connection.execute(
            update(wrapped_keys).where(wrapped_keys.c.id == id).values(wrapped=renewed)
        )
        if log is not None:
            await log.master(transaction, "rotate", master.active.id, replaced=sealed_by(row.wrapped))
    return True


def _reason(error: SetupError | DragomanError) -> str:
    return error.reason if isinstance(error, DragomanError) else "NOT_SET_UP"


def _named(row: WrappedKey) -> str:
    try:
        return sealed_by(row.wrapped)
    except CipherError:
        return f"unreadable:{row.id}"


async def rotate_data_key(
    database: Database,
    master: Keyring,
    workspace_id: str,
    log: RotationLog,
    *,
    settle_seconds: float = SETTLE_SECONDS,
) -> DataRotation:
    """A new data key for a workspace; its credentials are sealed anew, and the old key goes when nothing names it.

    A rotation that an earlier run left unfinished is finished instead. What is created and updated meanwhile is not
    lost and not refused. Raises SetupError for a master key that is missing, InternalError where
    the workspace's keys do not unwrap, NotFound, Unavailable.
    """
    try:
        done = await _rotate_data_key(database, master, workspace_id, log, settle_seconds)
    except (SetupError, DragomanError) as error:
        with contextlib.suppress(DragomanError):
            async with database.write() as transaction:
                await log.data(transaction, workspace_id, "rotate", "", outcome="failed", reason=_reason(error))
        raise
    if done.unreadable or done.still_used:
        async with database.write() as transaction:
            await log.data(
                transaction,
                workspace_id,
                "rotate",
                done.key_id or "",
                outcome="failed",
                reason="UNREADABLE" if done.unreadable else "STILL_USED",
                unreadable=listed(done.unreadable),
                still_used=listed(done.still_used),
            )
    return done


async def _rotate_data_key(
    database: Database, master: Keyring, workspace_id: str, log: RotationLog, settle_seconds: float
) -> DataRotation:
    resumed = await _begin(database, master, workspace_id, log)
    if resumed is None:
        return DataRotation(key_id=None)
    await asyncio.sleep(settle_seconds)
    resealed, removed, left, unreadable = 0, list[str](), list[str](), tuple[str, ...]()
    ring = await _data_keys(database, master, workspace_id)
    # Several rounds: a process that had not heard of the new key may have sealed with the old one behind the first.
    for _ in range(_MOST_ROUNDS):
        known, ring = ring.ids(), await _data_keys(database, master, workspace_id)
        moved, unreadable = await _reseal(database, ring, workspace_id)
        gone, left = await _remove_unused(database, workspace_id, log)
        resealed += moved
        removed += gone
        nothing_new = not moved and ring.ids() == known
        if not (left or unreadable) or (unreadable and nothing_new):
            break
    await database.trim_journal()
    return DataRotation(
        key_id=ring.active.id,
        resumed=resumed,
        resealed=resealed,
        removed=tuple(removed),
        still_used=tuple(left),
        unreadable=unreadable,
    )


async def _begin(database: Database, master: Keyring, workspace_id: str, log: RotationLog) -> bool | None:
    """Retire the key that seals and put a new one in its place, unless that was done: whether it was. None: no key."""
    async with database.write() as transaction:
        rows = await load_wrapped(transaction.connection, _of(workspace_id).with_for_update())
        if not rows:
            return None
        if any(row.retired for row in rows):
            return True
        now = log.clock()
        retire = update(wrapped_keys).where(wrapped_keys.c.workspace_id == workspace_id).values(retired_at=now)
        await transaction.connection.execute(retire)
        try:
            await insert_data_key(database, transaction.connection, master, workspace_id, now=now)
        except UnknownKey as exc:
            raise _missing_master(exc) from None
        active = _of(workspace_id).where(wrapped_keys.c.retired_at.is_(None))
        (made,) = await load_wrapped(transaction.connection, active)
        replaced = listed(sorted(row.id for row in rows))
        await log.data(transaction, workspace_id, "rotate", made.id, replaced=replaced)
        transaction.changes(Part.CONFIGS)
    return False


async def _data_keys(database: Database, master: Keyring, workspace_id: str) -> Keyring:
    rows = await _rows(database, _of(workspace_id))
    try:
        keys = [(row.retired, unwrap(master, row)) for row in rows]
    except UnknownKey as exc:
        raise _missing_master(exc) from None
    except CipherError as exc:
        raise InternalError("A data key of the workspace cannot be unwrapped.") from exc
    active = next((key for retired, key in keys if not retired), None)
    if active is None:
        raise NotFound("The workspace was deleted meanwhile.")
    return Keyring(active, (key for _, key in keys))


async def _reseal(database: Database, ring: Keyring, workspace_id: str) -> tuple[int, tuple[str, ...]]:
    """Seal by the active key what another one sealed: how many credentials, and which do not open."""
    moved = 0
    unreadable: list[str] = []
    after = ""
    while ids := await _next_ids(database, workspace_id, after):
        async with database.write() as transaction:
            before = moved
            for id in ids:
                done, failed = await _reseal_one(transaction.connection, ring, workspace_id, id)
                moved += done
                unreadable += failed
            if moved > before:
                transaction.changes(Part.CONFIGS)
        after = ids[-1]
    return moved, tuple(unreadable)


async def _next_ids(database: Database, workspace_id: str, after: str) -> Sequence[str]:
    columns = provider_configs.c
    statement = select(columns.id).where(columns.workspace_id == workspace_id, columns.id > after)
    async with database.read() as connection:
        found = await connection.execute(statement.order_by(columns.id).limit(_ROWS_A_TRANSACTION))
        return found.scalars().all()


async def _reseal_one(connection: AsyncConnection, ring: Keyring, workspace_id: str, id: str) -> tuple[int, list[str]]:
    """The etag stays: nothing that a caller can see changes. An update that was based on the old bytes brings them
    back whole, to be moved in the next round, for which their key stays."""
    columns = provider_configs.c
    statement = select(columns.sealed_key, columns.sealed_secret).where(columns.id == id).with_for_update()
    row = (await connection.execute(statement)).mappings().one_or_none()
    changes: dict[Column[Any], bytes] = {}
    unreadable = []
    for field, column in (("key", columns.sealed_key), ("secret", columns.sealed_secret)):
        sealed = None if row is None else row[column]
        if sealed is None or _opens_by(sealed) == ring.active.id:
            continue
        try:
            value = ring.open(sealed, Purpose.CREDENTIAL, workspace_id, id, field)
        except CipherError:
            unreadable.append(f"{id}.{field}")
        else:
            changes[column] = ring.seal(value, Purpose.CREDENTIAL, workspace_id, id, field)
    if changes:
        values = {column.name: value for column, value in changes.items()}
        await connection.execute(update(provider_configs).where(columns.id == id).values(values))
    return len(changes), unreadable


async def _remove_unused(database: Database, workspace_id: str, log: RotationLog) -> tuple[list[str], list[str]]:
    """Delete the retired keys that no credential names: which went, and which are left."""
    async with database.write() as transaction:
        # Locked: whoever stores a credential holds its key's row until the end (`keep_data_keys`), so what is read
        # after this shows it.
        statement = _of(workspace_id).where(wrapped_keys.c.retired_at.is_not(None)).with_for_update()
        retired = {row.id for row in await load_wrapped(transaction.connection, statement)}
        columns = provider_configs.c
        sealed = select(columns.sealed_key, columns.sealed_secret).where(columns.workspace_id == workspace_id)
        rows = (await transaction.connection.execute(sealed)).all()
        used = {_opens_by(value) for row in rows for value in row if value is not None}
        gone = sorted(retired - used)
        if gone:
            await transaction.connection.execute(delete(wrapped_keys).where(wrapped_keys.c.id.in_(gone)))
            for key_id in gone:
                await log.data(transaction, workspace_id, "remove", key_id)
    return gone, sorted(retired & used)


def _missing_master(exc: UnknownKey) -> SetupError:
    return SetupError(
        f"This database needs the master key {exc.key_id}, which is not among those given.",
        mend="Give it too. During a rotation of the master key: run this again when that is done.",
    )


def _opens_by(sealed: bytes) -> str:
    try:
        return sealed_by(sealed)
    except CipherError:
        return ""


def _of(workspace_id: str) -> Any:
    return select(wrapped_keys).where(
        wrapped_keys.c.workspace_id == workspace_id, wrapped_keys.c.purpose == Purpose.DATA_KEY.value
    )


async def _rows(database: Database, statement: Any) -> Sequence[WrappedKey]:
    async with database.read() as connection:
        return await load_wrapped(connection, statement)
