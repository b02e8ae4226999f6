"""What of an item is kept to be sent back with the next turn, as the bytes of core's Opaque.

Reasoning items and the steps of server tools are kept whole, byte for byte. Of messages and calls, which the contract
says in its own words, only what it has no word for is kept (`phase`, `namespace`); their ids are not: without `store`
they mean nothing to the server.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from server.providers.openai_responses.types import OBJECT
from server.providers.parsing import try_decode

CUSTOM_CALL: Final = "custom_tool_call"

_SAID: Final = {
    "message": frozenset({"type", "id", "status", "role", "content"}),
    "function_call": frozenset({"type", "id", "status", "call_id", "name", "arguments"}),
    CUSTOM_CALL: frozenset({"id", "status", "call_id", "name", "input"}),
}
"""Fields that the contract has its own words for, by item type. The type of a custom call is kept: it is a tool call
like any other in the contract."""


def extras(raw: bytes) -> bytes | None:
    """The fields of a message or call that have no neutral place, as JSON of an object; None for none."""
    item = try_decode(OBJECT, raw) or {}
    said = _SAID.get(str(item.get("type")), frozenset())
    rest = {key: value for key, value in item.items() if key not in said and value is not None}
    return msgspec.json.encode(rest) if rest else None


def read_extras(data: bytes | None) -> dict[str, Any]:
    """What `extras` kept; {} for data that is not from there."""
    return (try_decode(OBJECT, data) if data else None) or {}


# --- steps of server tools --------------------------------------------------------------------------------------------

_RESULTS: Final = ("outputs", "results", "result", "output", "error", "tools")
_HIDDEN: Final = frozenset({"type", "id", "status", "name", "call_id", "encrypted_content", *_RESULTS})


def step_name(item: dict[str, Any]) -> str:
    """The tool's name: the item's own (mcp_call), else its type without `_call`."""
    return str(item.get("name") or str(item.get("type") or "").removesuffix("_call"))


def step_input(item: dict[str, Any]) -> str:
    """What the tool was asked, as JSON text; "" for nothing. A web search's action stands for itself."""
    action = item.get("action")
    if isinstance(action, dict):
        return _text({key: value for key, value in action.items() if key != "sources"})
    asked = {key: value for key, value in item.items() if key not in _HIDDEN and value is not None}
    if set(asked) == {"arguments"} or set(asked) == {"input"}:
        (only,) = asked.values()
        if isinstance(only, str) and try_decode(OBJECT, only) is not None:
            return only
    return _text(asked)


def step_output(item: dict[str, Any]) -> str:
    """What the tool gave, as JSON text; "" for nothing."""
    found = {key: item[key] for key in _RESULTS if item.get(key) is not None}
    action = item.get("action")
    if isinstance(action, dict) and action.get("sources") is not None:
        found["sources"] = action["sources"]
    return _text(found)


def _text(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode() if value else ""
