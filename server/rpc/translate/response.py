"""Whole answers: from the core's ChatResponse to the contract's messages."""

from __future__ import annotations

from google.api import httpbody_pb2

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import llm_service_pb2 as llm_pb
from dragoman.v1 import usage_pb2
from server.core.events import Usage, Warning
from server.core.stream import ChatResponse
from server.rpc.translate.parts import MOST_INT32, fill_answer, tool_call_to_proto
from server.rpc.translate.structs import fill_struct

PLAIN_TEXT = "text/plain; charset=utf-8"


def chat_response(answer: ChatResponse) -> pb.ChatResponse:
    """The answer of Complete. `text` is set even where there is none; `message` is ready for the next request.

    Messages within it are filled in their place: one that is handed over is copied by way of its bytes, which made this
    3 us of 5 dearer.
    """
    rendered = pb.ChatResponse(
        text=answer.text,
        finish_reason=answer.finish_reason,
        model=answer.model,
        reasoning=answer.reasoning,
        raw_finish_reason=answer.raw_finish_reason,
        provider=answer.provider,
        id=answer.id,
        refusal=answer.refusal,
        provider_request_id=answer.request_id,
    )
    fill_usage(rendered.usage, answer.usage)
    fill_answer(rendered.message, answer.message)
    if answer.tool_calls:
        rendered.tool_calls.extend(map(tool_call_to_proto, answer.tool_calls))
    if answer.warnings:
        rendered.warnings.extend(map(warning, answer.warnings))
    fill_struct(rendered, pb.ChatResponse.PROVIDER_METADATA_FIELD_NUMBER, answer.provider_metadata)
    return rendered


def generate_response(answer: ChatResponse) -> llm_pb.GenerateResponse:
    """The answer of Generate."""
    return llm_pb.GenerateResponse(
        text=answer.text,
        model=answer.model,
        finish_reason=answer.finish_reason,
        usage=usage(answer.usage),
        warnings=map(warning, answer.warnings),
        raw_finish_reason=answer.raw_finish_reason,
        provider=answer.provider,
        id=answer.id,
    )


def generate_text(answer: ChatResponse) -> httpbody_pb2.HttpBody:
    """The answer of GenerateText: the visible text and nothing else."""
    return httpbody_pb2.HttpBody(content_type=PLAIN_TEXT, data=answer.text.encode("utf-8", "replace"))


def usage(usage: Usage) -> usage_pb2.Usage:
    """Counts that the provider gave; the others stay absent."""
    filled = usage_pb2.Usage()
    fill_usage(filled, usage)
    return filled


def fill_usage(target: usage_pb2.Usage, usage: Usage) -> None:
    """`usage`, in its place."""
    target.SetInParent()  # also where nothing was counted
    for name in Usage.__struct_fields__:
        count = getattr(usage, name)
        if count is not None and -MOST_INT32 <= count < MOST_INT32:  # beyond it is no count, as if not reported
            setattr(target, name, count)


def warning(warning: Warning) -> pb.Warning:
    """What was left out, changed or approximated."""
    return pb.Warning(code=warning.code, message=warning.message, parameter=warning.parameter)
