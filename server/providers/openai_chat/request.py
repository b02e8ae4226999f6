"""ChatRequest to the body of POST /chat/completions (platform.openai.com/docs/api-reference/chat)."""

from __future__ import annotations

from typing import Final

import msgspec

from server.core.errors import UnsupportedParameter
from server.core.events import Warning
from server.core.messages import ChatRequest, HostedTool, ResponseFormat, Tool
from server.core.ports import ProviderCall
from server.providers.openai_chat.history import DIALECT, History, cache_control
from server.providers.openai_chat.presets import Preset
from server.providers.openai_chat.quirks import ThinkingCall
from server.providers.params import JsonObject, applicable, merge_options, raw_object, stripped
from server.providers.passthrough import put_back

NO_PARAMETERS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
"""The schema of a tool without arguments: some servers insist on one."""

_PLAIN: Final = (
    "temperature",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "logprobs",
    "top_logprobs",
    "user",
)
"""Fields that have the same name and value on the wire."""

RESERVED: Final = ("n",)
"""One answer per call: with more, all but the first would be lost."""


def build_body(call: ProviderCall, preset: Preset) -> tuple[JsonObject, tuple[Warning, ...]]:
    """The body, ready to be encoded, and what of the request was changed for it.

    Raises UnsupportedParameter for a part that cannot be left out without changing what is asked.
    """
    request, warnings = applicable(call.request, call.info, preset.unsupported)
    history = History(call, preset)
    body: JsonObject = {"model": call.model, "messages": history.build(request)}
    # What a request does not have is asked for, not called for.
    _sampling(body, request, preset)
    if request.tools or request.hosted_tools or request.tool_choice is not None:
        _tools(body, request, preset, warnings)
    if request.response_format is not None:
        _format(body, request.response_format, preset)
    if request.thinking is not None:
        traits = call.info.thinking if call.info is not None else None
        # A known model that does not think has nothing to turn off.
        if call.info is None or traits is not None:
            fields = preset.thinking(ThinkingCall(request.thinking, traits))
            body |= fields.body
            warnings.extend(fields.warnings)
    if call.stream:
        body["stream"] = True
        if preset.stream_usage:
            body["stream_options"] = {"include_usage": True}
    if request.passthrough is not None:
        warnings.extend(put_back(body, request, DIALECT))
    if request.provider_options:
        merge_options(body, request.provider_options, RESERVED)
    return body, (*warnings, *history.warnings)


def _sampling(body: JsonObject, request: ChatRequest, preset: Preset) -> None:
    for name in _PLAIN:
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.max_tokens is not None:
        body[preset.max_tokens] = request.max_tokens
    if request.stop:
        body["stop"] = list(request.stop)
    if request.seed is not None:
        body[preset.seed] = request.seed


def _tools(body: JsonObject, request: ChatRequest, preset: Preset, warnings: list[Warning]) -> None:
    mode, functions = _choice(request, preset)
    tools: list[JsonObject] = [_function(tool, index, preset, warnings) for index, tool in functions]
    for index, hosted in enumerate(request.hosted_tools):
        _hosted(body, tools, hosted, index, preset)
    if tools:
        body["tools"] = tools
    if request.parallel_tool_calls is not None and tools:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if mode == "tool" and request.tool_choice is not None:
        body["tool_choice"] = {"type": "function", "function": {"name": request.tool_choice.name}}
    elif mode is not None:
        body["tool_choice"] = preset.required if mode == "required" else mode


def _choice(request: ChatRequest, preset: Preset) -> tuple[str | None, list[tuple[int, Tool]]]:
    """The mode to send, and the functions beside it. A mode that the server has no word for is said by the functions
    where they can say it: none at all, or the one that must be called. Raises UnsupportedParameter where not."""
    functions = list(enumerate(request.tools))
    if request.tool_choice is None or request.tool_choice.mode in preset.tool_choices:
        return (request.tool_choice.mode if request.tool_choice is not None else None), functions
    mode, name = request.tool_choice.mode, request.tool_choice.name
    if mode == "auto":
        return None, functions
    if mode == "none" and not request.hosted_tools:
        return None, []
    only = [(index, tool) for index, tool in functions if tool.name == name]
    if mode == "tool" and "required" in preset.tool_choices and only:
        return "required", only
    raise UnsupportedParameter.field("tool_choice", f"{preset.name} knows only {', '.join(preset.tool_choices)}")


def _function(tool: Tool, index: int, preset: Preset, warnings: list[Warning]) -> JsonObject:
    function: JsonObject = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = (
        NO_PARAMETERS if tool.parameters is None else raw_object(tool.parameters, f"tools[{index}].parameters")
    )
    if tool.strict is not None:
        function["strict"] = tool.strict
    wire: JsonObject = {"type": "function", "function": function}
    if tool.cache is not None and preset.cache_control:
        wire["cache_control"] = cache_control(tool.cache.ttl)
    elif tool.cache is not None:
        warnings.append(stripped(f"tools[{index}].cache_control", f"{preset.name} takes no cache markers"))
    return wire


def _hosted(body: JsonObject, tools: list[JsonObject], hosted: HostedTool, index: int, preset: Preset) -> None:
    field = f"hosted_tools[{index}]"
    options = msgspec.json.decode(raw_object(hosted.options, f"{field}.options")) if hosted.options else {}
    if hosted.type == "custom":
        raise UnsupportedParameter.field(field, f"{preset.name} is sent no custom tools in Chat Completions")
    if hosted.type == "web_search" and preset.web_search_options:
        body["web_search_options"] = options
    elif hosted.type in preset.hosted_tools or preset.any_hosted_tool:
        tools.append({"type": preset.hosted_tools.get(hosted.type, hosted.type), **options})
    else:
        raise UnsupportedParameter.field(field, f"{preset.name} runs no {hosted.type} in Chat Completions")


def _format(body: JsonObject, wanted: ResponseFormat, preset: Preset) -> None:
    if wanted.type == "text":
        return
    if wanted.type == "json_schema" and not preset.json_schema:
        raise UnsupportedParameter.field("response_format", f"{preset.name} takes no json_schema; ask for json_object")
    if wanted.type == "json_schema" and wanted.schema is not None:
        schema: JsonObject = {
            "name": wanted.name or "response",
            "schema": raw_object(wanted.schema, "response_format.schema"),
        }
        if wanted.description is not None:
            schema["description"] = wanted.description
        if wanted.strict is not None:
            schema["strict"] = wanted.strict
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return
    body["response_format"] = {"type": "json_object"}
