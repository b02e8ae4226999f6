"""Gemini's generateContent (ai.google.dev/api/generate-content)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from tests.support.wires.scenes import SIGNATURE, Asked, Played, Refusal

FINISH = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS"}
USAGE = {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18, "cachedContentTokenCount": 3}


def read(body: dict[str, Any], path: str) -> Asked:
    body = body.get("generateContentRequest", body)
    contents = body["contents"]
    parts = [part for content in contents for part in content["parts"]]
    last = [c["parts"] for c in contents if c["role"] == "user"][-1]
    tools = [d["name"] for tool in body.get("tools") or () for d in tool.get("functionDeclarations") or ()]
    config = body.get("generationConfig") or {}
    return Asked(
        text="".join(part.get("text", "") for part in last),
        stream="streamGenerateContent" in path,
        system=" ".join(part["text"] for part in (body.get("systemInstruction") or {}).get("parts") or ()),
        tools=tuple(tools),
        results=tuple(_said(part["functionResponse"]) for part in parts if "functionResponse" in part),
        images=tuple(_image(part) for part in last if part.keys() & {"inlineData", "fileData"}),
        signatures=tuple(part["thoughtSignature"] for part in parts if "thoughtSignature" in part),
        thoughts=tuple(part["text"] for part in parts if part.get("thought")),
        schema=config.get("responseJsonSchema") or config.get("responseSchema"),
    )


def count(words: int) -> dict[str, Any]:
    return {"totalTokens": words, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": words}]}


def _image(part: dict[str, Any]) -> bytes:
    return (
        base64.b64decode(part["inlineData"]["data"]) if "inlineData" in part else part["fileData"]["fileUri"].encode()
    )


def _said(response: dict[str, Any]) -> str:
    found = response["response"]
    return str(found.get("output") or found.get("result") or found)


def _parts(played: Played) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if played.thought:
        parts.append({"text": played.thought, "thought": True})
    for index, piece in enumerate(played.pieces):
        # The signature stands on the first part after the thoughts.
        signed = {"thoughtSignature": SIGNATURE} if played.thought and index == 0 else {}
        parts.append({"text": piece, **signed})
    for index, (_, name, arguments) in enumerate(played.calls):
        signed = {"thoughtSignature": SIGNATURE} if index == 0 else {}
        parts.append({"functionCall": {"name": name, "args": arguments}, **signed})
    return parts


def _answer(parts: list[dict[str, Any]], model: str, finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": model, "responseId": "resp_1"}


def whole(played: Played, model: str, _server: str = "") -> dict[str, Any]:
    return _answer(_parts(played), model, FINISH[played.finish])


def frames(played: Played, model: str, _server: str = "") -> Iterator[bytes]:
    for part in _parts(played):
        yield b"data: " + json.dumps(_answer([part], model)).encode() + b"\r\n\r\n"
    if played.broken:
        yield b'data: {"error": {"code": 500, "message": "The model stumbled.", "status": "INTERNAL"}}\r\n\r\n'
        return
    yield b"data: " + json.dumps(_answer([{"text": ""}], model, FINISH[played.finish])).encode() + b"\r\n\r\n"


def refusal(status: int, server: str) -> Refusal:
    """A key that is none is a 400 at the Gemini API, and a 401 at Vertex AI."""
    names = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
    code = 400 if status == 401 and server != "vertex" else status
    name = names.get(code, "INTERNAL" if code == 500 else "UNAVAILABLE")
    error: dict[str, Any] = {"code": code, "message": f"Refused with {status}.", "status": name}
    if code != status:
        reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
        error["details"] = [{**reason, "domain": "googleapis.com"}]
    if status == 429:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]
    return Refusal(code, {"error": error})
