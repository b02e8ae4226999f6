"""AnthropicService: read, call, render."""

from __future__ import annotations

from google.api import httpbody_pb2

from dragoman.v1 import anthropic_service_pb2 as pb
from dragoman.v1.anthropic_service_pb2_grpc import AnthropicServiceServicer
from server.core.messages import ChatRequest
from server.rpc.call import Call
from server.rpc.compat.anthropic import models as m
from server.rpc.compat.anthropic.answer import message, token_count
from server.rpc.compat.anthropic.request import read_request
from server.rpc.compat.anthropic.stream import EventRenderer
from server.rpc.compat.frame import begin, event_bodies, header, json_body, named_workspace, write_whole
from server.rpc.model_call import Gateway, ModelCalls, Workspaces, Writing
from server.rpc.models import ModelDirectory

BETA_HEADER = "anthropic-beta"


class Anthropic(AnthropicServiceServicer):
    """Serves Anthropic's dialect."""

    def __init__(self, gateway: Gateway, models: ModelDirectory, workspaces: Workspaces) -> None:
        self._calls = ModelCalls(gateway)
        self._models = models
        self._workspaces = workspaces

    def CreateMessage(self, request: httpbody_pb2.HttpBody, context: object) -> Writing:  # noqa: N802
        call = Call.of(context)
        wanted = read_request(request.data, _betas(call))
        self._enter(call)
        if not wanted.stream:
            return self._complete(call, wanted.request)
        renderer = EventRenderer(id=_new_id(call), request_id=call.request_id)
        return self._calls.stream(call, wanted.request, event_bodies(renderer.render), begin)

    async def _complete(self, call: Call, request: ChatRequest) -> None:
        answer = await self._calls.complete(call, request)
        await write_whole(call, json_body(message(answer, id=_new_id(call))), answer.warnings)

    async def CountTokens(  # noqa: N802
        self, request: httpbody_pb2.HttpBody, context: object
    ) -> httpbody_pb2.HttpBody:
        call = Call.of(context)
        wanted = read_request(request.data, _betas(call))
        self._enter(call)
        found = await self._calls.count_tokens(call, wanted.request)
        await begin(call, found.warnings)
        return json_body(token_count(found))

    async def ListAnthropicModels(  # noqa: N802
        self, request: pb.ListAnthropicModelsRequest, context: object
    ) -> httpbody_pb2.HttpBody:
        call = self._enter(Call.of(context))
        models = self._models.list(call.workspace_id, allowed=call.caller.allowed_models)
        limit = request.limit if request.HasField("limit") else m.DEFAULT_LIMIT
        return json_body(m.page(models, limit=limit, after=request.after_id, before=request.before_id))

    async def GetAnthropicModel(  # noqa: N802
        self, request: pb.GetAnthropicModelRequest, context: object
    ) -> httpbody_pb2.HttpBody:
        call = self._enter(Call.of(context))
        found = self._models.get(call.workspace_id, request.model, allowed=call.caller.allowed_models)
        return json_body(m.model(found))

    def _enter(self, call: Call) -> Call:
        call.workspace_id = self._workspaces.workspace(call.caller, named_workspace(call))
        return call


def _betas(call: Call) -> list[str]:
    return [name.strip() for name in header(call, BETA_HEADER).split(",") if name.strip()]


def _new_id(call: Call) -> str:
    return f"msg_{call.request_id}"
