"""AnthropicService: read, call, render."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.api import httpbody_pb2

from dragoman.v1 import anthropic_service_pb2 as pb
from dragoman.v1.anthropic_service_pb2_grpc import AnthropicServiceServicer
from server.core.errors import UnsupportedParameter
from server.rpc.call import Call
from server.rpc.compat.anthropic import models as m
from server.rpc.compat.frame import json_body, named_workspace
from server.rpc.model_call import Gateway, ModelCalls, Workspaces
from server.rpc.models import ModelDirectory


class Anthropic(AnthropicServiceServicer):
    """Serves Anthropic's dialect."""

    def __init__(self, gateway: Gateway, models: ModelDirectory, workspaces: Workspaces) -> None:
        self._calls = ModelCalls(gateway)
        self._models = models
        self._workspaces = workspaces

    async def CreateMessage(  # noqa: N802
        self, request: httpbody_pb2.HttpBody, context: object
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        raise UnsupportedParameter.field("body", "messages are not served yet")
        yield httpbody_pb2.HttpBody()

    async def ListAnthropicModels(  # noqa: N802
        self, request: pb.ListAnthropicModelsRequest, context: object
    ) -> httpbody_pb2.HttpBody:
        call = self._enter(context)
        models = self._models.list(call.workspace_id, allowed=call.caller.allowed_models)
        limit = request.limit if request.HasField("limit") else m.DEFAULT_LIMIT
        return json_body(m.page(models, limit=limit, after=request.after_id, before=request.before_id))

    async def GetAnthropicModel(  # noqa: N802
        self, request: pb.GetAnthropicModelRequest, context: object
    ) -> httpbody_pb2.HttpBody:
        call = self._enter(context)
        return json_body(
            m.model(self._models.get(call.workspace_id, request.model, allowed=call.caller.allowed_models))
        )

    def _enter(self, context: object) -> Call:
        call = Call.of(context)
        call.workspace_id = self._workspaces.workspace(call.caller, named_workspace(call))
        return call
