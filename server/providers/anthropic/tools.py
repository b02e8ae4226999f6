"""Tools, the caller's and Anthropic's own, and the choice between them; and which betas a body needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from server.core.catalog import ModelInfo
from server.core.errors import InvalidRequest, UnsupportedParameter
from server.core.messages import CacheControl, ChatRequest, HostedTool, Tool
from server.core.ports import ProviderCall
from server.providers.params import JsonObject, raw_object

NO_PARAMETERS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
"""The schema of a tool without arguments: the API insists on one."""

NEWEST: Final = {"web_search": "web_search_20260318", "code_execution": "code_execution_20260521"}
"""What the neutral words mean (anthropic-sdk-python `types/tool_union_param.py`)."""

BASIC: Final = {"web_search": "web_search_20250305", "code_execution": "code_execution_20250825"}
"""What they mean to models before 4.6: later web searches filter by code, which "is available with Claude 4.6 and later
models" (platform.claude.com/docs, web-search-tool); later code execution is not documented for them."""

_BEFORE_4_6: Final = re.compile(r"claude-(?:3.*|(?:opus|sonnet|haiku)-4(?:-[0-5])?(?:[-@]20\d{6})?)")
"""Names of these models, with or without a date."""

_VERSION: Final = re.compile(r"_\d{8}$")

_NAMES: Final = {
    "text_editor_20250124": "str_replace_editor",
    "text_editor_20250429": "str_replace_based_edit_tool",
    "text_editor_20250728": "str_replace_based_edit_tool",
}
"""A versioned tool's name is its type without the version, these excepted."""

FILES_BETA: Final = "files-api-2025-04-14"
INTERLEAVED_BETA: Final = "interleaved-thinking-2025-05-14"

_BODY_BETAS: Final = {
    "context_management": "context-management-2025-06-27",
    "mcp_servers": "mcp-client-2025-11-20",
    "output_format": "structured-outputs-2025-11-13",
    "speed": "fast-mode-2026-02-01",
}
"""Members of a body that only a beta takes (anthropic-sdk-python `types/beta`, `anthropic_beta_param.py`)."""

_TOOL_BETAS: Final = {
    "code_execution_20250522": "code-execution-2025-05-22",
    "computer_20241022": "computer-use-2024-10-22",
    "computer_20250124": "computer-use-2025-01-24",
    "computer_20251124": "computer-use-2025-11-24",
    "advisor_20260301": "advisor-tool-2026-03-01",
}
"""The same for tools; all others of the SDK's `ToolUnionParam` are past their beta."""

_EDIT_BETAS: Final = {"compact_20260112": "compact-2026-01-12"}

_BETA: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")


def build_tools(request: ChatRequest, call: ProviderCall) -> list[JsonObject]:
    """The body's `tools`. Raises UnsupportedParameter for a tool that the model has not."""
    tools = [_function(tool, index) for index, tool in enumerate(request.tools)]
    return tools + [_hosted(hosted, index, call) for index, hosted in enumerate(request.hosted_tools)]


def _function(tool: Tool, index: int) -> JsonObject:
    wire: JsonObject = {"name": tool.name}
    if tool.description is not None:
        wire["description"] = tool.description
    wire["input_schema"] = (
        NO_PARAMETERS if tool.parameters is None else raw_object(tool.parameters, f"tools[{index}].parameters")
    )
    if tool.strict is not None:
        wire["strict"] = tool.strict
    if tool.cache is not None:
        wire["cache_control"] = cache_control(tool.cache)
    return wire


def _hosted(hosted: HostedTool, index: int, call: ProviderCall) -> JsonObject:
    field = f"server_tools[{index}]"
    type = hosted.type
    if type in NEWEST:
        if call.info is not None and type not in call.info.capabilities:
            raise UnsupportedParameter.field(field, f"{call.model} has no {type}")
        type = (BASIC if _is_before_4_6(call.model, call.info) else NEWEST)[type]
    wire: JsonObject = {"type": type}
    if _VERSION.search(type):
        wire["name"] = _NAMES.get(type) or _VERSION.sub("", type)
    if hosted.options:
        wire |= msgspec.json.decode(raw_object(hosted.options, f"{field}.options"))
    return wire


def _is_before_4_6(model: str, info: ModelInfo | None) -> bool:
    return _BEFORE_4_6.fullmatch(info.model if info is not None else model) is not None


def build_tool_choice(request: ChatRequest, call: ProviderCall, *, budget: int) -> JsonObject | None:
    """The body's `tool_choice`. budget: tokens to think with, 0 for none. Raises UnsupportedParameter for a model that
    cannot be made to call a tool, or not while it thinks by a budget."""
    choice = request.tool_choice
    mode = choice.mode if choice is not None else "auto"
    if mode in ("required", "tool") and call.info is not None:
        if not call.info.forced_tool_choice:
            raise UnsupportedParameter.field("tool_choice", f"{call.model} cannot be told that it must call a tool")
        if budget:
            why = f"{call.model} cannot be told that it must call a tool while it thinks by a token budget"
            raise UnsupportedParameter.field("tool_choice", why)
    if choice is None and request.parallel_tool_calls is None:
        return None
    wire: JsonObject = {"type": {"required": "any"}.get(mode, mode)}
    if choice is not None and mode == "tool":
        wire["name"] = choice.name
    if request.parallel_tool_calls is not None and mode != "none":
        wire["disable_parallel_tool_use"] = not request.parallel_tool_calls
    return wire


def cache_control(cache: CacheControl) -> JsonObject:
    """The marker; the API takes ttl 5m and 1h."""
    return {"type": "ephemeral"} if cache.ttl is None else {"type": "ephemeral", "ttl": cache.ttl}


def asked_betas(value: object) -> list[str]:
    """`provider_options.betas`: names as a list, or as the header has them. Raises InvalidRequest for anything else."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(n, str) and _BETA.fullmatch(n.strip()) for n in names):
        raise InvalidRequest.field("provider_options.betas", "must be a list of the names of betas")
    return [name.strip() for name in names]


def needed_betas(body: Mapping[str, Any], *, files: bool) -> list[str]:
    """What a finished body needs. files: whether it names a file that was uploaded beforehand."""
    found = [FILES_BETA] if files else []
    found += [beta for member, beta in _BODY_BETAS.items() if body.get(member)]
    management = body.get("context_management")
    if isinstance(management, dict):
        found += _of_types(management.get("edits"), _EDIT_BETAS)
    return found + _of_types(body.get("tools"), _TOOL_BETAS)


def _of_types(rows: object, betas: Mapping[str, str]) -> list[str]:
    types = [str(row.get("type")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [betas[type] for type in types if type in betas]
