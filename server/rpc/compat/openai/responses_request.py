"""A response request's body to the core's request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from server.core import messages as m
from server.core.errors import InvalidRequest, UnsupportedParameter, Violation
from server.rpc.compat.frame import Unknown, given, passthrough, read
from server.rpc.compat.openai import responses_types as t
from server.rpc.compat.openai.responses_items import read_input

_MODES: Final = ("auto", "none", "required")
_ENCRYPTED: Final = "reasoning.encrypted_content"
_LOGPROBS: Final = "message.output_text.logprobs"

_ECHOED: Final[tuple[str, ...]] = (
    "instructions", "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls", "prompt_cache_key",
    "reasoning", "safety_identifier", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p",
    "truncation", "user",
)  # fmt: skip
"""Members that an answer repeats, as OpenAI's does."""


class ResponseRequest(msgspec.Struct, frozen=True):
    """What is asked for, and how it is to be answered. echo: members of the request that the answer repeats.
    custom_tools: names of tools whose calls have text instead of JSON. origins: the input item that each message begins
    with."""

    request: m.ChatRequest
    stream: bool
    echo: Mapping[str, msgspec.Raw]
    custom_tools: frozenset[str]
    origins: tuple[int, ...]


class _Tools(msgspec.Struct, frozen=True):
    """The request's tools, sorted."""

    functions: tuple[m.Tool, ...]
    hosted: tuple[m.HostedTool, ...]
    custom: frozenset[str]


def read_response_request(data: bytes) -> ResponseRequest:
    """The request in a body. Raises InvalidRequest, with OpenAI's names for what is wrong."""
    body, unknown = read(t.REQUEST, data)
    _check(body)
    conversation = read_input(body.input, unknown)
    allowed = _allowed(body.tool_choice)
    tools = _tools(body.tools or (), allowed, unknown)
    include = _include(body, unknown)
    request = m.ChatRequest(
        messages=conversation.messages,
        model=body.model,
        system=body.instructions,
        temperature=body.temperature,
        top_p=body.top_p,
        max_tokens=body.max_output_tokens,
        logprobs=True if _LOGPROBS in include or body.top_logprobs else None,
        top_logprobs=body.top_logprobs,
        user=body.user,
        tools=tools.functions,
        hosted_tools=tools.hosted,
        tool_choice=_tool_choice(body.tool_choice, tools),
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=_format(body.text),
        thinking=_thinking(body.reasoning, unknown),
        # Said even where it holds nothing: an adapter of this wire then sends what the caller did not say as little.
        passthrough=passthrough(t.WIRE, _said(unknown)) or m.Passthrough(t.WIRE, {}),
    )
    members = t.MEMBERS.decode(data)
    # Copies, that do not keep the whole body alive.
    echo = {name: msgspec.Raw(bytes(members[name])) for name in _ECHOED if name in members and given(members[name])}
    return ResponseRequest(request, bool(body.stream), echo, tools.custom, conversation.origins)


def _said(unknown: Unknown) -> Unknown:
    """Without nulls, which say nothing."""
    return {place: {k: v for k, v in found.items() if v is not None} for place, found in unknown.items()}


def _check(body: t.Request) -> None:
    """What would need state, has no meaning here, or contradicts itself."""
    whole = "nothing is stored here: send the whole input with each call"
    if body.previous_response_id is not None:
        raise UnsupportedParameter.field("previous_response_id", f"names a stored answer, and {whole}")
    if given(body.conversation):
        raise UnsupportedParameter.field("conversation", f"names a stored conversation, and {whole}")
    if given(body.prompt):
        raise UnsupportedParameter.field("prompt", f"names a stored prompt, and {whole}")
    if body.store:
        raise UnsupportedParameter.field("store", "must be false or left out: no answer is stored here")
    if body.background:
        raise UnsupportedParameter.field("background", "must be false or left out: no answer is stored for later")
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest.field("stream_options", "is only allowed when stream is true")
    if body.max_output_tokens is not None and body.max_output_tokens < 1:
        raise InvalidRequest.field("max_output_tokens", f"must be at least 1 (got {body.max_output_tokens})")


# --- tools ------------------------------------------------------------------------------------------------------------


def _tools(wanted: Sequence[Mapping[str, msgspec.Raw]], allowed: frozenset[str] | None, unknown: Unknown) -> _Tools:
    functions: list[m.Tool] = []
    hosted: list[m.HostedTool] = []
    custom: set[str] = set()
    for index, tool in enumerate(wanted):
        kind, name = _word(tool.get("type"), f"tools[{index}].type"), ""
        if kind in ("function", "custom"):
            name = _word(tool.get("name"), f"tools[{index}].name")
        if allowed is not None and (name or kind) not in allowed:
            continue
        if kind == "function":
            place = f"tools[{index}]"
            typed, found = read(t.FUNCTION, msgspec.json.encode(tool), place)
            # A provider of this wire is sent the functions first.
            unknown |= {f"tools[{len(functions)}]{at.removeprefix(place)}": more for at, more in found.items()}
            parameters = bytes(typed.parameters).decode() if given(typed.parameters) else None
            functions.append(m.Tool(typed.name, typed.description, parameters, typed.strict))
            continue
        if kind == "custom":
            custom.add(name)
        hosted.append(_hosted(kind, {name: value for name, value in tool.items() if name != "type"}))
    return _Tools(tuple(functions), tuple(hosted), frozenset(custom))


def _hosted(kind: str, rest: Mapping[str, msgspec.Raw]) -> m.HostedTool:
    """A tool that the provider runs, by its own word; what says no more than that code is to be run, by the neutral
    one, which others know too."""
    if kind == "code_interpreter" and rest.keys() <= {"container"}:
        container = msgspec.json.decode(rest["container"]) if rest else {"type": "auto"}
        if container == {"type": "auto"}:
            return m.HostedTool("code_execution")
    return m.HostedTool(kind, msgspec.json.encode(rest).decode() if rest else "")


def _word(raw: msgspec.Raw | None, place: str) -> str:
    try:
        word = msgspec.json.decode(raw, type=str) if raw is not None else ""
    except msgspec.DecodeError:
        word = ""
    if not word:
        raise InvalidRequest.field(place, "must be a word")
    return word


def _allowed(choice: str | dict[str, Any] | None) -> frozenset[str] | None:
    """The tools that `allowed_tools` leaves, by name, or by type where they have none; None where all are."""
    if not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
        return None
    listed = choice.get("tools")
    if choice.get("mode") not in ("auto", "required") or not isinstance(listed, list) or not listed:
        raise InvalidRequest.field("tool_choice", "must have a mode (auto, required) and tools")
    return frozenset(str(one.get("name") or one.get("type")) for one in listed if isinstance(one, dict))


def _tool_choice(choice: str | dict[str, Any] | None, tools: _Tools) -> m.ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice not in _MODES:
            raise InvalidRequest.field("tool_choice", f"must be one of {', '.join(_MODES)}, or name a tool")
        return m.ToolChoice(cast("Any", choice))
    kind = choice.get("type")
    if kind == "allowed_tools":
        return m.ToolChoice(choice["mode"])
    if kind == "function":
        if all(tool.name != choice.get("name") for tool in tools.functions):
            raise InvalidRequest.field("tool_choice.name", "must be the name of one of the tools")
        return m.ToolChoice("tool", choice["name"])
    neutral = "code_execution" if kind == "code_interpreter" else kind
    found = next((tool.type for tool in tools.hosted if tool.type in (kind, neutral)), None)
    if found is None or choice.keys() != {"type"}:
        raise UnsupportedParameter.field("tool_choice", "can name a function, or the type of a tool of the provider")
    return m.ToolChoice("tool", found)


# --- the answer's form ------------------------------------------------------------------------------------------------


def _include(body: t.Request, unknown: Unknown) -> frozenset[str]:
    """What the answer shall hold beyond the usual. Encrypted thoughts always come; what only a server of this wire
    could add is asked of it."""
    wanted = frozenset(body.include or ())
    beyond = [one for one in body.include or () if one not in (_ENCRYPTED, _LOGPROBS)]
    if beyond:
        unknown.setdefault("", {})["include"] = beyond
    return wanted


def _format(text: t.TextConfig | None) -> m.ResponseFormat | None:
    form = text.format if text is not None else None
    if form is None or form.type != "json_schema":
        return None if form is None else m.ResponseFormat(form.type)
    if not form.name:
        raise InvalidRequest.field("text.format.name", "must be given")
    if not given(form.schema):
        raise InvalidRequest.field("text.format.schema", "must be given")
    return m.ResponseFormat("json_schema", form.name, bytes(form.schema).decode(), form.strict, form.description)


def _thinking(wanted: t.ReasoningConfig | None, unknown: Unknown) -> m.Thinking | None:
    if wanted is None:
        return None
    summary = wanted.summary or wanted.generate_summary
    if summary not in (None, "auto"):
        unknown.setdefault("reasoning", {})["summary"] = summary
    include = True if summary is not None else None
    if wanted.effort is None:
        return None if include is None else m.Thinking("adaptive", include=True)
    return m.Thinking("disabled" if wanted.effort == "none" else "enabled", effort=wanted.effort, include=include)


# --- errors -----------------------------------------------------------------------------------------------------------

_FIELDS: Final = {
    "system": "instructions",
    "max_tokens": "max_output_tokens",
    "thinking": "reasoning",
    "response_format": "text.format",
    "hosted_tools": "tools",
    "server_tools": "tools",
}
"""The request's names for what the core calls otherwise."""

_MESSAGE: Final = re.compile(r"^messages\[(\d+)\](.*)$", re.DOTALL)
_FIELD: Final = re.compile(r"^(\w+)(.*)$", re.DOTALL)


def in_own_words(error: InvalidRequest, origins: Sequence[int]) -> InvalidRequest:
    """The same error, its fields by their names in this API. origins: as in ResponseRequest."""
    violations = [Violation(_name(one.field, origins), one.description) for one in error.violations]
    if violations:
        first = error.violations[0]
        error.message = error.message.replace(first.field, violations[0].field, 1)
        error.violations = tuple(violations)
    return error


def _name(field: str, origins: Sequence[int]) -> str:
    if match := _MESSAGE.match(field):
        index = int(match[1])
        rest = ".call_id" if "tool_call" in match[2] else ""
        return f"input[{origins[index]}]{rest}" if index < len(origins) else "input"
    match = _FIELD.match(field)
    if match is None:
        return field
    name = _FIELDS.get(match[1], match[1])
    # Functions are counted apart from other tools, and not as they stand in the body.
    return name if name == "tools" else name + match[2]
