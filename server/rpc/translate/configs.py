"""Provider configurations and models: contract <-> core. Credentials go in as Secret; only masks come out."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import cast

from google.protobuf import timestamp_pb2

from dragoman.v1 import model_pb2
from dragoman.v1 import provider_config_pb2 as pb
from dragoman.v1 import provider_config_service_pb2 as service_pb
from server.core.errors import InvalidRequest
from server.core.provider_config import AiType, ConfigStats, ProviderConfig
from server.core.routing import WorkspaceModel
from server.core.secret import Secret
from server.rpc.translate.parts import int32
from server.services.provider_configs import ConfigChange, ConfigDraft


def config_draft(request: service_pb.CreateProviderConfigRequest) -> ConfigDraft:
    """What to create. An empty endpoint or credential is none."""
    return ConfigDraft(
        name=request.name,
        ai_type=cast("AiType", request.ai_type),
        provider=request.provider.lower() or None,
        endpoint=request.endpoint or None,
        key=Secret(request.key) if request.key else None,
        secret=Secret(request.secret) if request.secret else None,
        flavor=request.flavor,
    )


def config_change(request: service_pb.UpdateProviderConfigRequest) -> ConfigChange:
    """What to change. Absent stays; an empty endpoint or credential is removed."""
    return ConfigChange(
        name=request.name if request.HasField("name") else None,
        ai_type=cast("AiType", request.ai_type) if request.HasField("ai_type") else None,
        provider=request.provider.lower() if request.HasField("provider") else None,
        endpoint=request.endpoint if request.HasField("endpoint") else None,
        key=Secret(request.key) if request.HasField("key") else None,
        secret=Secret(request.secret) if request.HasField("secret") else None,
        active=request.active if request.HasField("active") else None,
        etag=request.etag or None,
        flavor=request.flavor if request.HasField("flavor") else None,
    )


def provider_config(config: ProviderConfig) -> pb.ProviderConfig:
    """A configuration as it may be shown."""
    return pb.ProviderConfig(
        id=config.id,
        org_id=config.org_id,
        workspace_id=config.workspace_id,
        user_id=config.user_id,
        name=config.name,
        ai_type=config.ai_type,
        provider=config.provider,
        endpoint=config.endpoint,
        key=config.key_mask,
        secret_mask=config.secret_mask,
        active=config.active,
        etag=config.etag,
        created_at=timestamp(config.created_at),
        updated_at=timestamp(config.updated_at),
        validated_at=None if config.validated_at is None else timestamp(config.validated_at),
        valid=config.valid,
        validation_message=config.validation_message,
        flavor=config.flavor,
    )


def config_stats(stats: ConfigStats) -> pb.ProviderConfigStats:
    """Counts in the surface's names; policies, alerts and blocks do not exist here and stay zero."""
    return pb.ProviderConfigStats(
        ai_llm_id=stats.config_id,
        total_api_calls=stats.calls,
        total_tokens_in=stats.prompt_tokens,
        total_tokens_out=stats.completion_tokens,
        total_llm_tokens_in=stats.prompt_tokens,
        total_llm_tokens_out=stats.completion_tokens,
        total_errors=stats.errors,
        total_cached_tokens=stats.cached_tokens,
        total_reasoning_tokens=stats.reasoning_tokens,
    )


def model(listed: WorkspaceModel) -> model_pb2.Model:
    """A model as the workspace sees it."""
    info = listed.info
    return model_pb2.Model(
        id=info.id,
        name=info.name,
        provider=info.provider,
        kind=info.kind,
        capabilities=info.capabilities,
        context_tokens=int32(info.context_tokens),
        max_output_tokens=int32(info.output_tokens),
        is_default=listed.is_default,
        provider_configs=listed.configurations,
        alias_of=listed.alias_of or None,
    )


def page_token(last_id: str) -> str:
    """The token of the page after the one that ends with `last_id`."""
    return base64.urlsafe_b64encode(last_id.encode()).decode()


def page_start(token: str) -> str | None:
    """The id that a page token was made of, None for "". Raises InvalidRequest for a token that is none."""
    if not token:
        return None
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError:  # not ASCII, not base64, not UTF-8
        raise InvalidRequest.field("page_token", "is not one that this service gave out") from None


def timestamp(time: datetime) -> timestamp_pb2.Timestamp:
    """A moment, aware."""
    made = timestamp_pb2.Timestamp()
    made.FromDatetime(time)
    return made
