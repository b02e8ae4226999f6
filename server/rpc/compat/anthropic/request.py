"""A Messages body to the core's request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from server.core import messages as m
from server.core.errors import InvalidRequest, UnsupportedParameter
from server.rpc.compat.anthropic import types as t
from server.rpc.compat.anthropic.blocks import answer_parts, kind_of, plain_parts
from server.rpc.compat.frame import Unknown, given, passthrough, read

_MODES: Final = {"auto": "auto", "any": "required", "none": "none"}
_THINKING: Final = ("enabled", "disabled", "adaptive")

_VERSION: Final = re.compile(r"_\d{8}$")
"""How the types of Anthropic's own tools end. Any other word is the provider's to judge."""


class MessagesRequest(msgspec.Struct, frozen=True):
    """What is asked for, and whether as a stream."""

    request: m.ChatRequest
    stream: bool


def read_request(data: bytes, betas: Sequence[str] = ()) -> MessagesRequest:
    """The request in a body. betas: what the `anthropic-beta` header names, for a provider of the same wire.

    Raises InvalidRequest, with Anthropic's names for what is wrong.
    """
    body, unknown = read(t.REQUEST, data)
    if not body.messages:
        raise InvalidRequest.field("messages", "must not be empty")
    if body.max_tokens is not None and body.max_tokens < 1:
        raise InvalidRequest.field("max_tokens", f"must be at least 1 (got {body.max_tokens})")
    if betas:
        unknown.setdefault("", {})["betas"] = list(betas)
    functions, hosted = _tools(body.tools or (), unknown)
    thinking = _thinking(body, unknown)
    choice, parallel = _tool_choice(body.tool_choice, functions, hosted)
    messages = _system(body.system, unknown) + _Turns(unknown).messages(body.messages)
    request = m.ChatRequest(
        messages=tuple(messages),
        model=body.model,
        dialect=t.WIRE,
        system=body.system if isinstance(body.system, str) and body.system else None,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        max_tokens=body.max_tokens,
        stop=tuple(body.stop_sequences or ()),
        user=body.metadata.user_id if body.metadata is not None else None,
        tools=functions,
        hosted_tools=hosted,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        response_format=_response_format(body.output_config),
        thinking=thinking,
        passthrough=passthrough(t.WIRE, unknown),
    )
    return MessagesRequest(request, bool(body.stream))


def _system(system: str | list[t.Block] | None, unknown: Unknown) -> list[m.Message]:
    """Blocks of system text as a message ahead, which keeps their cache markers."""
    if system is None or isinstance(system, str):
        return []
    parts = plain_parts(system, "system", unknown)
    for index, part in enumerate(parts):
        if not isinstance(part, m.Text):
            raise InvalidRequest.field(f"system[{index}]", "must be text")
    return [m.Message("system", tuple(parts))] if parts else []


class _Turns:
    """The conversation. Results of tools are messages of their own in the core, ahead of what else the user says.

    unknown: gets the members of users' blocks, by the place that they will have at a provider of this wire: results
    first, and in one turn with what follows them.
    """

    def __init__(self, unknown: Unknown) -> None:
        self._unknown = unknown
        self._turn = -1
        self._blocks = 0
        self._open_results = False

    def messages(self, messages: Sequence[t.Message]) -> list[m.Message]:
        """All of them, in order."""
        found: list[m.Message] = []
        for index, message in enumerate(messages):
            place = f"messages[{index}]"
            match message.role:
                case "assistant":
                    self._next()
                    found.append(m.Message("assistant", tuple(answer_parts(message.content, f"{place}.content"))))
                case "user":
                    found += self._user(message, place)
                case "system":
                    self._next()
                    parts = plain_parts(message.content, f"{place}.content", {})
                    found.append(m.Message("system", tuple(parts)))
                case _:
                    raise InvalidRequest.field(f"{place}.role", "must be user, assistant or system")
        return found

    def _next(self) -> None:
        self._turn, self._blocks, self._open_results = self._turn + 1, 0, False

    def _user(self, message: t.Message, place: str) -> list[m.Message]:
        if not message.content:
            raise InvalidRequest.field(f"{place}.content", "must not be empty")
        own: Unknown = {}
        parts = plain_parts(message.content, f"{place}.content", own)
        results = [part for part in parts if isinstance(part, m.ToolResult)]
        others = [part for part in parts if not isinstance(part, m.ToolResult)]
        if not self._open_results:
            self._next()
        ordered = sorted(range(len(parts)), key=lambda index: not isinstance(parts[index], m.ToolResult))
        for position, index in enumerate(ordered):
            self._move(own, f"{place}.content[{index}]", f"messages[{self._turn}].content[{self._blocks + position}]")
        self._blocks += len(parts)
        self._open_results = bool(results) and not others
        found = [m.Message("tool", tuple(results))] if results else []
        return [*found, m.Message("user", tuple(others))] if others else found

    def _move(self, own: Unknown, here: str, there: str) -> None:
        for place, members in own.items():
            if place == here or place.startswith((f"{here}.", f"{here}[")):
                self._unknown[there + place.removeprefix(here)] = members


# --- tools ------------------------------------------------------------------------------------------------------------


def _tools(tools: Sequence[t.Block], unknown: Unknown) -> tuple[tuple[m.Tool, ...], tuple[m.HostedTool, ...]]:
    """A tool with no type, or `custom`, is the caller's; any other is one that Anthropic runs, or knows by its type."""
    functions: list[m.Tool] = []
    hosted: list[m.HostedTool] = []
    for index, tool in enumerate(tools):
        place = f"tools[{index}]"
        kind = kind_of(tool, place) if given(tool.get("type", t.ABSENT)) else "custom"
        if kind != "custom":
            rest = {name: value for name, value in tool.items() if name != "type"}
            options = msgspec.json.encode(rest).decode() if rest else ""
            hosted.append(m.HostedTool(kind, options, t.WIRE if _VERSION.search(kind) else ""))
            continue
        read_tool, more = read(t.TOOL, msgspec.json.encode(tool), place)
        for inner, members in more.items():
            # Functions come first at a provider of this wire.
            unknown[f"tools[{len(functions)}]" + inner.removeprefix(place)] = members
        marker = read_tool.cache_control
        functions.append(
            m.Tool(
                read_tool.name,
                read_tool.description,
                bytes(read_tool.input_schema).decode() if given(read_tool.input_schema) else None,
                read_tool.strict,
                None if marker is None else m.CacheControl(marker.ttl),
            )
        )
    return tuple(functions), tuple(hosted)


def _tool_choice(
    choice: t.ToolChoice | None, tools: Sequence[m.Tool], hosted: Sequence[m.HostedTool]
) -> tuple[m.ToolChoice | None, bool | None]:
    if choice is None:
        return None, None
    alone = choice.disable_parallel_tool_use
    parallel = None if alone is None else not alone
    if choice.type == "tool":
        if not choice.name or (not hosted and choice.name not in {tool.name for tool in tools}):
            raise InvalidRequest.field("tool_choice.name", "must be the name of one of the tools")
        return m.ToolChoice("tool", choice.name), parallel
    if choice.type not in _MODES:
        raise InvalidRequest.field("tool_choice.type", "must be auto, any, tool or none")
    # "auto" with nothing else is what no choice means, and some servers take none without tools.
    return m.ToolChoice(_MODES[choice.type]), parallel  # type: ignore[arg-type]  # values of the core's modes


# --- how to answer ----------------------------------------------------------------------------------------------------


def _response_format(config: t.OutputConfig | None) -> m.ResponseFormat | None:
    form = config.format if config is not None else None
    if form is None:
        return None
    if form.type != "json_schema" or not given(form.schema):
        raise UnsupportedParameter.field("output_config.format", "must be a json_schema with its schema")
    return m.ResponseFormat("json_schema", "response", bytes(form.schema).decode(), strict=True)


def _thinking(body: t.Request, unknown: Unknown) -> m.Thinking | None:
    """Thinking and effort, which are apart at Anthropic and one in the core."""
    config = body.thinking
    effort = body.output_config.effort if body.output_config is not None else None
    if config is None:
        if effort is None:
            return None
        # Elsewhere effort is how one asks for thoughts; here it does not, so nothing must be said about them.
        unknown.setdefault("", {})["thinking"] = None
        return m.Thinking("enabled", effort=effort)
    if config.type not in _THINKING:
        unknown.setdefault("", {})["thinking"] = msgspec.to_builtins(config)
        return m.Thinking("enabled", effort=effort) if effort is not None else None
    include = None if config.display is None else config.display != "omitted"
    return m.Thinking(config.type, config.budget_tokens, effort, include)  # type: ignore[arg-type]  # one of three
