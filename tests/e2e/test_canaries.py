"""A credential that went in comes out nowhere: no answer, error, header, log, file or reflection. On both databases."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from dragoman.v1 import provider_config_service_pb2 as config_pb
from tests.e2e.stack import NOBODY, OWN, PROVIDER_SECRET, Stack, running_stack
from tests.support.canary import assert_absent
from tests.support.databases import DATABASES
from tests.support.postgres import new_cluster
from tests.support.process import PROJECT

pytestmark = pytest.mark.e2e

NO_SECRET = "canary-of-a-name-6d20b9e48f17"
CANARIES = {
    "made": "sk-canary-made-0d41c8e9a7b2f635",
    "key": "ak-canary-key-5be1947fd0c3a826",
    "changed": "sk-canary-changed-93f7a1c64e0db852",
    "deleted": "sk-canary-deleted-7ac2e95d18f0b346",
    "refused": "sk-canary-refused-e2b86f40d9c5a173",
    "in-url": "canary-in-url-f61d07b3c8a9e245",
    "in-query": "sk-canary-in-query-b07d5e93c2f8a461",
    "unreadable": "sk-canary-unreadable-48c7e1f92d3ab605",
}


@dataclass(frozen=True)
class Talkative:
    """A gateway of its own that logs all it can. files: where its database has its files."""

    stack: Stack
    files: Path


@pytest.fixture(params=DATABASES)
def talkative(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Talkative]:
    """On Postgres the database logs every statement with its values, too."""
    if request.param == "sqlite":
        with running_stack(tmp_path, log_level="debug") as stack:
            yield Talkative(stack, stack.home)
        return
    with contextmanager(new_cluster)(log_statement="all") as cluster:
        url = cluster.create_database()
        with running_stack(tmp_path, log_level="debug", database_url=url) as stack:
            yield Talkative(stack, cluster.directory)


class Heard:
    """Everything that a caller got: status lines aside, heads and bodies."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def rest(self, response: httpx.Response, *statuses: int) -> Any:
        assert response.status_code in statuses, response.text
        self.texts += [response.text, str(response.headers.raw)]
        return response.json() if response.headers.get("content-type", "").startswith("application/json") else None


def test_no_credential_is_in_any_answer_log_or_file(talkative: Talkative, tmp_path: Path) -> None:
    """Made, changed, validated, used, listed, deleted, rotated, used again, and refused in the ways that repeat what
    came. What may be read in the database and in the answers is found there, which shows that a credential would be."""
    stack, heard = talkative.stack, Heard()
    body = {
        "name": NO_SECRET,
        "aiType": "OPENAI",
        "workspaceId": OWN,
        "secret": CANARIES["made"],
        "key": CANARIES["key"],
    }
    with stack.rest("admin") as rest:
        id = heard.rest(rest.post("/ai/llm", json=body), 200)["aiLlmId"]
        heard.rest(rest.put(f"/ai/llm/{id}", json={"secret": CANARIES["changed"]}), 200)
        other = heard.rest(rest.post("/ai/llm", json={**body, "name": "d", "secret": CANARIES["deleted"]}), 200)
        heard.rest(rest.delete(f"/ai/llm/{other['aiLlmId']}"), 200)
        # The provider says no, and nobody is there.
        for name, endpoint in (("e", stack.demo), ("f", f"http://{NOBODY}/v1")):
            made = {**body, "name": name, "aiType": "OTHER", "endpoint": endpoint, "secret": CANARIES["refused"]}
            wrong = heard.rest(rest.post("/ai/llm", json=made), 200)["aiLlmId"]
            heard.rest(rest.post(f"/ai/llm/{wrong}/validate"), 200)
            call = {"model": "custom/demo-chat", "providerName": name, "messages": [{"role": "user", "content": "hi"}]}
            heard.rest(rest.post("/api/v1/ai/llm/chat", json=call), 400, 401, 403, 404, 424, 500, 502, 503)
        for path in ("/ai/llm", f"/ai/llm/{id}", "/ai/llm/available", "/ai/llm/stats"):
            heard.rest(rest.get(path), 200)
        _refusals(rest, heard, body, id)
    _rotate(stack, heard)
    with stack.rest("admin") as rest:
        assert (
            heard.rest(rest.post("/api/v1/ai/llm/generate", json={"prompt": "Repeat after me: hi"}), 200)["text"]
            == "hi"
        )
        heard.rest(rest.post("/ai/llm", json={**body, "name": "after"}), 200)
    heard.texts += _reflected(stack)
    # It writes its access log when it ends.
    stack.envoy.process.stop()
    places: list[str | Path] = [stack.home, talkative.files, *tmp_path.rglob("*.log"), tmp_path / "envoy"]
    secrets = (*CANARIES.values(), PROVIDER_SECRET, stack.keys["admin"], stack.keys["organisation"])
    assert_absent(secrets, *heard.texts, stack.server.output, *places)
    for place in (talkative.files, "".join(heard.texts)):
        with pytest.raises(AssertionError, match="stands in"):
            assert_absent(NO_SECRET, place)


def _refusals(rest: httpx.Client, heard: Heard, body: dict[str, str], id: str) -> None:
    secret = CANARIES["refused"]
    for wrong in (
        body,
        {**body, "name": "x" * 300, "secret": secret},
        {**body, "name": "g", "aiType": "NOBODY", "secret": secret},
        {**body, "name": "g", "workspaceId": "ws_foreign", "secret": secret},
        {**body, "name": "g", "secret": secret * 4000},
        {**body, "name": "g", "secret": {"nested": secret}},
        {**body, "name": "g", "secret": [secret]},
        {**body, "name": "g", "unknown": secret},
        {**body, "name": "g", "endpoint": f"https://{CANARIES['in-url']}@api.example.com"},
        {**body, "name": "g", "endpoint": f"https://api.example.com/?key={CANARIES['in-url']}"},
    ):
        heard.rest(rest.post("/ai/llm", json=wrong), 400, 403, 404, 409, 413)
    unreadable = CANARIES["unreadable"]
    for content in (f'{{"secret": "{unreadable}"', f'{{"secret": {unreadable}}}', f'"{unreadable}"', unreadable):
        heard.rest(rest.post("/ai/llm", content=content, headers={"content-type": "application/json"}), 400, 415)
    heard.rest(rest.put(f"/ai/llm/{id}", json={"secret": secret, "etag": "none"}), 400, 409)
    for path in ("/ai/llm", "/ai/llm/available", f"/ai/llm/{id}", "/no/such/path"):
        heard.rest(rest.get(path, params={"secret": CANARIES["in-query"], "key": CANARIES["in-query"]}), 200, 400, 404)
    heard.rest(rest.put("/ai/llm/cfg_none", json={"secret": secret}), 404)
    heard.rest(rest.post("/ai/llm", json={**body, "secret": secret}, headers={"authorization": "Bearer no"}), 401)


def _rotate(stack: Stack, heard: Heard) -> None:
    for words in (("rotate-master", "--generate"), ("rotate-data", "-w", OWN), ("rotate-master", "--drop-old")):
        command = [sys.executable, "-m", "server", "keys", *words]
        done = subprocess.run(command, env=stack.environ, cwd=PROJECT, capture_output=True, text=True, check=True)
        heard.texts += [done.stdout, done.stderr]


def _reflected(stack: Stack) -> list[str]:
    """All that reflection tells of the contract, and what a gRPC caller reads of the configurations."""
    with grpc.insecure_channel(f"127.0.0.1:{stack.port}") as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        ask = stub.ServerReflectionInfo
        request = reflection_pb2.ServerReflectionRequest
        (services,) = ask(iter([request(list_services="")]), metadata=stack.metadata("admin"))
        names = [service.name for service in services.list_services_response.service]
        asked = iter([request(file_containing_symbol=name) for name in names])
        answers = list(ask(asked, metadata=stack.metadata("admin")))
        method: Any = channel.unary_unary("/dragoman.v1.ProviderConfigService/ListProviderConfigs")
        wanted = config_pb.ListProviderConfigsRequest(workspace_id=OWN).SerializeToString()
        listing: bytes = method(wanted, metadata=stack.metadata("admin"))
        assert "dragoman.v1.ProviderConfigService" in names
        return [json.dumps(names), *(str(answer) for answer in answers), listing.decode("latin-1")]
