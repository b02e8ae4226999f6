"""AnthropicService: read, call, render."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from google.api import httpbody_pb2

from dragoman.v1 import anthropic_service_pb2 as pb
from dragoman.v1.anthropic_service_pb2_grpc import AnthropicServiceServicer
from server.core.events import Started
from server.core.messages import ChatRequest
from server.rpc.call import Call
from server.rpc.compat.anthropic import models as m
from server.rpc.compat.anthropic.answer import message, token_count
from server.rpc.compat.anthropic.request import read_request
from server.rpc.compat.anthropic.stream import EventRenderer
from server.rpc.compat.frame import EVENTS, begin, header, http_body, json_body, named_workspace
from server.rpc.model_call import Gateway, ModelCalls, Workspaces
from server.rpc.models import ModelDirectory

BETA_HEADER = "anthropic-beta"


class Anthropic(AnthropicServiceServicer):
    """Serves Anthropic's dialect."""

    def __init__(self, gateway: Gateway, models: ModelDirectory, workspaces: Workspaces) -> None:
        self._calls = ModelCalls(gateway)
        self._models = models
        self._workspaces = workspaces

    async def CreateMessage(  # noqa: N802
        self, request: httpbody_pb2.HttpBody, context: object
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        call = Call.of(context)
        wanted = read_request(request.data, _betas(call))
        self._enter(call)
        if wanted.stream:
            async with aclosing(self._stream(call, wanted.request)) as frames:
                async for frame in frames:
                    yield frame
            return
        answer = await self._calls.complete(call, wanted.request)
        body = json_body(message(answer, id=_new_id(call)))
        await begin(call, answer.warnings)
        yield body

    async def CountTokens(  # noqa: N802
        self, request: httpbody_pb2.HttpBody, context: object
    ) -> httpbody_pb2.HttpBody:
        call = Call.of(context)
        wanted = read_request(request.data, _betas(call))
        self._enter(call)
        found = await self._calls.count_tokens(call, wanted.request)
        await begin(call, found.warnings)
        return json_body(token_count(found))

    async def _stream(self, call: Call, request: ChatRequest) -> AsyncGenerator[httpbody_pb2.HttpBody, None]:
        renderer = EventRenderer(id=_new_id(call), request_id=call.request_id)
        async with aclosing(self._calls.stream(call, request)) as batches:
            async for batch in batches:
                if isinstance(batch[0], Started):
                    await begin(call, batch[0].warnings)
                if frames := renderer.render(batch):
                    yield http_body(frames, EVENTS)

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
