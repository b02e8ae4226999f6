"""ChatRequest to the body of generateContent (ai.google.dev/api/generate-content; google/genai/types.py)."""

from __future__ import annotations

import re
from typing import Any, Final

from server.core.errors import InvalidRequest, UnsupportedParameter
from server.core.events import Warning
from server.core.messages import ChatRequest, HostedTool, Tool
from server.core.ports import ProviderCall
from server.providers.gemini.endpoint import Place
from server.providers.gemini.history import History
from server.providers.gemini.thinking import takes_levels, thinking_config
from server.providers.params import JsonObject, applicable, merge_options, raw_object, stripped

UNSUPPORTED: Final = {"user": "Gemini has no field for the end user"}

_CONFIG: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "max_tokens": "maxOutputTokens",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
"""Request field -> its name in generationConfig; the values are the same."""

_HOSTED: Final = {
    "web_search": "googleSearch",
    "web_fetch": "urlContext",
    "code_execution": "codeExecution",
}
"""Neutral words. Google's own are not versioned; they pass in either of proto JSON's spellings."""


def build_body(call: ProviderCall, place: Place) -> tuple[JsonObject, tuple[Warning, ...]]:
    """The body, ready to be encoded, and what of the request was changed for it.

    Raises UnsupportedParameter for a part that cannot be left out without changing what is asked.
    """
    request, warnings = applicable(call.request, call.info, UNSUPPORTED)
    history = History(call, place)
    body: JsonObject = {"contents": history.contents(request)}
    if system := history.system(request):
        body["systemInstruction"] = {"parts": system}
    config: JsonObject = {}
    _sampling(config, request)
    _format(config, request, warnings)
    if request.thinking is not None:
        thinking, more = thinking_config(request.thinking, call.info)
        warnings += more
        if thinking:
            config["thinkingConfig"] = thinking
    if (resolution := history.media_resolution) is not None:
        config["mediaResolution"] = resolution
    if config:
        body["generationConfig"] = config
    _tools(body, call, request, place, warnings)
    merge_options(body, request.provider_options)
    _one_answer(body)
    return body, (*warnings, *history.warnings)


def _sampling(config: JsonObject, request: ChatRequest) -> None:
    for name, wire in _CONFIG.items():
        if (value := getattr(request, name)) is not None:
            config[wire] = value
    if request.stop:
        config["stopSequences"] = list(request.stop)


def _format(config: JsonObject, request: ChatRequest, warnings: list[Warning]) -> None:
    """JSON Schema goes in its own field: `responseSchema` takes but a subset of OpenAPI's."""
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return
    config["responseMimeType"] = "application/json"
    if wanted.type == "json_schema" and wanted.schema is not None:
        config["responseJsonSchema"] = raw_object(wanted.schema, "response_format.schema")
    if wanted.description is not None:
        warnings.append(stripped("response_format.description", "Gemini takes a schema alone"))


def _tools(body: JsonObject, call: ProviderCall, request: ChatRequest, place: Place, warnings: list[Warning]) -> None:
    tools: list[JsonObject] = []
    if request.tools:
        tools.append({"functionDeclarations": [_function(tool, index) for index, tool in enumerate(request.tools)]})
    tools += [_hosted(hosted, index) for index, hosted in enumerate(request.hosted_tools)]
    if tools:
        body["tools"] = tools
    config: JsonObject = {}
    if calling := _calling(request):
        config["functionCallingConfig"] = calling
    if request.tools and request.hosted_tools and not place.vertex and (call.info is None or takes_levels(call.info)):
        # Both kinds at once are refused without it (Gemini API, from Gemini 3 on).
        config["includeServerSideToolInvocations"] = True
    if config:
        body["toolConfig"] = config
    if request.parallel_tool_calls is False and request.tools:
        warnings.append(stripped("parallel_tool_calls", "Gemini cannot be told to call one tool at a time"))
    if any(tool.cache is not None for tool in request.tools):
        warnings.append(stripped("cache_control", "Gemini takes no cache markers"))


def _calling(request: ChatRequest) -> JsonObject:
    choice = request.tool_choice
    mode = choice.mode if choice is not None else None
    if not request.tools:
        if mode in ("required", "tool"):
            raise UnsupportedParameter.field("tool_choice", "Gemini can only be made to call functions of `tools`")
        return {}
    if choice is not None and mode == "tool":
        return {"mode": "ANY", "allowedFunctionNames": [choice.name]}
    if mode in ("required", "none"):
        return {"mode": "ANY" if mode == "required" else "NONE"}
    if any(tool.strict for tool in request.tools):
        # The model decides as with AUTO, and what it calls fits the schema.
        return {"mode": "VALIDATED"}
    return {"mode": "AUTO"} if mode == "auto" else {}


def _function(tool: Tool, index: int) -> JsonObject:
    function: JsonObject = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parametersJsonSchema"] = raw_object(tool.parameters, f"tools[{index}].parameters")
    return function


def _hosted(hosted: HostedTool, index: int) -> JsonObject:
    options = raw_object(hosted.options, f"hosted_tools[{index}].options") if hosted.options else {}
    return {_HOSTED.get(hosted.type) or _camel(hosted.type): options}


def _camel(word: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), word)


def _one_answer(body: JsonObject) -> None:
    """Of several candidates all but the first would be lost."""
    config: Any = body.get("generationConfig")
    count = config.get("candidateCount", 1) if isinstance(config, dict) else 1
    if count not in (None, 1):
        raise InvalidRequest.field("provider_options.generationConfig.candidateCount", "must be 1: one answer per call")
