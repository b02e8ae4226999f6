"""Sealed bytes that somebody moved within the database do not open: a clear error for their configuration alone."""

from __future__ import annotations

import itertools
from pathlib import Path

import grpc
import pytest
from sqlalchemy import select, update

from server.core.secret import Secret
from server.dev.demo_provider import DemoServer
from server.store.tables import Part, provider_configs, wrapped_keys
from tests.support.gateway import Gateway, gateway, origin, refused

COLUMNS = ("sealed_key", "sealed_secret")


async def write(server: Gateway, id: str, **values: bytes | None) -> None:
    async with server.running.services.store.database.write() as transaction:
        statement = update(provider_configs).where(provider_configs.c.id == id).values(values)
        await transaction.connection.execute(statement)
        transaction.changes(Part.CONFIGS)


async def sealed(server: Gateway, id: str) -> dict[str, bytes]:
    async with server.running.services.store.database.read() as connection:
        columns = [provider_configs.c[name] for name in COLUMNS]
        row = (await connection.execute(select(*columns).where(provider_configs.c.id == id))).mappings().one()
        return dict(row)


async def test_credentials_moved_to_another_row_field_or_workspace_do_not_open(
    tmp_path: Path, database_url: Secret, demo_provider: DemoServer
) -> None:
    """Every move between two configurations of one workspace and one of another, by SQL, and then a call: it fails
    with a status that says what is wrong, nothing is sent, and the server and its other configurations go on."""
    async with gateway(tmp_path, database_url, hosts=[origin(demo_provider.base_url)]) as server:
        access = server.running.services.access
        await access.create_workspace("two", org_id="org", id="ws_2")
        key, secret = demo_provider.api_key, demo_provider.api_key
        ids = [await server.add(demo_provider.base_url, name, secret, key=key) for name in ("one", "two")]
        await server.add(demo_provider.base_url, "well", secret)
        ids.append(await server.add(demo_provider.base_url, "foreign", secret, key=key, workspace="ws_2", org=True))
        stored = {id: await sealed(server, id) for id in ids}
        places = list(itertools.product(ids, COLUMNS))
        target = ids[0]
        sent = len(demo_provider.exchanges)
        moves = [(place, column) for place in places for column in COLUMNS if place != (target, column)]
        assert len(moves) == 10
        for (origin_id, origin_column), column in moves:
            await write(server, target, **{column: stored[origin_id][origin_column]})
            for call in (server.validate(target), server.chat(config="one")):
                error = await refused(call)
                assert error.code() == grpc.StatusCode.INTERNAL
                assert error.details() == "A stored credential cannot be opened."
            await write(server, target, **stored[target])
        assert len(demo_provider.exchanges) == sent
        assert (await server.validate(target))[0] is True
        assert (await server.chat(config="well")).text


@pytest.mark.parametrize("damage", ["swapped", "cut", "foreign bytes", "empty"])
async def test_damaged_or_swapped_data_keys_harm_their_workspaces_alone(
    tmp_path: Path, database_url: Secret, demo_provider: DemoServer, damage: str
) -> None:
    """A server that starts on such a database serves every workspace whose keys are whole."""
    async with gateway(tmp_path, database_url, hosts=[origin(demo_provider.base_url)]) as server:
        access = server.running.services.access
        for id in ("ws_2", "ws_3"):
            await access.create_workspace(id, org_id="org", id=id)
        await server.add(demo_provider.base_url, secret=demo_provider.api_key)
        broken = [await server.add(demo_provider.base_url, workspace=id, org=True) for id in ("ws_2", "ws_3")]
        columns = wrapped_keys.c
        async with server.running.services.store.database.write() as transaction:
            statement = select(columns.workspace_id, columns.wrapped).where(columns.workspace_id.in_(["ws_2", "ws_3"]))
            found = {row.workspace_id: row.wrapped for row in await transaction.connection.execute(statement)}
            values = {
                "swapped": {"ws_2": found["ws_3"], "ws_3": found["ws_2"]},
                "cut": {id: value[:-1] for id, value in found.items()},
                "foreign bytes": dict.fromkeys(found, b"\x01" + b"x" * 90),
                "empty": dict.fromkeys(found, b""),
            }[damage]
            for id, value in values.items():
                changed = update(wrapped_keys).where(columns.workspace_id == id).values(wrapped=value)
                await transaction.connection.execute(changed)
    async with gateway(tmp_path, database_url, hosts=[origin(demo_provider.base_url)], fresh=False) as server:
        assert (await server.chat()).text
        for id in broken:
            error = await refused(server.validate(id, org=True))
            assert error.code() == grpc.StatusCode.INTERNAL
            assert error.details() == "The workspace's data key is not at hand."
