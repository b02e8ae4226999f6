"""Every REST error is one JSON object, whoever raises it: the server, the transcoder, or Envoy itself."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from dragoman.v1.llm_service_pb2 import GenerateRequest
from dragoman.v1.llm_service_pb2_grpc import LLMServiceStub
from tests.e2e.echo import Echo, fails, fails_streaming
from tests.e2e.envoy import NOWHERE, Proxy, proxy
from tests.e2e.errors import detail, error_of

GENERATE = "/api/v1/ai/llm/generate"
CHAT = "/api/v1/ai/llm/chat"
SSE = {"accept": "text/event-stream"}
AWKWARD = 'must be 0..2, was "3" — é\n<&>\\ \u2028 ]}'

HTTP_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}


@pytest.mark.parametrize("code", HTTP_STATUS, ids=lambda code: code.name)
@pytest.mark.parametrize("path", [GENERATE, "/ai/llm"])
def test_a_status_without_details_is_an_error_object(
    rest: httpx.Client, echo: Echo, path: str, code: grpc.StatusCode
) -> None:
    """Each gRPC code becomes its HTTP status, with an empty list of details, on routes of both print styles."""
    echo.handlers["Generate"] = echo.handlers["CreateProviderConfig"] = fails(code, "what happened")
    error = error_of(rest.post(path, json={}), HTTP_STATUS[code], code.name)
    assert error["message"] == "what happened"
    assert error["details"] == []


@pytest.mark.parametrize("message", ["", AWKWARD, "x" * 4000, '{"code":5}', '","success":false}'])
def test_a_message_arrives_as_the_server_wrote_it(rest: httpx.Client, echo: Echo, message: str) -> None:
    """Quotes, control and non-ASCII characters, and text that looks like our own JSON survive in message."""
    echo.handlers["Generate"] = fails(grpc.StatusCode.NOT_FOUND, message)
    assert error_of(rest.post(GENERATE, json={}), 404, "NOT_FOUND")["message"] == message


@pytest.mark.parametrize(
    ("path", "headers"),
    [(GENERATE, {}), (GENERATE, {"accept": "text/plain"}), (CHAT, {}), (CHAT, SSE), (f"{CHAT}:stream", {})],
    ids=["unary", "text", "chat", "stream", "stream by path"],
)
def test_details_and_retry_after_arrive_on_every_kind_of_call(
    rest: httpx.Client, echo: Echo, path: str, headers: dict[str, str]
) -> None:
    """A failure before the first message has its HTTP status, details and retry-after header, streaming or not."""
    arguments: tuple[Any, ...] = (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "slow down",
        BadRequest(field_violations=[BadRequest.FieldViolation(field="temperature", description=AWKWARD)]),
        ErrorInfo(reason="PROVIDER_RATE_LIMITED", domain="dragoman", metadata={"provider": "openai"}),
        RetryInfo(retry_delay=Duration(seconds=7)),
    )
    for unary in ("Generate", "GenerateText", "Complete"):
        echo.handlers[unary] = fails(*arguments, retry_after="7")
    echo.handlers["Chat"] = fails_streaming(*arguments, retry_after="7")
    response = rest.post(path, json={}, headers=headers)
    error = error_of(response, 429, "RESOURCE_EXHAUSTED")
    assert response.headers["retry-after"] == "7"
    assert detail(error, "BadRequest") == {"fieldViolations": [{"field": "temperature", "description": AWKWARD}]}
    assert detail(error, "ErrorInfo")["metadata"] == {"provider": "openai"}
    assert detail(error, "RetryInfo") == {"retryDelay": "7s"}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (GENERATE, b'{"temperature": "hot"}', "temperature"),
        (GENERATE, b'{"maxTokens": 1.5}', "max_tokens"),
        (GENERATE, b'{"maxTokens": 4294967296}', "max_tokens"),
        (GENERATE, b'{"prompt": {"text": "a"}}', "prompt"),
        (CHAT, b'{"messages": [{"role": "user", "content": [{"type": "text"}]}]}', "messages[0].content"),
        (CHAT, b'{"messages": [{}, {"role": "user", "isError": "perhaps"}]}', "messages[1].is_error"),
    ],
)
def test_a_wrong_type_names_its_field(rest: httpx.Client, echo: Echo, path: str, body: bytes, field: str) -> None:
    """What does not fit the contract's types is 400 with the field's path, and the server never hears of it."""
    error = error_of(rest.post(path, content=body), 400, "INVALID_ARGUMENT")
    (violation,) = detail(error, "BadRequest")["fieldViolations"]
    assert violation["field"] == field
    assert error["message"] == f"{field}: {violation['description']}"
    assert detail(error, "ErrorInfo")["metadata"]["fault"] == "caller"
    assert echo.calls == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"prompt": hello}', 'the body is not valid JSON: Unexpected token. Near: {"prompt": hello}'),
        (b'{"prompt": "a', "the body is not valid JSON: Closing quote expected in string."),
        (b'{"prompt": "\xff\xfe"}', 'the body is not valid JSON: Encountered non UTF-8 code points. Near: ÿþ"}'),
        (b"{}{}", "the body is not valid JSON: Parsing terminated before end of input. Near: {}{}"),
        (b'{"temperature": NaN}', "the body is not valid JSON: Unexpected token. Near: NaN}"),
        (b"[]", "the body must be a JSON object"),
        (b"null", "the body must be a JSON object"),
        (b'"text"', "the body must be a JSON object"),
    ],
)
def test_what_is_not_a_json_object_says_so(rest: httpx.Client, echo: Echo, body: bytes, message: str) -> None:
    """Broken JSON is 400 with what was wrong and where, whatever bytes it holds."""
    error = error_of(rest.post(GENERATE, content=body), 400, "INVALID_ARGUMENT")
    assert error["message"] == message
    assert echo.calls == []


def test_no_such_path_is_404_without_the_query(rest: httpx.Client) -> None:
    """A path that the API does not have is named in the error; its query, which may hold secrets, is not."""
    error = error_of(rest.get('/nope/"é', params={"key": "s3cret"}), 404, "NOT_FOUND")
    assert error["message"] == "there is no GET /nope/%22%C3%A9"
    assert detail(error, "ErrorInfo")["reason"] == "NO_SUCH_PATH"


def test_a_grpc_path_is_not_there_for_json(rest: httpx.Client, echo: Echo) -> None:
    """JSON posted to an RPC's own path reaches nothing: the documented paths are the only REST surface."""
    error_of(rest.post("/dragoman.v1.LLMService/Generate", json={}), 404, "NOT_FOUND")
    assert echo.calls == []


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("OPTIONS", CHAT, "POST"),
        ("DELETE", "/api/v1/ai/models", "GET"),
        ("POST", "/api/v1/ai/models/openai/gpt", "GET"),
        ("PATCH", "/ai/llm", "GET, POST"),
        ("POST", "/ai/llm/some-id", "DELETE, GET, PUT"),
        ("GET", "/ai/llm/some-id/validate", "POST"),
        ("POST", "/healthz", "GET"),
    ],
)
def test_a_wrong_method_is_405_and_says_which_are_right(
    rest: httpx.Client, echo: Echo, method: str, path: str, allowed: str
) -> None:
    """A known path with another method is 405 with an allow header, not 404."""
    response = rest.request(method, path)
    error_of(response, 405, "UNIMPLEMENTED")
    assert response.headers["allow"] == allowed
    assert echo.calls == []


def test_bytes_that_are_not_http_get_an_error_object(edge: Proxy) -> None:
    """Even a request that Envoy cannot parse is answered in the one shape."""
    with socket.create_connection(("127.0.0.1", edge.rest)) as connection:
        connection.sendall(b"GARBAGE\r\n\r\n")
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"content-type: application/json" in head
    assert b'"success":false' in body


def test_headers_over_the_limit_are_431(rest: httpx.Client) -> None:
    """Headers beyond 60 KiB are refused in the one shape."""
    error = error_of(rest.get("/healthz", headers={"x-long": "x" * 70_000}), 431, "INVALID_ARGUMENT")
    assert detail(error, "ErrorInfo")["reason"] == "HEADERS_TOO_LARGE"


def test_an_upgrade_is_refused_in_the_one_shape(rest: httpx.Client) -> None:
    """What Envoy refuses with a status that has no words of its own still is an error object."""
    error_of(
        rest.get("/healthz", headers={"connection": "upgrade", "upgrade": "websocket"}), 403, "FAILED_PRECONDITION"
    )


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Envoy with no server behind it."""
    with proxy(tmp_path_factory.mktemp("lonely"), NOWHERE, NOWHERE) as running:
        yield running


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/api/v1/ai/models", "/ai/llm"])
def test_a_server_that_is_down_is_503(lonely: Proxy, path: str) -> None:
    """Without a server every path, health too, answers 503 and when to try again."""
    response = httpx.get(lonely.url + path)
    error = error_of(response, 503, "UNAVAILABLE")
    assert response.headers["retry-after"] == "1"
    assert detail(error, "RetryInfo") == {"retryDelay": "1s"}
    assert detail(error, "ErrorInfo")["metadata"] == {"fault": "gateway", "retryable": "true", "action": "Try again."}


@pytest.mark.parametrize("headers", [SSE, {"accept": "text/plain"}])
def test_a_server_that_is_down_is_503_whatever_was_asked_for(lonely: Proxy, headers: dict[str, str]) -> None:
    """Errors are JSON also where a stream or plain text was asked for."""
    path = CHAT if headers is SSE else GENERATE
    error_of(httpx.post(lonely.url + path, json={}, headers=headers), 503, "UNAVAILABLE")


def test_a_server_that_is_down_is_unavailable_to_grpc_callers(lonely: Proxy) -> None:
    """gRPC callers get a status with plain words, not the JSON of REST."""
    with grpc.insecure_channel(lonely.target) as channel, pytest.raises(grpc.RpcError) as caught:
        LLMServiceStub(channel).Generate(GenerateRequest(), timeout=10)
    failure: Any = caught.value
    assert failure.code() is grpc.StatusCode.UNAVAILABLE
    assert "{" not in failure.details()


def test_a_request_that_does_not_arrive_in_time_is_408(tmp_path: Path) -> None:
    """A body that stalls is given up, in the one shape."""
    with proxy(tmp_path, NOWHERE, NOWHERE, replace={"request_timeout: 120s": "request_timeout: 0.2s"}) as running:  # noqa: SIM117
        with socket.create_connection(("127.0.0.1", running.rest)) as connection:
            connection.sendall(b"POST /ai/llm HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
            answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"status":"DEADLINE_EXCEEDED","success":false' in answer


def test_a_call_in_which_nothing_moves_is_504(echo: Echo, tmp_path: Path) -> None:
    """The last resort against a server that neither answers nor hangs up, in the one shape."""

    async def never(_request: object, _context: object) -> None:
        await asyncio.Event().wait()

    echo.handlers["Generate"] = never
    short = {"stream_idle_timeout: 3600s": "stream_idle_timeout: 0.2s"}
    with proxy(tmp_path, echo.grpc, echo.edge, replace=short) as running:
        error_of(httpx.post(running.url + GENERATE, json={}), 504, "DEADLINE_EXCEEDED")
    assert echo.cancelled.wait(5)
