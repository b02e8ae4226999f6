"""Every provider that the gateway calls, as a row each; the four ways in; and what comes back, in one form for all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from dragoman.v1 import chat_pb2 as pb
from tests.e2e.errors import CODES, TYPE
from tests.e2e.stack import OWN, Stack

KEY = "sk-canary-peer-51c07e9ab2"
"""What providers are called with; the only key that the peer takes."""

ACCESS_KEY = "AKIACANARY51C07E9AB2"


@dataclass(frozen=True)
class Provider:
    """One provider as it is configured and called.

    name: of the case. host: under which name the peer is called, where the gateway tells the provider by it. path: of
    the endpoint. key: beside the secret, for AWS. request: what the calls have beyond provider, model and messages.
    calls: the path of a call at the provider. credential: the header that carries it, and what it begins with.
    bad_key: status and body with which this provider itself answers a wrong key. peer_counts: whether the peer's
    streams have counts, which it does not send unasked, as some providers do.
    """

    name: str
    ai_type: str
    slug: str
    model: str
    calls: str
    bad_key: tuple[int, object]
    host: str = "127.0.0.1"
    path: str = ""
    key: str | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    credential: tuple[str, str] = ("authorization", f"Bearer {KEY}")
    bad_key_headers: Mapping[str, str] = field(default_factory=dict)
    peer_counts: bool = True
    secret: str = KEY

    def endpoint(self, port: int) -> str:
        return f"http://{self.host}:{port}{self.path}"


def _openai_error(message: str, **more: object) -> dict[str, object]:
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


_INCORRECT = _openai_error("Incorrect API key provided: sk-***.", param=None, code="invalid_api_key")
_BEDROCK: dict[str, Any] = {
    "ai_type": "AWS",
    "slug": "bedrock",
    "model": "amazon.nova-lite-v1:0",
    "calls": "/model/amazon.nova-lite-v1%3A0/converse",
}
_GOOGLE_ERROR = {
    "error": {
        "code": 400,
        "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
            }
        ],
    }
}
_VERTEX_ERROR = {"error": {"code": 401, "message": "Invalid credentials.", "status": "UNAUTHENTICATED"}}
_XAI_ERROR = {
    "code": "Client specified an invalid argument",
    "error": "Incorrect API key provided: sk***. You can obtain an API key from https://console.x.ai.",
}

# Bodies of wrong keys: as documented or recorded at each provider.
PROVIDERS: Sequence[Provider] = (
    Provider("openai", "OPENAI", "openai", "gpt-4o-mini", "/v1/responses", (401, _INCORRECT), path="/v1"),
    Provider(
        "openai legacy", "OPENAI", "openai", "gpt-4o-mini", "/v1/chat/completions", (401, _INCORRECT),
        path="/v1", request={"legacy": True},
    ),
    Provider(
        "azure", "OPENAI", "openai", "my-deployment", "/openai/v1/chat/completions",
        (401, {"error": {"code": "401", "message": "Access denied due to invalid subscription key."}}),
        host="canary.openai.azure.com", credential=("api-key", KEY),
    ),
    Provider(
        "azure server tools", "OPENAI", "openai", "my-deployment", "/openai/v1/responses",
        (401, {"error": {"code": "401", "message": "Access denied due to invalid subscription key."}}),
        host="canary.openai.azure.com", credential=("api-key", KEY), request={"serverTools": ["web_search"]},
    ),
    Provider(
        "anthropic", "ANTHROPIC", "anthropic", "claude-sonnet-4-5", "/v1/messages",
        (401, {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}),
        credential=("x-api-key", KEY),
    ),
    Provider(
        "bedrock API key", **_BEDROCK,
        bad_key=(403, {"Message": "Authentication failed: Please make sure your API Key is valid."}),
        bad_key_headers={"x-amzn-errortype": "AccessDeniedException"},
    ),
    Provider(
        "bedrock SigV4", **_BEDROCK, key=ACCESS_KEY,
        bad_key=(403, {"message": "The security token included in the request is invalid."}),
        bad_key_headers={"x-amzn-errortype": "UnrecognizedClientException"},
        credential=("authorization", f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/"),
    ),
    Provider(
        "gemini", "GOOGLE", "gemini", "gemini-2.5-flash", "/v1beta/models/gemini-2.5-flash:generateContent",
        (400, _GOOGLE_ERROR), credential=("x-goog-api-key", KEY),
    ),
    Provider(
        "vertex", "GOOGLE", "gemini", "gemini-2.5-flash",
        "/v1/projects/p/locations/europe-west4/publishers/google/models/gemini-2.5-flash:generateContent",
        (401, _VERTEX_ERROR), path="/v1/projects/p/locations/europe-west4",
    ),
    Provider(
        "groq", "OTHER", "groq", "llama-3.3-70b-versatile", "/openai/v1/chat/completions",
        (401, _openai_error("Invalid API Key", code="invalid_api_key")), path="/openai/v1",
    ),
    Provider("xai", "OTHER", "xai", "grok-4", "/v1/chat/completions", (400, _XAI_ERROR), path="/v1"),
    Provider(
        "xai server tools", "OTHER", "xai", "grok-4", "/v1/responses", (400, _XAI_ERROR),
        path="/v1", request={"serverTools": ["web_search"]},
    ),
    Provider(
        "vLLM, llama.cpp, LM Studio", "OTHER", "custom", "a-model", "/v1/chat/completions",
        (401, {"error": "Unauthorized"}), path="/v1",
    ),
    Provider(
        "ollama", "OTHER", "custom", "gpt-oss:20b", "/v1/chat/completions", (401, {"error": "unauthorized"}),
        host="ollama.com",
    ),
    Provider(
        "deepseek", "OTHER", "custom", "deepseek-chat", "/chat/completions",
        (401, {"error": {"message": "Authentication Fails", "type": "authentication_error", "code": None}}),
        host="api.deepseek.com",
    ),
    Provider(
        "mistral", "OTHER", "custom", "mistral-small-latest", "/v1/chat/completions", (401, {"detail": "Unauthorized"}),
        host="api.mistral.ai", peer_counts=False,
    ),
    Provider(
        "openrouter", "OTHER", "custom", "openai/gpt-4o-mini", "/api/v1/chat/completions",
        (401, {"error": {"message": "User not found.", "code": 401}}), host="openrouter.ai",
    ),
)  # fmt: skip

HOSTS = sorted({provider.host for provider in PROVIDERS} - {"127.0.0.1"})


@dataclass
class Answer:
    """An answer, whichever way it came. calls: `toolCalls` as they go back. message: the turn as it goes back."""

    text: str
    finish: str
    calls: list[dict[str, Any]]
    usage: dict[str, int]
    message: dict[str, Any]


class Refused(Exception):
    """A call that failed before its first event. status: the gRPC code's name. http: the status over REST, else None.
    reason, facts: of its ErrorInfo. retry: seconds, None where none are named."""

    def __init__(self, status: str, http: int | None, details: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(f"{status} {details}")
        by_type = {str(one["@type"]).removeprefix(TYPE): one for one in details}
        info = by_type["ErrorInfo"]
        self.status, self.http, self.reason = status, http, info["reason"]
        self.facts: dict[str, str] = info["metadata"]
        self.text = json.dumps(details)
        retry = by_type.get("RetryInfo", {}).get("retryDelay")
        self.retry = float(retry.removesuffix("s")) if retry else None


async def grpc_whole(stack: Stack, body: Mapping[str, Any]) -> Answer:
    """LLMService.Complete."""
    async with _stub(stack) as stub:
        return _of_response(await stub.Complete(_request(body), metadata=stack.metadata()))


async def grpc_stream(stack: Stack, body: Mapping[str, Any]) -> Answer:
    """LLMService.Chat."""
    async with _stub(stack) as stub:
        return _of_events([event async for event in stub.Chat(_request(body), metadata=stack.metadata())])


async def rest_whole(stack: Stack, body: Mapping[str, Any]) -> Answer:
    """POST /api/v1/runtime/v1/chat."""
    response = await _post(stack, body, "application/json")
    return _of_response(json_format.ParseDict(response.json(), pb.ChatResponse()))


async def rest_stream(stack: Stack, body: Mapping[str, Any]) -> Answer:
    """The same with `Accept: text/event-stream`."""
    response = await _post(stack, body, "text/event-stream")
    assert response.headers["content-type"].startswith("text/event-stream")
    frames = [json.loads(frame.removeprefix("data: ")) for frame in response.text.split("\n\n") if frame]
    return _of_events([json_format.ParseDict(frame, pb.ChatEvent()) for frame in frames])


WHOLE = (grpc_whole, rest_whole)
WAYS = (*WHOLE, grpc_stream, rest_stream)


def _request(body: Mapping[str, Any]) -> pb.ChatRequest:
    return json_format.ParseDict(dict(body), pb.ChatRequest())


@asynccontextmanager
async def _stub(stack: Stack) -> AsyncIterator[Any]:
    try:
        async with stack.grpc() as stubs:
            yield stubs.llm
    except grpc.aio.AioRpcError as error:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
        details = [_unpacked(one) for one in status.details] if status is not None else []
        raise Refused(error.code().name, None, details) from error


def _unpacked(detail: Any) -> dict[str, Any]:
    kind = detail.TypeName().removeprefix("google.rpc.")
    message = getattr(error_details_pb2, kind)()
    detail.Unpack(message)
    return {"@type": TYPE + kind, **json_format.MessageToDict(message)}


async def _post(stack: Stack, body: Mapping[str, Any], accept: str) -> httpx.Response:
    headers = {**stack.headers(), "accept": accept}
    async with httpx.AsyncClient(base_url=stack.envoy.url, timeout=30, verify=False) as client:
        response = await client.post("/api/v1/runtime/v1/chat", json={"projectId": OWN, **body}, headers=headers)
    if response.status_code != 200:
        error = response.json()
        refused = Refused(CODES[error["code"]], response.status_code, error["details"])
        assert response.headers.get("retry-after") == (None if refused.retry is None else f"{refused.retry:.0f}")
        raise refused
    return response


def _of_response(response: pb.ChatResponse) -> Answer:
    found = json_format.MessageToDict(response)
    return Answer(
        text=response.text,
        finish=response.finish_reason,
        calls=found.get("toolCalls", []),
        usage=found.get("usage", {}),
        message=found["message"],
    )


def _of_events(events: Sequence[pb.ChatEvent]) -> Answer:
    """A stream, put together as a caller without our parts would: text and tool calls."""
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[0].WhichOneof("event") == "started"
    assert events[-1].WhichOneof("event") == "completed", events[-1]
    text, calls = "", list[dict[str, Any]]()
    for event in events:
        match event.WhichOneof("event"):
            case "block_start" if event.block_start.WhichOneof("block") == "tool_call":
                start = event.block_start.tool_call
                calls.append({"id": start.id, "type": "function", "function": {"name": start.name, "arguments": ""}})
            case "block_delta":
                text += event.block_delta.text
                if event.block_delta.arguments:
                    calls[-1]["function"]["arguments"] += event.block_delta.arguments
            case _:
                pass
    end = events[-1].completed
    usage = json_format.MessageToDict(end.usage)
    message = {"role": "assistant", "content": text, "toolCalls": calls}
    return Answer(text=text, finish=end.finish_reason, calls=calls, usage=usage, message=message)
