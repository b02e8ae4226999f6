"""A Chat Completions body to the core's request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from server.core import messages as m
from server.core.errors import InvalidRequest, UnsupportedParameter
from server.rpc.compat.frame import Unknown, base64_bytes, given, passthrough, read, source_of_url
from server.rpc.compat.opaque import unseal
from server.rpc.compat.openai import types as t

_AUDIO_TYPES: Final = {"wav": "audio/wav", "mp3": "audio/mpeg"}
_MODES: Final = ("auto", "none", "required")


class ChatCompletion(msgspec.Struct, frozen=True):
    """What is asked for, and how it is to be answered."""

    request: m.ChatRequest
    stream: bool
    include_usage: bool


def read_request(data: bytes) -> ChatCompletion:
    """The request in a body. Raises InvalidRequest, with OpenAI's names for what is wrong."""
    body, unknown = read(t.REQUEST, data)
    _check(body)
    functions, hosted = _tools(body, unknown)
    request = m.ChatRequest(
        messages=tuple(_message(one, f"messages[{index}]", unknown) for index, one in enumerate(body.messages)),
        model=body.model,
        dialect=t.WIRE,
        legacy=True,  # the provider's own Chat Completions, where it has several protocols
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        max_tokens=body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        seed=body.seed,
        logprobs=body.logprobs,
        top_logprobs=body.top_logprobs,
        user=body.user,
        tools=functions,
        hosted_tools=hosted,
        tool_choice=_tool_choice(body.tool_choice, functions, hosted),
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=_response_format(body.response_format),
        thinking=_thinking(body.reasoning_effort),
        passthrough=passthrough(t.WIRE, unknown),
    )
    options = body.stream_options
    return ChatCompletion(request, bool(body.stream), options is not None and bool(options.include_usage))


def _check(body: t.Request) -> None:
    """What has no meaning here, or contradicts itself."""
    if not body.messages:
        raise InvalidRequest.field("messages", "must not be empty")
    if body.n not in (None, 1):
        raise UnsupportedParameter.field("n", f"must be 1: one answer is given to a call (got {body.n})")
    if len({body.max_tokens, body.max_completion_tokens} - {None}) > 1:
        raise InvalidRequest.field("max_tokens", "contradicts max_completion_tokens: give one of them")
    for name in ("max_tokens", "max_completion_tokens"):
        value = getattr(body, name)
        if value is not None and value < 1:
            raise InvalidRequest.field(name, f"must be at least 1 (got {value})")
    if given(body.functions) or given(body.function_call):
        raise UnsupportedParameter.field("functions", "is the form before tools: send tools and tool_choice")
    if given(body.audio) or set(body.modalities or ()) - {"text"}:
        raise UnsupportedParameter.field("modalities", "must be text: no other form of an answer is carried")
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest.field("stream_options", "is only allowed when stream is true")


# --- messages ---------------------------------------------------------------------------------------------------------


def _message(message: t.Message, place: str, unknown: Unknown) -> m.Message:
    match message:
        case t.SystemMessage() | t.DeveloperMessage():
            return m.Message("system", _texts(message.content), message.name)
        case t.UserMessage():
            return m.Message("user", _user_parts(message.content, place), message.name)
        case t.AssistantMessage():
            return m.Message("assistant", tuple(_assistant_parts(message, place, unknown)), message.name)
        case t.ToolMessage():
            content = _texts(message.content)
            return m.Message("tool", (m.ToolResult(message.tool_call_id, content, name=message.name),))


def _cache(marker: t.CacheMarker | None) -> m.CacheControl | None:
    return None if marker is None else m.CacheControl(marker.ttl)


def _texts(content: str | Sequence[t.TextPart]) -> tuple[m.Text, ...]:
    if isinstance(content, str):
        return (m.Text(content),)
    return tuple(m.Text(part.text, cache=_cache(part.cache_control)) for part in content)


def _user_parts(content: str | Sequence[t.UserPart], place: str) -> tuple[m.Part, ...]:
    if isinstance(content, str):
        return (m.Text(content),)
    if not content:
        raise InvalidRequest.field(f"{place}.content", "must not be empty")
    return tuple(_user_part(part, f"{place}.content[{index}]") for index, part in enumerate(content))


def _user_part(part: t.UserPart, place: str) -> m.Part:
    match part:
        case t.TextPart():
            return m.Text(part.text, cache=_cache(part.cache_control))
        case t.ImagePart(image_url=image):
            source = source_of_url(image.url, f"{place}.image_url.url")
            return m.Image(source, image.detail, _cache(part.cache_control))
        case t.AudioPart(input_audio=audio):
            kind = audio.format.lower()
            media_type = _AUDIO_TYPES.get(kind, f"audio/{kind}")
            return m.Audio(m.Inline(media_type, base64_bytes(audio.data, f"{place}.input_audio.data")))
        case t.FilePart(file=file):
            return m.Document(_file(file, f"{place}.file"), file.filename, cache=_cache(part.cache_control))


def _file(file: t.FileObject, place: str) -> m.Source:
    if (file.file_id is None) == (file.file_data is None):
        raise InvalidRequest.field(place, "must have one of file_data and file_id")
    if file.file_id is not None:
        return m.Uploaded(file.file_id)
    data = file.file_data or ""
    if data[:5].lower() == "data:":
        return source_of_url(data, f"{place}.file_data")
    # Without a type of its own it is what the API takes files for.
    return m.Inline("application/pdf", base64_bytes(data, f"{place}.file_data"))


def _assistant_parts(message: t.AssistantMessage, place: str, unknown: Unknown) -> list[m.Part]:
    for name in ("audio", "function_call"):
        if given(getattr(message, name)):
            raise UnsupportedParameter.field(f"{place}.{name}", "of an earlier answer has no place here")
    parts: list[m.Part] = list(_reasoning(message, place, unknown))
    if isinstance(message.content, str):
        parts += [m.Text(message.content)] if message.content else []
    else:
        for part in message.content or ():
            if isinstance(part, t.TextPart):
                parts.append(m.Text(part.text, cache=_cache(part.cache_control)))
            else:
                parts.append(m.Text(part.refusal))
    if message.refusal:
        parts.append(m.Text(message.refusal))
    parts += [_tool_call(call) for call in message.tool_calls or ()]
    return parts


def _reasoning(message: t.AssistantMessage, place: str, unknown: Unknown) -> list[m.Reasoning]:
    """Earlier thoughts: ours with what their provider wants back; another server's details go back to a server of this
    wire as they are."""
    details = message.reasoning_details or []
    ours = [(detail, unseal(str(detail.get("signature") or ""))) for detail in details]
    if any(sealed is not None for _, sealed in ours):
        said = message.reasoning_content or ""
        texts = [str(detail.get("text") or "") for detail in details]
        # In a stream the text was said apart from the details, which then have none.
        if said and not any(texts):
            texts[0] = said
        return [m.Reasoning(text, s.opaque if s else None) for text, (_, s) in zip(texts, ours, strict=True)]
    if details:
        unknown.setdefault(place, {})["reasoning_details"] = details
        return []
    return [m.Reasoning(message.reasoning_content)] if message.reasoning_content else []


def _tool_call(call: t.ToolCall) -> m.ToolCall:
    opaque = None
    if given(call.extra_content):
        opaque = m.Opaque(m.NATIVE, t.WIRE, bytes(call.extra_content))
        extra = msgspec.json.decode(call.extra_content)
        ours = extra.get("dragoman") if isinstance(extra, dict) else None
        if isinstance(ours, dict):
            sealed = unseal(str(ours.get("opaque")))
            opaque = sealed.opaque if sealed is not None else None
    return m.ToolCall(call.id, call.function.name, call.function.arguments or "{}", opaque, _cache(call.cache_control))


# --- tools ------------------------------------------------------------------------------------------------------------


def _tools(body: t.Request, unknown: Unknown) -> tuple[tuple[m.Tool, ...], tuple[m.HostedTool, ...]]:
    functions: list[m.Tool] = []
    hosted: list[m.HostedTool] = []
    for index, tool in enumerate(body.tools or ()):
        place = f"tools[{index}]"
        kind = _word(tool.get("type"), f"{place}.type")
        if kind == "custom":
            raise UnsupportedParameter.field(place, "custom tools have no place here: only functions can be called")
        if kind == "function":
            functions.append(_function(tool, place, unknown))
        else:
            rest = {name: value for name, value in tool.items() if name != "type"}
            hosted.append(m.HostedTool(kind, msgspec.json.encode(rest).decode() if rest else ""))
    if given(body.web_search_options):
        hosted.append(m.HostedTool("web_search", bytes(body.web_search_options).decode()))
    return tuple(functions), tuple(hosted)


def _function(tool: Mapping[str, msgspec.Raw], place: str, unknown: Unknown) -> m.Tool:
    if "function" not in tool:
        raise InvalidRequest.field(f"{place}.function", "must be given")
    function, more = read(t.FUNCTION, bytes(tool["function"]), f"{place}.function")
    unknown |= more
    beside = {name: msgspec.json.decode(value) for name, value in tool.items() if name not in ("type", "function")}
    marker = beside.pop("cache_control", None)
    if beside:
        unknown[place] = beside
    cache = None
    if marker is not None:
        ttl = marker.get("ttl") if isinstance(marker, dict) else 0
        if not isinstance(ttl, str | None):
            raise InvalidRequest.field(f"{place}.cache_control", 'must be an object like {"type": "ephemeral"}')
        cache = m.CacheControl(ttl)
    parameters = bytes(function.parameters).decode() if given(function.parameters) else None
    return m.Tool(function.name, function.description, parameters, function.strict, cache)


def _word(raw: msgspec.Raw | None, place: str) -> str:
    try:
        word = t.TEXT.decode(raw) if raw is not None else ""
    except msgspec.DecodeError:
        word = ""
    if not word:
        raise InvalidRequest.field(place, 'must be a word, e.g. "function"')
    return word


def _tool_choice(
    choice: str | t.ChosenTool | None, tools: Sequence[m.Tool], hosted: Sequence[m.HostedTool]
) -> m.ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice not in _MODES:
            raise InvalidRequest.field("tool_choice", f"must be one of {', '.join(_MODES)}, or name a function")
        return m.ToolChoice(cast("Any", choice))
    if choice.type != "function" or choice.function is None:
        raise UnsupportedParameter.field("tool_choice", "can name one function, and is no other kind of choice")
    if not hosted and choice.function.name not in {tool.name for tool in tools}:
        raise InvalidRequest.field("tool_choice.function.name", "must be the name of one of the tools")
    return m.ToolChoice("tool", choice.function.name)


# --- form of the answer -----------------------------------------------------------------------------------------------


def _response_format(form: t.ResponseFormat | None) -> m.ResponseFormat | None:
    if form is None or form.type != "json_schema":
        return None if form is None else m.ResponseFormat(form.type)
    schema = form.json_schema
    if schema is None:
        raise InvalidRequest.field("response_format.json_schema", "must be given")
    text = bytes(schema.schema).decode() if given(schema.schema) else "{}"
    return m.ResponseFormat("json_schema", schema.name, text, schema.strict, schema.description)


def _thinking(effort: str | None) -> m.Thinking | None:
    if effort is None:
        return None
    return m.Thinking("disabled" if effort == "none" else "enabled", effort=effort)
