"""Anthropic's Messages (platform.claude.com/docs/en/api/messages)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from tests.support.wires.scenes import SIGNATURE, Asked, Played, Refusal

STOP = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}
USAGE = {"input_tokens": 8, "output_tokens": 7, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 0}


def read(body: dict[str, Any], _path: str) -> Asked:
    turns = body["messages"]
    blocks = [(turn["role"], block) for turn in turns for block in _blocks(turn["content"])]
    last = _blocks([turn["content"] for turn in turns if turn["role"] == "user"][-1])
    system = body.get("system") or ""
    return Asked(
        text="".join(block["text"] for block in last if block["type"] == "text"),
        stream=bool(body.get("stream")),
        system=system if isinstance(system, str) else " ".join(block["text"] for block in system),
        tools=tuple(tool["name"] for tool in body.get("tools") or ()),
        results=tuple(_said(block) for _, block in blocks if block["type"] == "tool_result"),
        images=tuple(_image(block["source"]) for block in last if block["type"] == "image"),
        signatures=tuple(block["signature"] for _, block in blocks if block["type"] == "thinking"),
        thoughts=tuple(block["thinking"] for _, block in blocks if block["type"] == "thinking"),
        schema=((body.get("output_config") or {}).get("format") or {}).get("schema"),
    )


def count(words: int) -> dict[str, Any]:
    return {"input_tokens": words}


def _image(source: dict[str, Any]) -> bytes:
    return base64.b64decode(source["data"]) if source["type"] == "base64" else str(source["url"]).encode()


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _said(block: dict[str, Any]) -> str:
    return "".join(inner.get("text", "") for inner in _blocks(block.get("content") or []))


def _content(played: Played) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if played.thought or played.calls:
        content.append({"type": "thinking", "thinking": played.thought or "Which tool?", "signature": SIGNATURE})
    if played.text:
        content.append({"type": "text", "text": played.text})
    return content + [{"type": "tool_use", "id": i, "name": n, "input": arguments} for i, n, arguments in played.calls]


def whole(played: Played, model: str, _server: str = "") -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": _content(played),
        "stop_reason": STOP[played.finish],
        "stop_sequence": None,
        "usage": USAGE,
        **played.extra,
    }


def frames(played: Played, model: str, _server: str = "") -> Iterator[bytes]:
    def event(type: str, **members: Any) -> bytes:
        return f"event: {type}\ndata: {json.dumps({'type': type, **members})}\n\n".encode()

    head = {**whole(Played(extra=played.extra), model), "stop_reason": None, "usage": USAGE | {"output_tokens": 1}}
    yield event("message_start", message=head)
    if played.extra:
        yield event("unheard_of", **played.extra)
    for index, block in enumerate(_content(played)):
        yield event("content_block_start", index=index, content_block=_opened(block))
        for delta in _deltas(block, played):
            yield event("content_block_delta", index=index, delta=delta)
        if played.broken:
            yield event("error", error={"type": "api_error", "message": "The model stumbled."})
            return
        yield event("content_block_stop", index=index)
    yield event("message_delta", delta={"stop_reason": STOP[played.finish], "stop_sequence": None}, usage=USAGE)
    yield event("message_stop")


def _opened(block: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, dict[str, Any]] = {
        "text": {"text": ""},
        "thinking": {"thinking": "", "signature": ""},
        "tool_use": {"input": {}},
    }
    return {**block, **empty[block["type"]]}


def _deltas(block: dict[str, Any], played: Played) -> list[dict[str, Any]]:
    match block["type"]:
        case "text":
            return [{"type": "text_delta", "text": piece} for piece in played.pieces]
        case "thinking":
            thought = {"type": "thinking_delta", "thinking": block["thinking"]}
            return [thought, {"type": "signature_delta", "signature": block["signature"]}]
        case _:
            text = json.dumps(block["input"])
            return [
                {"type": "input_json_delta", "partial_json": text[:4]},
                {"type": "input_json_delta", "partial_json": text[4:]},
            ]


def refusal(status: int, _server: str) -> Refusal:
    kinds = {
        400: "invalid_request_error",
        401: "authentication_error",
        404: "not_found_error",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    error = {"type": kinds.get(status, "api_error"), "message": f"Refused with {status}."}
    return Refusal(status, {"type": "error", "error": error})
