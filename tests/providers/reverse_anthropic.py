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

FUNCTION = {"name", "description", "input_schema", "strict", "cache_control"}
ASKED = {"text", "image", "document", "tool_result"}
"""What a turn that is no answer can hold in neutral form."""


def request_from_wire(case: Case) -> tuple[ChatRequest, str] | None:
    """What has no neutral field becomes provider_options."""
    assert case.request is not None
    body: dict[str, Any] = case.request["body"]
    rest = {key: value for key, value in body.items() if key not in TAKEN}
    tools, choice = body.get("tools") or [], body.get("tool_choice") or {}
    if not _neutral_tools(tools):
        rest |= {key: body[key] for key in ("tools", "tool_choice") if key in body}
        tools, choice = [], {}
    config = dict(body.get("output_config") or {})
    thinking = _thinking(body.get("thinking"), config)
    form = config.pop("format", None)
    if config:
        rest["output_config"] = config
    metadata = dict(body.get("metadata") or {})
    user = metadata.pop("user_id", None)
    if metadata:
        rest["metadata"] = metadata
    disabled = choice.get("disable_parallel_tool_use")
    system = body.get("system")
    request = ChatRequest(
        messages=_messages(body, rest),
        system=system if isinstance(system, str) else None,
        stop=tuple(body.get("stop_sequences") or ()),
        user=user,
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


def _neutral_tools(tools: list[dict[str, Any]]) -> bool:
    """Functions with nothing but neutral fields, then the provider's own."""
    own = [tool for tool in tools if "input_schema" not in tool]
    functions = [tool for tool in tools if "input_schema" in tool]
    return tools == functions + own and all(tool.keys() <= FUNCTION for tool in functions)


def _messages(body: dict[str, Any], rest: dict[str, Any]) -> tuple[Message, ...]:
    """Turns to messages; a conversation that holds blocks of no neutral kind goes into provider_options as it is."""
    reader = _Reader(body["model"])
    turns = [{**turn, "content": _blocks(turn["content"])} for turn in body["messages"]]
    if any(block["type"] not in ASKED for turn in turns if turn["role"] != "assistant" for block in turn["content"]):
        rest["messages"] = body["messages"]
        return (Message("user", (Text("(as in provider_options)"),)),)
    messages = [message for turn in turns for message in reader.turn(turn)]
    if isinstance(body.get("system"), list):
        messages.insert(0, Message("system", tuple(reader.part(block) for block in body["system"])))
    return tuple(messages)


class _Reader:
    """Blocks to parts. What a part has no field for goes into its opaque data, as the adapter itself would put it."""

    def __init__(self, model: str) -> None:
        self._model = model

    def turn(self, turn: dict[str, Any]) -> list[Message]:
        blocks = turn["content"]
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
                extra = block.keys() - {"type", "id", "name", "input", "cache_control"}
                opaque = self._rest(block, "id", "name", "input") if extra else None
                return ToolCall(block["id"], block["name"], json.dumps(block["input"]), opaque, cache)
            case "tool_result":
                parts = tuple(self.part(inner) for inner in _blocks(block.get("content") or ()))
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
    return ToolChoice({"any": "required"}.get(choice["type"], choice["type"]), choice.get("name"))


def _thinking(thinking: dict[str, Any] | None, config: dict[str, Any]) -> Thinking | None:
    """Takes the effort out of output_config where thinking is asked for; alone it has no neutral field."""
    if thinking is None:
        return None
    include = {"summarized": True, "omitted": False}.get(thinking.get("display", ""))
    return Thinking(thinking["type"], thinking.get("budget_tokens"), config.pop("effort", None), include)


def normalise(body: dict[str, Any]) -> dict[str, Any]:
    """One spelling for what has two, by api/messages: content and system as blocks ("using a string for content is
    shorthand for an array of one content block of type text"), turns of one role in a row as one ("will be combined
    into a single turn"), null and false for what is then the default as nothing."""
    out = {key: value for key, value in body.items() if value is not None and not (key == "stream" and not value)}
    out["messages"] = _turns(body["messages"])
    if "system" in out:
        out["system"] = _blocks(out["system"])
    if "tools" in out:
        out["tools"] = [{key: value for key, value in tool.items() if value is not None} for tool in out["tools"]]
    return out


def _turns(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in messages:
        blocks = [_block(block) for block in _blocks(message["content"])]
        if turns and turns[-1]["role"] == message["role"]:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": message["role"], "content": blocks})
    return turns


def _block(block: dict[str, Any]) -> dict[str, Any]:
    out = {key: value for key, value in block.items() if value is not None}
    if out["type"] == "tool_result":
        if not out.get("is_error"):
            out.pop("is_error", None)
        out["content"] = [_block(inner) for inner in _blocks(out.get("content") or ())]
    return out


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
