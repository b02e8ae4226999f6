"""Puts every service on a server: the contract's own, health, reflection."""

from __future__ import annotations

from typing import Any

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
from server.rpc.edge.server import MethodTable
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
    edge: MethodTable | None = None,
) -> None:
    """Add all services to a server that was made with a CallInterceptor and is not started yet; and the contract's own
    to `edge`."""
    llm, directory = LLM(gateway, access), Models(models, access)
    configurations, administration = ProviderConfigs(configs, access), Access(access, model_settings, audit)
    openai, anthropic = OpenAI(gateway, models, access), Anthropic(gateway, models, access)
    status = Status(lifecycle, snapshots, version)
    takers: list[Any] = [server] if edge is None else [server, edge]  # the generated stubs know gRPC's own alone
    for taker in takers:
        llm_service_pb2_grpc.add_LLMServiceServicer_to_server(llm, taker)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(directory, taker)
        provider_config_service_pb2_grpc.add_ProviderConfigServiceServicer_to_server(configurations, taker)
        access_service_pb2_grpc.add_AccessServiceServicer_to_server(administration, taker)
        openai_service_pb2_grpc.add_OpenAIServiceServicer_to_server(openai, taker)
        anthropic_service_pb2_grpc.add_AnthropicServiceServicer_to_server(anthropic, taker)
        status_service_pb2_grpc.add_StatusServiceServicer_to_server(status, taker)
    await lifecycle.start()
    health_pb2_grpc.add_HealthServicer_to_server(lifecycle.servicer, server)
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    reflection.enable_server_reflection((*SERVICES, health_name, reflection.SERVICE_NAME), server)
