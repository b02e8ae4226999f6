"""Bad input and bad providers: each gets a clear error in fields, nothing leaks, and the server lives on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from dragoman.v1 import chat_pb2 as pb
from tests.e2e.stack import FOREIGN, NOBODY, OWN, PROVIDER_SECRET, Stack
from tests.support.canary import assert_absent

pytestmark = pytest.mark.e2e

CHAT = "/api/v1/ai/llm/chat"
GENERATE = "/api/v1/ai/llm/generate"
RUNTIME = "/api/v1/runtime/v1/chat"
PROMPT = "canary-prompt-5d0f8a77c3"
ASK = [{"role": "user", "content": PROMPT}]
STRAY_ANSWER = {"role": "tool", "toolCallId": "c9", "content": "x"}
LONG = "x" * 400_001
INVALID, NOT_FOUND = "INVALID_ARGUMENT", "NOT_FOUND"


def reason_of(error: dict[str, Any]) -> str:
    return next((detail["reason"] for detail in error["details"] if "reason" in detail), "")


def fields_of(error: dict[str, Any]) -> list[str]:
    return [v["field"] for detail in error["details"] for v in detail.get("fieldViolations", [])]


BAD_REQUESTS: dict[str, tuple[str, Any, int, str, str]] = {
    # claim: path, body, HTTP status, status name, what the message must say
    "broken JSON": (CHAT, "{", 400, INVALID, ""),
    "no object": (CHAT, "[1]", 400, INVALID, ""),
    "a wrong type": (CHAT, {"messages": ASK, "maxTokens": "many"}, 400, INVALID, "max"),
    "an unknown field": (CHAT, {"messages": ASK, "tempreature": 1}, 400, INVALID, "tempreature"),
    "a value out of range": (CHAT, {"messages": ASK, "temperature": 3}, 400, INVALID, "2"),
    "an unknown word": (CHAT, {"messages": ASK, "thinking": {"type": "perhaps"}}, 400, INVALID, "enabled"),
    "no messages": (CHAT, {}, 400, INVALID, "messages"),
    "empty messages": (CHAT, {"messages": []}, 400, INVALID, "messages"),
    "an empty user message": (CHAT, {"messages": [{"role": "user"}]}, 400, INVALID, "messages[0]"),
    "an unknown role": (CHAT, {"messages": [{"role": "martian", "content": "x"}]}, 400, INVALID, "assistant"),
    "a tool answer without its call": (CHAT, {"messages": [*ASK, STRAY_ANSWER]}, 400, INVALID, "messages[1]"),
    "an unknown provider": (RUNTIME, {"messages": ASK, "provider": "acme", "model": "m"}, 400, INVALID, "openai"),
    "too long a message": (CHAT, {"messages": [{"role": "user", "content": LONG}]}, 400, INVALID, "400000"),
    "too long a prompt": (GENERATE, {"prompt": LONG}, 400, INVALID, "400000"),
    "no prompt": (GENERATE, {}, 400, INVALID, "prompt"),
    "a body over the limit": (CHAT, {"messages": ASK, "user": "x" * (21 << 20)}, 413, "", ""),
    "an unknown model": (CHAT, {"messages": ASK, "model": "custom/demo-chta"}, 404, NOT_FOUND, "custom/demo-chat"),
    "an unknown bare model": (CHAT, {"messages": ASK, "model": "demo-chta"}, 404, NOT_FOUND, "custom/demo-chat"),
    "an unknown configuration": (CHAT, {"messages": ASK, "providerName": "dmeo"}, 404, NOT_FOUND, "demo"),
    "no such path": ("/api/v1/ai/llm/nothing", {}, 404, NOT_FOUND, ""),
    "a foreign workspace": (RUNTIME, {"messages": ASK, "projectId": FOREIGN}, 403, "PERMISSION_DENIED", ""),
    "a stream asked for in the body": (CHAT, {"messages": ASK, "stream": True}, 400, INVALID, "text/event-stream"),
}


@pytest.mark.parametrize(("path", "body", "status", "name", "says"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_a_bad_request_is_refused_in_fields(
    stack: Stack, path: str, body: Any, status: int, name: str, says: str
) -> None:
    with stack.rest() as client:
        response = client.post(path, content=body if isinstance(body, str) else json.dumps(body))
    error = response.json()
    assert response.headers["content-type"] == "application/json"
    assert response.status_code == status, error
    assert error["success"] is False
    assert isinstance(error["code"], int)
    assert name in ("", error["status"])
    assert says in error["message"]
    assert_absent(PROMPT, response.content)
    assert_absent(PROVIDER_SECRET, response.content)


@pytest.mark.parametrize("key", ["revoked", None, "nonsense"])
def test_a_call_without_a_valid_key_is_unauthenticated(stack: Stack, key: str | None) -> None:
    with stack.rest(None if key == "nonsense" else key) as client:
        headers = {"x-api-key": "dgm_nonsense"} if key == "nonsense" else {}
        response = client.post(GENERATE, json={"prompt": "hi"}, headers=headers)
    error = response.json()
    assert (response.status_code, error["status"], reason_of(error)) == (401, "UNAUTHENTICATED", "UNAUTHENTICATED")


def test_either_header_carries_the_key(stack: Stack) -> None:
    with stack.rest(None) as client:
        assert client.get("/api/v1/ai/models", headers={"x-api-key": stack.keys["viewer"]}).status_code == 200
        assert client.get("/api/v1/ai/models", headers=stack.headers("viewer")).status_code == 200


BAD_PROVIDERS: dict[str, tuple[int, str, str, str]] = {
    # demo model: HTTP status, gRPC code, reason, whose fault
    "demo-error-400": (400, "INVALID_ARGUMENT", "PROVIDER_INVALID_REQUEST", "caller"),
    "demo-context-too-long": (400, "INVALID_ARGUMENT", "CONTEXT_LENGTH_EXCEEDED", "caller"),
    "demo-error-401": (401, "UNAUTHENTICATED", "PROVIDER_UNAUTHENTICATED", "workspace"),
    "demo-error-403": (403, "PERMISSION_DENIED", "PROVIDER_PERMISSION_DENIED", "workspace"),
    "demo-error-404": (404, "NOT_FOUND", "PROVIDER_MODEL_NOT_FOUND", "caller"),
    "demo-error-429": (429, "RESOURCE_EXHAUSTED", "PROVIDER_RATE_LIMITED", "workspace"),
    "demo-error-429-quota": (429, "RESOURCE_EXHAUSTED", "PROVIDER_QUOTA_EXCEEDED", "workspace"),
    "demo-error-500": (503, "UNAVAILABLE", "PROVIDER_UNAVAILABLE", "provider"),
    "demo-error-503": (503, "UNAVAILABLE", "PROVIDER_OVERLOADED", "provider"),
    "demo-error-502-html": (503, "UNAVAILABLE", "PROVIDER_UNAVAILABLE", "provider"),
    "demo-error-leaky": (400, "INVALID_ARGUMENT", "PROVIDER_INVALID_REQUEST", "caller"),
    "demo-garbage": (503, "UNAVAILABLE", "PROVIDER_PROTOCOL_ERROR", "provider"),
    "demo-redirect": (503, "UNAVAILABLE", "PROVIDER_PROTOCOL_ERROR", "provider"),
    "demo-timeout": (504, "DEADLINE_EXCEEDED", "PROVIDER_TIMEOUT", "provider"),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("model", "expected"), BAD_PROVIDERS.items(), ids=BAD_PROVIDERS.keys())
def test_a_provider_that_fails_before_its_answer_is_one_clear_error(
    stack: Stack, model: str, expected: tuple[int, str, str, str], streamed: bool
) -> None:
    if model == "demo-timeout" and not streamed:
        pytest.skip("a whole answer is waited for much longer: the streamed case shows the same error")
    http_status, name, reason, fault = expected
    accept = "text/event-stream" if streamed else "application/json"
    with stack.rest() as client:
        body = {"messages": ASK, "model": f"custom/{model}"}
        response = client.post(CHAT, json=body, headers={"accept": accept})
    error = response.json()
    assert (response.status_code, error["status"], reason_of(error)) == (http_status, name, reason)
    (info,) = [detail for detail in error["details"] if "reason" in detail]
    assert (info["domain"], info["metadata"]["fault"], info["metadata"]["provider"]) == ("dragoman", fault, "custom")
    assert info["metadata"]["retryable"] in ("true", "false")
    assert info["metadata"]["action"]
    assert response.headers.get("retry-after") == (
        "7" if model == "demo-error-429" else response.headers.get("retry-after")
    )
    assert_absent(PROVIDER_SECRET, response.content)
    assert_absent(PROMPT, response.content)


def test_what_the_provider_says_of_the_request_reaches_the_caller(stack: Stack) -> None:
    with stack.rest() as client:
        response = client.post(CHAT, json={"messages": ASK, "model": "custom/demo-error-400"})
    (info,) = [detail for detail in response.json()["details"] if "reason" in detail]
    assert "temperature" in info["metadata"]["provider_message"]
    assert info["metadata"]["provider_message"] in response.json()["message"]


def test_a_rate_limit_says_when_to_come_back_and_a_quota_does_not(stack: Stack) -> None:
    with stack.rest() as client:
        limited = client.post(CHAT, json={"messages": ASK, "model": "custom/demo-error-429"})
        exhausted = client.post(CHAT, json={"messages": ASK, "model": "custom/demo-error-429-quota"})
    assert limited.headers["retry-after"] == "7"
    assert [d["retryDelay"] for d in limited.json()["details"] if "retryDelay" in d] == ["7s"]
    assert "retry-after" not in exhausted.headers
    assert not [d for d in exhausted.json()["details"] if "retryDelay" in d]


async def collect(call: AsyncIterable[pb.ChatEvent], events: list[pb.ChatEvent]) -> None:
    """Keep what came, also when the stream then fails."""
    async for event in call:
        events.append(event)  # noqa: PERF401  a comprehension would lose them


BROKEN_STREAMS: dict[str, tuple[str, str]] = {
    "demo-cut": ("UNAVAILABLE", "STREAM_TRUNCATED"),
    "demo-cut-connection": ("UNAVAILABLE", "STREAM_TRUNCATED"),
    "demo-reset": ("UNAVAILABLE", "STREAM_TRUNCATED"),
    "demo-stall": ("DEADLINE_EXCEEDED", "PROVIDER_TIMEOUT"),
    "demo-garbage-stream": ("UNAVAILABLE", "PROVIDER_PROTOCOL_ERROR"),
    "demo-huge": ("UNAVAILABLE", "PROVIDER_PROTOCOL_ERROR"),
}


@pytest.mark.parametrize(("model", "expected"), BROKEN_STREAMS.items(), ids=BROKEN_STREAMS.keys())
async def test_a_stream_that_breaks_is_failed_in_band_for_rest_and_by_status_for_grpc(
    stack: Stack, model: str, expected: tuple[str, str]
) -> None:
    with stack.rest() as client:
        body = {"messages": ASK, "model": f"custom/{model}"}
        response = client.post(CHAT, json=body, headers={"accept": "text/event-stream"})
    if response.status_code != 200:  # nothing of the answer had come yet
        error = response.json()
        assert (error["status"], reason_of(error)) == expected
    else:
        frames = [json.loads(frame.removeprefix("data: ")) for frame in response.text.split("\n\n") if frame]
        assert not [frame for frame in frames if "completed" in frame]
        failed = frames[-1]["failed"]
        assert (failed["status"], reason_of(failed)) == expected
    assert_absent(PROVIDER_SECRET, response.content)

    request = pb.ChatRequest(model=f"custom/{model}", messages=[pb.Message(role="user", content=PROMPT)])
    async with stack.grpc() as stubs:
        events: list[pb.ChatEvent] = []
        with pytest.raises(grpc.RpcError) as caught:
            await collect(stubs.llm.Chat(request, metadata=stack.metadata()), events)
    assert all(event.WhichOneof("event") not in ("completed", "failed") for event in events)
    assert isinstance(caught.value, grpc.aio.AioRpcError)
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    assert (caught.value.code().name, info.reason) == expected


@pytest.mark.parametrize("model", ["demo-stall-comments", "demo-comments"])
async def test_comments_alone_are_no_first_token(stack: Stack, model: str) -> None:
    request = pb.ChatRequest(model=f"custom/{model}", messages=[pb.Message(role="user", content="hi")])
    async with stack.grpc() as stubs:
        call = stubs.llm.Chat(request, metadata=stack.metadata())
        if model == "demo-comments":
            events = [event async for event in call]
            assert events[-1].WhichOneof("event") == "completed"
        else:
            with pytest.raises(grpc.RpcError) as caught:
                [event async for event in call]
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_provider_that_refuses_connections_is_unavailable(stack: Stack) -> None:
    with stack.rest("admin") as client:
        body = {"name": "nobody", "aiType": "OTHER", "workspaceId": OWN, "endpoint": f"http://{NOBODY}/v1"}
        id = client.post("/ai/llm", json=body).json()["aiLlmId"]
        response = client.post(CHAT, json={"messages": ASK, "model": "custom/any", "providerName": "nobody"})
        client.delete(f"/ai/llm/{id}")
    error = response.json()
    assert (response.status_code, error["status"], reason_of(error)) == (503, "UNAVAILABLE", "PROVIDER_UNAVAILABLE")


def test_an_endpoint_inside_the_network_is_refused(stack: Stack) -> None:
    with stack.rest("admin") as client:
        body = {"name": "inside", "aiType": "OTHER", "workspaceId": OWN, "endpoint": "https://169.254.169.254/v1"}
        refused = client.post("/ai/llm", json=body)
        assert (refused.status_code, fields_of(refused.json())) == (400, ["endpoint"])


def test_the_callers_deadline_bounds_the_providers_call(stack: Stack) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{stack.port}") as channel:
        from dragoman.v1.llm_service_pb2_grpc import LLMServiceStub  # noqa: PLC0415

        before = stack.demo_stats()["clientWentAway"]
        request = pb.ChatRequest(model="custom/demo-timeout", messages=[pb.Message(role="user", content="hi")])
        with pytest.raises(grpc.RpcError) as caught:
            LLMServiceStub(channel).Complete(request, metadata=stack.metadata(), timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    for _ in range(200):
        if stack.demo_stats()["clientWentAway"] > before:
            return
    raise AssertionError("the provider's connection stayed open after the deadline")


def test_after_all_that_the_server_still_answers_and_its_log_holds_no_secret_and_no_prompt(stack: Stack) -> None:
    with stack.rest() as client:
        assert client.post(GENERATE, json={"prompt": PROMPT}).status_code == 200
        client.post(CHAT, json={"messages": ASK, "model": "custom/demo-error-leaky"})
        client.post(CHAT, content=b'{"messages": "' + PROMPT.encode())
    assert stack.server.returncode is None
    log = stack.server.output
    assert '"message":"call"' in log
    for canary in (PROMPT, PROVIDER_SECRET, *stack.keys.values()):
        assert_absent(canary, log, stack.envoy.process.output)
    assert "Traceback" not in log
    files = [path for path in stack.home.rglob("*") if path.is_file() and path.name != "master.key"]
    for canary in (PROVIDER_SECRET, *stack.keys.values()):
        assert_absent(canary, *files)
