"""ModelService: check, call, render."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from dragoman.v1 import model_service_pb2 as pb
from dragoman.v1.model_service_pb2_grpc import ModelServiceServicer
from server.core.catalog import ModelKind
from server.core.routing import WorkspaceModel
from server.rpc.call import Call
from server.rpc.model_call import Workspaces
from server.rpc.translate import configs as translate


class ModelDirectory(Protocol):
    """The models of a workspace; `server.services.models.ModelService`."""

    def list(
        self,
        workspace_id: str,
        kind: ModelKind | None = None,
        *,
        limit: int | None = None,
        after: str | None = None,
        allowed: Sequence[str] = (),
    ) -> Sequence[WorkspaceModel]: ...

    def get(self, workspace_id: str, id: str, *, allowed: Sequence[str] = ()) -> WorkspaceModel: ...


class Models(ModelServiceServicer):
    """Serves the contract's ModelService."""

    def __init__(self, models: ModelDirectory, workspaces: Workspaces) -> None:
        self._models = models
        self._workspaces = workspaces

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:  # noqa: N802
        call = Call.of(context)
        call.workspace_id = self._workspaces.workspace(call.caller, request.workspace_id)
        size = request.page_size
        found = self._models.list(
            call.workspace_id,
            cast("ModelKind", request.kind) if request.kind else None,
            limit=size + 1 if size else None,
            after=translate.page_start(request.page_token),
            allowed=call.caller.allowed_models,
        )
        page = found[:size] if size else found
        return pb.ListModelsResponse(
            success=True,
            message=f"{len(page)} model{'' if len(page) == 1 else 's'}",
            data=map(translate.model, page),
            next_page_token=translate.page_token(page[-1].info.id) if len(found) > len(page) else "",
        )

    async def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:  # noqa: N802
        call = Call.of(context)
        call.workspace_id = self._workspaces.workspace(call.caller, request.workspace_id)
        found = self._models.get(call.workspace_id, request.id, allowed=call.caller.allowed_models)
        return pb.GetModelResponse(success=True, message="Model found", data=translate.model(found))
