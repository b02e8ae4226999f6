"""Workspaces, keys, model settings and the audit log by REST, and who may do what on each surface, through Envoy."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest

from dragoman.v1 import provider_config_service_pb2 as config_pb
from tests.e2e.stack import OWN, Stack, Stubs

pytestmark = pytest.mark.e2e

ASK = {"prompt": "Repeat after me: hi"}


@pytest.fixture
def admin(stack: Stack) -> Iterator[httpx.Client]:
    with stack.rest("admin") as client:
        yield client


# --- who may do what --------------------------------------------------------------------------------------------------

CALLERS = ("viewer", "member", "admin", "organisation", "foreign", None, "expired", "revoked")

SURFACES: list[tuple[str, str, dict[str, Any], tuple[int, ...]]] = [
    ("GET", f"/api/v1/ai/models?workspaceId={OWN}", {}, (200, 200, 200, 200, 403, 401, 401, 401)),
    ("POST", "/api/v1/ai/llm/generate", {**ASK, "projectId": OWN}, (403, 200, 200, 200, 403, 401, 401, 401)),
    ("POST", "/api/v1/ai/llm/chat", {"messages": [{"role": "user", "content": "Hi"}], "projectId": OWN},
     (403, 200, 200, 200, 403, 401, 401, 401)),
    ("POST", "/api/v1/runtime/v1/chat",
     {"messages": [{"role": "user", "content": "Hi"}], "projectId": OWN, "provider": "custom", "model": "demo-chat"},
     (403, 200, 200, 200, 403, 401, 401, 401)),
    ("GET", f"/ai/llm?workspaceId={OWN}", {}, (200, 200, 200, 200, 403, 401, 401, 401)),
    ("POST", "/ai/llm", {"aiType": "OPENAI", "workspaceId": OWN}, (403, 403, 200, 200, 403, 401, 401, 401)),
    ("GET", f"/api/v1/access/keys?workspaceId={OWN}", {}, (403, 403, 200, 200, 403, 401, 401, 401)),
    ("POST", "/api/v1/access/keys", {"role": "viewer", "workspaceId": OWN}, (403, 403, 200, 200, 403, 401, 401, 401)),
    ("PATCH", "/api/v1/access/models", {"workspaceId": OWN, "reset": ["custom/none"]},
     (403, 403, 200, 200, 403, 401, 401, 401)),
    ("GET", f"/api/v1/access/audit/export?workspaceId={OWN}", {}, (403, 403, 200, 200, 403, 401, 401, 401)),
    ("GET", "/readyz", {}, (200,) * 8),
]  # fmt: skip


@pytest.mark.parametrize(
    ("verb", "path", "body", "statuses"),
    SURFACES,
    ids=[f"{verb} {path.partition('?')[0]}" for verb, path, _, _ in SURFACES],
)
def test_each_surface_lets_in_whom_it_says(
    stack: Stack, verb: str, path: str, body: dict[str, Any], statuses: tuple[int, ...]
) -> None:
    found = []
    for who in CALLERS:
        with stack.rest(who) as client:
            found.append(status_of(client, verb, path, body))
    assert tuple(found) == statuses


def status_of(client: httpx.Client, verb: str, path: str, body: dict[str, Any]) -> int:
    """Of a call by whoever the client is, with a name of its own where it makes something."""
    named = {**body, "name": uuid.uuid4().hex} if path in ("/ai/llm", "/api/v1/access/keys") and body else body
    response = client.request(verb, path, json=named or None)
    if response.status_code != 200:
        assert response.json()["success"] is False
    return response.status_code


@pytest.mark.parametrize(("by_rest", "by_grpc"), [(100, 0), (0, 100), (50, 50)], ids=["REST", "gRPC", "both"])
async def test_of_a_hundred_creates_of_one_name_at_once_one_wins(stack: Stack, by_rest: int, by_grpc: int) -> None:
    """All through Envoy; the others are told that the name is taken, and the log has one that succeeded."""
    name = uuid.uuid4().hex
    wanted = {"name": name, "ai_type": "OPENAI", "workspace_id": OWN, "secret": "sk-canary-of-a-hundred"}
    async with (
        httpx.AsyncClient(base_url=stack.envoy.url, headers=stack.headers("admin"), timeout=30) as rest,
        grpc.aio.insecure_channel(stack.envoy.target) as channel,
    ):
        create = Stubs(channel).configs.CreateProviderConfig
        request = config_pb.CreateProviderConfigRequest(**wanted)
        outcomes = await asyncio.gather(
            *(rest.post("/ai/llm", json=wanted) for _ in range(by_rest)),
            *(create(request, metadata=stack.metadata("admin")) for _ in range(by_grpc)),
            return_exceptions=True,
        )
        assert Counter(map(_code, outcomes)) == {"OK": 1, "ALREADY_EXISTS": 99}
        listed = (await rest.get("/ai/llm", params={"pageSize": 1000})).json()["aiLlms"]
        assert [each["name"] for each in listed].count(name) == 1
        query: dict[str, str | int] = {"action": "provider_config.create", "outcome": "ok", "pageSize": 1000}
        entries = (await rest.get("/api/v1/access/audit", params=query)).json()["entries"]
        assert [entry["objectName"] for entry in entries].count(name) == 1


def _code(outcome: Any) -> str:
    """The status of a REST response, of a gRPC answer or of its error."""
    if isinstance(outcome, httpx.Response):
        return "OK" if outcome.status_code == 200 else str(outcome.json()["status"])
    return outcome.code().name if isinstance(outcome, grpc.aio.AioRpcError) else "OK"


# --- AccessService by REST --------------------------------------------------------------------------------------------


def test_a_workspace_is_made_and_listed_by_its_organisation(stack: Stack) -> None:
    name = uuid.uuid4().hex
    with stack.rest("organisation") as client:
        made = client.post("/api/v1/access/workspaces", json={"name": name}).json()["workspace"]
        assert (made["name"], made["orgId"]) == (name, "org_1")
        assert client.get(f"/api/v1/access/workspaces/{made['id']}").json() == {"success": True, "workspace": made}
        assert made in client.get("/api/v1/access/workspaces").json()["workspaces"]
        again = client.post("/api/v1/access/workspaces", json={"name": name})
        assert (again.status_code, again.json()["status"]) == (409, "ALREADY_EXISTS")


def test_a_key_is_made_used_listed_and_revoked(stack: Stack, admin: httpx.Client) -> None:
    body = {"role": "member", "name": "rest", "expiresAt": "2999-12-31T00:00:00Z", "allowedModels": ["custom/*"]}
    made = admin.post("/api/v1/access/keys", json=body).json()
    headers = {"x-api-key": made["secret"]}
    assert made["key"]["expiresAt"] == "2999-12-31T00:00:00Z"
    assert httpx.post(f"{stack.envoy.url}/api/v1/ai/llm/generate", json=ASK, headers=headers).json()["text"] == "hi"
    listed = admin.get("/api/v1/access/keys")
    (shown,) = [key for key in listed.json()["keys"] if key["id"] == made["key"]["id"]]
    assert (shown["role"], shown["allowedModels"], shown["hint"]) == ("member", ["custom/*"], made["secret"][-4:])
    assert made["secret"] not in listed.text
    revoked = admin.post(f"/api/v1/access/keys/{shown['id']}/revoke")
    assert revoked.json()["key"]["revokedAt"]
    assert httpx.post(f"{stack.envoy.url}/api/v1/ai/llm/generate", json=ASK, headers=headers).status_code == 401
    assert made["secret"] not in stack.server.output


def test_model_settings_are_changed_and_shown_where_they_lead(admin: httpx.Client) -> None:
    changed = admin.patch("/api/v1/access/models", json={"setAliases": {"rest-alias": "custom/demo-chat"}}).json()
    assert changed["settings"]["aliases"]["rest-alias"] == "custom/demo-chat"
    assert admin.get("/api/v1/access/models").json() == changed
    shown = admin.get("/api/v1/ai/models/rest-alias").json()["data"]
    assert (shown["id"], shown["aliasOf"], shown["providerConfigs"][0]) == ("rest-alias", "custom/demo-chat", "demo")
    assert admin.post("/api/v1/ai/llm/generate", json={**ASK, "model": "rest-alias"}).json()["text"] == "hi"
    wrong = admin.patch("/api/v1/access/models", json={"setAliases": {"x": "no-such-model"}})
    assert (wrong.status_code, wrong.json()["status"]) == (400, "INVALID_ARGUMENT")
    removed = admin.patch("/api/v1/access/models", json={"removeAliases": ["rest-alias"]}).json()
    assert "rest-alias" not in removed["settings"]["aliases"]


def test_a_configuration_in_use_is_403_and_says_by_what(admin: httpx.Client) -> None:
    body = {"name": "only groq", "aiType": "OTHER", "provider": "groq", "workspaceId": OWN, "secret": "gsk-not-called"}
    path = f"/ai/llm/{admin.post('/ai/llm', json=body).json()['aiLlmId']}"
    admin.patch("/api/v1/access/models", json={"setAliases": {"on-groq": "groq/some-model"}})
    refused = admin.delete(path)
    error = refused.json()
    assert (refused.status_code, error["success"], error["status"]) == (403, False, "PERMISSION_DENIED")
    assert "alias on-groq" in error["message"]
    info = error["details"][0]
    assert (info["reason"], info["metadata"]["used_by"]) == ("IN_USE", "alias on-groq")
    admin.patch("/api/v1/access/models", json={"removeAliases": ["on-groq"]})
    assert admin.delete(path).json() == {"success": True, "message": "AI LLM configuration deleted successfully"}


def test_the_audit_log_is_filtered_paged_and_exported(stack: Stack, admin: httpx.Client) -> None:
    key = admin.post("/api/v1/access/keys", json={"role": "viewer", "name": "audited"}).json()["key"]
    admin.post(f"/api/v1/access/keys/{key['id']}/revoke")
    listed = admin.get("/api/v1/access/audit", params={"objectId": key["id"]}).json()
    assert [(e["action"], e["outcome"], e["address"]) for e in listed["entries"]] == [
        ("key.revoke", "ok", "127.0.0.1"),
        ("key.create", "ok", "127.0.0.1"),
    ]
    since = listed["entries"][1]["at"]
    later = admin.get("/api/v1/access/audit", params={"startTime": since, "action": "key.revoke", "pageSize": 1})
    assert later.json()["entries"][0] == listed["entries"][0]
    exported = admin.get("/api/v1/access/audit/export", params={"start_time": since})
    assert exported.headers["content-type"].startswith("application/x-ndjson")
    *lines, end = map(json.loads, exported.text.splitlines())
    assert end == {"complete": True, "entries": len(lines)}
    assert key["id"] in [line["objectId"] for line in lines]
    assert lines[-1]["action"] == "audit_log.export"


def test_a_refused_attempt_is_in_the_log_with_the_callers_address(stack: Stack, admin: httpx.Client) -> None:
    with stack.rest("viewer") as viewer:
        refused = viewer.post("/api/v1/access/keys", json={"role": "admin", "name": "mine"})
    entries: list[dict[str, Any]] = []
    for _ in range(100):
        wanted = {"outcome": "denied", "action": "key.create"}
        entries = admin.get("/api/v1/access/audit", params=wanted).json()["entries"]
        if entries and entries[0]["requestId"] == refused.headers["x-request-id"]:
            break
        time.sleep(0.1)
    assert (entries[0]["objectName"], entries[0]["reason"]) == ("mine", "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("verb", "path", "body", "field"),
    [
        ("POST", "/api/v1/access/keys", {"role": "owner"}, "role"),
        ("POST", "/api/v1/access/keys", {"role": "member", "admin": True}, "admin"),
        ("PATCH", "/api/v1/access/models", {"setAliases": {"a/b": "custom/demo-chat"}}, "set_aliases"),
        ("PATCH", "/api/v1/access/models", {"disable": ["gpt-*"]}, "disable"),
        ("GET", "/api/v1/access/audit?startTime=yesterday", None, "start_time"),
    ],
)
def test_what_breaks_the_contract_is_refused_by_name(
    admin: httpx.Client, verb: str, path: str, body: dict[str, Any] | None, field: str
) -> None:
    response = admin.request(verb, path, json=body)
    assert response.status_code == 400
    assert field in response.json()["message"]
