"""What goes through Envoy beside REST: gRPC, gRPC-Web, health, reflection; and what headers the server gets to see."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from dragoman.v1.chat_pb2 import ChatEvent, ChatRequest, ChatResponse
from dragoman.v1.llm_service_pb2 import GenerateRequest, GenerateResponse
from dragoman.v1.llm_service_pb2_grpc import LLMServiceStub
from tests.e2e.echo import Echo, fails, fails_streaming
from tests.e2e.envoy import Proxy, proxy
from tests.e2e.errors import error_of
from tests.support.process import PROJECT

METHOD = "/dragoman.v1.LLMService/Generate"


@pytest.fixture
def channel(edge: Proxy) -> Iterator[grpc.Channel]:
    """A gRPC channel to the REST port."""
    with grpc.insecure_channel(edge.target) as one:
        yield one


def test_unary_and_streaming_rpcs_pass(channel: grpc.Channel, echo: Echo) -> None:
    """Native gRPC callers use the same port, without TLS, and get what the server sends."""

    async def complete(request: ChatRequest, _context: object) -> ChatResponse:
        return ChatResponse(text=request.model)

    async def chat(_request: object, _context: object) -> AsyncIterator[ChatEvent]:
        for number in range(3):
            yield ChatEvent(sequence=number)

    echo.handlers.update(Complete=complete, Chat=chat)
    stub = LLMServiceStub(channel)
    assert stub.Complete(ChatRequest(model="m")).text == "m"
    assert [event.sequence for event in stub.Chat(ChatRequest())] == [0, 1, 2]


def test_failures_keep_their_details_and_trailers(channel: grpc.Channel, echo: Echo) -> None:
    """A status comes through with its details, and so does other trailing metadata; before and after messages."""
    arguments: tuple[Any, ...] = (grpc.StatusCode.RESOURCE_EXHAUSTED, "é {}", ErrorInfo(reason="X"))
    echo.handlers["Complete"] = fails(*arguments, retry_after="3")
    echo.handlers["Chat"] = fails_streaming(*arguments, retry_after="3")
    stub = LLMServiceStub(channel)
    for call in (lambda: stub.Complete(ChatRequest()), lambda: list(stub.Chat(ChatRequest()))):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        failure: Any = caught.value
        assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.details() == "é {}"
        trailing = dict(failure.trailing_metadata())
        assert trailing["retry-after"] == "3"
        assert b"ErrorInfo" in trailing["grpc-status-details-bin"]


def test_the_callers_deadline_reaches_the_server(channel: grpc.Channel, echo: Echo) -> None:
    """The proxy has no limit of its own and hands the deadline on."""

    async def generate(_request: object, context: Any) -> GenerateResponse:
        return GenerateResponse(text=str(context.time_remaining()))

    echo.handlers["Generate"] = generate
    stub = LLMServiceStub(channel)
    assert 3500 < float(stub.Generate(GenerateRequest(), timeout=3600).text) < 3700  # grpc-timeout is rounded
    assert stub.Generate(GenerateRequest()).text == "None"


def test_health_and_reflection_pass(channel: grpc.Channel) -> None:
    """Every service that the server has is there, not only those with REST paths."""
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    assert check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
    reflect = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    (listed,) = reflect(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    assert "dragoman.v1.LLMService" in {one.name for one in listed.list_services_response.service}


@pytest.mark.parametrize("method", ["/dragoman.v1.LLMService/Nothing", "/nobody.v1.Nothing/Nothing"])
def test_unknown_rpcs_are_the_servers_to_refuse(channel: grpc.Channel, method: str) -> None:
    """A gRPC caller of what does not exist gets UNIMPLEMENTED, as without a proxy."""
    call = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
    with pytest.raises(grpc.RpcError) as caught:
        call(b"")
    failure: Any = caught.value
    assert failure.code() is grpc.StatusCode.UNIMPLEMENTED


def frames(body: bytes) -> list[tuple[int, bytes]]:
    """The frames of a gRPC-Web body: flags (128: trailers) and content."""
    found = []
    while body:
        flags, length = struct.unpack(">BI", body[:5])
        found.append((flags, body[5 : 5 + length]))
        body = body[5 + length :]
    return found


@pytest.mark.parametrize("content_type", ["application/grpc-web+proto", "application/grpc-web-text"])
def test_grpc_web_passes(rest: httpx.Client, echo: Echo, content_type: str) -> None:
    """gRPC-Web over HTTP/1.1, binary and base64, is a call like any other."""

    async def generate(request: GenerateRequest, _context: object) -> GenerateResponse:
        return GenerateResponse(text=request.prompt)

    echo.handlers["Generate"] = generate
    message = GenerateRequest(prompt="hi").SerializeToString()
    body = b"\0" + struct.pack(">I", len(message)) + message
    is_text = content_type.endswith("text")
    response = rest.post(
        METHOD,
        content=base64.b64encode(body) if is_text else body,
        headers={"content-type": content_type, "accept": content_type},
    )
    raw = b"".join(base64.b64decode(part) for part in _base64_parts(response.text)) if is_text else response.content
    (_, answer), (flags, trailers) = frames(raw)
    assert GenerateResponse.FromString(answer).text == "hi"
    assert flags == 128
    assert b"grpc-status:0" in trailers
    assert echo.last.metadata["x-dragoman-transport"] == "grpc"


def _base64_parts(text: str) -> Iterator[str]:
    """Pieces that were encoded apart: each ends with its padding, or where four characters do."""
    for start in range(0, len(text), 4):
        yield text[start : start + 4]


def test_grpc_web_failures_are_statuses(rest: httpx.Client, echo: Echo) -> None:
    """A failed gRPC-Web call has its status where gRPC-Web clients look for it, not our JSON."""
    echo.handlers["Generate"] = fails(grpc.StatusCode.NOT_FOUND, "none")
    response = rest.post(METHOD, content=bytes(5), headers={"content-type": "application/grpc-web+proto"})
    assert response.status_code == 200
    assert response.headers["grpc-status"] == "5"
    assert response.content == b""


@pytest.mark.parametrize(
    ("path", "headers", "transport"),
    [
        ("/api/v1/ai/llm/generate", {}, "rest"),
        ("/api/v1/ai/llm/generate", {"accept": "text/plain"}, "rest"),
        ("/api/v1/ai/llm/chat", {}, "rest"),
        ("/api/v1/ai/llm/chat", {"accept": "text/event-stream"}, "sse"),
        ("/api/v1/runtime/v1/chat", {"accept": "text/event-stream;q=0.5"}, "sse"),
        ("/api/v1/ai/llm/chat:stream", {}, "sse"),
        ("/ai/llm", {}, "rest"),
    ],
)
def test_the_server_learns_how_a_rest_caller_came(
    rest: httpx.Client, echo: Echo, path: str, headers: dict[str, str], transport: str
) -> None:
    """x-dragoman-transport says rest or sse, whatever the caller says of itself."""
    lies = {"x-dragoman-transport": "grpc", "x-dragoman-anything": "1", "x-envoy-original-path": "/", **headers}
    rest.post(path, json={}, headers=lies)
    metadata = echo.last.metadata
    assert metadata["x-dragoman-transport"] == transport
    assert "x-dragoman-anything" not in metadata
    assert metadata["x-envoy-original-path"].startswith(path)


def test_the_server_learns_how_a_grpc_caller_came(channel: grpc.Channel, echo: Echo) -> None:
    """x-dragoman-transport says grpc, whatever the caller says of itself."""
    lies = (("x-dragoman-transport", "sse"), ("x-dragoman-anything", "1"), ("x-envoy-original-path", "/ai/llm"))
    LLMServiceStub(channel).Generate(GenerateRequest(), metadata=lies)
    metadata = echo.last.metadata
    assert metadata["x-dragoman-transport"] == "grpc"
    assert not {"x-dragoman-anything", "x-envoy-original-path"} & metadata.keys()


def test_keys_reach_the_server_and_forged_addresses_do_not(rest: httpx.Client, echo: Echo) -> None:
    """Both ways to send a key are metadata; the caller's address is Envoy's own finding; gRPC's headers stay behind."""
    response = rest.get(
        "/api/v1/ai/models",
        headers={
            "authorization": "Bearer k1",
            "x-api-key": "k2",
            "x-forwarded-for": "203.0.113.9",
            "x-envoy-external-address": "203.0.113.9",
            "x-request-id": "mine",
            "grpc-timeout": "1n",
            "grpc-encoding": "gzip",
        },
    )
    assert response.status_code == 200
    metadata = echo.last.metadata
    assert metadata["authorization"] == "Bearer k1"
    assert metadata["x-api-key"] == "k2"
    assert metadata["x-envoy-external-address"] == "127.0.0.1"
    assert metadata["x-request-id"] == response.headers["x-request-id"] != "mine"
    assert not {name for name in response.headers if name.startswith(("grpc-", "x-envoy-"))}
    assert response.headers["cache-control"] == "no-store"


def test_what_is_told_beside_an_answer_travels_as_initial_metadata(rest: httpx.Client, echo: Echo) -> None:
    """Of a call that succeeds REST callers see initial metadata as headers; trailing metadata never reaches them."""

    async def generate(_request: object, context: Any) -> GenerateResponse:
        await context.send_initial_metadata((("x-dragoman-warning", "a"), ("x-dragoman-warning", "b")))
        context.set_trailing_metadata((("x-dragoman-late", "c"),))
        return GenerateResponse()

    echo.handlers["Generate"] = generate
    response = rest.post("/api/v1/ai/llm/generate", json={})
    assert response.headers.get_list("x-dragoman-warning") == ["a", "b"]
    assert "x-dragoman-late" not in response.headers


def test_no_site_may_call_from_a_browser(rest: httpx.Client) -> None:
    """CORS is off: a preflight is refused and no answer names an allowed origin."""
    preflight = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    refused = rest.options("/api/v1/ai/llm/chat", headers=preflight)
    error_of(refused, 405, "UNIMPLEMENTED")
    answered = rest.get("/api/v1/ai/models", headers={"origin": "https://evil.example"})
    assert not {name for name in (*refused.headers, *answered.headers) if name.startswith("access-control")}


def test_the_access_log_has_no_secrets(echo: Echo, tmp_path: Path) -> None:
    """A line of JSON for each call, without query, body or key; probes only when they fail."""
    with proxy(tmp_path, echo.grpc, echo.edge) as running:
        headers = {"authorization": "Bearer C4NARY", "x-api-key": "C4NARY", "user-agent": "C4NARY"}
        for method, path in [
            ("GET", "/ai/llm?workspaceId=C4NARY"),
            ("POST", "/api/v1/ai/llm/chat"),
            ("GET", "/healthz"),
            ("POST", "/healthz"),
        ]:
            body = '{"model": "C4NARY", "messages": C4NARY}' if path.endswith("chat") else ""
            httpx.request(method, running.url + path, content=body, headers=headers)
        running.process.stop()
        assert "C4NARY" not in running.process.output
        lines = [json.loads(line) for line in running.access_log()]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("GET", "/ai/llm", 200),
        ("POST", "/api/v1/ai/llm/chat", 400),
        ("POST", "/healthz", 405),
    ]


def test_the_admin_interface_listens_on_loopback_only() -> None:
    """As deployed, nobody but the machine itself reaches the admin interface or, without TLS, anything else."""
    hosts = {line.split("address: ")[-1].split(",")[0] for line in _config().splitlines() if "socket_address" in line}
    assert hosts == {"127.0.0.1"}


def test_every_service_with_rest_paths_is_transcoded() -> None:
    """A service that gets a google.api.http option must be named in envoy.yaml too."""
    described = FileDescriptorSet.FromString((PROJECT / "gen/descriptors/dragoman.pb").read_bytes())
    with_rest = {
        f"{file.package}.{service.name}"
        for file in described.file
        for service in file.service
        if any(method.options.ByteSize() for method in service.method)
    }
    named = {line.strip().removeprefix("- ") for line in _config().splitlines() if "- dragoman.v1." in line}
    assert named == with_rest


def _config() -> str:
    return (PROJECT / "envoy.yaml").read_text()
