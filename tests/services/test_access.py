"""From a presented key to a caller, from memory alone where it can be, and never a refusal for want of a database."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from server.core.access import ApiKey, Origin, Principal, Role
from server.core.audit import AuditEntry
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

    def __init__(self, *keys: ApiKey) -> None:
        self.keys = list(keys)
        self.audit: list[AuditEntry | None] = []

    async def create_key(self, key: ApiKey, *, audit: AuditEntry | None = None) -> ApiKey:
        self.keys.append(key)
        self.audit.append(audit)
        return key

    async def get_key(self, key_id: str) -> ApiKey | None:
        return next((key for key in self.keys if key.id == key_id), None)

    async def revoke_key(self, key_id: str, *, audit: AuditEntry | None = None) -> ApiKey:
        self.audit.append(audit)
        return msgspec.structs.replace(self.keys[0], revoked_at=NOW)


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


@pytest.mark.parametrize(
    ("maker", "role", "allowed", "made"),
    [
        (Role.ADMIN, Role.ADMIN, (), True),
        (Role.ADMIN, Role.VIEWER, ("custom/x",), True),
        (Role.MEMBER, Role.ADMIN, (), False),
        (Role.VIEWER, Role.MEMBER, (), False),
    ],
)
async def test_a_key_makes_none_of_a_higher_role(maker: Role, role: Role, allowed: tuple[str, ...], made: bool) -> None:
    store = KeysInMemory()
    by = Principal("key_9", "org_1", "ws_1", maker, "key_9")
    making = access(FixedSnapshot(snapshot()), store).create_key(
        workspace=WORKSPACE, org_id="org_1", role=role, name="n", allowed_models=allowed, by=by
    )
    if made:
        key, _ = await making
        assert (key.role, key.allowed_models) == (role, allowed)
        return
    with pytest.raises(PermissionDenied):
        await making
    assert store.keys == []


@pytest.mark.parametrize(
    ("own", "wanted", "made"),
    [
        (("openai/*",), ("openai/gpt-4o", "openai/gpt-*"), True),
        (("openai/*", "groq/llama"), ("groq/llama",), True),
        (("openai/*",), (), False),
        (("openai/*",), ("groq/llama",), False),
        (("openai/gpt-*",), ("openai/*",), False),
        (("openai/gpt-4o",), ("openai/gpt-4o*",), False),
        (("openai/gpt-4o",), ("openai/gpt-4o-mini",), False),
    ],
)
async def test_a_key_for_certain_models_makes_none_for_others(
    own: tuple[str, ...], wanted: tuple[str, ...], made: bool
) -> None:
    store = KeysInMemory()
    by = Principal("key_9", "org_1", "ws_1", Role.ADMIN, "key_9", own)
    making = access(FixedSnapshot(snapshot()), store).create_key(
        workspace=WORKSPACE, org_id="org_1", role=Role.MEMBER, name="n", allowed_models=wanted, by=by
    )
    if made:
        await making
    else:
        with pytest.raises(PermissionDenied):
            await making
    assert len(store.keys) == made


async def test_the_log_tells_of_a_new_key_and_of_its_end_and_holds_nothing_of_it() -> None:
    store = KeysInMemory()
    service = access(FixedSnapshot(snapshot()), store)
    by = Principal("key_9", "org_1", "ws_1", Role.ADMIN, "key_9", origin=Origin("192.0.2.1", "", "req"))
    key, clear = await service.create_key(workspace=WORKSPACE, org_id="org_1", role=Role.MEMBER, name="ci", by=by)
    await service.revoke_key(key.id, by=by)
    await service.revoke_key(key.id)
    made, ended, by_operator = store.audit
    assert made is not None
    assert ended is not None
    assert by_operator is not None
    assert (made.action, made.key_id, made.role, made.object_id, made.object_name) == (
        "key.create", "key_9", "admin", key.id, "ci",
    )  # fmt: skip
    assert (made.workspace_id, made.address, made.request_id, made.at) == ("ws_1", "192.0.2.1", "req", NOW)
    assert (ended.action, ended.object_id, ended.outcome) == ("key.revoke", key.id, "ok")
    assert (by_operator.key_id, by_operator.org_id) == ("operator", "org_1")
    assert clear.reveal()[:12] not in repr(store.audit)


@pytest.mark.parametrize(
    ("org_id", "workspace_id", "sees"),
    [("org_1", "ws_1", True), ("org_1", None, True), ("org_1", "ws_2", False), ("org_2", None, False)],
)
async def test_a_key_is_revoked_by_who_may_see_it_alone(org_id: str, workspace_id: str | None, sees: bool) -> None:
    store = KeysInMemory(stored())
    by = Principal("key_9", org_id, workspace_id, Role.ADMIN, "key_9")
    revoking = access(FixedSnapshot(snapshot()), store).revoke_key("key_1", by=by)
    if sees:
        assert (await revoking).revoked_at == NOW
        return
    with pytest.raises(NotFound):
        await revoking
    assert store.audit == []


async def test_an_organisations_key_is_not_revoked_from_a_workspace() -> None:
    store = KeysInMemory(stored(workspace_id=None, role=Role.ORG_ADMIN))
    by = Principal("key_9", "org_1", "ws_1", Role.ADMIN, "key_9")
    with pytest.raises(NotFound):
        await access(FixedSnapshot(snapshot()), store).revoke_key("key_1", by=by)


def test_workspaces_are_listed_to_who_may_act_in_them() -> None:
    others = [
        msgspec.structs.replace(WORKSPACE, id=id, org_id=org) for id, org in (("ws_0", "org_1"), ("ws_2", "org_2"))
    ]
    picture = Snapshot(1, {each.id: each for each in (WORKSPACE, *others)}, {}, {})
    service = access(FixedSnapshot(picture))
    ids = [[found.id for found in service.list_workspaces(who)] for who in (MEMBER, ORGANISATION)]
    assert ids == [["ws_1"], ["ws_0", "ws_1"]]
    assert [found.id for found in service.list_workspaces(ORGANISATION, after="ws_0", limit=1)] == ["ws_1"]


@pytest.mark.parametrize("pattern", ["gpt-4o", "*", "OpenAI/gpt-4o", "openai/", "/x", "openai/*-mini", ""])
async def test_a_list_of_models_that_would_permit_nothing_is_refused(pattern: str) -> None:
    store = KeysInMemory()
    making = access(FixedSnapshot(snapshot()), store).create_key(
        workspace=WORKSPACE, org_id="org_1", role=Role.MEMBER, name="n", allowed_models=["openai/*", pattern]
    )
    with pytest.raises(InvalidRequest) as caught:
        await making
    assert caught.value.violations[0].field == "allowed_models[1]"
