"""From a presented key to a caller, from memory alone where it can be, and never a refusal for want of a database."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from server.core.access import ApiKey, Principal, Role
from server.core.caller_key import caller_key
from server.core.errors import InvalidRequest, NotFound, PermissionDenied, Unauthenticated, Unavailable
from server.core.secret import Secret
from server.core.snapshot import Snapshot
from server.services.access import Access
from tests.services.fakes import NOW, WORKSPACE, FixedSnapshot

CLEAR = caller_key(b"\x01" * 32).reveal()


class ReversingHasher:
    """No hash, and good enough to tell keys apart."""

    def digest(self, key: str) -> bytes:
        return key[::-1].encode()


class KeysInMemory:
    """The part of the store that these tests use."""

    def __init__(self) -> None:
        self.keys: list[ApiKey] = []

    async def create_key(self, key: ApiKey) -> ApiKey:
        self.keys.append(key)
        return key


def stored(**changes: object) -> ApiKey:
    key = ApiKey(
        id="key_1",
        org_id="org_1",
        workspace_id="ws_1",
        role=Role.MEMBER,
        name="n",
        digest=CLEAR[::-1].encode(),
        hint=CLEAR[-4:],
        created_at=NOW - timedelta(days=1),
    )
    return msgspec.structs.replace(key, **changes)


def snapshot(*keys: ApiKey) -> Snapshot:
    return Snapshot(1, {"ws_1": WORKSPACE}, {key.digest: key for key in keys}, {})


def access(source: FixedSnapshot, store: object = None) -> Access:
    return Access(source, ReversingHasher(), store, now=lambda: NOW)  # type: ignore[arg-type]


async def test_a_known_key_is_its_principal_without_asking_the_store() -> None:
    source = FixedSnapshot(snapshot(stored()))
    assert await access(source).authenticate(CLEAR) == Principal("key_1", "org_1", "ws_1", Role.MEMBER, "key_1")
    assert source.refreshes == 0


@pytest.mark.parametrize(
    "key",
    [
        stored(revoked_at=NOW),
        stored(expires_at=NOW),
        stored(expires_at=NOW - timedelta(seconds=1)),
        stored(digest=b"x"),
    ],
    ids=["revoked", "expires now", "expired", "unknown"],
)
async def test_a_key_that_is_not_valid_is_refused_in_one_wording(key: ApiKey) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await access(FixedSnapshot(snapshot(key))).authenticate(CLEAR)
    assert caught.value.message == "The key is not valid."


@pytest.mark.parametrize("presented", ["", "nonsense", CLEAR[:-1], CLEAR + "0", CLEAR[:-1] + "!"])
async def test_what_cannot_be_a_key_is_refused_without_asking_the_store(presented: str) -> None:
    source = FixedSnapshot(snapshot(stored()))
    with pytest.raises(Unauthenticated):
        await access(source).authenticate(presented)
    assert source.refreshes == 0


async def test_a_key_that_another_process_made_is_known_at_once() -> None:
    source = FixedSnapshot(snapshot())
    source.after_refresh = snapshot(stored())
    assert (await access(source).authenticate(CLEAR)).key_id == "key_1"


async def test_an_unknown_key_while_the_store_is_down_is_unavailable_and_not_refused() -> None:
    source = FixedSnapshot(snapshot())
    source.stale = True
    with pytest.raises(Unavailable):
        await access(source).authenticate(CLEAR)


MEMBER = Principal("key_1", "org_1", "ws_1", Role.MEMBER, "key_1")
ORGANISATION = Principal("key_2", "org_1", None, Role.ORG_ADMIN, "key_2")


def test_a_key_acts_in_its_own_workspace_named_or_not() -> None:
    service = access(FixedSnapshot(snapshot()))
    assert service.workspace(MEMBER, "") == service.workspace(MEMBER, "ws_1") == "ws_1"
    assert service.workspace(ORGANISATION, "ws_1") == "ws_1"


@pytest.mark.parametrize(
    ("caller", "named", "error"),
    [
        (MEMBER, "ws_2", PermissionDenied),
        (ORGANISATION, "", InvalidRequest),
        (ORGANISATION, "ws_2", NotFound),
        (Principal("key_3", "org_2", None, Role.ORG_ADMIN, "key_3"), "ws_1", NotFound),
    ],
)
def test_a_key_acts_in_no_other_workspace(caller: Principal, named: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        access(FixedSnapshot(snapshot())).workspace(caller, named)


async def test_a_new_key_is_given_once_and_stored_as_its_digest_alone() -> None:
    store = KeysInMemory()
    service = access(FixedSnapshot(snapshot()), store)
    key, clear = await service.create_key(workspace=WORKSPACE, org_id="org_1", role=Role.MEMBER, name="ci")
    assert isinstance(clear, Secret)
    assert store.keys == [key]
    assert key.digest == clear.reveal()[::-1].encode()
    assert clear.reveal() not in repr(key)


@pytest.mark.parametrize("workspace_and_role", [(None, Role.ADMIN), (WORKSPACE, Role.ORG_ADMIN)])
async def test_a_key_has_a_workspace_or_is_the_organisations(workspace_and_role: tuple[object, Role]) -> None:
    workspace, role = workspace_and_role
    with pytest.raises(InvalidRequest):
        await access(FixedSnapshot(snapshot())).create_key(
            workspace=workspace, org_id="org_1", role=role, name="n"  # type: ignore[arg-type]
        )  # fmt: skip
