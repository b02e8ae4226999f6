"""What every call goes through, over a real server: keys, roles, limits, ids, statuses, log lines."""

from __future__ import annotations

import json
import logging
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import llm_service_pb2 as llm_pb
from dragoman.v1 import (
    llm_service_pb2_grpc,
    model_service_pb2_grpc,
    provider_config_service_pb2_grpc,
    status_service_pb2_grpc,
)
from dragoman.v1 import model_service_pb2 as model_pb
from dragoman.v1 import provider_config_service_pb2 as config_pb
from dragoman.v1 import status_service_pb2 as status_pb
from server.core.errors import ProviderRateLimited, Unavailable
from server.rpc.log import JsonFormatter
from tests.rpc.house import House, key

HELLO = pb.ChatRequest(messages=[pb.Message(role="user", content="prompt-canary")])


def reason(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    """Code and ErrorInfo reason of a status."""
    return error.code().name, info(error).reason


def info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    # AioRpcError has what from_call asks of a call.
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    found = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(found)
    return found


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


# --- probes -----------------------------------------------------------------------------------------------------------


async def test_health_and_readiness_follow_the_servers_life(house: House, channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    status = status_service_pb2_grpc.StatusServiceStub(channel)

    async def seen() -> tuple[set[int], str]:
        answers = {
            (await health.Check(health_pb2.HealthCheckRequest(service=name))).status
            for name in ("", "dragoman.v1.LLMService", "dragoman.v1.StatusService")
        }
        try:
            return answers, (await status.GetReadiness(status_pb.GetReadinessRequest())).status
        except grpc.aio.AioRpcError as error:
            return answers, f"{error.code().name} {info(error).metadata['state']}"

    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert await seen() == ({serving}, "ok")
    house.snapshots.stale = True
    assert await seen() == ({serving}, "degraded")
    house.snapshots.error = Unavailable("The store was never reached.")
    assert await seen() == ({serving}, "UNAVAILABLE no_store")
    await house.lifecycle.start()
    assert await seen() == ({not_serving}, "UNAVAILABLE starting")
    await house.lifecycle.drain()
    assert await seen() == ({not_serving}, "UNAVAILABLE draining")
    alive = await status.GetLiveness(status_pb.GetLivenessRequest())
    assert (alive.status, alive.version) == ("ok", "1.2.3")


async def test_health_of_an_unknown_service_is_the_health_services_own_answer(channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(health_pb2.HealthCheckRequest(service="nope"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_sees_the_server_drain(house: House, channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(service=""))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    await house.lifecycle.drain()
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()


async def test_reflection_lists_every_service_and_describes_the_contract(channel: grpc.aio.Channel) -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="dragoman.v1.LLMService"),
    ]
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # typed for sync ones alone
    listed, described = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]
    assert {service.name for service in listed.list_services_response.service} == {
        "dragoman.v1.LLMService",
        "dragoman.v1.ModelService",
        "dragoman.v1.ProviderConfigService",
        "dragoman.v1.StatusService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert described.file_descriptor_response.file_descriptor_proto


# --- models and configurations ----------------------------------------------------------------------------------------


async def test_models_are_listed_in_pages(channel: grpc.aio.Channel) -> None:
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    metadata = key("viewer")
    whole = await stub.ListModels(model_pb.ListModelsRequest(), metadata=metadata)
    assert ([model.id for model in whole.data], whole.next_page_token) == (["openai/a", "openai/b", "openai/c"], "")
    assert (whole.success, whole.message) == (True, "3 models")
    first = await stub.ListModels(model_pb.ListModelsRequest(page_size=2), metadata=metadata)
    second = await stub.ListModels(
        model_pb.ListModelsRequest(page_size=2, page_token=first.next_page_token), metadata=metadata
    )
    assert [model.id for model in (*first.data, *second.data)] == ["openai/a", "openai/b", "openai/c"]
    assert second.next_page_token == ""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListModels(model_pb.ListModelsRequest(page_token="é"), metadata=metadata)
    assert reason(caught.value) == ("INVALID_ARGUMENT", "INVALID_REQUEST")


async def test_a_model_is_shown_with_its_facts_and_a_missing_one_with_near_names(channel: grpc.aio.Channel) -> None:
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    shown = (await stub.GetModel(model_pb.GetModelRequest(id="openai/b"), metadata=key("viewer"))).data
    assert (shown.id, shown.name, shown.provider, shown.kind) == ("openai/b", "B", "openai", "chat")
    assert (list(shown.capabilities), shown.context_tokens, shown.is_default) == (["tools"], 100, True)
    assert not shown.HasField("max_output_tokens")
    assert list(shown.provider_configs) == ["Main"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetModel(model_pb.GetModelRequest(id="openai/z"), metadata=key("viewer"))
    assert reason(caught.value) == ("NOT_FOUND", "UNKNOWN_MODEL")
    assert info(caught.value).metadata["candidates"] == "openai/a"


async def test_a_configuration_is_created_from_what_was_given_and_shown_masked(
    house: House, channel: grpc.aio.Channel
) -> None:
    stub = provider_config_service_pb2_grpc.ProviderConfigServiceStub(channel)
    made = await stub.CreateProviderConfig(
        config_pb.CreateProviderConfigRequest(
            name="Main", ai_type="OTHER", provider="Groq", secret="sk-canary", workspace_id="ws_1", endpoint="", key=""
        ),
        metadata=key("admin"),
    )
    ((workspace, draft),) = house.configs.asked
    assert (workspace, draft.name, draft.ai_type, draft.provider) == ("ws_1", "Main", "OTHER", "groq")
    assert (draft.endpoint, draft.key, draft.secret.reveal()) == (None, None, "sk-canary")
    assert (made.success, made.ai_llm_id) == (True, "cfg_1")
    assert made.message == "AI LLM configuration created successfully"
    assert (made.ai_llm.secret_mask, made.ai_llm.HasField("key")) == ("****cdef", False)
    assert made.ai_llm.created_at.ToJsonString() == "2026-11-21T12:00:00.500Z"
    assert not made.ai_llm.HasField("validated_at")
    assert b"canary" not in made.SerializeToString()


async def test_an_update_changes_what_is_given_and_nothing_else(house: House, channel: grpc.aio.Channel) -> None:
    stub = provider_config_service_pb2_grpc.ProviderConfigServiceStub(channel)
    await stub.UpdateProviderConfig(
        config_pb.UpdateProviderConfigRequest(id="cfg_1", endpoint="", active=False, key="", etag="e1"),
        metadata=key("admin"),
    )
    ((_, change),) = house.configs.asked
    assert (change.name, change.ai_type, change.provider, change.secret) == (None, None, None, None)
    assert (change.endpoint, change.active, change.key.reveal(), change.etag) == ("", False, "", "e1")


@pytest.mark.parametrize(
    ("role", "workspace", "expected"),
    [("admin", "ws_2", "PERMISSION_DENIED"), ("org", "ws_2", "NOT_FOUND"), ("org", "ws_1", None)],
)
async def test_a_named_workspace_must_own_the_configuration(
    channel: grpc.aio.Channel, role: str, workspace: str, expected: str | None
) -> None:
    stub: Any = provider_config_service_pb2_grpc.ProviderConfigServiceStub(channel)
    update = config_pb.UpdateProviderConfigRequest(id="cfg_1", workspace_id=workspace)
    stats = config_pb.GetProviderConfigStatsRequest(ai_llm_id="cfg_1", workspace_id=workspace)
    for call, request in ((stub.UpdateProviderConfig, update), (stub.GetProviderConfigStats, stats)):
        if expected is None:
            assert (await call(request, metadata=key(role))).success
            continue
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request, metadata=key(role))
        assert caught.value.code().name == expected


async def test_configurations_are_listed_and_counted_as_asked(house: House, channel: grpc.aio.Channel) -> None:
    stub = provider_config_service_pb2_grpc.ProviderConfigServiceStub(channel)
    metadata = key("viewer")
    listed = await stub.ListProviderConfigs(
        config_pb.ListProviderConfigsRequest(page_size=2, page_token="t"), metadata=metadata
    )
    available = await stub.ListAvailableProviderConfigs(
        config_pb.ListAvailableProviderConfigsRequest(), metadata=metadata
    )
    stats = await stub.GetProviderConfigStats(
        config_pb.GetProviderConfigStatsRequest(ai_llm_id="cfg_1"), metadata=metadata
    )
    await stub.GetProviderConfigStats(config_pb.GetProviderConfigStatsRequest(), metadata=metadata)
    assert house.configs.asked == [
        ("ws_1", False, 2, "t"),
        ("ws_1", True, 0, ""),
        ("", "cfg_1"),
        ("ws_1", None),
    ]
    assert ([c.id for c in listed.ai_llms], listed.next_page_token, listed.success) == (["cfg_1"], "more", True)
    assert [c.id for c in available.ai_llms] == ["cfg_1"]
    (counts,) = stats.stats
    assert (counts.ai_llm_id, counts.total_api_calls, counts.total_errors) == ("cfg_1", 2**40, 1)
    assert (counts.total_tokens_in, counts.total_llm_tokens_in) == (5, 5)
    assert (counts.total_tokens_out, counts.total_llm_tokens_out) == (6, 6)
    assert (counts.total_cached_tokens, counts.total_reasoning_tokens) == (2, 3)


async def test_a_provider_that_refuses_is_an_answer_of_validate(house: House, channel: grpc.aio.Channel) -> None:
    stub = provider_config_service_pb2_grpc.ProviderConfigServiceStub(channel)
    request = config_pb.ValidateProviderConfigRequest(id="cfg_1")
    assert (await stub.ValidateProviderConfig(request, metadata=key("admin"))).success is True
    house.configs.outcome = type(house.configs.outcome)(False, "Not accepted.")
    refused = await stub.ValidateProviderConfig(request, metadata=key("admin"))
    assert (refused.success, refused.message) == (False, "Not accepted.")
    deleted = await stub.DeleteProviderConfig(config_pb.DeleteProviderConfigRequest(id="cfg_1"), metadata=key("admin"))
    assert (deleted.success, deleted.message) == (True, "AI LLM configuration deleted successfully")
