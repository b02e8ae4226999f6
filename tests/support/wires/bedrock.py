"""Bedrock's Converse and ConverseStream (docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html)."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any
from zlib import crc32

from tests.support.wires.scenes import SIGNATURE, Asked, Played, Refusal

CONTENT_TYPE = "application/vnd.amazon.eventstream"

STOP = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}
USAGE = {
    "inputTokens": 8,
    "outputTokens": 7,
    "totalTokens": 18,
    "cacheReadInputTokens": 3,
    "cacheWriteInputTokens": 0,
}


def read(body: dict[str, Any], path: str) -> Asked:
    body = body["input"]["converse"] if "input" in body else body
    turns = body["messages"]
    blocks = [block for turn in turns for block in turn["content"]]
    last = [turn["content"] for turn in turns if turn["role"] == "user"][-1]
    tools = [tool["toolSpec"]["name"] for tool in (body.get("toolConfig") or {}).get("tools") or ()]
    thoughts = [block["reasoningContent"]["reasoningText"] for block in blocks if "reasoningContent" in block]
    form = ((body.get("outputConfig") or {}).get("textFormat") or {}).get("structure") or {}
    return Asked(
        text="".join(block["text"] for block in last if "text" in block),
        stream=path.endswith("-stream"),
        system=" ".join(block["text"] for block in body.get("system") or () if "text" in block),
        tools=tuple(tools),
        results=tuple(
            "".join(inner["text"] for inner in block["toolResult"]["content"])
            for block in blocks
            if "toolResult" in block
        ),
        images=tuple(base64.b64decode(block["image"]["source"]["bytes"]) for block in last if "image" in block),
        signatures=tuple(thought["signature"] for thought in thoughts),
        thoughts=tuple(thought["text"] for thought in thoughts),
        schema=json.loads(form["jsonSchema"]["schema"]) if form else None,
    )


def count(words: int) -> dict[str, Any]:
    return {"inputTokens": words}


def _content(played: Played) -> list[dict[str, Any]]:
    """Calls are thought about too."""
    content: list[dict[str, Any]] = []
    if played.thought or played.calls:
        thought = {"text": played.thought or "Which tool?", "signature": SIGNATURE}
        content.append({"reasoningContent": {"reasoningText": thought}})
    if played.text:
        content.append({"text": played.text})
    return content + [
        {"toolUse": {"toolUseId": id, "name": name, "input": arguments}} for id, name, arguments in played.calls
    ]


def whole(played: Played, _model: str, _server: str = "") -> dict[str, Any]:
    message = {"role": "assistant", "content": _content(played)}
    end = {"stopReason": STOP[played.finish], "usage": USAGE, "metrics": {"latencyMs": 1}}
    return {"output": {"message": message}, **end, **played.extra}


def frame(headers: dict[str, str], payload: dict[str, Any]) -> bytes:
    """One message of the event stream: prelude and its checksum, headers (7: a string), payload, checksum."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in {**headers, ":content-type": "application/json"}.items()
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(head) + len(body), len(head))
    message = prelude + struct.pack(">I", crc32(prelude)) + head + body
    return message + struct.pack(">I", crc32(message))


def frames(played: Played, _model: str, _server: str = "") -> Iterator[bytes]:
    def event(name: str, **payload: Any) -> bytes:
        return frame({":event-type": name, ":message-type": "event"}, payload)

    yield event("messageStart", role="assistant")
    for index, block in enumerate(_content(played)):
        if call := block.get("toolUse"):
            start = {"toolUse": {"toolUseId": call["toolUseId"], "name": call["name"]}}
            yield event("contentBlockStart", contentBlockIndex=index, start=start)
        for delta in _deltas(block, played):
            yield event("contentBlockDelta", contentBlockIndex=index, delta=delta)
        if played.broken:
            said = {"message": "The model stumbled."}
            yield frame({":exception-type": "modelStreamErrorException", ":message-type": "exception"}, said)
            return
        yield event("contentBlockStop", contentBlockIndex=index)
    yield event("messageStop", stopReason=STOP[played.finish])
    yield event("metadata", usage=USAGE, metrics={"latencyMs": 1})


def _deltas(block: dict[str, Any], played: Played) -> list[dict[str, Any]]:
    if "text" in block:
        return [{"text": piece} for piece in played.pieces]
    if thought := block.get("reasoningContent"):
        return [{"reasoningContent": {name: value}} for name, value in thought["reasoningText"].items()]
    arguments = json.dumps(block["toolUse"]["input"])
    return [{"toolUse": {"input": arguments[:4]}}, {"toolUse": {"input": arguments[4:]}}]


def refusal(status: int, _server: str) -> Refusal:
    """A credential that is none is a 403."""
    types = {
        400: "ValidationException",
        401: "UnrecognizedClientException",
        404: "ResourceNotFoundException",
        429: "ThrottlingException",
        503: "ServiceUnavailableException",
    }
    headers = {"x-amzn-errortype": types.get(status, "InternalServerException")}
    return Refusal(403 if status == 401 else status, {"message": f"Refused with {status}."}, headers)
