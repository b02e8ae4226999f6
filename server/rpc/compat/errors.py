"""Errors of a dialect's RPCs, as the proxy shows them to REST callers (edge/dialects.lua).

The RPC ends with its gRPC status as every other does, so logs and native callers see the truth. Beside it, in the
trailing metadata, goes the body of the HTTP response, and the HTTP status where gRPC has no code for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from server.core.errors import DragomanError
from server.rpc.compat.anthropic.errors import error_body as anthropic_body
from server.rpc.compat.anthropic.errors import http_status as anthropic_status
from server.rpc.compat.openai.errors import error_object as openai_object

BODY_HEADER: Final = "x-dragoman-error"
STATUS_HEADER: Final = "x-dragoman-http-status"
RETRY_HEADER: Final = "x-should-retry"
"""What both SDKs obey before they look at the status (openai-python and anthropic-sdk-python `_base_client.py`)."""

MOST_BYTES: Final = 6000
"""Of a body: it travels as one header."""


class _Dialect(msgspec.Struct, frozen=True):
    """How one dialect says it. status: the HTTP status where the gRPC code's own is not meant."""

    body: Callable[[DragomanError, str], dict[str, Any]]
    status: Callable[[DragomanError], int | None]


def _openai_body(error: DragomanError, request_id: str) -> dict[str, Any]:
    return {"error": openai_object(error, request_id)}


_DIALECTS: Final[Mapping[str, _Dialect]] = {
    "dragoman.v1.OpenAIService": _Dialect(_openai_body, lambda _: None),
    "dragoman.v1.AnthropicService": _Dialect(anthropic_body, anthropic_status),
}


def dialect_trailers(method: str, error: DragomanError, request_id: str) -> list[tuple[str, str]]:
    """Trailing metadata that makes the proxy answer in the dialect of `method` (`/package.Service/Method`); none for a
    method of the contract's own."""
    dialect = _DIALECTS.get(method.split("/")[1])
    if dialect is None:
        return []
    found = [(BODY_HEADER, _fitting(dialect.body(error, request_id)))]
    status = dialect.status(error)
    if status is not None:
        found.append((STATUS_HEADER, str(status)))
    return [*found, (RETRY_HEADER, "true" if error.retryable else "false")]


def _fitting(body: dict[str, Any]) -> str:
    """JSON in ASCII, as metadata takes nothing else, the message cut where it would be too long."""
    text = json.dumps(body, separators=(",", ":"))
    inner = body["error"]
    while len(text) > MOST_BYTES and len(inner["message"]) > 1:
        inner["message"] = inner["message"][: len(inner["message"]) // 2].rstrip() + "…"
        text = json.dumps(body, separators=(",", ":"))
    return text
