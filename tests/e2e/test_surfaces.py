"""Every documented path of the three REST surfaces answers as it is written, through the real Envoy."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.stack import FOREIGN, OWN, PROVIDER_SECRET, Stack

pytestmark = pytest.mark.e2e

ASK = [{"role": "user", "content": "Repeat after me: grüezi 👋"}]


@pytest.fixture
def member(stack: Stack) -> Iterator[httpx.Client]:
    with stack.rest("member") as client:
        yield client


@pytest.fixture
def admin(stack: Stack) -> Iterator[httpx.Client]:
    with stack.rest("admin") as client:
        yield client


def events_of(response: httpx.Response) -> list[dict]:
    """The JSON of each SSE event of a response that was read whole."""
    return [json.loads(frame.removeprefix("data: ")) for frame in response.text.split("\n\n") if frame]


# --- Flowra -----------------------------------------------------------------------------------------------------------


def test_generate_answers_a_prompt_alone_by_the_default_model(member: httpx.Client) -> None:
    response = member.post("/api/v1/ai/llm/generate", json={"prompt": "Repeat after me: hello"})
    answer = response.json()
    assert response.status_code == 200
    assert (answer["text"], answer["finishReason"], answer["model"]) == ("hello", "stop", "demo-chat")
    usage = answer["usage"]
    assert usage["totalTokens"] == usage["promptTokens"] + usage["completionTokens"] > 0


def test_generate_takes_every_documented_parameter_and_sends_it(member: httpx.Client) -> None:
    body = {
        "prompt": "hi",
        "model": "custom/demo-echo",
        "temperature": 0.25,
        "maxTokens": 77,
        "systemPrompt": "Be brief.",
    }
    sent = json.loads(member.post("/api/v1/ai/llm/generate", json=body).json()["text"])
    assert (sent["temperature"], sent["model"]) == (0.25, "demo-echo")
    assert 77 in sent.values()


def test_generate_has_the_documented_defaults(member: httpx.Client) -> None:
    response = member.post("/api/v1/ai/llm/generate", json={"prompt": "hi", "model": "custom/demo-echo"})
    sent = json.loads(response.json()["text"])
    assert sent["temperature"] == 0.7
    assert 4096 in sent.values()
    assert "warnings" not in response.json()


def test_generate_answers_the_bare_text_where_plain_text_is_accepted(member: httpx.Client) -> None:
    response = member.post(
        "/api/v1/ai/llm/generate", json={"prompt": "Repeat after me: grüezi 👋"}, headers={"accept": "text/plain"}
    )
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text == "grüezi 👋"
    assert response.headers["x-dragoman-finish-reason"] == "stop"


@pytest.mark.parametrize("snake", [False, True])
def test_chat_answers_the_next_assistant_message(member: httpx.Client, snake: bool) -> None:
    names = ("system_prompt", "max_tokens") if snake else ("systemPrompt", "maxTokens")
    body = {"messages": ASK, names[0]: "Be brief.", names[1]: 50, "temperature": 0}
    answer = member.post("/api/v1/ai/llm/chat", json=body).json()
    assert answer["text"] == "grüezi 👋"
    assert answer["message"] == {"role": "assistant", "content": "grüezi 👋"}
    assert "toolCalls" not in answer


def test_chat_prepends_the_system_prompt_only_where_the_history_has_none(member: httpx.Client) -> None:
    def prompt_tokens(messages: list[dict], **more: str) -> int:
        body = {"messages": messages, **more}
        count: int = member.post("/api/v1/ai/llm/chat", json=body).json()["usage"]["promptTokens"]
        return count

    alone, with_system = ASK, [{"role": "system", "content": "Be brief."}, *ASK]
    assert prompt_tokens(alone, systemPrompt="Be brief.") == prompt_tokens(with_system)
    assert prompt_tokens(with_system, systemPrompt="Be very long.") == prompt_tokens(with_system)
    assert prompt_tokens(alone) < prompt_tokens(with_system)


def test_models_answer_in_the_products_envelope(member: httpx.Client) -> None:
    answer = member.get("/api/v1/ai/models").json()
    assert answer["success"] is True
    (default,) = [model for model in answer["data"] if model["isDefault"]]
    assert (default["id"], default["provider"], default["providerConfigs"]) == ("custom/demo-chat", "custom", ["demo"])
    for kind in ("chat", "embedding"):
        listed = member.get("/api/v1/ai/models", params={"kind": kind}).json()["data"]
        assert {model["kind"] for model in listed} <= {kind}


@pytest.mark.parametrize("id", ["custom/demo-chat", "custom%2Fdemo-chat"])
def test_one_model_is_an_object_and_its_id_may_hold_slashes(member: httpx.Client, id: str) -> None:
    answer = member.get(f"/api/v1/ai/models/{id}").json()
    assert answer["success"] is True
    assert (answer["data"]["id"], answer["data"]["provider"]) == ("custom/demo-chat", "custom")


# --- Runflow ----------------------------------------------------------------------------------------------------------

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def test_runtime_chat_takes_every_documented_parameter(member: httpx.Client) -> None:
    body = {
        "projectId": OWN,
        "provider": "CUSTOM",
        "providerName": "demo",
        "model": "demo-echo",
        "messages": [{"role": "user", "content": "hi"}],
        "legacy": True,
        "instructions": "Be brief.",
        "temperature": 0.5,
        "maxTokens": 99,
        "topP": 0.9,
        "frequencyPenalty": -0.5,
        "presencePenalty": 0.5,
        "seed": 7,
        "responseFormat": {"type": "json_object"},
    }
    response = member.post("/api/v1/runtime/v1/chat", json=body)
    answer = response.json()
    assert response.status_code == 200, answer
    assert set(answer) >= {"text", "finishReason", "usage", "model"}
    sent = json.loads(answer["text"])
    assert {name: sent[name] for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty")} == {
        "temperature": 0.5, "top_p": 0.9, "frequency_penalty": -0.5, "presence_penalty": 0.5,
    }  # fmt: skip
    assert (sent["seed"], sent["response_format"]) == (7, {"type": "json_object"})
    assert 99 in sent.values()


def test_runtime_chat_stops_where_it_is_told_to(member: httpx.Client) -> None:
    body = {"projectId": OWN, "provider": "custom", "model": "demo-chat", "messages": ASK, "stop": [" 👋"]}
    answer = member.post("/api/v1/runtime/v1/chat", json=body).json()
    assert (answer["text"], answer["finishReason"]) == ("grüezi", "stop")


def test_runtime_chat_calls_tools_in_openais_form_and_takes_the_second_turn(member: httpx.Client) -> None:
    question = [{"role": "user", "content": "What is the weather in Bern?"}]
    body = {"projectId": OWN, "provider": "custom", "model": "demo-chat", "messages": question, "tools": [WEATHER]}
    first = member.post("/api/v1/runtime/v1/chat", json=body).json()
    (call,) = first["toolCalls"]
    assert (first["finishReason"], call["type"], call["function"]["name"]) == ("tool_calls", "function", "get_weather")
    assert isinstance(json.loads(call["function"]["arguments"])["city"], str)

    answered = [
        *question,
        {"role": "assistant", "content": "", "tool_calls": first["toolCalls"]},
        {"role": "tool", "tool_call_id": call["id"], "name": "get_weather", "content": "sunny, 21 degrees"},
    ]
    second = member.post("/api/v1/runtime/v1/chat", json={**body, "messages": answered}).json()
    assert second["finishReason"] == "stop"
    assert "sunny, 21 degrees" in second["text"]
    echoed = [*question, first["message"], answered[-1]]
    assert member.post("/api/v1/runtime/v1/chat", json={**body, "messages": echoed}).json()["text"] == second["text"]


def test_a_provider_without_configuration_is_the_documented_error(member: httpx.Client) -> None:
    body = {"projectId": OWN, "provider": "anthropic", "model": "claude-sonnet-4-5", "messages": ASK}
    response = member.post("/api/v1/runtime/v1/chat", json=body)
    error = response.json()
    assert (response.status_code, error["success"]) == (400, False)
    assert error["message"] == "No credential configured for ANTHROPIC"
    assert (error["status"], error["code"]) == ("FAILED_PRECONDITION", 9)


@pytest.mark.parametrize("path", ["/api/v1/ai/llm/chat", "/api/v1/runtime/v1/chat"])
def test_both_chat_paths_stream_where_events_are_accepted(member: httpx.Client, path: str) -> None:
    response = member.post(path, json={"messages": ASK}, headers={"accept": "text/event-stream"})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response)
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert "started" in events[0]
    assert events[-1]["completed"]["finishReason"] == "stop"
    assert "".join(event.get("blockDelta", {}).get("text", "") for event in events) == "grüezi 👋"


# --- Flashback --------------------------------------------------------------------------------------------------------


def test_the_life_of_a_configuration_by_the_documented_calls(stack: Stack, admin: httpx.Client) -> None:
    name = f"life-{uuid.uuid4().hex[:8]}"
    created = admin.post(
        "/ai/llm",
        json={
            "name": name, "aiType": "OTHER", "workspaceId": OWN,
            "endpoint": stack.demo, "secret": PROVIDER_SECRET, "key": None,
        },
    )  # fmt: skip
    assert created.status_code == 200
    assert created.json()["message"] == "AI LLM configuration created successfully"
    id = created.json()["aiLlmId"]

    listed = admin.get("/ai/llm", params={"workspaceId": OWN}).json()
    assert listed["success"] is True
    (row,) = [row for row in listed["aiLlms"] if row["id"] == id]
    assert {"id", "orgId", "workspaceId", "userId", "name", "aiType", "endpoint", "createdAt"} <= set(row)
    assert (row["name"], row["aiType"], row["endpoint"], row["secretMask"]) == (
        name, "OTHER", stack.demo, f"****{PROVIDER_SECRET[-4:]}",
    )  # fmt: skip

    assert id not in [row["id"] for row in admin.get("/ai/llm/available").json()["aiLlms"]]
    validated = admin.post(f"/ai/llm/{id}/validate")
    assert validated.status_code == 200
    assert validated.json() == {"success": True, "message": "AI LLM configuration validated successfully"}
    assert admin.get("/ai/llm/available").json()["aiLlms"][0]["id"] == id

    renamed = admin.put(f"/ai/llm/{id}", json={"name": name + "-2"}).json()
    assert (renamed["success"], renamed["aiLlmId"]) == (True, id)
    assert admin.get(f"/ai/llm/{id}").json()["aiLlm"]["name"] == name + "-2"

    wrong = admin.put(f"/ai/llm/{id}", json={"secret": "sk-not-the-right-one"}).json()
    assert wrong["success"] is True
    refused = admin.post(f"/ai/llm/{id}/validate", content=b"")
    assert (refused.status_code, refused.json()["success"]) == (200, False)
    assert id not in [row["id"] for row in admin.get("/ai/llm/available").json()["aiLlms"]]

    deleted = admin.delete(f"/ai/llm/{id}")
    assert (deleted.status_code, deleted.json()["success"]) == (200, True)
    assert admin.delete(f"/ai/llm/{id}").status_code == 404


def test_what_is_nullable_may_be_null_and_is_then_as_if_it_were_not_there(stack: Stack, admin: httpx.Client) -> None:
    """The public client sends null for what its user left out."""
    nulls = {"endpoint": None, "secret": None, "key": None}
    body = {"name": f"null-{uuid.uuid4().hex[:8]}", "aiType": "ANTHROPIC", "workspaceId": OWN}
    bare = admin.post("/ai/llm", json={**body, **nulls}).json()
    id = bare["aiLlmId"]
    assert bare["message"] == "AI LLM configuration created successfully"
    shown = admin.get(f"/ai/llm/{id}").json()["aiLlm"]
    assert not {"endpoint", "key", "secretMask", "valid", "validatedAt"} & set(shown)
    assert shown["userId"] == shown["userId"].strip() != ""
    with_secret = admin.put(f"/ai/llm/{id}", json={"secret": "sk-ant-0123456789"})
    assert with_secret.json()["message"] == "AI LLM configuration updated successfully"
    kept = admin.put(f"/ai/llm/{id}", json={"name": None, "aiType": None, **nulls}).json()["aiLlm"]
    assert (kept["name"], kept["aiType"], kept["secretMask"]) == (body["name"], "ANTHROPIC", "****6789")
    deleted = admin.delete(f"/ai/llm/{id}")
    assert deleted.json() == {"success": True, "message": "AI LLM configuration deleted successfully"}


def counted(client: httpx.Client, id: str) -> dict[str, str]:
    """The configuration's counts once it has any: they are written within a second or so."""
    for _ in range(100):
        row: dict[str, str] = client.get("/ai/llm/stats", params={"aiLlmId": id}).json()["stats"][0]
        if row["totalApiCalls"] != "0":
            return row
        time.sleep(0.1)
    raise AssertionError("the call was never counted")


def test_stats_count_real_traffic_as_strings(stack: Stack, admin: httpx.Client) -> None:
    name = f"stats-{uuid.uuid4().hex[:8]}"
    body = {"name": name, "aiType": "OTHER", "workspaceId": OWN, "endpoint": stack.demo, "secret": PROVIDER_SECRET}
    id = admin.post("/ai/llm", json=body).json()["aiLlmId"]
    usage = admin.post("/api/v1/runtime/v1/chat", json={
        "projectId": OWN, "provider": "custom", "providerName": name, "model": "demo-chat", "messages": ASK,
    }).json()["usage"]  # fmt: skip
    row = counted(admin, id)
    assert row == {
        "aiLlmId": id,
        "totalApiCalls": "1",
        "totalTokensIn": str(usage["promptTokens"]),
        "totalTokensOut": str(usage["completionTokens"]),
        "totalLlmTokensIn": str(usage["promptTokens"]),
        "totalLlmTokensOut": str(usage["completionTokens"]),
        "totalPolicyViolations": "0",
        "totalAlerts": "0",
        "totalBlocks": "0",
        "totalErrors": "0",
        "totalCachedTokens": "0",
        "totalReasoningTokens": "0",
    }
    admin.delete(f"/ai/llm/{id}")


def test_a_taken_name_is_a_conflict_and_a_foreign_configuration_is_not_there(stack: Stack, admin: httpx.Client) -> None:
    body = {"name": "demo", "aiType": "OPENAI", "workspaceId": OWN}
    taken = admin.post("/ai/llm", json=body)
    assert (taken.status_code, taken.json()["status"]) == (409, "ALREADY_EXISTS")
    (own,) = [row for row in admin.get("/ai/llm").json()["aiLlms"] if row["name"] == "demo"]
    with stack.rest("foreign") as foreign:
        assert foreign.get(f"/ai/llm/{own['id']}").status_code == 404
        assert foreign.delete(f"/ai/llm/{own['id']}").status_code == 404
        assert foreign.get("/ai/llm", params={"workspaceId": OWN}).status_code == 403
        assert foreign.get("/ai/llm").json() == {"success": True, "aiLlms": [], "nextPageToken": ""}
    with stack.rest("organisation") as organisation:
        assert organisation.get("/ai/llm").status_code == 400
        assert organisation.get("/ai/llm", params={"workspaceId": FOREIGN}).json()["aiLlms"] == []


@pytest.mark.parametrize("key", ["member", "viewer"])
def test_only_an_admin_changes_configurations(stack: Stack, key: str) -> None:
    with stack.rest(key) as client:
        body = {"name": "mine", "aiType": "OPENAI", "workspaceId": OWN}
        response = client.post("/ai/llm", json=body)
        assert (response.status_code, response.json()["success"]) == (403, False)
        assert client.get("/ai/llm").status_code == 200


# --- probes -----------------------------------------------------------------------------------------------------------


def test_probes_answer_without_a_key(stack: Stack) -> None:
    with stack.rest(None) as client:
        assert client.get("/healthz").json()["status"] == "ok"
        assert client.get("/readyz").json()["status"] == "ok"
