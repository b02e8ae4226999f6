"""The services beside LLMService, over a real server: probes, reflection, models, configurations."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from dragoman.v1 import model_service_pb2 as model_pb
from dragoman.v1 import model_service_pb2_grpc, provider_config_service_pb2_grpc, status_service_pb2_grpc
from dragoman.v1 import provider_config_service_pb2 as config_pb
from dragoman.v1 import status_service_pb2 as status_pb
from server.core.errors import Unavailable
from tests.rpc.house import House, info, key, reason

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
        "dragoman.v1.AccessService",
        "dragoman.v1.OpenAIService",
        "dragoman.v1.AnthropicService",
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
