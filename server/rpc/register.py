"""Puts every service on a server: the contract's own, health, reflection."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from dragoman.v1 import (
    access_service_pb2,
    access_service_pb2_grpc,
    anthropic_service_pb2,
    anthropic_service_pb2_grpc,
    llm_service_pb2,
    llm_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    openai_service_pb2,
    openai_service_pb2_grpc,
    provider_config_service_pb2,
    provider_config_service_pb2_grpc,
    status_service_pb2,
    status_service_pb2_grpc,
)
from server.core.snapshot import SnapshotSource
from server.rpc.access import Access, AuditReader, Directory, Settings
from server.rpc.compat.anthropic.service import Anthropic
from server.rpc.compat.openai.service import OpenAI
from server.rpc.health import Lifecycle
from server.rpc.llm import LLM
from server.rpc.model_call import Gateway
from server.rpc.models import ModelDirectory, Models
from server.rpc.provider_configs import Configurations, ProviderConfigs
from server.rpc.status import Status

SERVICES = (
    llm_service_pb2.DESCRIPTOR.services_by_name["LLMService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    provider_config_service_pb2.DESCRIPTOR.services_by_name["ProviderConfigService"].full_name,
    access_service_pb2.DESCRIPTOR.services_by_name["AccessService"].full_name,
    openai_service_pb2.DESCRIPTOR.services_by_name["OpenAIService"].full_name,
    anthropic_service_pb2.DESCRIPTOR.services_by_name["AnthropicService"].full_name,
    status_service_pb2.DESCRIPTOR.services_by_name["StatusService"].full_name,
)
"""Full names of the contract's services: what a Lifecycle is made for."""


async def register(
    server: grpc.aio.Server,
    *,
    gateway: Gateway,
    access: Directory,
    models: ModelDirectory,
    configs: Configurations,
    model_settings: Settings,
    audit: AuditReader,
    snapshots: SnapshotSource,
    lifecycle: Lifecycle,
    version: str,
) -> None:
    """Add all services to a server that was made with a CallInterceptor and is not started yet."""
    llm_service_pb2_grpc.add_LLMServiceServicer_to_server(LLM(gateway, access), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(models, access), server)
    provider_config_service_pb2_grpc.add_ProviderConfigServiceServicer_to_server(
        ProviderConfigs(configs, access), server
    )
    access_service_pb2_grpc.add_AccessServiceServicer_to_server(Access(access, model_settings, audit), server)
    openai_service_pb2_grpc.add_OpenAIServiceServicer_to_server(OpenAI(gateway, models, access), server)
    anthropic_service_pb2_grpc.add_AnthropicServiceServicer_to_server(Anthropic(gateway, models, access), server)
    status_service_pb2_grpc.add_StatusServiceServicer_to_server(Status(lifecycle, snapshots, version), server)
    await lifecycle.start()
    health_pb2_grpc.add_HealthServicer_to_server(lifecycle.servicer, server)
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    reflection.enable_server_reflection((*SERVICES, health_name, reflection.SERVICE_NAME), server)
