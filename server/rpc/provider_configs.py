"""ProviderConfigService: check, call, render. The messages for people are the documented ones of this surface."""

# ruff: noqa: N802 - the methods are named by the contract
from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dragoman.v1 import provider_config_service_pb2 as pb
from dragoman.v1.provider_config_service_pb2_grpc import ProviderConfigServiceServicer
from server.core.access import Principal
from server.core.errors import NotFound
from server.core.provider_config import ConfigStats, ProviderConfig
from server.rpc.call import Call
from server.rpc.model_call import Workspaces
from server.rpc.translate import configs as translate
from server.services.provider_configs import ConfigChange, ConfigDraft, ConfigPage, Validation


class Configurations(Protocol):
    """Use cases on configurations; `server.services.provider_configs.ProviderConfigs`."""

    async def create(self, caller: Principal, workspace_id: str, draft: ConfigDraft) -> ProviderConfig: ...

    async def get(self, caller: Principal, config_id: str) -> ProviderConfig: ...

    async def list(
        self, workspace_id: str, *, available_only: bool = False, page_size: int = 0, page_token: str = ""
    ) -> ConfigPage: ...

    async def update(self, caller: Principal, config_id: str, change: ConfigChange) -> ProviderConfig: ...

    async def delete(self, caller: Principal, config_id: str) -> None: ...

    async def validate(self, caller: Principal, config_id: str) -> Validation: ...

    async def stats(self, caller: Principal, workspace_id: str, config_id: str | None) -> Sequence[ConfigStats]: ...


class ProviderConfigs(ProviderConfigServiceServicer):
    """Serves the contract's ProviderConfigService."""

    def __init__(self, configs: Configurations, workspaces: Workspaces) -> None:
        self._configs = configs
        self._workspaces = workspaces

    async def CreateProviderConfig(
        self, request: pb.CreateProviderConfigRequest, context: object
    ) -> pb.CreateProviderConfigResponse:
        call = Call.of(context)
        call.workspace_id = self._workspaces.workspace(call.caller, request.workspace_id)
        made = await self._configs.create(call.caller, call.workspace_id, translate.config_draft(request))
        return pb.CreateProviderConfigResponse(
            success=True,
            ai_llm_id=made.id,
            message="AI LLM configuration created successfully",
            ai_llm=translate.provider_config(made),
        )

    async def GetProviderConfig(
        self, request: pb.GetProviderConfigRequest, context: object
    ) -> pb.GetProviderConfigResponse:
        found = await self._configs.get(Call.of(context).caller, request.id)
        return pb.GetProviderConfigResponse(success=True, ai_llm=translate.provider_config(found))

    async def ListProviderConfigs(
        self, request: pb.ListProviderConfigsRequest, context: object
    ) -> pb.ListProviderConfigsResponse:
        page = await self._page(Call.of(context), request, available_only=False)
        return pb.ListProviderConfigsResponse(
            success=True, ai_llms=map(translate.provider_config, page.configs), next_page_token=page.next_page_token
        )

    async def ListAvailableProviderConfigs(
        self, request: pb.ListAvailableProviderConfigsRequest, context: object
    ) -> pb.ListAvailableProviderConfigsResponse:
        page = await self._page(Call.of(context), request, available_only=True)
        return pb.ListAvailableProviderConfigsResponse(
            success=True, ai_llms=map(translate.provider_config, page.configs), next_page_token=page.next_page_token
        )

    async def UpdateProviderConfig(
        self, request: pb.UpdateProviderConfigRequest, context: object
    ) -> pb.UpdateProviderConfigResponse:
        call = Call.of(context)
        if request.workspace_id:
            await self._check_owner(call, request.id, request.workspace_id)
        changed = await self._configs.update(call.caller, request.id, translate.config_change(request))
        return pb.UpdateProviderConfigResponse(
            success=True,
            ai_llm_id=changed.id,
            message="AI LLM configuration updated successfully",
            ai_llm=translate.provider_config(changed),
        )

    async def DeleteProviderConfig(
        self, request: pb.DeleteProviderConfigRequest, context: object
    ) -> pb.DeleteProviderConfigResponse:
        await self._configs.delete(Call.of(context).caller, request.id)
        return pb.DeleteProviderConfigResponse(success=True, message="AI LLM configuration deleted successfully")

    async def ValidateProviderConfig(
        self, request: pb.ValidateProviderConfigRequest, context: object
    ) -> pb.ValidateProviderConfigResponse:
        outcome = await self._configs.validate(Call.of(context).caller, request.id)
        return pb.ValidateProviderConfigResponse(success=outcome.ok, message=outcome.message)

    async def GetProviderConfigStats(
        self, request: pb.GetProviderConfigStatsRequest, context: object
    ) -> pb.GetProviderConfigStatsResponse:
        call = Call.of(context)
        if request.ai_llm_id:
            if request.workspace_id:
                await self._check_owner(call, request.ai_llm_id, request.workspace_id)
        else:
            call.workspace_id = self._workspaces.workspace(call.caller, request.workspace_id)
        counts = await self._configs.stats(call.caller, call.workspace_id, request.ai_llm_id or None)
        return pb.GetProviderConfigStatsResponse(success=True, stats=map(translate.config_stats, counts))

    async def _page(
        self,
        call: Call,
        request: pb.ListProviderConfigsRequest | pb.ListAvailableProviderConfigsRequest,
        *,
        available_only: bool,
    ) -> ConfigPage:
        call.workspace_id = self._workspaces.workspace(call.caller, request.workspace_id)
        return await self._configs.list(
            call.workspace_id,
            available_only=available_only,
            page_size=request.page_size,
            page_token=request.page_token,
        )

    async def _check_owner(self, call: Call, config_id: str, named: str) -> None:
        """Raise PermissionDenied for a workspace that is not the caller's, NotFound where it does not own the
        configuration."""
        call.workspace_id = self._workspaces.workspace(call.caller, named)
        if (await self._configs.get(call.caller, config_id)).workspace_id != call.workspace_id:
            raise NotFound("No such configuration.", action="List the workspace's configurations.")
