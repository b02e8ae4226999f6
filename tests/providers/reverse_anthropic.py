"""Recorded Messages requests back to the neutral requests that should build them."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

from server.core.messages import (
    CacheControl,
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
    Source,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Uploaded,
)
from tests.providers.conformance import Case

SAME = ("temperature", "top_p", "top_k", "max_tokens")

TAKEN = {
    *SAME, "model", "messages", "system", "stream", "stop_sequences", "tools", "tool_choice", "thinking",
    "output_config", "metadata",
}  # fmt: skip


def request_from_wire(case: Case) -> tuple[ChatRequest, str] | None:
    """What has no neutral field becomes provider_options."""
    assert case.request is not None
    body: dict[str, Any] = case.request["body"]
    rest = {key: value for key, value in body.items() if key not in TAKEN}
    config = dict(body.get("output_config") or {})
    thinking = _thinking(body.get("thinking"), config)
    form = config.pop("format", None)
    if config:
        rest["output_config"] = config
    system = body.get("system")
    reader = _Reader(body["model"])
    messages = [message for turn in body["messages"] for message in reader.turn(turn)]
    if isinstance(system, list):
        messages.insert(0, Message("system", tuple(reader.part(block) for block in system)))
    choice = body.get("tool_choice") or {}
    disabled = choice.get("disable_parallel_tool_use")
    tools = body.get("tools") or []
    request = ChatRequest(
        messages=tuple(messages),
        system=system if isinstance(system, str) else None,
        stop=tuple(body.get("stop_sequences") or ()),
        user=(body.get("metadata") or {}).get("user_id"),
        tools=tuple(_tool(tool) for tool in tools if "input_schema" in tool),
        hosted_tools=tuple(_hosted(tool) for tool in tools if "input_schema" not in tool),
        tool_choice=_choice(choice),
        parallel_tool_calls=None if disabled is None else not disabled,
        response_format=None if form is None else ResponseFormat("json_schema", "it", json.dumps(form["schema"])),
        thinking=thinking,
        provider_options=json.dumps(rest) if rest else "",
        **{name: body[name] for name in SAME if name in body},
    )
    return request, body["model"]


class _Reader:
    """Blocks to parts. What a part has no field for goes into its opaque data, as the adapter itself would put it."""

    def __init__(self, model: str) -> None:
        self._model = model

    def turn(self, turn: dict[str, Any]) -> list[Message]:
        content = turn["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        results = tuple(self.part(block) for block in blocks if block["type"] == "tool_result")
        others = tuple(self.part(block) for block in blocks if block["type"] != "tool_result")
        messages = [Message("tool", results)] if results else []
        return [*messages, Message(turn["role"], others)] if others or not results else messages

    def part(self, block: dict[str, Any]) -> Part:
        cache = _cache(block)
        match block["type"]:
            case "text":
                opaque = self._rest(block, "text") if block.get("citations") else None
                return Text(block["text"], opaque=opaque, cache=cache)
            case "image":
                return Image(_source(block["source"]), cache=cache)
            case "document":
                cites = bool((block.get("citations") or {}).get("enabled"))
                return Document(_source(block["source"]), block.get("title"), cites, cache)
            case "tool_use":
                return ToolCall(block["id"], block["name"], json.dumps(block["input"]), cache=cache)
            case "tool_result":
                content = block.get("content") or ()
                blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
                parts = tuple(self.part(inner) for inner in blocks)
                return ToolResult(block["tool_use_id"], parts, bool(block.get("is_error")), cache=cache)  # type: ignore[arg-type]
            case "thinking":
                return Reasoning(block["thinking"], self._rest(block, "thinking"))
            case "redacted_thinking":
                return Reasoning("", self._rest(block))
            case type:
                return ServerTool(
                    type,
                    input=json.dumps(block["input"]) if "input" in block else "",
                    output=json.dumps(block["content"]) if "content" in block else "",
                    opaque=self._rest(block, "input", "content"),
                )

    def _rest(self, block: dict[str, Any], *said: str) -> Opaque:
        rest = {key: value for key, value in block.items() if key not in said}
        return Opaque("anthropic", self._model, json.dumps(rest).encode())


def _cache(block: dict[str, Any]) -> CacheControl | None:
    marker = block.get("cache_control")
    return CacheControl(marker.get("ttl")) if marker else None


def _source(source: dict[str, Any]) -> Source:
    match source["type"]:
        case "base64":
            return Inline(source["media_type"], b64decode(source["data"]))
        case "text":
            return Inline(source["media_type"], source["data"].encode())
        case "url":
            return Remote(source["url"])
        case _:
            return Uploaded(source["file_id"])


def _tool(tool: dict[str, Any]) -> Tool:
    schema = json.dumps(tool["input_schema"])
    return Tool(tool["name"], tool.get("description"), schema, tool.get("strict"), _cache(tool))


def _hosted(tool: dict[str, Any]) -> HostedTool:
    options = {key: value for key, value in tool.items() if key != "type"}
    return HostedTool(tool["type"], json.dumps(options))


def _choice(choice: dict[str, Any]) -> ToolChoice | None:
    if not choice:
        return None
    return ToolChoice({"any": "required"}.get(choice["type"], choice["type"]), choice.get("name"))  # type: ignore[arg-type]


def _thinking(thinking: dict[str, Any] | None, config: dict[str, Any]) -> Thinking | None:
    """Takes the effort out of output_config where thinking is asked for; alone it has no neutral field."""
    if thinking is None:
        return None
    include = {"summarized": True, "omitted": False}.get(thinking.get("display", ""))
    return Thinking(thinking["type"], thinking.get("budget_tokens"), config.pop("effort", None), include)


def normalise(body: dict[str, Any]) -> dict[str, Any]:
    """One spelling for what has two: content and system as blocks ("using a string for content is shorthand for an
    array of one content block of type text", api/messages), `stream: false` as nothing, null options as none."""
    out = {key: value for key, value in body.items() if not (key == "stream" and not value)}
    out["messages"] = [{**turn, "content": _blocks(turn["content"])} for turn in body["messages"]]
    if "system" in out:
        out["system"] = _blocks(out["system"])
    if "tools" in out:
        out["tools"] = [{key: value for key, value in tool.items() if value is not None} for tool in out["tools"]]
    return out


def _blocks(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    blocks = []
    for block in content:
        if block["type"] == "tool_result" and isinstance(block.get("content"), str):
            blocks.append({**block, "content": _blocks(block["content"])})
        else:
            blocks.append(block)
    return blocks
