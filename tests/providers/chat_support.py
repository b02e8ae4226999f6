"""Short forms for tests of the Chat Completions wire: calls, streams, and what a stream of chunks comes to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from server.core.catalog import ModelInfo
from server.core.events import StreamEvent
from server.core.messages import ChatRequest, Message, Text
from server.core.ports import ProviderCall, ProviderTarget
from server.core.secret import Secret
from server.core.stream import Guard
from server.providers.openai_chat.presets import PRESETS
from server.providers.openai_chat.wire import OpenAIChatWire
from server.providers.parsing import merge_deltas
from server.providers.wire import Exchange

KEY = "sk-canary-key-0123456789"
NOW = 1_800_000_000.0
HI = (Message("user", (Text("Hi"),)),)


def wire(preset: str = "custom") -> OpenAIChatWire:
    """A wire with a fixed clock, and ids call_0, call_1 ... for calls without one."""
    ids = count()
    return OpenAIChatWire(PRESETS[preset], clock=lambda: NOW, new_id=lambda: f"call_{next(ids)}")


def target(preset: str = "custom", *, endpoint: str | None = None, key: str | None = KEY) -> ProviderTarget:
    slug = preset if preset in ("openai", "groq", "xai") else "custom"
    if endpoint is None and slug == "custom":
        endpoint = "https://llm.example/v1"
    return ProviderTarget(
        provider=slug,
        config_id="c1",
        endpoint=endpoint,
        secret=None if key is None else Secret(key),
        wire=preset if slug != preset else "",
    )


def call(
    preset: str = "custom", request: ChatRequest | None = None, *, stream: bool = True, info: ModelInfo | None = None
) -> ProviderCall:
    return ProviderCall(
        target=target(preset), request=request or ChatRequest(messages=HI), model="m", stream=stream, info=info
    )


def body(
    preset: str = "custom", *, info: ModelInfo | None = None, stream: bool = False, **fields: Any
) -> dict[str, Any]:
    """The body that a request of these fields becomes."""
    request = ChatRequest(**({"messages": HI} | fields))
    built = wire(preset).build_request(call(preset, request, stream=stream, info=info))
    parsed: dict[str, Any] = json.loads(built.http.body)
    return parsed


def sse(*chunks: Mapping[str, Any] | str) -> bytes:
    """A stream's body; a string stands for itself as data."""
    return b"".join(
        b"data: " + (chunk if isinstance(chunk, str) else json.dumps(chunk)).encode() + b"\n\n" for chunk in chunks
    )


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """One chunk with one choice."""
    return {"id": "r1", "model": "m-1", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def tool(
    index: int | None = None, id: str | None = None, name: str | None = None, arguments: Any = None
) -> dict[str, Any]:
    """A piece of a tool call; what is None is left out."""
    piece: dict[str, Any] = {"function": {}}
    if index is not None:
        piece["index"] = index
    if id is not None:
        piece["id"] = id
    if name is not None:
        piece["function"]["name"] = name
    if arguments is not None:
        piece["function"]["arguments"] = arguments
    return piece


def run(
    data: bytes | Iterable[bytes], preset: str = "custom", headers: Mapping[str, str] | None = None, dialect: str = ""
) -> list[StreamEvent]:
    """All events of a stream, guarded, adjacent deltas merged. dialect: the caller's."""
    asked = call(preset, ChatRequest(messages=HI, dialect=dialect))
    parser = wire(preset).stream_parser(Exchange(asked, 200, headers or {}))
    events: list[StreamEvent] = []
    for read in [data] if isinstance(data, bytes) else data:
        events += parser.feed(read)
    events += parser.end()
    assert parser.feed(b"data: {}\n\n") == []
    assert Guard().feed(events) == events
    return merge_deltas(events)


def answer(document: Mapping[str, Any] | bytes, preset: str = "custom") -> list[StreamEvent]:
    """All events of a whole answer."""
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    events = wire(preset).parse_response(Exchange(call(preset, stream=False), 200, {}), raw)
    assert Guard().feed(events) == events
    return merge_deltas(events)


def of(events: Sequence[StreamEvent], kind: type) -> list[Any]:
    return [event for event in events if type(event) is kind]
