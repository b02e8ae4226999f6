"""ChatRequest to the body of POST /responses (platform.openai.com/docs/api-reference/responses/create).

Every call is stateless: `store` is off, and a model that thinks is asked for its thoughts in encrypted form, so that
the whole conversation can be sent again by whoever holds it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from server.core.catalog import ModelInfo
from server.core.events import Warning
from server.core.messages import ChatRequest, HostedTool, ResponseFormat, Tool, ToolChoice
from server.core.ports import ProviderCall
from server.providers.openai_chat.quirks import Fields, ThinkingCall, effort
from server.providers.openai_responses.history import History
from server.providers.openai_responses.servers import Server
from server.providers.openai_responses.types import DIALECT
from server.providers.params import JsonObject, applicable, approximated, merge_options, raw_object, stripped
from server.providers.passthrough import put_back

NO_PARAMETERS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
"""The schema of a tool without arguments: the field is required."""

_PLAIN: Final = ("temperature", "top_p", "top_logprobs", "user")
"""Fields that have the same name and value on the wire."""

ENCRYPTED: Final = "reasoning.encrypted_content"
LOGPROBS: Final = "message.output_text.logprobs"


def build_body(call: ProviderCall, server: Server) -> tuple[JsonObject, tuple[Warning, ...]]:
    """The body, ready to be encoded, and what of the request was changed for it.

    Raises UnsupportedParameter for a part that cannot be left out without changing what is asked.
    """
    request, warnings = applicable(call.request, call.info, server.unsupported)
    history = History(call, server)
    body: JsonObject = {"model": call.model, "input": history.build(request.messages)}
    if request.system is not None:
        body["instructions"] = request.system
    _sampling(body, request, server, warnings)
    tools = _tools(body, request, server, warnings)
    if (wanted := _format(request.response_format)) is not None:
        body["text"] = {"format": wanted}
    _thinking(body, request, call.info, server, warnings)
    include = _includes(call, request, server, tools, sends_thoughts=history.sends_thoughts)
    if include:
        body["include"] = include
    body["store"] = False
    if call.stream:
        body["stream"] = True
    if _is_spoken(request):
        warnings.extend(_pass_on(body, request))
    merge_options(body, request.provider_options)
    return body, (*warnings, *history.warnings)


def _is_spoken(request: ChatRequest) -> bool:
    """Whether the caller speaks this API itself."""
    return request.passthrough is not None and request.passthrough.wire == DIALECT


def _pass_on(body: JsonObject, request: ChatRequest) -> list[Warning]:
    """What the caller's own body of this API holds beyond the neutral request, in its place. Its lists of what to
    include add up, and its word for a summary (`detailed`) is kept."""
    members = {} if request.passthrough is None else request.passthrough.members
    for place in ("text", "reasoning"):
        if place in members:
            body.setdefault(place, {})
    wanted = msgspec.json.decode(members.get("", "{}")).get("include")
    if isinstance(wanted, list):
        body["include"] = list(dict.fromkeys([*body.get("include", ()), *wanted]))
    if "summary" in body.get("reasoning", {}) and "summary" in msgspec.json.decode(members.get("reasoning", "{}")):
        del body["reasoning"]["summary"]
    return put_back(body, request, DIALECT, _text_type)


def _text_type(item: JsonObject) -> str:
    return "output_text" if item.get("role") == "assistant" else "input_text"


def _sampling(body: JsonObject, request: ChatRequest, server: Server, warnings: list[Warning]) -> None:
    for name in _PLAIN:
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.max_tokens is not None:
        body["max_output_tokens"] = max(request.max_tokens, server.min_output_tokens)
        if request.max_tokens < server.min_output_tokens:
            warnings.append(approximated("max_tokens", f"the API takes no less than {server.min_output_tokens}"))
    if request.logprobs is not None and server.logprobs == "field":
        body["logprobs"] = request.logprobs


# --- tools ------------------------------------------------------------------------------------------------------------


def _tools(body: JsonObject, request: ChatRequest, server: Server, warnings: list[Warning]) -> list[JsonObject]:
    tools = [_function(tool, index, warnings) for index, tool in enumerate(request.tools)]
    hosted = [_hosted(tool, index, server) for index, tool in enumerate(request.hosted_tools)]
    if tools or hosted:
        body["tools"] = [*tools, *hosted]
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.tool_choice is not None:
        body["tool_choice"] = _choice(request.tool_choice, request, server)
    return hosted


def _function(tool: Tool, index: int, warnings: list[Warning]) -> JsonObject:
    """A function, flat. strict stays out where it is not given: the server then makes the schema strict if it can."""
    wire: JsonObject = {"type": "function", "name": tool.name}
    if tool.description is not None:
        wire["description"] = tool.description
    wire["parameters"] = (
        NO_PARAMETERS if tool.parameters is None else raw_object(tool.parameters, f"tools[{index}].parameters")
    )
    if tool.strict is not None:
        wire["strict"] = tool.strict
    if tool.cache is not None:
        warnings.append(
            Warning(
                code="parameter_stripped",
                parameter=f"tools[{index}].cache_control",
                message="A tool takes no cache marker; the server caches the beginning of a prompt by itself.",
            )
        )
    return wire


def _hosted(hosted: HostedTool, index: int, server: Server) -> JsonObject:
    """A tool that the server runs: its own type passes as it is."""
    options: dict[str, Any] = {}
    if hosted.options:
        options = msgspec.json.decode(raw_object(hosted.options, f"hosted_tools[{index}].options"))
    return {**server.hosted_tools.get(hosted.type, {"type": hosted.type}), **options}


def _choice(choice: ToolChoice, request: ChatRequest, server: Server) -> str | JsonObject:
    if choice.mode != "tool":
        return choice.mode
    if all(tool.name != choice.name for tool in request.tools):
        for hosted in request.hosted_tools:
            if hosted.type == choice.name:
                return {"type": server.hosted_tools.get(hosted.type, {"type": hosted.type})["type"]}
    return {"type": "function", "name": choice.name}


# --- the answer's form ------------------------------------------------------------------------------------------------


def _format(wanted: ResponseFormat | None) -> JsonObject | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object" or wanted.schema is None:
        return {"type": "json_object"}
    schema: JsonObject = {
        "type": "json_schema",
        "name": wanted.name or "response",
        "schema": raw_object(wanted.schema, "response_format.schema"),
    }
    if wanted.description is not None:
        schema["description"] = wanted.description
    if wanted.strict is not None:
        schema["strict"] = wanted.strict
    return schema


def _thinking(
    body: JsonObject, request: ChatRequest, info: ModelInfo | None, server: Server, warnings: list[Warning]
) -> None:
    """`reasoning`: the level of effort, and whether thoughts are wanted in readable form.

    They are only asked for where the caller wants them: OpenAI refuses to summarise for organisations that it has not
    verified.
    """
    thinking = request.thinking
    traits = info.thinking if info is not None else None
    # A known model that does not think has nothing to turn off.
    if thinking is None or (info is not None and traits is None):
        return
    asked = ThinkingCall(msgspec.structs.replace(thinking, include=None), traits)
    # A caller that speaks this API and names no level means the model's own.
    fields = Fields() if thinking.effort is None and _is_spoken(request) else effort(asked)
    warnings.extend(fields.warnings)
    if thinking.include is False and not server.summary:
        warnings.append(stripped("thinking", "the server shows thoughts whether they are wanted or not (include)"))
    reasoning: JsonObject = {}
    if (level := fields.body.get("reasoning_effort")) is not None:
        reasoning["effort"] = level
    if thinking.include and not asked.off and server.summary:
        reasoning["summary"] = server.summary
    if reasoning:
        body["reasoning"] = reasoning


def _includes(
    call: ProviderCall, request: ChatRequest, server: Server, hosted: list[JsonObject], *, sends_thoughts: bool
) -> list[str]:
    """What the answer shall hold beyond the usual."""
    found: list[str] = []
    if _may_think(call, request) or sends_thoughts:
        found.append(ENCRYPTED)
    found += [server.includes[tool["type"]] for tool in hosted if tool["type"] in server.includes]
    if request.logprobs and server.logprobs == "include":
        found.append(LOGPROBS)
    return list(dict.fromkeys(found))


def _may_think(call: ProviderCall, request: ChatRequest) -> bool:
    """Whether encrypted thoughts can be asked for. A model that never thinks refuses that with a 400 ("Encrypted
    content is not supported with this model."), so of an unknown one they are asked for only if it was told to think.
    """
    if call.info is not None:
        return call.info.thinking is not None
    return request.thinking is not None and not ThinkingCall(request.thinking, None).off
