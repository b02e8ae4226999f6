"""LLMService: check, call, render."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial

from google.api import httpbody_pb2

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import embedding_pb2
from dragoman.v1 import llm_service_pb2 as llm_pb
from dragoman.v1.llm_service_pb2_grpc import LLMServiceServicer
from server.core.messages import ChatRequest
from server.core.stream import ChatResponse
from server.rpc.call import Call
from server.rpc.model_call import Gateway, ModelCalls, Workspaces, Writing
from server.rpc.translate.embedding import embed_request, embed_response
from server.rpc.translate.events import EventRenderer
from server.rpc.translate.request import chat_request, generate_request
from server.rpc.translate.response import chat_response, generate_response, generate_text


class LLM(LLMServiceServicer):
    """Serves the contract's LLMService."""

    def __init__(self, gateway: Gateway, workspaces: Workspaces) -> None:
        self._calls = ModelCalls(gateway)
        self._workspaces = workspaces

    async def Generate(self, request: llm_pb.GenerateRequest, context: object) -> llm_pb.GenerateResponse:  # noqa: N802
        call = Call.of(context)
        return generate_response(await self._complete(call, request.project_id, generate_request(request)))

    async def GenerateText(self, request: llm_pb.GenerateRequest, context: object) -> httpbody_pb2.HttpBody:  # noqa: N802
        call = Call.of(context)
        answer = await self._complete(call, request.project_id, generate_request(request))
        # The body holds the text alone; whether it is whole, and what was changed, is told beside it. As initial
        # metadata: the transcoder shows no trailers of a call that succeeds, and nothing can fail any more.
        told = [("x-dragoman-finish-reason", _ascii(answer.finish_reason))]
        told += [("x-dragoman-warning", _ascii(f"{w.code} {w.parameter}".strip())) for w in answer.warnings]
        await call.context.send_initial_metadata(tuple(told))
        return generate_text(answer)

    async def Complete(self, request: pb.ChatRequest, context: object) -> pb.ChatResponse:  # noqa: N802
        call = Call.of(context)
        return chat_response(await self._complete(call, request.project_id, chat_request(request, stream=False)))

    def Chat(self, request: pb.ChatRequest, context: object) -> Writing:  # noqa: N802
        call = Call.of(context)
        wanted = chat_request(request, stream=True)
        call.workspace_id = self._workspaces.workspace(call.caller, request.project_id, "project_id")
        return self._calls.stream(call, wanted, partial(map, EventRenderer(call.request_id).render))

    async def Embed(  # noqa: N802
        self, request: embedding_pb2.EmbedRequest, context: object
    ) -> embedding_pb2.EmbedResponse:
        call = Call.of(context)
        wanted = embed_request(request)
        call.workspace_id = self._workspaces.workspace(call.caller, request.project_id, "project_id")
        return embed_response(await self._calls.embed(call, wanted))

    def _complete(self, call: Call, project_id: str, request: ChatRequest) -> Awaitable[ChatResponse]:
        call.workspace_id = self._workspaces.workspace(call.caller, project_id, "project_id")
        return self._calls.complete(call, request)


def _ascii(text: str) -> str:
    """What metadata can carry."""
    return text.encode("ascii", "replace").decode().replace("\n", " ").replace("\r", " ")
