"""toolConfig: the caller's tools, the provider's own, and the choice between them (service model,
ToolConfiguration)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from server.core.errors import UnsupportedParameter
from server.core.events import Warning
from server.core.messages import CacheControl, ChatRequest, HostedTool, Tool, ToolChoice
from server.core.ports import ProviderCall
from server.providers.bedrock.families import UNKNOWN, family_of
from server.providers.params import JsonObject, approximated, raw_object, stripped

NO_PARAMETERS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
"""The schema of a tool without arguments: Converse insists on one."""

SYSTEM_TOOLS: Final = {"web_search": "nova_grounding", "code_execution": "nova_code_interpreter"}
"""What the neutral words mean: the system tools of Nova 2, the only ones that Converse has (Nova 2 user guide, "Using
tools")."""

NOT_NOW: Final = "Not available in this turn. Do not call it."


class ToolFields(msgspec.Struct, frozen=True):
    """config: the body's toolConfig, None for none. choice: `tool_choice` for additionalModelRequestFields, where
    Converse's own has no word for what was asked."""

    config: JsonObject | None = None
    choice: JsonObject | None = None
    warnings: tuple[Warning, ...] = ()


def build_tools(request: ChatRequest, call: ProviderCall, used: Iterable[str], *, budget: int) -> ToolFields:
    """used: names of tools in the history, which must then be declared (pydantic/pydantic-ai#5929). budget: tokens to
    think with, 0 for none. Raises UnsupportedParameter for what neither Converse nor the model can be told."""
    caching = call.info is None or "prompt_caching" in call.info.capabilities
    tools: list[JsonObject] = []
    for index, tool in enumerate(request.tools):
        tools.append({"toolSpec": _spec(tool, index)})
        if tool.cache is not None and caching:
            tools.append(cache_point(tool.cache))
    tools += [_hosted(hosted, index, call) for index, hosted in enumerate(request.hosted_tools)]
    choice = request.tool_choice
    speaks_claude = family_of(call).name == "anthropic"
    if not tools or (choice is not None and choice.mode == "none" and not speaks_claude):
        return _none(used, speaks_claude=speaks_claude)
    _check_choice(choice, call, budget=budget)
    if not _in_claude_words(request, call):
        config: JsonObject = {"tools": tools}
        if choice is not None:
            config["toolChoice"] = _choice(choice)
        warnings: tuple[Warning, ...] = ()
        if _forbids_parallel(request):
            warnings = (stripped("parallel_tool_calls", "Converse cannot forbid this model parallel calls"),)
        return ToolFields(config, warnings=warnings)
    return ToolFields({"tools": tools}, _claude_choice(choice, parallel=request.parallel_tool_calls is not False))


def _spec(tool: Tool, index: int) -> JsonObject:
    spec: JsonObject = {"name": tool.name}
    if tool.description:
        spec["description"] = tool.description
    schema = NO_PARAMETERS if tool.parameters is None else raw_object(tool.parameters, f"tools[{index}].parameters")
    spec["inputSchema"] = {"json": schema}
    if tool.strict is not None:
        spec["strict"] = tool.strict
    return spec


def _hosted(hosted: HostedTool, index: int, call: ProviderCall) -> JsonObject:
    field = f"server_tools[{index}]"
    name = SYSTEM_TOOLS.get(hosted.type)
    if name is not None and call.info is not None and hosted.type not in call.info.capabilities:
        raise UnsupportedParameter.field(field, f"{call.model} has no {hosted.type}")
    tool: JsonObject = {"name": name or hosted.type}
    if hosted.options:
        tool |= msgspec.json.decode(raw_object(hosted.options, f"{field}.options"))
    return {"systemTool": tool}


def _check_choice(choice: ToolChoice | None, call: ProviderCall, *, budget: int) -> None:
    if choice is None or choice.mode not in ("required", "tool") or call.info is None:
        return
    if not call.info.forced_tool_choice:
        raise UnsupportedParameter.field("tool_choice", f"{call.model} cannot be told that it must call a tool")
    if budget:
        why = f"{call.model} cannot be told that it must call a tool while it thinks by a token budget"
        raise UnsupportedParameter.field("tool_choice", why)


def _in_claude_words(request: ChatRequest, call: ProviderCall) -> bool:
    """Whether the choice is to be said in Anthropic's words, to a model that understands them: `none`, or one call at
    a time."""
    family = family_of(call)
    if request.tool_choice is not None and request.tool_choice.mode == "none":
        return True
    return _forbids_parallel(request) and (family.name == "anthropic" or family is UNKNOWN)


def _forbids_parallel(request: ChatRequest) -> bool:
    return request.parallel_tool_calls is False and "parallel_tool_calls" not in request.defaults


def _claude_choice(choice: ToolChoice | None, *, parallel: bool) -> JsonObject:
    """The whole choice in Anthropic's words. It is said once: beside toolConfig.toolChoice it would be refused, and
    without a type too (BerriAI/litellm#34347 and #36536, both seen at the live API)."""
    mode = choice.mode if choice is not None else "auto"
    wire: JsonObject = {"type": {"required": "any"}.get(mode, mode)}
    if choice is not None and mode == "tool":
        wire["name"] = choice.name
    if not parallel and mode != "none":
        wire["disable_parallel_tool_use"] = True
    return wire


def _choice(choice: ToolChoice) -> JsonObject:
    if choice.mode == "tool":
        return {"tool": {"name": choice.name}}
    return {"any" if choice.mode == "required" else "auto": {}}


def _none(used: Iterable[str], *, speaks_claude: bool) -> ToolFields:
    """No tools for this turn. Converse refuses a history of tool calls without a toolConfig: their names are declared
    as not available, and to Claude it is also said that none may be called."""
    names = sorted(set(used))
    if not names:
        return ToolFields()
    stubs: list[JsonObject] = [
        {"toolSpec": {"name": name, "description": NOT_NOW, "inputSchema": {"json": NO_PARAMETERS}}} for name in names
    ]
    how = "Converse wants the tools of a history declared; they were, as not available"
    choice: JsonObject | None = {"type": "none"} if speaks_claude else None
    return ToolFields({"tools": stubs}, choice, (approximated("tools", how),))


def cache_point(cache: CacheControl) -> JsonObject:
    """The marker behind what is worth caching; ttl is 5m or 1h."""
    return {"cachePoint": {"type": "default"} if cache.ttl is None else {"type": "default", "ttl": cache.ttl}}
