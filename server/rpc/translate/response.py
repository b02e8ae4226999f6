"""Whole answers: from the core's ChatResponse to the contract's messages."""

from __future__ import annotations

from google.api import httpbody_pb2

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import llm_service_pb2 as llm_pb
from dragoman.v1 import usage_pb2
from server.core.events import Usage, Warning
from server.core.stream import ChatResponse
from server.rpc.translate.parts import answer_message, int32, tool_call_to_proto
from server.rpc.translate.structs import to_struct

PLAIN_TEXT = "text/plain; charset=utf-8"


def chat_response(answer: ChatResponse) -> pb.ChatResponse:
    """The answer of Complete. `text` is set even where there is none; `message` is ready for the next request."""
    return pb.ChatResponse(
        text=answer.text,
        finish_reason=answer.finish_reason,
        usage=usage(answer.usage),
        model=answer.model,
        tool_calls=map(tool_call_to_proto, answer.tool_calls),
        reasoning=answer.reasoning,
        message=answer_message(answer.message),
        raw_finish_reason=answer.raw_finish_reason,
        provider=answer.provider,
        id=answer.id,
        warnings=map(warning, answer.warnings),
        provider_metadata=to_struct(answer.provider_metadata),
        refusal=answer.refusal,
        provider_request_id=answer.request_id,
    )


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
    return usage_pb2.Usage(
        prompt_tokens=int32(usage.prompt_tokens),
        completion_tokens=int32(usage.completion_tokens),
        total_tokens=int32(usage.total_tokens),
        cached_tokens=int32(usage.cached_tokens),
        cache_write_tokens=int32(usage.cache_write_tokens),
        reasoning_tokens=int32(usage.reasoning_tokens),
    )


def warning(warning: Warning) -> pb.Warning:
    """What was left out, changed or approximated."""
    return pb.Warning(code=warning.code, message=warning.message, parameter=warning.parameter)
