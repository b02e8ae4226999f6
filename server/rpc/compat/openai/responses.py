"""OpenAIService.CreateResponse: read, call, render."""

from __future__ import annotations

from server.core.errors import InvalidRequest
from server.rpc.call import Call
from server.rpc.compat.frame import begin, event_bodies, json_body, write_whole
from server.rpc.compat.openai.responses_answer import ResponseRenderer, response_object
from server.rpc.compat.openai.responses_request import ResponseRequest, in_own_words
from server.rpc.model_call import ModelCalls


async def respond(calls: ModelCalls, call: Call, wanted: ResponseRequest, created: int) -> None:
    """Write the answer, whole or as a stream. created: seconds since the epoch. Raises DragomanError, its fields by
    their names in this API."""
    id = f"resp_{call.request_id}"
    try:
        if wanted.stream:
            renderer = ResponseRenderer(wanted, id=id, created=created, request_id=call.request_id)
            await calls.stream(call, wanted.request, event_bodies(renderer.render), begin)
            return
        answer = await calls.complete(call, wanted.request)
        body = json_body(response_object(answer, wanted, id=id, created=created, request_id=call.request_id))
        await write_whole(call, body, answer.warnings)
    except InvalidRequest as error:
        raise in_own_words(error, wanted.origins) from error.__cause__
