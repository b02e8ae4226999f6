"""Chat Completions (platform.openai.com/docs/api-reference/chat), as the servers that speak it do."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.support.wires.scenes import SIGNATURE, Asked, Played, Refusal

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 3}}

Thoughts = Literal["", "reasoning", "reasoning_content", "reasoning_details", "parts"]
Errors = Literal["object", "xai", "mistral", "number", "text"]


@dataclass(frozen=True)
class Server:
    """How one server differs. thoughts: where they stand in its answers, "" for nowhere. errors: the form of its
    refusals. bad_key: the status of a wrong key. embeds: whether it has embeddings. signs: whether something
    stands beside its calls that must come back, as Gemini's signature does by this wire."""

    thoughts: Thoughts = "reasoning_content"
    errors: Errors = "object"
    bad_key: int = 401
    embeds: bool = True
    signs: bool = True


SERVERS: Mapping[str, Server] = {
    "openai": Server(thoughts="", signs=False),
    "azure": Server(thoughts="", signs=False),
    "groq": Server(thoughts="reasoning", embeds=False),
    "xai": Server(errors="xai", bad_key=400, embeds=False, signs=False),
    "vllm": Server(thoughts="reasoning", errors="number"),
    "ollama": Server(thoughts="reasoning"),
    "llamacpp": Server(errors="number"),
    "lmstudio": Server(errors="text"),
    "deepseek": Server(embeds=False),
    "mistral": Server(thoughts="parts", errors="mistral"),
    "openrouter": Server(thoughts="reasoning_details", errors="number"),
    "custom": Server(),
}
"""By the first segment of the path that they are called by. Facts: docs/providers/compatible.md."""

_MISTRAL_ID = re.compile(r"[A-Za-z0-9]{9}")


def read(body: dict[str, Any], path: str) -> Asked:
    messages = body["messages"]
    content = [m["content"] for m in messages if m["role"] == "user"][-1]
    parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    calls = [call for m in messages for call in m.get("tool_calls") or ()]
    kept = [call.get("extra_content") for call in calls]
    details = [one for m in messages for one in m.get("reasoning_details") or ()]
    if path.startswith("/mistral/"):
        assert all(_MISTRAL_ID.fullmatch(call["id"]) for call in calls), "Tool call id must be a-z, A-Z, 0-9, length 9"
    return Asked(
        text="".join(part["text"] for part in parts if part["type"] == "text"),
        stream=bool(body.get("stream")),
        system=" ".join(_text(m["content"]) for m in messages if m["role"] in ("system", "developer")),
        tools=tuple(tool["function"]["name"] for tool in body.get("tools") or ()),
        results=tuple(_text(m["content"]) for m in messages if m["role"] == "tool"),
        images=tuple(_image(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"),
        signatures=tuple(
            [extra["google"]["thought_signature"] for extra in kept if extra] + [one["signature"] for one in details]
        ),
        thoughts=tuple(thought for m in messages if m["role"] == "assistant" for thought in _thoughts(m)),
        schema=(body.get("response_format") or {}).get("json_schema"),
    )


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _image(url: str) -> bytes:
    return base64.b64decode(url.partition(",")[2]) if url.startswith("data:") else url.encode()


def _thoughts(message: dict[str, Any]) -> list[str]:
    """Those of an earlier answer, wherever they stand."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    found = [message.get("reasoning"), message.get("reasoning_content")]
    found += [one["text"] for one in message.get("reasoning_details") or ()]
    found += [_text(part["thinking"]) for part in parts if part["type"] == "thinking"]
    return [thought for thought in found if thought]


def _calls(played: Played, server: str) -> list[dict[str, Any]]:
    beside = {"extra_content": {"google": {"thought_signature": SIGNATURE}}} if SERVERS[server].signs else {}
    return [
        {
            "index": index,
            "id": f"{id.replace('_', ''):0<9}"[:9] if server == "mistral" else id,
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
            **beside,
        }
        for index, (id, name, arguments) in enumerate(played.calls)
    ]


def _head(model: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "created": 1, "model": model, "service_tier": "default"}


def _thought(played: Played, server: str) -> dict[str, Any]:
    """The members of a message, or of a delta, that show thoughts."""
    place = SERVERS[server].thoughts
    if not played.thought or not place:
        return {}
    match place:
        case "parts":
            return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": played.thought}]}]}
        case "reasoning_details":
            detail = {"type": "reasoning.text", "text": played.thought, "signature": SIGNATURE, "index": 0}
            return {"reasoning": played.thought, "reasoning_details": [detail]}
        case _:
            return {place: played.thought}


def whole(played: Played, model: str, server: str) -> dict[str, Any]:
    thought = _thought(played, server)
    message = {"role": "assistant", "content": played.text or None, "tool_calls": _calls(played, server) or None}
    if "content" in thought:
        thought = {"content": [*thought["content"], {"type": "text", "text": played.text}]}
    message |= thought
    choice = {"index": 0, "message": message | played.extra, "finish_reason": played.finish, **played.extra}
    return {**_head(model), **played.extra, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def frames(played: Played, model: str, server: str) -> Iterator[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        if delta.get("content"):
            choice = {**choice, "delta": delta | played.extra, **played.extra}
        body = {**_head(model), **played.extra, "object": "chat.completion.chunk", "choices": [choice]}
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    yield chunk({"role": "assistant", "content": ""})
    if thought := _thought(played, server):
        yield chunk(thought)
    for piece in played.pieces:
        yield chunk({"content": piece})
    for call in _calls(played, server):
        arguments = call["function"]["arguments"]
        yield chunk({"tool_calls": [call | {"function": call["function"] | {"arguments": ""}}]})
        yield chunk({"tool_calls": [{"index": call["index"], "function": {"arguments": arguments}}]})
    if played.broken:
        yield b'data: {"error": {"message": "The model stumbled.", "type": "server_error", "code": 500}}\n\n'
        return
    yield chunk({}, played.finish)
    yield b"data: " + json.dumps({**_head(model), "choices": [], "usage": USAGE}).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def refusal(status: int, server: str) -> Refusal:
    """In the server's own form."""
    said, message = SERVERS[server], f"Refused with {status}."
    kinds = {400: "invalid_request_error", 401: "invalid_request_error", 404: "not_found_error", 429: "requests"}
    kind = kinds.get(status, "server_error")
    if status == 401:
        message = "Incorrect API key provided."
    status = said.bad_key if status == 401 else status
    match said.errors:
        case "xai":
            return Refusal(status, {"code": "Some requirement was not met", "error": message})
        case "mistral":
            return Refusal(status, {"object": "error", "message": message, "type": kind, "param": None, "code": "1000"})
        case "number":
            return Refusal(status, {"error": {"code": status, "message": message, "type": kind}})
        case "text":
            return Refusal(status, {"error": message})
        case _:
            return Refusal(status, {"error": {"message": message, "type": kind, "param": None, "code": None}})
