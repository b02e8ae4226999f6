"""AccessService: check, call, render."""

# ruff: noqa: N802 - the methods are named by the contract
from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Protocol

from google.api import httpbody_pb2

from dragoman.v1 import access_service_pb2 as pb
from dragoman.v1.access_service_pb2_grpc import AccessServiceServicer
from server.core.access import ApiKey, Principal, Role, Workspace
from server.core.audit import AuditEntry, AuditFilter
from server.core.errors import InvalidRequest
from server.core.model_settings import ModelSettingsChange
from server.core.secret import Secret
from server.rpc.call import Call
from server.rpc.translate import access as translate
from server.rpc.translate.configs import page_start, page_token
from server.services.access import KeyPage
from server.services.audit import AuditPage


class Directory(Protocol):
    """Workspaces and keys; `server.services.access.Access`."""

    def workspace(self, caller: Principal, named: str, field: str = "workspace_id") -> str: ...

    def get_workspace(self, caller: Principal, id: str) -> Workspace: ...

    def list_workspaces(
        self, caller: Principal, *, limit: int | None = None, after: str = ""
    ) -> Sequence[Workspace]: ...

    async def create_workspace(
        self, name: str, *, org_id: str, id: str | None = None, by: Principal | None = None
    ) -> Workspace: ...

    async def create_key(
        self,
        *,
        workspace: Workspace | None,
        org_id: str,
        role: Role,
        name: str,
        expires_at: datetime | None = None,
        allowed_models: Sequence[str] = (),
        by: Principal | None = None,
    ) -> tuple[ApiKey, Secret]: ...

    async def page_keys(
        self, caller: Principal, workspace_id: str | None, *, page_size: int = 0, after: str | None = None
    ) -> KeyPage: ...

    async def revoke_key(self, key_id: str, *, by: Principal | None = None) -> ApiKey: ...


class Settings(Protocol):
    """Model settings; `server.services.model_settings.ModelSettings`."""

    def get(self, workspace_id: str) -> Workspace: ...

    async def update(self, by: Principal, workspace_id: str, change: ModelSettingsChange) -> Workspace: ...


class AuditReader(Protocol):
    """The audit log; `server.services.audit.AuditLog`."""

    async def list(self, wanted: AuditFilter, *, page_size: int = 0, after: str | None = None) -> AuditPage: ...

    def export(self, by: Principal, wanted: AuditFilter) -> AsyncGenerator[Sequence[AuditEntry], None]: ...


class Access(AccessServiceServicer):
    """Serves the contract's AccessService."""

    def __init__(self, directory: Directory, settings: Settings, audit: AuditReader) -> None:
        self._directory = directory
        self._settings = settings
        self._audit = audit

    # --- workspaces ---------------------------------------------------------------------------------------------------

    async def CreateWorkspace(self, request: pb.CreateWorkspaceRequest, context: object) -> pb.CreateWorkspaceResponse:
        caller = Call.of(context).caller
        made = await self._directory.create_workspace(
            request.name, org_id=caller.org_id, id=request.id or None, by=caller
        )
        return pb.CreateWorkspaceResponse(success=True, workspace=translate.workspace(made))

    async def GetWorkspace(self, request: pb.GetWorkspaceRequest, context: object) -> pb.GetWorkspaceResponse:
        call = Call.of(context)
        found = self._directory.get_workspace(call.caller, request.id)
        call.workspace_id = found.id
        return pb.GetWorkspaceResponse(success=True, workspace=translate.workspace(found))

    async def ListWorkspaces(self, request: pb.ListWorkspacesRequest, context: object) -> pb.ListWorkspacesResponse:
        size = request.page_size
        found = self._directory.list_workspaces(
            Call.of(context).caller, limit=size + 1 if size else None, after=page_start(request.page_token) or ""
        )
        page = found[:size] if size else found
        return pb.ListWorkspacesResponse(
            success=True,
            workspaces=map(translate.workspace, page),
            next_page_token=page_token(page[-1].id) if len(found) > len(page) else "",
        )

    # --- keys ---------------------------------------------------------------------------------------------------------

    async def CreateKey(self, request: pb.CreateKeyRequest, context: object) -> pb.CreateKeyResponse:
        call = Call.of(context)
        role = Role[request.role.upper()]
        workspace = None
        if role is not Role.ORG_ADMIN:
            call.workspace_id = self._directory.workspace(call.caller, request.workspace_id)
            workspace = self._directory.get_workspace(call.caller, call.workspace_id)
        elif request.workspace_id:
            raise InvalidRequest.field("workspace_id", "must be empty for a key of role org_admin")
        key, clear = await self._directory.create_key(
            workspace=workspace,
            org_id=call.caller.org_id,
            role=role,
            name=request.name,
            expires_at=translate.moment(request.expires_at) if request.HasField("expires_at") else None,
            allowed_models=tuple(request.allowed_models),
            by=call.caller,
        )
        return pb.CreateKeyResponse(success=True, secret=clear.reveal(), key=translate.key(key))

    async def ListKeys(self, request: pb.ListKeysRequest, context: object) -> pb.ListKeysResponse:
        call = Call.of(context)
        page = await self._directory.page_keys(
            call.caller,
            self._scope(call, request.workspace_id),
            page_size=request.page_size,
            after=page_start(request.page_token),
        )
        return pb.ListKeysResponse(
            success=True,
            keys=map(translate.key, page.keys),
            next_page_token=page_token(page.last_id) if page.last_id else "",
        )

    async def RevokeKey(self, request: pb.RevokeKeyRequest, context: object) -> pb.RevokeKeyResponse:
        revoked = await self._directory.revoke_key(request.id, by=Call.of(context).caller)
        return pb.RevokeKeyResponse(success=True, key=translate.key(revoked))

    # --- model settings -----------------------------------------------------------------------------------------------

    async def GetModelSettings(
        self, request: pb.GetModelSettingsRequest, context: object
    ) -> pb.GetModelSettingsResponse:
        call = Call.of(context)
        call.workspace_id = self._directory.workspace(call.caller, request.workspace_id)
        found = self._settings.get(call.workspace_id)
        return pb.GetModelSettingsResponse(success=True, settings=translate.model_settings(found))

    async def UpdateModelSettings(
        self, request: pb.UpdateModelSettingsRequest, context: object
    ) -> pb.UpdateModelSettingsResponse:
        call = Call.of(context)
        call.workspace_id = self._directory.workspace(call.caller, request.workspace_id)
        stored = await self._settings.update(call.caller, call.workspace_id, translate.settings_change(request))
        return pb.UpdateModelSettingsResponse(success=True, settings=translate.model_settings(stored))

    # --- audit log ----------------------------------------------------------------------------------------------------

    async def ListAuditEntries(
        self, request: pb.ListAuditEntriesRequest, context: object
    ) -> pb.ListAuditEntriesResponse:
        call = Call.of(context)
        wanted = translate.audit_filter(request, call.caller.org_id, self._scope(call, request.workspace_id))
        page = await self._audit.list(wanted, page_size=request.page_size, after=page_start(request.page_token))
        return pb.ListAuditEntriesResponse(
            success=True,
            entries=map(translate.audit_entry, page.entries),
            next_page_token=page_token(page.last_id) if page.last_id else "",
        )

    async def ExportAuditLog(
        self, request: pb.ExportAuditLogRequest, context: object
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        call = Call.of(context)
        wanted = translate.audit_filter(request, call.caller.org_id, self._scope(call, request.workspace_id))
        count = 0
        async with aclosing(self._audit.export(call.caller, wanted)) as batches:
            async for batch in batches:
                count += len(batch)
                yield translate.audit_lines(batch)
        yield translate.audit_end(count)

    def _scope(self, call: Call, named: str) -> str | None:
        """The workspace that is asked for; None for all, which an organisation key asks for by naming none."""
        if call.caller.workspace_id is None and not named:
            return None
        call.workspace_id = self._directory.workspace(call.caller, named)
        return call.workspace_id
