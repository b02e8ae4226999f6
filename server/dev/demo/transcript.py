"""An answer as Chat Completions puts it on the wire: one JSON body, or the events of a stream.

Shapes: platform.openai.com API reference. With include_usage every chunk carries `"usage": null`, and one more chunk
with no choices carries the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from server.dev.demo.answer import Answer
from server.dev.demo.tokens import split_tokens

FINGERPRINT = "fp_dragoman_demo"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Transcript:
    """A stream in its parts, each ready to be sent: the role, the deltas, the finish, the usage, the end mark."""

    head: bytes
    deltas: tuple[bytes, ...]
    finish: bytes
    usage: bytes
    done: bytes = DONE

    @property
    def events(self) -> tuple[bytes, ...]:
        """All of it in order."""
        return tuple(event for event in (self.head, *self.deltas, self.finish, self.usage, self.done) if event)


def usage_of(answer: Answer) -> dict[str, object]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens, "audio_tokens": 0},
    }


def unary_body(answer: Answer, created: int) -> bytes:
    """The `chat.completion` object as JSON. created: seconds since the epoch."""
    message: dict[str, object] = {
        "role": "assistant",
        "content": None if answer.calls or answer.refusal else answer.text,
        "refusal": answer.refusal or None,
    }
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    return msgspec.json.encode(
        {
            "id": answer.id,
            "object": "chat.completion",
            "created": created,
            "model": answer.model,
            "choices": [choice],
            "usage": usage_of(answer),
            "system_fingerprint": FINGERPRINT,
        }
    )


def transcript(answer: Answer, created: int, *, include_usage: bool) -> Transcript:
    """The stream of `chat.completion.chunk` events: a token an event, as OpenAI sends them."""

    def event(choices: list[dict[str, object]], usage: object = None) -> bytes:
        chunk: dict[str, object] = {
            "id": answer.id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": answer.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }
        if include_usage:
            chunk["usage"] = usage
        return b"data: " + msgspec.json.encode(chunk) + b"\n\n"

    def choice(delta: dict[str, object], finish_reason: str | None = None) -> bytes:
        return event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}])

    first = None if answer.calls or answer.refusal else ""
    return Transcript(
        head=choice({"role": "assistant", "content": first, "refusal": None}),
        deltas=tuple(choice(delta) for delta in _deltas(answer)),
        finish=choice({}, answer.finish_reason),
        usage=event([], usage_of(answer)) if include_usage else b"",
    )


def _deltas(answer: Answer) -> list[dict[str, object]]:
    deltas: list[dict[str, object]] = [{"reasoning_content": token} for token in split_tokens(answer.reasoning)]
    for index, call in enumerate(answer.calls):
        opening = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        deltas.append({"tool_calls": [opening]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": token}}]}
            for token in split_tokens(call.arguments)
        ]
    deltas += [{"refusal": token} for token in split_tokens(answer.refusal)]
    deltas += [{"content": token} for token in split_tokens(answer.text)]
    return deltas
