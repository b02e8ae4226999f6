"""The audit log: an entry stands and falls with the change that it tells of, and nobody changes it afterwards."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from server.core.access import Origin, Principal, Role, Workspace
from server.core.audit import AuditEntry, AuditFilter, AuditObject, audit_entry
from server.core.errors import AlreadyExists, Conflict, DragomanError, InternalError, InUse, NotFound
from server.core.ids import ID_ENTROPY_BYTES
from server.store.store import Store
from tests.store.examples import a_config, a_key, a_workspace

START = datetime(2030, 1, 1, tzinfo=UTC)
ADMIN = Principal("key_1", "org_1", "ws_1", Role.ADMIN, "key_1", origin=Origin("192.0.2.7", "127.0.0.1", "req_1"))


def an_entry(action: str = "key.create", *, second: int = 0, **more: Any) -> AuditEntry:
    fields = {"workspace_id": "ws_1", "details": {"fields": "name"}, **more}
    return audit_entry(
        fields.pop("caller", ADMIN),
        action,
        AuditObject("key", fields.pop("object_id", "key_2"), "Ünï"),
        now=START + timedelta(seconds=second),
        entropy=secrets.token_bytes(ID_ENTROPY_BYTES),
        **fields,
    )


async def logged(store: Store, **wanted: Any) -> list[AuditEntry]:
    return list(await store.audit.list(AuditFilter(**{"org_id": "org_1", **wanted}), limit=1000))


async def test_entries_come_back_as_they_were_written_in_pages_of_either_order(store: Store) -> None:
    written = [an_entry(second=second) for second in range(5)]
    await store.audit.append(written)
    everything = AuditFilter(org_id="org_1")
    assert await logged(store) == written[::-1]
    assert await store.audit.list(everything, limit=2, after=written[3].id) == [written[2], written[1]]
    assert await store.audit.list(everything, limit=2, after=written[3].id, oldest_first=True) == [written[4]]
    assert (written[0].address, written[0].request_id, written[0].details["peer"]) == (
        "192.0.2.7",
        "req_1",
        "127.0.0.1",
    )


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [3, 2, 1, 0]),
        ({"workspace_id": "ws_1"}, [2, 1, 0]),
        ({"org_id": "org_2"}, [4]),
        ({"start": START + timedelta(seconds=1)}, [3, 2, 1]),
        ({"end": START + timedelta(seconds=1)}, [0]),
        ({"action": "key.revoke"}, [1]),
        ({"action": "key.*"}, [3, 1, 0]),
        ({"action": "ke%.*"}, []),
        ({"object_id": "cfg_1"}, [2]),
        ({"key_id": "key_9"}, [3]),
        ({"outcome": "denied"}, [1]),
        ({"action": "key.*", "outcome": "ok", "workspace_id": "ws_1"}, [0]),
    ],
)
async def test_a_filter_finds_what_it_says(store: Store, wanted: dict[str, Any], found: list[int]) -> None:
    written = [
        an_entry(),
        an_entry("key.revoke", second=1, outcome="denied", reason="PERMISSION_DENIED"),
        an_entry("provider_config.update", second=2, object_id="cfg_1"),
        an_entry(second=3, workspace_id="ws_2", caller=Principal("key_9", "org_1", None, Role.ORG_ADMIN, "key_9")),
        an_entry(second=4, caller=Principal("key_1", "org_2", "ws_1", Role.ADMIN, "key_1")),
    ]
    await store.audit.append(written)
    assert await logged(store, **wanted) == [written[number] for number in found]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entries SET key_id = 'somebody else'",
        "UPDATE audit_entries SET details = '{}' WHERE outcome = 'ok'",
        "DELETE FROM audit_entries",
        "TRUNCATE audit_entries",
        "REPLACE INTO audit_entries SELECT * FROM audit_entries",
    ],
)
async def test_the_database_refuses_to_change_or_delete_entries(store: Store, statement: str) -> None:
    if (statement[:4] == "TRUN") == (store.database.dialect == "sqlite") and statement[:4] in ("TRUN", "REPL"):
        pytest.skip("this database has no such statement")
    if statement.startswith("REPLACE") and store.database.dialect != "sqlite":
        pytest.skip("this database has no such statement")
    written = an_entry()
    await store.audit.append([written])
    with pytest.raises((InternalError, DBAPIError)) as caught:
        async with store.database.write() as transaction:
            await transaction.connection.execute(text(statement))
    assert "append-only" in f"{caught.value} {caught.value.__cause__}"
    assert await logged(store) == [written]


async def test_entries_outlive_the_workspace_that_they_are_of(store: Store, workspace: Workspace) -> None:
    entry = an_entry(workspace_id=workspace.id)
    await store.access.create_key(a_key(workspace.id), audit=entry)
    async with store.database.write() as transaction:
        await transaction.connection.execute(text("DELETE FROM workspaces"))
    assert await logged(store, workspace_id=workspace.id) == [entry]


async def test_every_change_writes_its_entry_with_it(store: Store, workspace: Workspace) -> None:
    entries = [an_entry(second=second) for second in range(8)]
    other = await store.access.create_workspace(a_workspace(), audit=entries[0])
    key = await store.access.create_key(a_key(workspace.id), audit=entries[1])
    await store.access.revoke_key(key.id, audit=entries[2])
    await store.access.revoke_key(key.id, audit=an_entry(second=100))  # changes nothing
    config = await store.configs.create(a_config(other.id), audit=entries[3])
    config = await store.configs.update(config, expected_etag=config.etag, audit=entries[4])
    await store.configs.record_validation(config.id, valid=True, message="", audit=entries[5])
    await store.configs.delete(config.id, audit=entries[6])
    await store.access.change_models(
        workspace.id,
        lambda old, _: (
            type(old)(id=old.id, org_id=old.org_id, name=old.name, created_at=old.created_at, default_model="a/b"),
            entries[7],
        ),
    )
    await store.access.change_models(workspace.id, lambda old, _: (old, an_entry(second=100)))  # changes nothing
    assert await logged(store) == entries[::-1]


async def test_a_change_that_fails_leaves_no_entry(store: Store, workspace: Workspace) -> None:
    config = await store.configs.create(a_config(workspace.id))

    def refuse(*_: object) -> None:
        raise InUse("in use")

    attempts: list[tuple[type[DragomanError], Any]] = [
        (AlreadyExists, store.configs.create(a_config(workspace.id, name=config.name), audit=an_entry())),
        (Conflict, store.configs.update(config, expected_etag="stale", audit=an_entry())),
        (NotFound, store.configs.delete("cfg_none", audit=an_entry())),
        (NotFound, store.configs.delete("cfg_none", check=refuse, audit=an_entry())),
        (InUse, store.configs.delete(config.id, check=refuse, audit=an_entry())),
        (NotFound, store.configs.record_validation("cfg_none", valid=True, message="", audit=an_entry())),
        (AlreadyExists, store.access.create_workspace(a_workspace(id=workspace.id), audit=an_entry())),
        (NotFound, store.access.create_key(a_key("ws_none"), audit=an_entry())),
        (NotFound, store.access.revoke_key("key_none", audit=an_entry())),
    ]
    for error, attempt in attempts:
        with pytest.raises(error):
            await attempt
    assert await logged(store) == []
    assert await store.configs.get(config.id) == config


async def test_a_change_whose_entry_cannot_be_written_does_not_happen(store: Store, workspace: Workspace) -> None:
    entry = an_entry()
    await store.audit.append([entry])
    with pytest.raises(InternalError):
        await store.configs.create(a_config(workspace.id), audit=entry)  # its id is taken
    assert await store.configs.list(workspace.id) == []


async def test_a_delete_is_checked_against_what_is_stored(store: Store, workspace: Workspace) -> None:
    one, other = [await store.configs.create(a_config(workspace.id)) for _ in range(2)]
    seen: list[Any] = []
    await store.configs.delete(one.id, check=lambda owner, configs: seen.append((owner, configs)))
    assert seen == [(workspace, [one, other])]
