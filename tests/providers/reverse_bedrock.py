"""Recorded Converse requests back to the neutral requests that should build them."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from server.core.messages import (
    Audio,
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
)
from server.providers.bedrock.media import AUDIO, DOCUMENTS, IMAGES
from tests.providers.conformance import Case

TAKEN = {"messages", "system", "inferenceConfig", "toolConfig", "outputConfig", "additionalModelRequestFields"}

SAMPLING = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p"}


def request_from_wire(case: Case) -> tuple[ChatRequest, str] | None:
    """What has no neutral field becomes provider_options. The model stands in the path."""
    assert case.request is not None
    body: dict[str, Any] = case.request["body"]
    model = unquote(case.request["url"].partition("/model/")[2].rpartition("/")[0])
    rest = {key: value for key, value in body.items() if key not in TAKEN}
    extra = dict(body.get("additionalModelRequestFields") or {})
    thinking = extra.pop("thinking", None)
    if extra:
        rest["additionalModelRequestFields"] = extra
    form = ((body.get("outputConfig") or {}).get("textFormat") or {}).get("structure", {}).get("jsonSchema")
    config = body.get("inferenceConfig") or {}
    reader = _Reader(model)
    messages = [message for turn in body["messages"] for message in reader.turn(turn)]
    if body.get("system"):
        messages.insert(0, Message("system", reader.parts(body["system"])))
    tools = (body.get("toolConfig") or {}).get("tools") or []
    request = ChatRequest(
        messages=tuple(messages),
        stop=tuple(config.get("stopSequences") or ()),
        tools=_tools(tools),
        hosted_tools=tuple(HostedTool(tool["systemTool"]["name"]) for tool in tools if "systemTool" in tool),
        tool_choice=_choice((body.get("toolConfig") or {}).get("toolChoice")),
        response_format=_format(form),
        thinking=None if thinking is None else Thinking(thinking["type"], thinking.get("budget_tokens")),
        provider_options=json.dumps(rest) if rest else "",
        **{SAMPLING[name]: value for name, value in config.items() if name in SAMPLING},
    )
    return request, model


class _Reader:
    """Blocks to parts. What a part has no field for goes into its opaque data, as the adapter itself would put it."""

    def __init__(self, model: str) -> None:
        self._model = model

    def turn(self, turn: dict[str, Any]) -> list[Message]:
        parts = self.parts(turn["content"])
        if turn["role"] == "assistant":
            return [Message("assistant", parts)]
        results = tuple(part for part in parts if isinstance(part, ToolResult))
        others = tuple(part for part in parts if not isinstance(part, ToolResult))
        return [Message("tool", results)] * bool(results) + [Message(turn["role"], others)] * bool(others)

    def parts(self, blocks: list[dict[str, Any]]) -> tuple[Part, ...]:
        """A cache point belongs to the part before it."""
        parts: list[Any] = []
        for position, block in enumerate(blocks):
            if "cachePoint" in block:
                continue
            after = blocks[position + 1] if position + 1 < len(blocks) else {}
            parts.append(self._part(block, _cache(after)))
        return tuple(parts)

    def _part(self, block: dict[str, Any], cache: CacheControl | None) -> Part:
        (kind, value), *_ = block.items()
        readers: dict[str, Callable[[], Part]] = {
            "text": lambda: Text(value, cache=cache),
            "json": lambda: Text(json.dumps(value), cache=cache),
            "image": lambda: Image(_source(value, IMAGES), cache=cache),
            "document": lambda: _document(value, cache),
            "audio": lambda: Audio(_source(value, AUDIO)),
            "toolUse": lambda: self._call(value, cache),
            "toolResult": lambda: self._result(value, cache),
            "citationsContent": lambda: self._cited(value, cache),
            "reasoningContent": lambda: self._thought(value),
        }
        return readers[kind]()

    def _call(self, value: dict[str, Any], cache: CacheControl | None) -> Part:
        input = json.dumps(value["input"])
        if value.get("type") != "server_tool_use":
            return ToolCall(value["toolUseId"], value["name"], input, cache=cache)
        rest = self._rest({key: item for key, item in value.items() if key != "input"})
        return ServerTool("toolUse", value["toolUseId"], value["name"], input, opaque=rest)

    def _result(self, value: dict[str, Any], cache: CacheControl | None) -> Part:
        content = self.parts(value["content"])
        return ToolResult(value["toolUseId"], content, value.get("status") == "error", cache=cache)  # type: ignore[arg-type]

    def _cited(self, value: dict[str, Any], cache: CacheControl | None) -> Part:
        text = "".join(piece["text"] for piece in value["content"])
        return Text(text, opaque=self._rest({"citations": value["citations"]}), cache=cache)

    def _thought(self, value: dict[str, Any]) -> Part:
        thought = value.get("reasoningText")
        if thought is None:
            return Reasoning("", self._rest(value))
        return Reasoning(thought["text"], self._rest({key: item for key, item in thought.items() if key != "text"}))

    def _rest(self, rest: dict[str, Any]) -> Opaque:
        return Opaque("bedrock", self._model, json.dumps(rest).encode())


def _cache(block: dict[str, Any]) -> CacheControl | None:
    return CacheControl(block["cachePoint"].get("ttl")) if "cachePoint" in block else None


def _document(value: dict[str, Any], cache: CacheControl | None) -> Document:
    cites = bool((value.get("citations") or {}).get("enabled"))
    return Document(_source(value, DOCUMENTS), value["name"], cites, cache)


def _source(block: dict[str, Any], formats: Any) -> Source:
    media_type = next(name for name, word in formats.items() if word == block["format"])
    if "s3Location" in block["source"]:
        return Remote(block["source"]["s3Location"]["uri"], media_type)
    return Inline(media_type, b64decode(block["source"]["bytes"]))


def _tools(tools: list[dict[str, Any]]) -> tuple[Tool, ...]:
    found = []
    for position, tool in enumerate(tools):
        if spec := tool.get("toolSpec"):
            after = tools[position + 1] if position + 1 < len(tools) else {}
            schema = json.dumps(spec["inputSchema"]["json"])
            found.append(Tool(spec["name"], spec.get("description"), schema, spec.get("strict"), _cache(after)))
    return tuple(found)


def _choice(choice: dict[str, Any] | None) -> ToolChoice | None:
    if choice is None:
        return None
    if "tool" in choice:
        return ToolChoice("tool", choice["tool"]["name"])
    return ToolChoice("required" if "any" in choice else "auto")


def _format(form: dict[str, Any] | None) -> ResponseFormat | None:
    if form is None:
        return None
    return ResponseFormat("json_schema", form.get("name"), form["schema"], description=form.get("description"))


def normalise(body: dict[str, Any]) -> dict[str, Any]:
    """One spelling for what has two: nothing for empty `system`, `inferenceConfig` and `stopSequences`; turns of one
    role that follow one another as one; a tool's JSON object as `json` instead of `text`."""
    out = {key: value for key, value in body.items() if key not in ("system", "inferenceConfig") or value}
    if config := {key: value for key, value in (body.get("inferenceConfig") or {}).items() if value != []}:
        out["inferenceConfig"] = config
    out["messages"] = []
    for turn in body["messages"]:
        content = [_result(block) for block in turn["content"]]
        if out["messages"] and out["messages"][-1]["role"] == turn["role"]:
            out["messages"][-1]["content"] += content
        else:
            out["messages"].append({"role": turn["role"], "content": content})
    return out


def _result(block: dict[str, Any]) -> dict[str, Any]:
    if "toolResult" not in block:
        return block
    content = [_json(inner) for inner in block["toolResult"]["content"]]
    return {"toolResult": {**block["toolResult"], "content": content}}


def _json(block: dict[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(block.get("text", ""))
    except ValueError:
        return block
    return {"json": found} if isinstance(found, dict) else block
