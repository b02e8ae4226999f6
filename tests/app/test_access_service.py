"""Keys, model settings and the audit log as callers meet them, over a real server on both databases."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf import timestamp_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from dragoman.v1 import access_service_pb2 as access
from dragoman.v1 import chat_pb2 as chat
from dragoman.v1 import model_service_pb2 as models
from dragoman.v1 import provider_config_service_pb2 as configs
from server.core.access import Role
from server.services.audit import MOST_REFUSALS
from tests.app.world import ELSEWHERE, FOREIGN, MODEL, OWN, Metadata, World


def ask(model: str = "", **fields: Any) -> chat.ChatRequest:
    return chat.ChatRequest(model=model, messages=[chat.Message(role="user", content="Repeat after me: hi")], **fields)


def bearer(clear: str) -> Metadata:
    return (("x-api-key", clear),)


def details(error: grpc.aio.AioRpcError) -> tuple[str, error_details_pb2.ErrorInfo]:
    """The status code, and who is at fault and why."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return error.code().name, info


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_the_life_of_a_key(world: World) -> None:
    """Made and shown once, used, listed with its last use and never in clear, revoked and refused at once."""
    admin = world.as_("admin")
    ends = datetime.now(UTC) + timedelta(days=1)
    expires_at = timestamp_pb2.Timestamp()
    expires_at.FromDatetime(ends)
    made = await world.access.CreateKey(
        access.CreateKeyRequest(role="member", name="ci", expires_at=expires_at, allowed_models=[MODEL]), metadata=admin
    )
    assert (made.key.workspace_id, made.key.role, made.key.name, made.key.hint) == (
        OWN,
        "member",
        "ci",
        made.secret[-4:],
    )
    assert (await world.llm.Complete(ask(), metadata=bearer(made.secret))).text == "hi"

    async def listed() -> Any:
        answer = await world.access.ListKeys(access.ListKeysRequest(), metadata=admin)
        assert made.secret.encode() not in answer.SerializeToString()
        return next(key for key in answer.keys if key.id == made.key.id)

    shown = await listed()
    for _ in range(200):
        if shown.HasField("last_used_at"):
            break
        await asyncio.sleep(0.05)
        shown = await listed()
    assert abs(shown.last_used_at.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=2)
    assert (shown.expires_at, list(shown.allowed_models)) == (expires_at, [MODEL])
    revoked = await world.access.RevokeKey(access.RevokeKeyRequest(id=made.key.id), metadata=admin)
    assert revoked.key.HasField("revoked_at")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.llm.Complete(ask(), metadata=bearer(made.secret))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    again = await world.access.RevokeKey(access.RevokeKeyRequest(id=made.key.id), metadata=admin)
    assert again.key.revoked_at == revoked.key.revoked_at
    assert [e.action for e in await world.audit(object_id=made.key.id)] == ["key.create", "key.revoke"]


WHICH: list[tuple[str, dict[str, Any], str]] = [
    ("admin", {"role": "org_admin"}, "PERMISSION_DENIED"),
    ("admin", {"role": "org_admin", "workspace_id": OWN}, "INVALID_ARGUMENT"),
    ("organisation", {"role": "member"}, "INVALID_ARGUMENT"),
    ("organisation", {"role": "org_admin"}, "OK"),
    ("organisation", {"role": "member", "workspace_id": OWN}, "OK"),
    ("admin", {"role": "owner"}, "INVALID_ARGUMENT"),
    ("admin", {"role": "member", "expires_at": {"seconds": 1}}, "INVALID_ARGUMENT"),
    ("admin", {"role": "member", "expires_at": {"seconds": 10**15}}, "INVALID_ARGUMENT"),
    ("admin", {"role": "member", "allowed_models": ["gpt-4o"]}, "INVALID_ARGUMENT"),
    ("admin", {"role": "member", "allowed_models": ["openai/*mini"]}, "INVALID_ARGUMENT"),
    ("admin", {"role": "member", "allowed_models": ["openai/gpt-4*", "groq/*", "groq/a/b"]}, "OK"),
]


async def test_which_keys_are_made(world: World) -> None:
    found = []
    for who, fields, _ in WHICH:
        try:
            answer = await world.access.CreateKey(access.CreateKeyRequest(**fields), metadata=world.as_(who))
            found.append((who, fields, "OK" if answer.success else "no success"))
        except grpc.aio.AioRpcError as error:
            found.append((who, fields, error.code().name))
    assert found == WHICH


async def test_a_key_for_certain_models_calls_and_sees_no_other(world: World) -> None:
    """By whatever name the others are called: id, alias, default; and what it is denied is logged."""
    change = access.UpdateModelSettingsRequest(set_aliases={"fine": MODEL, "other": "custom/demo-echo"})
    await world.access.UpdateModelSettings(change, metadata=world.as_("admin"))
    key_id, clear = await world.a_key(allowed_models=["custom/demo-chat"])
    for model in ("", "fine", MODEL):
        assert (await world.llm.Complete(ask(model), metadata=bearer(clear))).text == "hi"
    attempts = ("custom/demo-echo", "other", "custom/demo-chat-2")
    for model in attempts:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.llm.Complete(ask(model), metadata=bearer(clear))
        code, info = details(caught.value)
        assert (code, info.metadata["allowed_models"]) == ("PERMISSION_DENIED", "custom/demo-chat")
    with pytest.raises(grpc.aio.AioRpcError):
        await world.llm.Chat(ask("other"), metadata=bearer(clear)).read()
    listed = await world.models.ListModels(models.ListModelsRequest(), metadata=bearer(clear))
    assert [model.id for model in listed.data] == [MODEL, "fine"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.models.GetModel(models.GetModelRequest(id="other"), metadata=bearer(clear))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    denied = [(e.action, e.object_id) for e in await world.audit(key_id=key_id, outcome="denied")]
    assert denied[:3] == [("model.call", id) for id in ("custom/demo-echo", "custom/demo-echo", "custom/demo-chat-2")]


async def test_keys_are_listed_in_pages_that_hold_each_once(world: World) -> None:
    for _ in range(3):
        await world.a_key()
    seen, token = [], ""
    while True:
        request = access.ListKeysRequest(page_size=2, page_token=token)
        page = await world.access.ListKeys(request, metadata=world.as_("admin"))
        seen += [key.id for key in page.keys]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(set(seen), reverse=True)
    everything = await world.access.ListKeys(access.ListKeysRequest(), metadata=world.as_("admin"))
    assert seen == [key.id for key in everything.keys]


# --- models -----------------------------------------------------------------------------------------------------------


async def test_aliases_and_the_default_model_lead_where_the_list_says(world: World) -> None:
    admin = world.as_("admin")
    request = access.UpdateModelSettingsRequest(
        set_aliases={"fast": "quick", "quick": MODEL}, default_model="fast", disable=["custom/demo-echo"]
    )
    stored = (await world.access.UpdateModelSettings(request, metadata=admin)).settings
    assert dict(stored.aliases) == {"fast": "quick", "quick": MODEL}
    assert stored == (await world.access.GetModelSettings(access.GetModelSettingsRequest(), metadata=admin)).settings
    listed = {
        model.id: model for model in (await world.models.ListModels(models.ListModelsRequest(), metadata=admin)).data
    }
    assert (listed["fast"].alias_of, list(listed["fast"].provider_configs)) == (MODEL, ["demo"])
    assert {id for id, model in listed.items() if model.is_default} == {"fast"}
    assert not listed[MODEL].HasField("alias_of")
    for model in ("", "fast", "quick"):
        answer = await world.llm.Complete(ask(model), metadata=world.as_("member"))
        assert (answer.text, answer.model) == ("hi", "demo-chat")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.llm.Complete(ask("custom/demo-echo"), metadata=world.as_("member"))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    stale = access.UpdateModelSettingsRequest(default_model=MODEL, etag="older")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.access.UpdateModelSettings(stale, metadata=admin)
    assert caught.value.code() is grpc.StatusCode.ABORTED


async def test_a_configuration_in_use_is_not_deleted_and_the_refusal_says_by_what(world: World) -> None:
    admin = world.as_("admin")
    change = access.UpdateModelSettingsRequest(set_aliases={"fast": MODEL})
    await world.access.UpdateModelSettings(change, metadata=admin)
    (config,) = (await world.configs.ListProviderConfigs(configs.ListProviderConfigsRequest(), metadata=admin)).ai_llms
    delete = configs.DeleteProviderConfigRequest(id=config.id)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.configs.DeleteProviderConfig(delete, metadata=admin)
    code, info = details(caught.value)
    assert (code, info.reason) == ("PERMISSION_DENIED", "IN_USE")
    assert info.metadata["used_by"] == f"default model {MODEL}, alias fast, enabled model {MODEL}"
    second = await world.a_config()
    await world.configs.DeleteProviderConfig(delete, metadata=admin)
    with pytest.raises(grpc.aio.AioRpcError):
        await world.configs.DeleteProviderConfig(configs.DeleteProviderConfigRequest(id=second.id), metadata=admin)
    clear = access.UpdateModelSettingsRequest(default_model="", remove_aliases=["fast"], reset=[MODEL])
    await world.access.UpdateModelSettings(clear, metadata=admin)
    await world.configs.DeleteProviderConfig(configs.DeleteProviderConfigRequest(id=second.id), metadata=admin)


async def test_two_deletes_at_once_leave_one_of_two_servers_of_the_default_model(world: World) -> None:
    """Each alone would be allowed, for the other still serves."""
    await world.a_config()
    listed = await world.configs.ListProviderConfigs(configs.ListProviderConfigsRequest(), metadata=world.as_("admin"))
    attempts = await asyncio.gather(
        *(
            world.configs.DeleteProviderConfig(
                configs.DeleteProviderConfigRequest(id=config.id), metadata=world.as_("admin")
            )
            for config in listed.ai_llms
        ),
        return_exceptions=True,
    )
    assert sorted(isinstance(attempt, grpc.aio.AioRpcError) for attempt in attempts) == [False, True]


async def test_of_a_hundred_creates_of_one_name_at_once_one_wins(world: World) -> None:
    request = configs.CreateProviderConfigRequest(name="one", ai_type="OPENAI", secret="sk-canary-1234567890")
    outcomes = await asyncio.gather(
        *(world.configs.CreateProviderConfig(request, metadata=world.as_("admin")) for _ in range(100)),
        return_exceptions=True,
    )
    lost = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert len(lost) == 99
    assert {error.code() for error in lost} == {grpc.StatusCode.ALREADY_EXISTS}
    (won,) = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    entries = await world.audit(action="provider_config.create", outcome="ok", key_id=world.key_ids["admin"])
    assert [entry.object_id for entry in entries] == [won.ai_llm_id]


# --- audit log --------------------------------------------------------------------------------------------------------

CANARY = "sk-canary-in-the-audit-log-9d41"


async def test_the_log_says_which_fields_were_changed_and_never_to_what_a_secret(world: World) -> None:
    admin = world.as_("admin", "req-1")
    made = await world.configs.CreateProviderConfig(
        configs.CreateProviderConfigRequest(name="c", ai_type="OPENAI", secret=CANARY), metadata=admin
    )
    await world.configs.UpdateProviderConfig(
        configs.UpdateProviderConfigRequest(id=made.ai_llm_id, name="c2", secret=CANARY + "-2"), metadata=admin
    )
    with pytest.raises(grpc.aio.AioRpcError):
        await world.configs.UpdateProviderConfig(
            configs.UpdateProviderConfigRequest(id=made.ai_llm_id, name="demo", secret=CANARY + "-3"), metadata=admin
        )
    await world.services.refusals.flush()
    listed = await world.access.ListAuditEntries(
        access.ListAuditEntriesRequest(object_id=made.ai_llm_id), metadata=admin
    )
    failed, updated, created = listed.entries
    assert (created.action, created.object_name, created.outcome) == ("provider_config.create", "c", "ok")
    assert (updated.action, updated.object_name) == ("provider_config.update", "c2")
    assert updated.details["fields"] == "name, secret"
    assert (failed.outcome, failed.reason) == ("failed", "ALREADY_EXISTS")
    assert {entry.request_id for entry in listed.entries} == {"req-1"}
    assert CANARY.encode() not in listed.SerializeToString()


async def test_the_log_is_listed_by_time_and_in_pages(world: World) -> None:
    admin = world.as_("admin")
    everything = (
        await world.access.ListAuditEntries(access.ListAuditEntriesRequest(page_size=1000), metadata=admin)
    ).entries
    assert len(everything) > 5
    moment = everything[3].at.ToJsonString()
    for request, expected in (
        (access.ListAuditEntriesRequest(start_time=moment), everything[:4]),
        (access.ListAuditEntriesRequest(end_time=moment), everything[4:]),
        (access.ListAuditEntriesRequest(action="key.*"), [e for e in everything if e.object_kind == "key"]),
    ):
        assert list((await world.access.ListAuditEntries(request, metadata=admin)).entries) == list(expected)
    first = await world.access.ListAuditEntries(access.ListAuditEntriesRequest(page_size=2), metadata=admin)
    second = await world.access.ListAuditEntries(
        access.ListAuditEntriesRequest(page_size=2, page_token=first.next_page_token), metadata=admin
    )
    assert [*first.entries, *second.entries] == everything[:4]
    for wrong in ("yesterday", "2030-13-01T00:00:00Z", "2030-02-30T00:00:00Z"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.access.ListAuditEntries(access.ListAuditEntriesRequest(start_time=wrong), metadata=admin)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_export_has_every_entry_oldest_first_and_says_that_it_is_whole(world: World) -> None:
    admin = world.as_("admin")
    chunks = [chunk async for chunk in world.access.ExportAuditLog(access.ExportAuditLogRequest(), metadata=admin)]
    assert {chunk.content_type for chunk in chunks} == {"application/x-ndjson"}
    *lines, end = [json.loads(line) for line in b"".join(chunk.data for chunk in chunks).splitlines()]
    expected = await world.audit(workspace_id=OWN)
    assert [line["id"] for line in lines] == [entry.id for entry in expected]
    assert lines[-1]["action"] == "audit_log.export"
    assert end == {"complete": True, "entries": len(expected)}


async def test_a_flood_of_refused_attempts_is_counted_and_does_not_flood_the_log(world: World) -> None:
    total = MOST_REFUSALS + 15
    for _ in range(total):
        with pytest.raises(grpc.aio.AioRpcError):
            await world.access.ListKeys(access.ListKeysRequest(), metadata=world.as_("viewer"))
    await world.services.refusals.stop()
    *each, beyond = await world.audit(key_id=world.key_ids["viewer"])
    assert [entry.action for entry in each] == ["key.read"] * MOST_REFUSALS
    assert (beyond.action, beyond.details["attempts"]) == ("audit_log.suppress", "15")


async def test_the_operators_own_changes_are_logged(world: World) -> None:
    key_id, _ = await world.a_key(Role.ADMIN)
    (entry,) = await world.audit(object_id=key_id)
    assert (entry.key_id, entry.role, entry.address) == ("operator", "org_admin", "")


# --- other tenants ----------------------------------------------------------------------------------------------------


async def test_lists_without_a_workspace_show_each_caller_its_own(world: World) -> None:
    async def shown(who: str) -> tuple[set[str], set[str]]:
        workspaces = await world.access.ListWorkspaces(access.ListWorkspacesRequest(), metadata=world.as_(who))
        keys = await world.access.ListKeys(access.ListKeysRequest(), metadata=world.as_(who))
        return {each.id for each in workspaces.workspaces}, {each.workspace_id for each in keys.keys}

    assert await shown("admin") == ({OWN}, {OWN})
    assert await shown("foreign") == ({FOREIGN}, {FOREIGN})
    assert await shown("organisation") == ({OWN, FOREIGN}, {OWN, FOREIGN, ""})
    assert await shown("other organisation") == ({ELSEWHERE}, {""})


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
    assert await shown("other organisation") == {ELSEWHERE, ""}
