"""What of a request may go to a model, by one rule for all wires; and the caller's provider_options, merged in last.

A parameter that tunes the answer (sampling, seed, penalties, limits, log probabilities) and that the model or its wire
does not take is left out with a warning: the same request may go to any provider. What decides what is answered (media,
tools, the form of the answer) is never left out: that is UnsupportedParameter, before anything is sent. What a model
does not take, its row of the catalogue says (`applicable`); what a wire cannot say, its adapter.
A value that the gateway itself filled in is left out, or fitted to the model's limit, without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from server.core.catalog import Capability, ModelInfo
from server.core.errors import InvalidRequest, UnsupportedParameter
from server.core.events import Warning
from server.core.messages import Audio, ChatRequest, Document, Image, Part, Text, Thinking, ToolResult

JsonObject = dict[str, Any]

_DEFAULTS: Final = {
    field.name: field.default for field in msgspec.structs.fields(ChatRequest) if field.default is not msgspec.NODEFAULT
}
_NOT_PARAMETERS: Final = frozenset(
    {"messages", "model", "provider", "provider_name", "legacy", "system", "provider_options"}
)


def stripped(parameter: str, why: str) -> Warning:
    """The warning for a parameter that was left out."""
    return Warning(code="parameter_stripped", parameter=parameter, message=f"{parameter} was left out: {why}.")


def approximated(parameter: str, how: str) -> Warning:
    """The warning for a parameter that went out as something near to it."""
    return Warning(code="parameter_approximated", parameter=parameter, message=f"{parameter}: {how}.")


def at_most_one(parameter: str, value: float, request: ChatRequest, warnings: list[Warning]) -> float:
    """The value, or 1 for a provider that takes 0 to 1 where the contract takes more."""
    if value <= 1:
        return value
    if parameter not in request.defaults:
        warnings.append(approximated(parameter, f"0 to 1 is taken; 1 was sent for {value:g}"))
    return 1.0


def thinks(thinking: Thinking | None, info: ModelInfo | None) -> bool:
    """Whether the model will think on this call, as far as is known: asked to, or by itself and not told not to."""
    traits = info.thinking if info is not None else None
    if thinking is None:
        return traits is not None and traits.default_on
    off = thinking.type == "disabled" or thinking.effort == "none"
    if off:
        return traits is not None and traits.default_on and not traits.can_disable
    return info is None or traits is not None


def applicable(
    request: ChatRequest, info: ModelInfo | None, unsupported: Mapping[str, str] | None = None
) -> tuple[ChatRequest, list[Warning]]:
    """The request without what its model or wire does not take, and a warning for each parameter that was left out.

    info: the model's row; None (unknown model) takes everything that the wire can say. unsupported: the wire's own
    part, request field -> reason, e.g. `{"seed": "the Messages API has no seed"}`. Raises UnsupportedParameter for what
    decides the answer and is not among the model's capabilities.
    """
    if info is not None and info.capabilities:
        _check_capabilities(request, info)
    reasons = {**(unsupported or {}), **(_rejected(request, info) if info is not None else {})}
    changes: dict[str, Any] = {}
    warnings: list[Warning] = []
    for name, why in reasons.items():
        if name in _NOT_PARAMETERS or name not in _DEFAULTS or getattr(request, name) == _DEFAULTS[name]:
            continue
        changes[name] = _DEFAULTS[name]
        if name not in request.defaults:
            warnings.append(stripped(name, why))
    most = info.output_tokens if info is not None else None
    if "max_tokens" in request.defaults and most is not None and (request.max_tokens or 0) > most:
        changes.setdefault("max_tokens", most)
    return (msgspec.structs.replace(request, **changes) if changes else request), warnings


def _rejected(request: ChatRequest, info: ModelInfo) -> dict[str, str]:
    """What the model does not take, and why: request field -> reason."""
    reasons = dict.fromkeys(info.rejects, f"{info.model} does not take it")
    if info.thinking is None and request.thinking is not None and request.thinking.type != "disabled":
        reasons.setdefault("thinking", f"{info.model} does not think")
    if thinks(request.thinking, info):
        for name in info.rejects_while_thinking:
            reasons.setdefault(name, f"{info.model} does not take it while it thinks")
    return reasons


_MEDIA: Final[Mapping[type, tuple[Capability, str]]] = {
    Image: ("vision", "images"),
    Document: ("documents", "documents"),
    Audio: ("audio_input", "audio"),
}


def _check_capabilities(request: ChatRequest, info: ModelInfo) -> None:
    able = info.capabilities
    if request.tools and "tools" not in able:
        raise UnsupportedParameter.field("tools", f"{info.model} calls no tools")
    for index, hosted in enumerate(request.hosted_tools):
        # Other types are the provider's own words, of which the catalogue says nothing.
        if hosted.type in ("web_search", "code_execution") and hosted.type not in able:
            raise UnsupportedParameter.field(f"server_tools[{index}]", f"{info.model} has no {hosted.type}")
    form = request.response_format.type if request.response_format is not None else "text"
    if form != "text" and form not in able:
        hint = "; give a json_schema" if "json_schema" in able else ""
        raise UnsupportedParameter.field("response_format", f"{info.model} takes no {form}{hint}")
    for at, message in enumerate(request.messages):
        for index, part in enumerate(message.parts):
            if type(part) is not Text:
                _check_media(part, info, f"messages[{at}].parts[{index}]")


def _check_media(part: Part, info: ModelInfo, where: str) -> None:
    if isinstance(part, ToolResult):
        for inner in part.content:
            _check_media(inner, info, where)
    needed, what = _MEDIA.get(type(part), (None, ""))
    if needed is not None and needed not in info.capabilities:
        raise UnsupportedParameter.field(where, f"{info.model} takes no {what}")


def raw_object(text: str, field: str) -> msgspec.Raw:
    """JSON text of an object, to go into a body byte for byte. Raises InvalidRequest naming `field` for other text."""
    try:
        whole = isinstance(msgspec.json.decode(text), dict)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        whole = False
    if not whole:
        raise InvalidRequest.field(field, "must be the JSON text of an object")
    return msgspec.Raw(text.encode())


def merge_options(body: JsonObject, options: str, reserved: Sequence[str] = ()) -> None:
    """Merge provider_options into the finished body, in place.

    As JSON Merge Patch does (RFC 7396): objects merge key by key, anything else replaces, null removes the key.
    reserved: top-level keys that are not the caller's to set here, besides `model` and `stream`, because the gateway
    itself depends on them. Raises InvalidRequest for one of these, and for options that are no JSON object.
    """
    if not options:
        return
    patch = msgspec.json.decode(raw_object(options, "provider_options"))
    for key in ("model", "stream", *reserved):
        if key in patch:
            raise InvalidRequest.field(f"provider_options.{key}", "is set by the gateway and cannot be given here")
    _merge(body, patch)


def _merge(target: JsonObject, patch: Mapping[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
            continue
        if not isinstance(value, dict):
            target[key] = value
            continue
        current = target.get(key)
        if isinstance(current, msgspec.Raw):
            current = msgspec.json.decode(current)
        merged: JsonObject = dict(current) if isinstance(current, dict) else {}
        _merge(merged, value)
        target[key] = merged
