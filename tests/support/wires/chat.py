"""Chat Completions (platform.openai.com/docs/api-reference/chat)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from tests.support.wires.scenes import SIGNATURE, Asked, Played

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 3}}


def read(body: dict[str, Any], _path: str) -> Asked:
    messages = body["messages"]
    content = [m["content"] for m in messages if m["role"] == "user"][-1]
    parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    kept = [call.get("extra_content") for m in messages for call in m.get("tool_calls") or ()]
    details = [one for m in messages for one in m.get("reasoning_details") or ()]
    return Asked(
        text="".join(part["text"] for part in parts if part["type"] == "text"),
        stream=bool(body.get("stream")),
        system=" ".join(_text(m["content"]) for m in messages if m["role"] in ("system", "developer")),
        tools=tuple(tool["function"]["name"] for tool in body.get("tools") or ()),
        results=tuple(_text(m["content"]) for m in messages if m["role"] == "tool"),
        images=tuple(
            base64.b64decode(part["image_url"]["url"].partition(",")[2])
            for part in parts
            if part["type"] == "image_url"
        ),
        signatures=tuple(
            [extra["google"]["thought_signature"] for extra in kept if extra] + [one["signature"] for one in details]
        ),
        schema=(body.get("response_format") or {}).get("json_schema"),
    )


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _calls(played: Played) -> list[dict[str, Any]]:
    return [
        {
            "index": index,
            "id": id,
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
            "extra_content": {"google": {"thought_signature": SIGNATURE}},
        }
        for index, (id, name, arguments) in enumerate(played.calls)
    ]


def _head(model: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "created": 1, "model": model, "service_tier": "default"}


def whole(played: Played, model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": played.text or None, "tool_calls": _calls(played) or None}
    if played.thought:
        message["reasoning_content"] = played.thought
    choice = {"index": 0, "message": message | played.extra, "finish_reason": played.finish, **played.extra}
    return {**_head(model), **played.extra, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def frames(played: Played, model: str) -> Iterator[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        if delta.get("content"):
            choice = {**choice, "delta": delta | played.extra, **played.extra}
        body = {**_head(model), **played.extra, "object": "chat.completion.chunk", "choices": [choice]}
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    yield chunk({"role": "assistant", "content": ""})
    if played.thought:
        yield chunk({"reasoning_content": played.thought})
    for piece in played.pieces:
        yield chunk({"content": piece})
    for call in _calls(played):
        arguments = call["function"]["arguments"]
        yield chunk({"tool_calls": [call | {"function": call["function"] | {"arguments": ""}}]})
        yield chunk({"tool_calls": [{"index": call["index"], "function": {"arguments": arguments}}]})
    if played.broken:
        yield b'data: {"error": {"message": "The model stumbled.", "type": "server_error", "code": 500}}\n\n'
        return
    yield chunk({}, played.finish)
    yield b"data: " + json.dumps({**_head(model), "choices": [], "usage": USAGE}).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def refusal(status: int) -> dict[str, Any]:
    kinds = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 500: "server_error"}
    return {"error": {"message": f"Refused with {status}.", "type": kinds.get(status, "server_error"), "code": None}}
