"""What a caller's body of the same wire held beyond the neutral request, put back in its place (`core.Passthrough`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from server.core.embedding import EmbedRequest
from server.core.errors import UnsupportedParameter, Violation
from server.core.events import Warning
from server.core.messages import ChatRequest, NativeBlock, ToolResult
from server.providers.params import JsonObject, stripped

_STEP: Final = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_SHOWN: Final = 8
"""Most members that a warning names."""


def foreign_members(request: ChatRequest | EmbedRequest, wire: str) -> tuple[Warning, ...]:
    """The warning about members that this wire has no place for, as they are another's; nothing for its own."""
    kept = request.passthrough
    if kept is None or (wire and kept.wire == wire):
        return ()
    names = [
        f"{place}.{name}" if place else name
        for place, members in kept.members.items()
        for name, value in msgspec.json.decode(members).items()
        if value is not None
    ]
    return tuple(stripped(name, "the provider's API has no place for it") for name in names[:_SHOWN]) + (
        (stripped("further members", f"{len(names) - _SHOWN} more have no place there"),) if len(names) > _SHOWN else ()
    )


def refuse_foreign_parts(request: ChatRequest, wire: str) -> None:
    """Raise UnsupportedParameter, with every place, for tools and blocks of messages that only the caller's own wire
    knows, where this is another."""
    if not request.dialect or request.dialect == wire:
        return
    for tool in request.hosted_tools:
        if tool.wire not in ("", wire):
            raise UnsupportedParameter.field("tools", f"{tool.type[:40]} is run by providers of its own API alone")
    found = [
        Violation(block.place, f"a block of type {block.type[:40]} is carried to providers of its own API alone")
        for message in request.messages
        for part in message.parts
        for block in (part.content if isinstance(part, ToolResult) else (part,))
        if isinstance(block, NativeBlock)
    ]
    if found:
        raise UnsupportedParameter(f"{found[0].field}: {found[0].description}", violations=found[:_SHOWN])


def _text(_: JsonObject) -> str:
    return "text"


def put_back(
    body: JsonObject, request: ChatRequest | EmbedRequest, wire: str, text_type: Callable[[JsonObject], str] = _text
) -> list[Warning]:
    """Merge the members of a caller's body of this wire into the finished one, in place; what the body says already
    stays, but where the caller's says null. Returns a warning for each place that it does not have.

    text_type: the type of a text part, by the object that holds it.
    """
    kept = request.passthrough
    if kept is None or kept.wire != wire:
        return []
    warnings = []
    for place, text in kept.members.items():
        members: dict[str, Any] = msgspec.json.decode(text)
        target = _find(body, place, text_type)
        if target is None:
            warnings += [stripped(f"{place}.{name}", "its place is not in the provider's request") for name in members]
            continue
        _fill(target, members)
    return warnings


def _fill(target: JsonObject, members: dict[str, Any]) -> None:
    """Add what is missing, in depth; a null takes a member out."""
    for name, value in members.items():
        if value is None:
            target.pop(name, None)
            continue
        current = target.setdefault(name, value)
        if isinstance(current, dict) and isinstance(value, dict) and current is not value:
            _fill(current, value)


def _find(body: JsonObject, place: str, text_type: Callable[[JsonObject], str]) -> JsonObject | None:
    """The object at a place; a text that was shortened to a string becomes a part again."""
    node: Any = body
    for match in _STEP.finditer(place):
        name, index = match[1], match[2]
        if name is not None:
            if not isinstance(node, dict) or name not in node:
                return None
            if name in ("content", "output") and isinstance(node[name], str) and match.end() < len(place):
                node[name] = [{"type": text_type(node), "text": node[name]}]
            if isinstance(node[name], msgspec.Raw):
                node[name] = msgspec.json.decode(node[name])
            node = node[name]
        elif not isinstance(node, list) or int(index) >= len(node):
            return None
        else:
            node = node[int(index)]
    return node if isinstance(node, dict) else None
