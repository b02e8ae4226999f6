"""OpenAI's Responses (platform.openai.com/docs/api-reference/responses)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from tests.support.wires.scenes import SIGNATURE, Asked, Played, Refusal

USAGE = {
    "input_tokens": 11,
    "output_tokens": 7,
    "total_tokens": 18,
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens_details": {"reasoning_tokens": 0},
}


def read(body: dict[str, Any], _path: str) -> Asked:
    items = body["input"]
    last = _parts([item["content"] for item in items if item.get("role") == "user"][-1])
    system = [_text(item["content"]) for item in items if item.get("role") in ("system", "developer")]
    thoughts = [item for item in items if item.get("type") == "reasoning"]
    return Asked(
        text="".join(part["text"] for part in last if part["type"] == "input_text"),
        stream=bool(body.get("stream")),
        system=" ".join([body["instructions"]] if body.get("instructions") else system),
        tools=tuple(tool["name"] for tool in body.get("tools") or () if tool["type"] == "function"),
        results=tuple(_text(item["output"]) for item in items if item.get("type") == "function_call_output"),
        images=tuple(_image(part["image_url"]) for part in last if part["type"] == "input_image"),
        signatures=tuple(item["encrypted_content"] for item in thoughts),
        thoughts=tuple(part["text"] for item in thoughts for part in item["summary"]),
        schema=((body.get("text") or {}).get("format") or {}).get("schema"),
    )


def count(words: int) -> dict[str, Any]:
    return {"object": "response.input_tokens", "input_tokens": words}


def _parts(content: Any) -> list[dict[str, Any]]:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


def _text(content: Any) -> str:
    return "".join(part["text"] for part in _parts(content))


def _image(url: str) -> bytes:
    return base64.b64decode(url.partition(",")[2]) if url.startswith("data:") else url.encode()


def _output(played: Played) -> list[dict[str, Any]]:
    """The items of an answer. Calls are thought about too."""
    items: list[dict[str, Any]] = []
    if played.thought or played.calls:
        summary = [{"type": "summary_text", "text": played.thought or "Which tool?"}]
        items.append({"id": "rs_1", "type": "reasoning", "summary": summary, "encrypted_content": SIGNATURE})
    status = "incomplete" if played.finish == "length" else "completed"
    if played.text:
        part = {"type": "output_text", "text": played.text, "annotations": [], "logprobs": []}
        items.append({"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": [part]})
    for id, name, arguments in played.calls:
        call = {"id": f"fc_{id}", "type": "function_call", "status": "completed", "call_id": id, "name": name}
        items.append({**call, "arguments": json.dumps(arguments)})
    return items


def _response(played: Played, model: str, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
    head = {"id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": model, "error": None}
    usage = USAGE if status in ("completed", "incomplete") else None
    return {**head, "incomplete_details": reason, "output": output, "usage": usage, **played.extra}


def _status(played: Played) -> str:
    return "incomplete" if played.finish == "length" else "completed"


def whole(played: Played, model: str, _server: str = "") -> dict[str, Any]:
    return _response(played, model, _status(played), _output(played))


def frames(played: Played, model: str, _server: str = "") -> Iterator[bytes]:
    number = iter(range(10_000))

    def event(type: str, **members: Any) -> bytes:
        data = json.dumps({"type": type, "sequence_number": next(number), **members})
        return f"event: {type}\ndata: {data}\n\n".encode()

    for name in ("created", "in_progress"):
        yield event(f"response.{name}", response=_response(played, model, "in_progress", []))
    for index, item in enumerate(_output(played)):
        at = {"output_index": index, "item_id": item["id"]}
        yield event("response.output_item.added", output_index=index, item=_opened(item))
        for type, members in _pieces(item, played):
            yield event(type, **at, **members)
        if played.broken:
            error = {"code": "server_error", "message": "The model stumbled."}
            # Nested, as production says it (openai/openai-dotnet#881).
            yield event("error", error={"type": "server_error", "param": None, **error})
            yield event("response.failed", response={**_response(played, model, "failed", []), "error": error})
            return
        yield event("response.output_item.done", output_index=index, item=item)
    yield event(f"response.{_status(played)}", response=whole(played, model))


def _opened(item: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, dict[str, Any]] = {
        "message": {"content": []},
        "reasoning": {"summary": []},
        "function_call": {"arguments": ""},
    }
    return {**item, **empty[item["type"]]}


def _pieces(item: dict[str, Any], played: Played) -> Iterator[tuple[str, dict[str, Any]]]:
    match item["type"]:
        case "message":
            empty = {"type": "output_text", "text": "", "annotations": []}
            yield "response.content_part.added", {"content_index": 0, "part": empty}
            for piece in played.pieces:
                yield "response.output_text.delta", {"content_index": 0, "delta": piece, "logprobs": []}
            if not played.broken:
                yield "response.output_text.done", {"content_index": 0, "text": played.text, "logprobs": []}
                yield "response.content_part.done", {"content_index": 0, "part": item["content"][0]}
        case "reasoning":
            (part,) = item["summary"]
            yield "response.reasoning_summary_part.added", {"summary_index": 0, "part": {**part, "text": ""}}
            yield "response.reasoning_summary_text.delta", {"summary_index": 0, "delta": part["text"]}
            yield "response.reasoning_summary_text.done", {"summary_index": 0, "text": part["text"]}
            yield "response.reasoning_summary_part.done", {"summary_index": 0, "part": part}
        case _:
            arguments = item["arguments"]
            yield "response.function_call_arguments.delta", {"delta": arguments[:4]}
            yield "response.function_call_arguments.delta", {"delta": arguments[4:]}
            yield "response.function_call_arguments.done", {"arguments": arguments}


def refusal(status: int, _server: str) -> Refusal:
    kinds = {
        400: ("invalid_request_error", None),
        401: ("invalid_request_error", "invalid_api_key"),
        404: ("invalid_request_error", "model_not_found"),
        429: ("requests", "rate_limit_exceeded"),
    }
    type, code = kinds.get(status, ("server_error", None))
    return Refusal(status, {"error": {"message": f"Refused with {status}.", "type": type, "param": None, "code": code}})
