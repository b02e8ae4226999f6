"""What every call goes through, over a real server: keys, roles, limits, ids, statuses, log lines."""

from __future__ import annotations

import json
import logging
from typing import Any

import grpc
import pytest

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import llm_service_pb2 as llm_pb
from dragoman.v1 import (
    llm_service_pb2_grpc,
)
from server.core.errors import ProviderRateLimited, Unavailable
from server.rpc.log import JsonFormatter
from tests.rpc.house import House, info, key, reason

HELLO = pb.ChatRequest(messages=[pb.Message(role="user", content="prompt-canary")])


def trailers(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    return dict(error.trailing_metadata())


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        pytest.param(key(), None, id="bearer"),
        pytest.param([("authorization", "bearer  member ")], None, id="scheme in any case, spaces"),
        pytest.param([("x-api-key", "member")], None, id="x-api-key"),
        pytest.param([*key(), ("x-api-key", "member")], None, id="both, the same"),
        pytest.param([], "UNAUTHENTICATED", id="none"),
        pytest.param([("x-api-key", "")], "UNAUTHENTICATED", id="empty"),
        pytest.param([("authorization", "Bearer ")], "UNAUTHENTICATED", id="scheme alone"),
        pytest.param([("authorization", "Basic bWVtYmVy")], "UNAUTHENTICATED", id="another scheme"),
        pytest.param(key("nobody"), "UNAUTHENTICATED", id="unknown"),
        pytest.param([*key(), ("x-api-key", "admin")], "INVALID_ARGUMENT", id="both, different"),
        pytest.param([*key(), ("authorization", "Bearer admin")], "INVALID_ARGUMENT", id="twice, different"),
        pytest.param(key("viewer"), "PERMISSION_DENIED", id="role too low"),
        pytest.param(key("admin"), None, id="role above"),
        pytest.param(key("org"), None, id="organisation"),
    ],
)
async def test_a_call_needs_one_key_with_the_role_of_its_rule(
    channel: grpc.aio.Channel, metadata: list[tuple[str, str]], expected: str | None
) -> None:
    stub = llm_service_pb2_grpc.LLMServiceStub(channel)
    if expected is None:
        assert (await stub.Complete(HELLO, metadata=metadata)).text == "Hello"
        return
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Complete(HELLO, metadata=metadata)
    assert caught.value.code().name == expected


async def test_keys_that_cannot_be_checked_are_unavailable_not_unauthenticated(
    house: House, channel: grpc.aio.Channel
) -> None:
    house.access.error = Unavailable("Keys cannot be checked now.")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await llm_service_pb2_grpc.LLMServiceStub(channel).Complete(HELLO, metadata=key())
    assert reason(caught.value) == ("UNAVAILABLE", "UNAVAILABLE")


async def test_without_a_key_nothing_is_told_of_the_request(house: House, channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await llm_service_pb2_grpc.LLMServiceStub(channel).Complete(pb.ChatRequest())
    assert reason(caught.value) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    assert house.gateway.calls == []


async def test_the_contracts_limits_hold_before_anything_is_called(house: House, channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await llm_service_pb2_grpc.LLMServiceStub(channel).Generate(
            llm_pb.GenerateRequest(prompt="p", temperature=3), metadata=key()
        )
    assert reason(caught.value) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert caught.value.details() == "temperature: must be between 0 and 2 (got 3)"
    assert house.gateway.calls == []


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x12\x02\xff\xfe"], ids=["no message", "no UTF-8"])
@pytest.mark.parametrize("stream", [False, True])
async def test_bytes_that_are_no_message_are_invalid_argument(
    channel: grpc.aio.Channel, data: bytes, stream: bool
) -> None:
    raw: Any = channel
    call = (
        raw.unary_stream("/dragoman.v1.LLMService/Chat")
        if stream
        else raw.unary_unary("/dragoman.v1.LLMService/Complete")
    )
    running = call(data, metadata=key())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (running.read() if stream else running)
    assert reason(caught.value) == ("INVALID_ARGUMENT", "INVALID_REQUEST")


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel) -> None:
    raw: Any = channel
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw.unary_unary("/dragoman.v1.LLMService/Fly")(b"", metadata=key())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        pytest.param(key(x_request_id="mine-1"), "mine-1", id="the caller's own"),
        pytest.param(key(), None, id="made"),
        pytest.param(key(x_request_id="no good id!"), None, id="an unfit one is replaced"),
    ],
)
async def test_a_direct_caller_gets_the_request_id_back(
    house: House, channel: grpc.aio.Channel, metadata: list[tuple[str, str]], expected: str | None
) -> None:
    stub = llm_service_pb2_grpc.LLMServiceStub(channel)
    call = stub.Complete(HELLO, metadata=metadata)
    await call
    told = dict(await call.trailing_metadata())["x-request-id"]
    house.gateway.batches, house.gateway.error = (), Unavailable("Not now.")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Complete(HELLO, metadata=metadata)
    assert trailers(caught.value)["x-request-id"] == info(caught.value).metadata["request_id"]
    assert told == expected if expected else len(told) == 32
    assert expected in (None, info(caught.value).metadata["request_id"])


async def test_a_wait_is_told_in_the_trailers_too(house: House, channel: grpc.aio.Channel) -> None:
    house.gateway.batches, house.gateway.error = (
        (),
        ProviderRateLimited("Too many.", provider="openai", retry_after=2.1),
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await llm_service_pb2_grpc.LLMServiceStub(channel).Complete(HELLO, metadata=key())
    assert reason(caught.value) == ("RESOURCE_EXHAUSTED", "PROVIDER_RATE_LIMITED")
    assert trailers(caught.value)["retry-after"] == "3"


class _Lines(logging.Handler):
    """Keeps formatted lines."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def lines() -> Any:
    handler, logger = _Lines(), logging.getLogger("dragoman")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(level)


async def test_a_defect_is_told_by_its_request_id_alone_and_logged_without_its_words(
    house: House, channel: grpc.aio.Channel, lines: list[str]
) -> None:
    house.gateway.batches, house.gateway.error = (), ValueError("prompt-canary")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await llm_service_pb2_grpc.LLMServiceStub(channel).Complete(HELLO, metadata=key(x_request_id="r-1"))
    assert reason(caught.value) == ("INTERNAL", "INTERNAL")
    assert info(caught.value).metadata["request_id"] == "r-1"
    assert "canary" not in repr(caught.value)
    defect, access = map(json.loads, lines)
    assert (defect["level"], defect["request_id"]) == ("error", "r-1")
    assert defect["error"][0]["type"] == "ValueError"
    assert defect["error"][0]["frames"][-1].startswith("tests/rpc/house.py:")
    assert (access["status"], access["reason"], access["request_id"]) == ("INTERNAL", "INTERNAL", "r-1")
    assert not any("canary" in line for line in lines)


async def test_a_call_leaves_one_line_that_says_who_what_and_how_much(
    channel: grpc.aio.Channel, lines: list[str]
) -> None:
    stub = llm_service_pb2_grpc.LLMServiceStub(channel)
    await stub.Complete(HELLO, metadata=key(x_request_id="r-1"))
    async for _ in stub.Chat(HELLO, metadata=key(x_request_id="r-2", x_dragoman_transport="sse")):
        pass
    unary, stream = map(json.loads, lines)
    assert unary.pop("duration_ms") >= 0
    assert stream.pop("duration_ms") >= 0
    for line in (unary, stream):
        del line["time"]
    common = {
        "level": "info",
        "logger": "dragoman.access",
        "message": "call",
        "status": "OK",
        "key_id": "key_member",
        "workspace_id": "ws_1",
        "provider": "openai",
        "prompt_tokens": 3,
        "completion_tokens": 2,
    }
    method = "/dragoman.v1.LLMService/"
    assert unary == common | {
        "method": f"{method}Complete",
        "request_id": "r-1",
        "transport": "direct",
        "model": "gpt-x-1",
    }
    assert stream == common | {"method": f"{method}Chat", "request_id": "r-2", "transport": "sse", "model": "gpt-x-1"}
