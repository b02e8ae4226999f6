"""OpenAIService: read, call, render."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence

from google.api import httpbody_pb2

from dragoman.v1 import openai_service_pb2 as pb
from dragoman.v1.openai_service_pb2_grpc import OpenAIServiceServicer
from server.core.routing import WorkspaceModel
from server.rpc.call import Call
from server.rpc.compat.frame import begin, event_bodies, http_body, json_body, named_workspace, write_whole
from server.rpc.compat.openai.answer import ChunkRenderer, completion, with_natives
from server.rpc.compat.openai.embeddings import read_embeddings, render_embeddings
from server.rpc.compat.openai.request import ChatCompletion, read_request
from server.rpc.compat.openai.responses import respond
from server.rpc.compat.openai.responses_request import read_response_request
from server.rpc.model_call import Gateway, ModelCalls, Workspaces, Writing
from server.rpc.models import ModelDirectory

PROJECT_HEADER = "openai-project"
"""By which OpenAI's SDKs name a project: an organisation key's word for a workspace."""


class OpenAI(OpenAIServiceServicer):
    """Serves OpenAI's dialect. now: seconds since the epoch, for `created`."""

    def __init__(
        self,
        gateway: Gateway,
        models: ModelDirectory,
        workspaces: Workspaces,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._calls = ModelCalls(gateway)
        self._models = models
        self._workspaces = workspaces
        self._now = now

    def CreateChatCompletion(self, request: httpbody_pb2.HttpBody, context: object) -> Writing:  # noqa: N802
        call = Call.of(context)
        wanted = read_request(request.data)
        self._enter(call)
        if not wanted.stream:
            return self._complete(call, wanted)
        renderer = ChunkRenderer(
            id=_new_id(call),
            created=int(self._now()),
            include_usage=wanted.include_usage,
            request_id=call.request_id,
        )
        return self._calls.stream(call, wanted.request, event_bodies(renderer.render), begin)

    async def _complete(self, call: Call, wanted: ChatCompletion) -> None:
        answer = await self._calls.complete(call, wanted.request)
        rendered = completion(answer, id=_new_id(call), created=int(self._now()))
        body = json_body(with_natives(rendered, answer.native, "message") if answer.native else rendered)
        await write_whole(call, body, answer.warnings)

    def CreateResponse(self, request: httpbody_pb2.HttpBody, context: object) -> Writing:  # noqa: N802
        call = Call.of(context)
        wanted = read_response_request(request.data)
        self._enter(call)
        return respond(self._calls, call, wanted, int(self._now()))

    async def CreateEmbedding(  # noqa: N802
        self, request: httpbody_pb2.HttpBody, context: object
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        call = Call.of(context)
        wanted = read_embeddings(request.data)
        self._enter(call)
        answer = await self._calls.embed(call, wanted.request)
        await begin(call, answer.warnings)
        for piece in render_embeddings(answer, base64=wanted.base64):
            yield http_body(piece)

    async def ListOpenAIModels(  # noqa: N802
        self,
        request: pb.ListOpenAIModelsRequest,  # noqa: ARG002  it has no fields
        context: object,
    ) -> httpbody_pb2.HttpBody:
        call = Call.of(context)
        self._enter(call)
        listed: Sequence[WorkspaceModel] = self._models.list(call.workspace_id, allowed=call.caller.allowed_models)
        return json_body({"object": "list", "data": [_model(one) for one in listed]})

    async def GetOpenAIModel(  # noqa: N802
        self, request: pb.GetOpenAIModelRequest, context: object
    ) -> httpbody_pb2.HttpBody:
        call = Call.of(context)
        self._enter(call)
        return json_body(_model(self._models.get(call.workspace_id, request.model, allowed=call.caller.allowed_models)))

    def _enter(self, call: Call) -> None:
        call.workspace_id = self._workspaces.workspace(call.caller, named_workspace(call, PROJECT_HEADER))


def _new_id(call: Call) -> str:
    return f"chatcmpl-{call.request_id}"


def _model(listed: WorkspaceModel) -> dict[str, object]:
    """OpenAI's four members. created: 0, as nobody publishes when a model was made."""
    return {"id": listed.info.id, "object": "model", "created": 0, "owned_by": listed.info.provider}
