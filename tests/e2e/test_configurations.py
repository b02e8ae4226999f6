"""Provider configurations as their documented clients call them, and what lists, changes at once and endpoints promise.

The documented samples are of curl; the public TypeScript client calls `fetch`, with no body and no content type where
it has nothing to say (docs.flashback.tech, "AI LLMs"). Both are run here as they are.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.core.test_endpoint import REFUSED_URLS
from tests.e2e.errors import detail, error_of
from tests.e2e.stack import OWN, PROVIDER_SECRET, Stack

pytestmark = pytest.mark.e2e

Call = Callable[..., tuple[int, dict[str, Any]]]

FETCH = """
const [url, method, key, body] = process.argv.slice(1);
const headers = {Authorization: `Bearer ${key}`};
if (body) headers["Content-Type"] = "application/json";
fetch(url, {method, headers, body: body || null}).then(
    async (response) => console.log((await response.text()) + "\\n" + response.status));
"""


def ran(program: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """What a program printed: a JSON body, and the status in a line of its own."""
    if shutil.which(program) is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs {program}")
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30, check=True)
    body, _, status = done.stdout.strip().rpartition("\n")
    return int(status), json.loads(body)


@pytest.fixture(params=["curl", "fetch"])
def call(request: pytest.FixtureRequest, stack: Stack) -> Call:
    """call(method, path, body) by an admin, with that client."""

    def curl(method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        content = ["-H", "Content-Type: application/json", "-d", json.dumps(body)] if body else []
        headers = ["-H", "Accept: application/json", "-H", f"Authorization: Bearer {stack.keys['admin']}"]
        return ran("curl", "-sS", "-w", "\n%{http_code}", "-X", method, stack.envoy.url + path, *headers, *content)

    def fetch(method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        content = [json.dumps(body)] if body else []
        return ran("node", "-e", FETCH, stack.envoy.url + path, method, stack.keys["admin"], *content)

    return curl if request.param == "curl" else fetch


def test_the_documented_calls_do_as_documented(call: Call, stack: Stack) -> None:
    """All of the seven, with the documentation's own body, and bodies left out where there are none."""
    body = {
        "name": f"My OpenAI Config {uuid.uuid4().hex[:8]}",
        "aiType": "OPENAI",
        "endpoint": "https://api.openai.com/v1",
        "key": "optional-access-key",
        "secret": "sk-proj-xxxxxxxxxxxx",
        "workspaceId": OWN,
    }
    status, created = call("POST", "/ai/llm", body)
    id = created["aiLlmId"]
    assert (status, created["success"]) == (200, True)
    assert created["message"] == "AI LLM configuration created successfully"

    status, listed = call("GET", f"/ai/llm?workspaceId={OWN}")
    (row,) = [row for row in listed["aiLlms"] if row["id"] == id]
    assert (status, listed["success"]) == (200, True)
    assert all(isinstance(row[field], str) and row[field] for field in ("orgId", "userId", "createdAt"))
    assert datetime.fromisoformat(row["createdAt"]).tzinfo is not None
    shown = {field: row[field] for field in ("name", "aiType", "endpoint", "workspaceId", "key")}
    assert shown == {**{field: body[field] for field in shown}, "key": "****-key"}

    change = {"aiType": "OTHER", "endpoint": stack.demo, "key": "another-key", "secret": PROVIDER_SECRET}
    status, updated = call("PUT", f"/ai/llm/{id}", change)
    assert (status, updated["success"], updated["aiLlmId"]) == (200, True, id)
    status, validated = call("POST", f"/ai/llm/{id}/validate")
    assert (status, validated["success"], set(validated)) == (200, True, {"success", "message"})
    status, available = call("GET", "/ai/llm/available")
    assert (status, available["aiLlms"][0]["id"]) == (200, id)

    status, answer = call("GET", f"/ai/llm/stats?aiLlmId={id}")
    (stats,) = answer["stats"]
    assert (status, answer["success"], stats["aiLlmId"]) == (200, True, id)
    counts = (
        "ApiCalls",
        "TokensIn",
        "TokensOut",
        "LlmTokensIn",
        "LlmTokensOut",
        "PolicyViolations",
        "Alerts",
        "Blocks",
    )
    assert {stats[f"total{name}"] for name in counts} == {"0"}

    status, deleted = call("DELETE", f"/ai/llm/{id}")
    assert (status, deleted["success"], set(deleted)) == (200, True, {"success", "message"})
    status, gone = call("DELETE", f"/ai/llm/{id}")
    assert (status, gone["success"]) == (404, False)
    assert gone["message"]


LISTS = [
    ("admin", "/ai/llm", "aiLlms", {}),
    ("admin", "/ai/llm/available", "aiLlms", {}),
    ("admin", "/api/v1/access/keys", "keys", {}),
    ("organisation", "/api/v1/access/workspaces", "workspaces", {}),
    ("admin", "/api/v1/access/audit", "entries", {"action": "provider_config.create", "outcome": "ok"}),
]


@pytest.fixture
def some(stack: Stack) -> Iterator[None]:
    """A few validated configurations, so that each list has something to divide."""
    with stack.rest("admin") as admin:
        ids = []
        for _ in range(3):
            body = {"name": uuid.uuid4().hex, "aiType": "OTHER", "workspaceId": OWN, "endpoint": stack.demo}
            ids.append(admin.post("/ai/llm", json={**body, "secret": PROVIDER_SECRET}).json()["aiLlmId"])
            assert admin.post(f"/ai/llm/{ids[-1]}/validate").json()["success"] is True
        yield
        for id in ids:
            assert admin.delete(f"/ai/llm/{id}").status_code == 200


@pytest.mark.usefixtures("some")
@pytest.mark.parametrize(("who", "path", "field", "query"), LISTS, ids=[path for _, path, *_ in LISTS])
def test_the_pages_of_a_list_are_the_list(stack: Stack, who: str, path: str, field: str, query: dict[str, str]) -> None:
    """Each entry once, in the same order; the last page has no token, and what is no token is refused."""
    with stack.rest(who) as client:

        def page(size: int, token: str = "") -> tuple[list[Any], str]:
            answer = client.get(path, params={**query, "pageSize": size, "pageToken": token}).json()
            return answer[field], answer["nextPageToken"]

        whole, token = page(1000)
        assert (len(whole) >= 2, token) == (True, "")
        size = len(whole) // 2
        first, token = page(size)
        found, sizes = first, [len(first)]
        while token:
            more, token = page(size, token)
            found, sizes = found + more, [*sizes, len(more)]
        assert found == whole
        assert set(sizes[:-1]) == {size}
        wrong = client.get(path, params={**query, "pageSize": size, "pageToken": "!"})
        error_of(wrong, 400, "INVALID_ARGUMENT")


async def test_of_changes_that_are_based_on_one_state_one_is_made(stack: Stack) -> None:
    """The others are told that it changed. Without an etag the newest state is changed, whatever it is."""
    async with httpx.AsyncClient(base_url=stack.envoy.url, headers=stack.headers("admin"), timeout=30) as client:
        name = uuid.uuid4().hex
        created = await client.post("/ai/llm", json={"name": name, "aiType": "OPENAI", "workspaceId": OWN})
        path = f"/ai/llm/{created.json()['aiLlmId']}"
        etag = (await client.get(path)).json()["aiLlm"]["etag"]
        changes = [client.put(path, json={"name": f"{name}-{count}", "etag": etag}) for count in range(20)]
        outcomes = await asyncio.gather(*changes)
        assert Counter(outcome.status_code for outcome in outcomes) == {200: 1, 409: 19}
        error = error_of(next(outcome for outcome in outcomes if outcome.status_code == 409), 409, "ABORTED")
        assert detail(error, "ErrorInfo")["reason"] == "CONFLICT"
        (won,) = [outcome.json()["aiLlm"] for outcome in outcomes if outcome.status_code == 200]
        assert (await client.get(path)).json()["aiLlm"] == won
        assert (await client.put(path, json={"name": name})).json()["aiLlm"]["name"] == name
        await client.delete(path)


async def test_of_renames_to_one_name_at_once_one_wins(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.envoy.url, headers=stack.headers("admin"), timeout=30) as client:
        names = [uuid.uuid4().hex for _ in range(10)]
        bodies = [{"name": name, "aiType": "OPENAI", "workspaceId": OWN} for name in names]
        ids = [(await client.post("/ai/llm", json=body)).json()["aiLlmId"] for body in bodies]
        wanted = uuid.uuid4().hex
        outcomes = await asyncio.gather(*(client.put(f"/ai/llm/{id}", json={"name": wanted}) for id in ids))
        assert Counter(outcome.status_code for outcome in outcomes) == {200: 1, 409: 9}
        for id in ids:
            await client.delete(f"/ai/llm/{id}")


def test_no_spelling_of_an_inner_address_passes(stack: Stack) -> None:
    """The whole list through Envoy, by create and by update; what is there stays as it was."""
    with stack.rest("admin") as admin:
        body = {"name": uuid.uuid4().hex, "aiType": "OTHER", "workspaceId": OWN, "secret": "sk-canary-0123456789"}
        path = (
            f"/ai/llm/{admin.post('/ai/llm', json={**body, 'endpoint': 'https://api.example.com'}).json()['aiLlmId']}"
        )
        before = admin.get(path).json()
        for url in REFUSED_URLS:
            created = admin.post("/ai/llm", json={**body, "name": uuid.uuid4().hex, "endpoint": url})
            updated = admin.put(path, json={"endpoint": url, "secret": "sk-canary-0123456789"})
            for response in (created, updated):
                error = error_of(response, 400, "INVALID_ARGUMENT")
                assert "endpoint" in error["message"], url
        assert admin.get(path).json() == before
        admin.delete(path)
