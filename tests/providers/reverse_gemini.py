"""Recorded generateContent requests back to the neutral requests that should build them."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from server.core.messages import (
    Audio,
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
)
from server.providers.gemini.kept import Kept, Piece
from tests.providers.conformance import Case

CONFIG = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "maxOutputTokens": "max_tokens",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
}
HOSTED = {"googleSearch": "web_search", "codeExecution": "code_execution", "urlContext": "web_fetch"}
STEPS = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")
TAKEN = {"contents", "systemInstruction", "generationConfig", "tools", "toolConfig"}


def request_from_wire(case: Case) -> tuple[ChatRequest, str] | None:
    """None for a URL that is no call of a model."""
    assert case.request is not None
    match = re.search(r"/models/([^/]+):(?:generateContent|streamGenerateContent)$", _path(case))
    if match is None:
        return None
    model = unquote(match[1])
    body = normalise(case.request["body"])
    config = dict(body.get("generationConfig", {}))
    tool_config = dict(body.get("toolConfig", {}))
    fields = {name: config.pop(wire) for wire, name in CONFIG.items() if wire in config}
    fields["stop"] = tuple(config.pop("stopSequences", ()))
    fields["response_format"] = _format(config)
    fields["thinking"] = _thinking(config)
    functions = [tool for group in body.get("tools", ()) for tool in group.get("functionDeclarations", ())]
    hosted = [item for group in body.get("tools", ()) for item in group.items() if item[0] != "functionDeclarations"]
    fields["tool_choice"] = _choice(tool_config) if functions else None
    system = body.get("systemInstruction", {}).get("parts", [])
    request = ChatRequest(
        messages=(
            *(Message("system", (Text(part["text"]),)) for part in system),
            *(message for content in body["contents"] for message in _messages(content, model)),
        ),
        tools=tuple(_tool(tool) for tool in functions),
        hosted_tools=tuple(HostedTool(HOSTED.get(type, type), json.dumps(options)) for type, options in hosted),
        provider_options=json.dumps(_rest(body, config, tool_config)),
        **fields,
    )
    return request, model


def normalise(body: Any) -> Any:
    """A body in the one spelling that is compared, of several that mean the same to Google.

    Names: proto JSON takes snake_case for camelCase, and both alphabets of base64 (protobuf.dev, ProtoJSON); what is
    empty by default may be left out. Function schemas: `parameters` is an OpenAPI subset that writes types in capitals,
    `parametersJsonSchema` the same as JSON Schema; how functions are grouped into tools says nothing. Roles: that of a
    systemInstruction is ignored, a content without one is the user's (ai.google.dev/api/caching), `function` is the
    user's older name for results.
    """
    body = _camel(body)
    _declared(body)
    _turns(body)
    return body


def _path(case: Case) -> str:
    assert case.request is not None
    return urlsplit(str(case.request["url"])).path


_FREE = {"args", "response", "parametersJsonSchema", "parameters", "responseJsonSchema", "responseSchema", "labels"}


def _camel(value: Any) -> Any:
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for key, item in value.items():
        name = re.sub(r"_([a-z])", lambda match: match[1].upper(), key)
        if name in ("thoughtSignature", "data") and isinstance(item, str):
            out[name] = item.replace("-", "+").replace("_", "/")
        else:
            out[name] = item if name in _FREE else _camel(item)
    return out


def _declared(body: dict[str, Any]) -> None:
    groups = body.get("tools") or []
    functions = [tool for group in groups for tool in group.pop("functionDeclarations", None) or ()]
    for tool in functions:
        if "parameters" in tool:
            tool["parametersJsonSchema"] = _json_schema(tool.pop("parameters"))
        if not tool.get("description"):
            tool.pop("description", None)
    rest = [{name: options} for group in groups for name, options in group.items()]
    tools = [{"functionDeclarations": functions}] if functions else []
    if "tools" in body:
        body["tools"] = tools + sorted(rest, key=lambda tool: next(iter(tool)))
    thinking = (body.get("generationConfig") or {}).get("thinkingConfig") or {}
    if "thinkingLevel" in thinking:
        thinking["thinkingLevel"] = thinking["thinkingLevel"].upper()


def _turns(body: dict[str, Any]) -> None:
    if isinstance(body.get("systemInstruction"), dict):
        body["systemInstruction"].pop("role", None)
    for content in body["contents"]:
        content["role"] = {"function": "user"}.get(content.get("role", "user"), content.get("role", "user"))
        for part in content.get("parts", ()):
            if "functionCall" in part:
                part["functionCall"].setdefault("args", {})


def _json_schema(value: Any) -> Any:
    if isinstance(value, list):
        return [_json_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: item.lower() if key == "type" and isinstance(item, str) else _json_schema(item)
        for key, item in value.items()
    }


def _rest(body: dict[str, Any], config: dict[str, Any], tool_config: dict[str, Any]) -> dict[str, Any]:
    """What a neutral request has no field for: it travels as provider_options."""
    rest = {key: value for key, value in body.items() if key not in TAKEN}
    if "generationConfig" in body:
        rest["generationConfig"] = config
    if "toolConfig" in body:
        rest["toolConfig"] = tool_config
    return rest


def _format(config: dict[str, Any]) -> ResponseFormat | None:
    if config.get("responseMimeType") != "application/json":
        return None
    del config["responseMimeType"]
    if "responseJsonSchema" in config:
        return ResponseFormat("json_schema", schema=json.dumps(config.pop("responseJsonSchema")))
    return ResponseFormat("json_object")


def _thinking(config: dict[str, Any]) -> Thinking | None:
    """The model counts as unknown here, so that a budget and a level go out as they are."""
    wanted = dict(config.pop("thinkingConfig", {}))
    if not wanted:
        return None
    budget, level = wanted.pop("thinkingBudget", None), wanted.pop("thinkingLevel", None)
    include = wanted.pop("includeThoughts", None) if budget != 0 and wanted.get("includeThoughts") else None
    if wanted:
        config["thinkingConfig"] = wanted
    if budget == 0:
        return Thinking("disabled")
    return Thinking("enabled", budget_tokens=budget, effort=level and level.lower(), include=bool(include))


def _choice(tool_config: dict[str, Any]) -> ToolChoice | None:
    calling = dict(tool_config.get("functionCallingConfig", {}))
    mode, names = calling.pop("mode", None), calling.pop("allowedFunctionNames", None)
    if mode is None or mode == "VALIDATED" or (names and len(names) > 1):
        # Several allowed names, and VALIDATED without strict: only provider_options can say it, over a plain choice.
        return None if mode in (None, "VALIDATED") else ToolChoice("required")
    del tool_config["functionCallingConfig"]
    if names:
        return ToolChoice("tool", names[0])
    return ToolChoice({"AUTO": "auto", "NONE": "none", "ANY": "required"}[mode])  # type: ignore[arg-type]


def _tool(tool: dict[str, Any]) -> Tool:
    schema = tool.get("parametersJsonSchema")
    return Tool(tool["name"], tool.get("description"), json.dumps(schema) if schema is not None else None)


def _messages(content: dict[str, Any], model: str) -> Iterator[Message]:
    role = content["role"]
    parts = tuple(part for wire in content.get("parts", ()) for part in _part(wire, role, model))
    if all(isinstance(part, ToolResult) for part in parts):
        yield Message("tool", parts)
    else:
        yield Message("assistant" if role == "model" else "user", parts)


def _part(part: dict[str, Any], role: str, model: str) -> Iterator[Part]:
    signature = part.get("thoughtSignature")

    def opaque(kept: Kept) -> Opaque:
        return Opaque("gemini", model, kept.encoded())

    if "functionCall" in part:
        call = part["functionCall"]
        kept = Kept(signature=signature, id=call.get("id"))
        yield ToolCall(call.get("id") or call["name"], call["name"], json.dumps(call.get("args", {})), opaque(kept))
    elif "functionResponse" in part:
        found = part["functionResponse"]
        content = Text(json.dumps(found["response"]))
        yield ToolResult(found.get("id") or found["name"], (content,), name=found["name"])
    elif any(step in part for step in STEPS):
        yield ServerTool("step", opaque=Opaque("gemini", model, json.dumps(part).encode()))
    elif "inlineData" in part or "fileData" in part:
        yield _media(part)
    elif role == "model":
        thought = bool(part.get("thought"))
        kept = Kept(pieces=(Piece(len(part["text"]), signature, thought),))
        yield Reasoning(part["text"], opaque(kept)) if thought else Text(part["text"], opaque=opaque(kept))
    else:
        yield Text(part["text"])


def _media(part: dict[str, Any]) -> Part:
    if "inlineData" in part:
        inline = part["inlineData"]
        source: Inline | Remote = Inline(inline["mimeType"], b64decode(inline["data"]))
    else:
        source = Remote(part["fileData"]["fileUri"], part["fileData"].get("mimeType", ""))
    kind = source.media_type.partition("/")[0]
    return Audio(source) if kind == "audio" else Image(source) if kind == "image" else Document(source)
