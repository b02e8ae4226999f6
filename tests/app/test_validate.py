"""A validation asks the provider once and cheaply, does not wait for ever, and changes only what is known of it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from dragoman.v1 import provider_config_service_pb2 as configs
from server.core.ports import CallTimeouts
from server.core.secret import Secret
from tests.support.gateway import Gateway, gateway, origin
from tests.support.scripted import Reply, ResetConnection, ScriptedProvider, Silence

ENDS: list[tuple[str, Reply, bool, str]] = [
    ("accepted", Reply([b'{"object":"list","data":[]}']), True, "validated successfully"),
    ("wrong key", Reply([b'{"error":{"message":"no"}}'], 401), False, "401"),
    ("forbidden", Reply([b'{"error":{"message":"no"}}'], 403), False, ""),
    ("broken", Reply([b"{}"], 500), False, ""),
    ("overloaded", Reply([b"{}"], 503), False, ""),
    ("no JSON", Reply([b"<html>"], 404), False, ""),
    ("silent within its refusal", Reply([Silence()], 401), False, ""),
    ("a website", Reply([b"<!doctype html><title>Welcome</title>"]), False, "no JSON"),
    ("nothing", Reply([]), False, "no JSON"),
    ("accepted again", Reply([b"\n{}"]), True, "validated successfully"),
    ("accepted, then cut", Reply([b'{"object"', ResetConnection()]), True, "validated successfully"),
    ("cut within its refusal", Reply([ResetConnection()], 401), False, ""),
]
"""What the provider does, whether that is valid, and words of the message. A status of 200 and the beginning of
a JSON document say that it took the credential, whatever follows."""


QUICK = CallTimeouts(connect=0.5, first_token=0.5, idle=0.5, total=0.5)


async def shown(server: Gateway, id: str) -> Any:
    answer = await server.configs.GetProviderConfig(configs.GetProviderConfigRequest(id=id), metadata=server.metadata)
    return answer.ai_llm


async def available(server: Gateway) -> list[str]:
    request = configs.ListAvailableProviderConfigsRequest(workspace_id="ws_1")
    answer = await server.configs.ListAvailableProviderConfigs(request, metadata=server.metadata)
    return [each.id for each in answer.ai_llms]


async def test_an_outcome_is_told_and_kept_and_nothing_else_is_changed(
    tmp_path: Path, database_url: Secret, scripted_provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the provider does. Only what was valid the last time is offered. The time limits are lowered here."""
    monkeypatch.setattr("server.services.provider_configs.VALIDATION_TIMEOUTS", QUICK)
    async with gateway(tmp_path, database_url, hosts=[origin(scripted_provider.origin)]) as server:
        id = await server.add(f"{scripted_provider.origin}/v1")
        before = await shown(server, id)
        assert not before.HasField("valid")
        for number, (name, reply, valid, words) in enumerate(ENDS, start=1):
            scripted_provider.reply(reply)
            ok, message = await server.validate(id)
            assert (ok, words in message, message != "") == (valid, True, True), (name, message)
            assert [each.method for each in scripted_provider.exchanges] == ["GET"] * number, name
            after = await shown(server, id)
            assert (after.valid, after.validation_message) == (valid, message), name
            assert after.validated_at.ToNanoseconds() > before.validated_at.ToNanoseconds(), name
            assert await available(server) == ([id] if valid else []), name
            for field in ("valid", "validation_message", "validated_at"):
                after.ClearField(field)
                before.ClearField(field)
            assert after == before, name
            before = await shown(server, id)


async def test_who_does_not_answer_is_given_up(
    tmp_path: Path, database_url: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One who takes the connection and says nothing, and one who is not there."""
    monkeypatch.setattr("server.services.provider_configs.VALIDATION_TIMEOUTS", QUICK)
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as gone:
        places = [f"127.0.0.1:{each.getsockname()[1]}" for each in (silent, gone)]
        gone.close()
        async with gateway(tmp_path, database_url, hosts=places) as server:
            for name in places:
                id = await server.add(f"http://{name}/v1", name=name)
                ok, message = await server.validate(id)
                after = await shown(server, id)
                assert (ok, after.valid, after.validation_message) == (False, False, message)
                assert message
            assert await available(server) == []
