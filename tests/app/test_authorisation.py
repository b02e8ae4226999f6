"""The authorisation matrix, over a real server: how every RPC ends for every caller, and what is logged of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import msgspec
import pytest
import pytest_asyncio
from google.protobuf import descriptor_pb2

from server.app import running_server
from server.core.endpoint import EndpointPolicy
from server.core.secret import Secret
from server.dev.demo_provider import start
from server.rpc.audit import ACTIONS
from tests.app.callers import CALLERS, DENIED, ROLES, UNAUTHENTICATED, new_keys, new_tokens
from tests.app.conftest import settings_for
from tests.app.matrix import MATRIX, OK
from tests.app.world import ORG, OTHER_ORG, World, furnished
from tests.support.demo import FAST
from tests.support.issuer import AUDIENCE, Issuer, SigningKey, serving

CONTRACT = Path(__file__).parents[2] / "gen" / "descriptors" / "dragoman.pb"

# One server and one loop for all cases on a database: there are many, and what one leaves behind changes no other.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Served:
    """A furnished server that takes an issuer's tokens beside keys."""

    world: World
    issuer: Issuer
    signer: SigningKey


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(shared_database_url: Secret, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    signer = SigningKey("ec-1")
    async with serving(Issuer(signer)) as issuer, await start(pace=FAST) as demo:
        usual = settings_for(shared_database_url, demo, tmp_path_factory.mktemp("home"))
        settings = msgspec.structs.replace(
            usual,
            allowed_endpoints=EndpointPolicy(usual.allowed_endpoints.hosts | {("127.0.0.1", issuer.port)}),
            oidc_issuer=issuer.url,
            oidc_audience=(AUDIENCE,),
            oidc_roles=ROLES,
            oidc_organisation=ORG,
            # So many fail here on purpose, and from one address.
            max_failed_authentications=0,
        )
        async with running_server(settings) as server, furnished(server, settings, demo) as world:
            yield Served(world, issuer, signer)


@pytest_asyncio.fixture(loop_scope="module")
async def world(served: Served) -> World:
    """With new keys and tokens: of one caller only so many refusals are logged one by one."""
    await new_keys(served.world)
    new_tokens(served.world, served.issuer, served.signer)
    return served.world


def contract_methods() -> set[str]:
    described = descriptor_pb2.FileDescriptorSet.FromString(CONTRACT.read_bytes())
    return {
        f"/{file.package}.{service.name}/{method.name}"
        for file in described.file
        if file.package.startswith("dragoman.")
        for service in file.service
        for method in service.method
    }


async def test_every_rpc_of_the_contract_has_its_row() -> None:
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
    """Also that the log tells of who changed or was denied what, and of nobody who was not let in."""
    row, action = MATRIX[method], ACTIONS.get(method, "")
    expected = {who: row.ending(who) for who in CALLERS}
    found, logged, noted = {}, {}, {}
    for who, ends in expected.items():
        request_id = world.name()
        found[who] = await ending(world, method, who, request_id)
        org = OTHER_ORG if who == "other organisation" else ORG
        entries = await world.audit(org_id=org, key_id=world.key_ids.get(who, "nobody"))
        logged[who] = [
            (entry.action, entry.outcome, entry.address) for entry in entries if entry.request_id == request_id
        ]
        unknown = CALLERS[who] in (UNAUTHENTICATED, DENIED)
        silent = unknown or row.public or (action.endswith((".read", ".call")) and ends != DENIED)
        outcome = {OK: "ok", DENIED: "denied"}.get(ends, "failed")
        noted[who] = [] if silent else [(action, outcome, "127.0.0.1")]
    assert found == expected
    assert logged == noted


@pytest.mark.parametrize("method", sorted(method for method, row in MATRIX.items() if not row.public))
async def test_whoever_is_not_let_in_changes_nothing(world: World, method: str) -> None:
    row = MATRIX[method]
    request = await row.make(world)
    before, asked = world.services.store.snapshots.current(), len(world.demo.exchanges)
    for who in CALLERS:
        if row.ending(who) != OK:
            with pytest.raises(grpc.aio.AioRpcError):
                await world.call(method, request, (*world.as_(who), *row.metadata))
    assert await world.services.store.snapshots.refresh() == before
    assert len(world.demo.exchanges) == asked
