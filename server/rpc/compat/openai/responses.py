"""OpenAIService.CreateResponse: read, call, render."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from google.api import httpbody_pb2

from server.core.errors import InvalidRequest
from server.core.events import Started
from server.rpc.call import Call
from server.rpc.compat.frame import EVENTS, begin, http_body, json_body
from server.rpc.compat.openai.responses_answer import ResponseRenderer, response_object
from server.rpc.compat.openai.responses_request import ResponseRequest, in_own_words
from server.rpc.model_call import ModelCalls


async def respond(
    calls: ModelCalls, call: Call, wanted: ResponseRequest, created: int
) -> AsyncGenerator[httpbody_pb2.HttpBody, None]:
    """The answer, whole or as a stream. created: seconds since the epoch. Raises DragomanError, its fields by their
    names in this API."""
    id = f"resp_{call.request_id}"
    try:
        if not wanted.stream:
            answer = await calls.complete(call, wanted.request)
            body = json_body(response_object(answer, wanted, id=id, created=created, request_id=call.request_id))
            await begin(call, answer.warnings)
            yield body
            return
        renderer = ResponseRenderer(wanted, id=id, created=created, request_id=call.request_id)
        async with aclosing(calls.stream(call, wanted.request)) as batches:
            async for batch in batches:
                if isinstance(batch[0], Started):
                    await begin(call, batch[0].warnings)
                if frames := renderer.render(batch):
                    yield http_body(frames, EVENTS)
    except InvalidRequest as error:
        raise in_own_words(error, wanted.origins) from error.__cause__
