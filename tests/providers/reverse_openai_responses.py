"""Recorded Responses requests back to the neutral requests that should build them."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

from server.core.messages import (
    ChatRequest,
    Document,
    HostedTool,
    Image,
    Inline,
    Message,
    Opaque,
    Part,
    Reasoning,
    Remote,
    ResponseFormat,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Uploaded,
)
from server.providers.openai_responses.servers import SERVERS
from tests.providers.conformance import Case

ENCRYPTED = "reasoning.encrypted_content"

SAME = ("temperature", "top_p", "top_logprobs", "user", "parallel_tool_calls")

TAKEN = {
    *SAME, "model", "input", "instructions", "stream", "store", "max_output_tokens", "tools", "tool_choice", "text",
    "reasoning", "include", "logprobs",
}  # fmt: skip


def request_from_wire(case: Case) -> tuple[ChatRequest, str] | None:
    assert case.request is not None
    body: dict[str, Any] = {key: value for key, value in case.request["body"].items() if value is not None}
    slug = case.provider if case.provider in SERVERS else "openai"
    options = {key: value for key, value in body.items() if key not in TAKEN}
    text = body.get("text") or {}
    if rest := {key: value for key, value in text.items() if key != "format"}:
        options["text"] = rest
    reasoning = body.get("reasoning") or {}
    if rest := {key: value for key, value in reasoning.items() if key != "effort" and value != "auto"}:
        options["reasoning"] = rest
    request = ChatRequest(
        messages=tuple(_messages(body["input"], slug, body["model"])),
        system=body.get("instructions"),
        max_tokens=body.get("max_output_tokens"),
        tools=tuple(_tool(tool) for tool in body.get("tools") or () if tool["type"] == "function"),
        hosted_tools=tuple(_hosted(tool) for tool in body.get("tools") or () if tool["type"] != "function"),
        tool_choice=_choice(body.get("tool_choice")),
        response_format=_format(text.get("format")),
        thinking=_thinking(reasoning),
        logprobs=body.get("logprobs") or ("message.output_text.logprobs" in body.get("include", ()) or None),
        provider_options=json.dumps(options) if options else "",
        **{name: body[name] for name in SAME if name in body},
    )
    return request, body["model"]


def _messages(items: Any, slug: str, model: str) -> list[Message]:
    if isinstance(items, str):
        return [Message("user", (Text(items),))]
    return [_message(item, slug, model) for item in items]


def _message(item: dict[str, Any], slug: str, model: str) -> Message:
    kind = item.get("type", "message")
    if kind == "message":
        role = {"developer": "system"}.get(item["role"], item["role"])
        kept = Opaque(slug, model, json.dumps({"phase": item["phase"]}).encode()) if "phase" in item else None
        return Message(role, tuple(_parts(item["content"], kept)))
    if kind == "function_call":
        return Message("assistant", (ToolCall(item["call_id"], item["name"], item["arguments"]),))
    if kind == "function_call_output":
        return Message("tool", (ToolResult(item["call_id"], tuple(_parts(item["output"]))),))  # type: ignore[arg-type]
    raw = Opaque(slug, model, json.dumps(item).encode())
    return Message("assistant", (Reasoning("", raw) if kind == "reasoning" else ServerTool(kind, opaque=raw),))


def _parts(content: Any, kept: Opaque | None = None) -> list[Part]:
    if isinstance(content, str):
        return [Text(content, opaque=kept)]
    parts: list[Part] = []
    for part in content:
        if part["type"] in ("input_text", "output_text"):
            parts.append(Text(part["text"], opaque=kept))
        elif part["type"] == "input_image":
            parts.append(Image(_source(part, "image_url"), part.get("detail")))
        else:
            key = "file_data" if "file_data" in part else "file_url"
            parts.append(Document(_source(part, key), part.get("filename")))
    return parts


def _source(part: dict[str, Any], key: str) -> Inline | Remote | Uploaded:
    if "file_id" in part:
        return Uploaded(part["file_id"])
    head, _, data = part[key].partition(";base64,")
    return Inline(head.removeprefix("data:"), b64decode(data)) if data else Remote(part[key])


def _tool(tool: dict[str, Any]) -> Tool:
    parameters = json.dumps(tool["parameters"]) if tool.get("parameters") is not None else None
    return Tool(tool["name"], tool.get("description"), parameters, tool.get("strict"))


def _hosted(tool: dict[str, Any]) -> HostedTool:
    return HostedTool(tool["type"], json.dumps({key: value for key, value in tool.items() if key != "type"}))


def _choice(choice: Any) -> ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, dict):
        return ToolChoice("tool", choice["name"])
    return ToolChoice(choice)


def _format(wanted: dict[str, Any] | None) -> ResponseFormat | None:
    if wanted is None:
        return None
    schema = json.dumps(wanted["schema"]) if "schema" in wanted else None
    return ResponseFormat(wanted["type"], wanted.get("name"), schema, wanted.get("strict"), wanted.get("description"))


def _thinking(reasoning: dict[str, Any]) -> Thinking | None:
    if not reasoning:
        return None
    return Thinking("enabled", effort=reasoning.get("effort"), include=reasoning.get("summary") == "auto" or None)


def normalise(body: dict[str, Any]) -> dict[str, Any]:
    """A body without what says nothing (nulls, stream: false, an empty turn), without `store`, which is always off
    here, and in one spelling where the API has several."""
    out = {key: value for key, value in body.items() if value is not None and key not in ("store", "stream")}
    items = [{"role": "user", "content": body["input"]}] if isinstance(body["input"], str) else body["input"]
    out["input"] = [item for item in map(_normal_item, items) if item.get("content") != "" or "type" in item]
    if "tools" in out:
        out["tools"] = [{key: value for key, value in tool.items() if value is not None} for tool in out["tools"]]
    if "include" in out:
        out["include"] = sorted(out["include"])
    if (out.get("text") or {}).get("format") == {"type": "text"}:
        out["text"] = {key: value for key, value in out["text"].items() if key != "format"}
        if not out["text"]:
            del out["text"]
    return out


def _normal_item(item: dict[str, Any]) -> dict[str, Any]:
    out = {key: value for key, value in item.items() if value is not None}
    kind = out.get("type", "message")
    if kind == "message":
        out.pop("type", None)
        out = {key: value for key, value in out.items() if key not in ("id", "status")}
    elif kind == "function_call":
        out = {key: value for key, value in out.items() if key not in ("id", "status")}
    if out.get("role") == "developer":
        out["role"] = "system"
    content = out.get("content")
    if kind == "message" and isinstance(content, list) and len(content) == 1 and "text" in content[0]:
        out["content"] = content[0]["text"]
    return out
