"""The authorisation matrix, over a real server: how every RPC ends for every caller, and what is logged of it."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2

from dragoman.v1 import access_service_pb2 as access
from server.rpc.audit import ACTIONS
from tests.app.matrix import DENIED, MATRIX, OK
from tests.app.world import FOREIGN, ORG, OTHER_ORG, OWN, World

CONTRACT = Path(__file__).parents[2] / "gen" / "descriptors" / "dragoman.pb"
KEYLESS = ("none", "expired", "revoked")


def contract_methods() -> set[str]:
    described = descriptor_pb2.FileDescriptorSet.FromString(CONTRACT.read_bytes())
    return {
        f"/{file.package}.{service.name}/{method.name}"
        for file in described.file
        if file.package.startswith("dragoman.")
        for service in file.service
        for method in service.method
    }


def test_every_rpc_of_the_contract_has_its_row() -> None:
    assert set(MATRIX) == contract_methods()


async def ending(world: World, method: str, who: str, request_id: str) -> str:
    """The status of one call."""
    request = await MATRIX[method].make(world)
    try:
        await world.call(method, request, (*world.as_(who, request_id), *MATRIX[method].metadata))
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return OK


@pytest.mark.parametrize("method", sorted(MATRIX))
async def test_every_caller_meets_what_the_matrix_says(world: World, method: str) -> None:
    """Also that whoever is not let in changes nothing, and that the log tells of who changed or was denied what."""
    row = MATRIX[method]
    expected = {
        "viewer": row.viewer,
        "member": row.member,
        "admin": row.admin,
        "organisation": row.organisation,
        "foreign": row.foreign,
        "other_organisation": row.elsewhere,
        **dict.fromkeys(KEYLESS, OK if row.public else "UNAUTHENTICATED"),
    }
    found, logged = {}, {}
    for who in expected:
        found[who] = await ending(world, method, who, f"req-{who}")
        org = OTHER_ORG if who == "other_organisation" else ORG
        entries = await world.audit(org_id=org, key_id=world.key_ids.get(who, "nobody"))
        logged[who] = [e for e in entries if e.request_id == f"req-{who}"]
    assert found == expected
    for who, entries in logged.items():
        action = ACTIONS.get(method, "")
        noted = [(entry.action, entry.outcome) for entry in entries]
        silent = who in KEYLESS or row.public or (action.endswith((".read", ".call")) and expected[who] != DENIED)
        outcome = {OK: "ok", DENIED: "denied"}.get(expected[who], "failed")
        assert noted == ([] if silent else [(action, outcome)]), who
        assert all((entry.address, entry.key_id) == ("127.0.0.1", world.key_ids[who]) for entry in entries)


@pytest.mark.parametrize("method", sorted(method for method, row in MATRIX.items() if not row.public))
async def test_whoever_is_not_let_in_changes_nothing(world: World, method: str) -> None:
    row = MATRIX[method]
    refused = [who for who in ("viewer", "member", "admin") if getattr(row, who) != OK]
    refused += [who for who, end in (("foreign", row.foreign), ("other_organisation", row.elsewhere)) if end != OK]
    request = await row.make(world)
    before = world.services.store.snapshots.current()
    for who in (*refused, *KEYLESS):
        with pytest.raises(grpc.aio.AioRpcError):
            await world.call(method, request, (*world.as_(who), *row.metadata))
    assert await world.services.store.snapshots.refresh() == before
    assert world.demo.exchanges == []


async def test_lists_without_a_workspace_show_each_caller_its_own(world: World) -> None:
    async def shown(who: str) -> tuple[set[str], set[str]]:
        workspaces = await world.access.ListWorkspaces(access.ListWorkspacesRequest(), metadata=world.as_(who))
        keys = await world.access.ListKeys(access.ListKeysRequest(), metadata=world.as_(who))
        return {each.id for each in workspaces.workspaces}, {each.workspace_id for each in keys.keys}

    assert await shown("admin") == ({OWN}, {OWN})
    assert await shown("foreign") == ({FOREIGN}, {FOREIGN})
    assert await shown("organisation") == ({OWN, FOREIGN}, {OWN, FOREIGN, ""})
    assert await shown("other_organisation") == ({"ws_elsewhere"}, {""})


async def test_the_audit_log_shows_each_caller_its_own(world: World) -> None:
    await world.a_key(workspace=FOREIGN)

    async def shown(who: str) -> set[str]:
        listed = await world.access.ListAuditEntries(
            access.ListAuditEntriesRequest(page_size=1000), metadata=world.as_(who)
        )
        return {entry.workspace_id for entry in listed.entries}

    assert await shown("admin") == {OWN}
    assert await shown("foreign") == {FOREIGN}
    assert await shown("organisation") == {OWN, FOREIGN, ""}
    assert await shown("other_organisation") == {"ws_elsewhere", ""}
