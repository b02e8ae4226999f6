"""Short forms for tests of the Messages wire: models, calls, bodies, streams and what they come to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from server.core.catalog import ModelInfo, ThinkingTraits
from server.core.events import StreamEvent
from server.core.messages import ChatRequest, Message, Text
from server.core.ports import ProviderCall, ProviderTarget
from server.core.secret import Secret
from server.core.stream import Guard
from server.providers.anthropic.wire import MessagesWire
from server.providers.parsing import merge_deltas
from server.providers.wire import BuiltRequest, Exchange

KEY = "sk-ant-api03-canary-0123456789"
NOW = 1_800_000_000.0
HI = (Message("user", (Text("Hi"),)),)

BUDGET = ModelInfo(
    id="anthropic/claude-haiku-4-5",
    name="By budget",
    provider="anthropic",
    model="claude-haiku-4-5-20251001",
    capabilities=("tools", "json_schema", "reasoning", "web_search"),
    output_tokens=64_000,
    rejects_while_thinking=("temperature", "top_k"),
    thinking=ThinkingTraits(budget=True, min_budget=1024),
)
BOTH = ModelInfo(
    id="anthropic/claude-opus-4-6",
    name="By budget or by itself",
    provider="anthropic",
    model="claude-opus-4-6",
    capabilities=("tools", "json_schema", "reasoning", "web_search", "code_execution"),
    output_tokens=128_000,
    thinking=ThinkingTraits(budget=True, min_budget=1024, adaptive=True, efforts=("low", "medium", "high", "max")),
)
ADAPTIVE = ModelInfo(
    id="anthropic/claude-fable-5-1",
    name="By itself, always",
    provider="anthropic",
    model="claude-fable-5-1",
    capabilities=("tools", "json_schema", "reasoning", "web_search", "code_execution"),
    output_tokens=128_000,
    rejects=("temperature", "top_p", "top_k"),
    thinking=ThinkingTraits(
        default_on=True, can_disable=False, adaptive=True, efforts=("low", "medium", "high", "xhigh", "max")
    ),
    forced_tool_choice=False,
)
PLAIN = ModelInfo(
    id="anthropic/claude-3-opus", name="No thinking", provider="anthropic", model="claude-3-opus", output_tokens=4_096
)


def wire() -> MessagesWire:
    """A wire with a fixed clock, and ids call_0, call_1 ... for calls without one."""
    ids = count()
    return MessagesWire(clock=lambda: NOW, new_id=lambda: f"call_{next(ids)}")


def target(*, endpoint: str | None = None, key: str | None = KEY) -> ProviderTarget:
    return ProviderTarget(
        provider="anthropic", config_id="c1", endpoint=endpoint, secret=None if key is None else Secret(key)
    )


def call(
    request: ChatRequest | None = None,
    *,
    info: ModelInfo | None = None,
    stream: bool = True,
    model: str | None = None,
    to: ProviderTarget | None = None,
) -> ProviderCall:
    name = model or (info.model if info is not None else "claude-x")
    return ProviderCall(
        target=to or target(), request=request or ChatRequest(messages=HI), model=name, info=info, stream=stream
    )


def build(
    *, info: ModelInfo | None = None, stream: bool = False, model: str | None = None, **fields: Any
) -> BuiltRequest:
    """The request that these fields of a ChatRequest become."""
    request = ChatRequest(**({"messages": HI} | fields))
    return wire().build_request(call(request, info=info, stream=stream, model=model))


def body(**fields: Any) -> dict[str, Any]:
    """The body alone; arguments as of `build`."""
    parsed: dict[str, Any] = json.loads(build(**fields).http.body)
    return parsed


def betas(built: BuiltRequest) -> list[str]:
    return [beta for name, value in built.http.headers if name == "anthropic-beta" for beta in value.split(",")]


def sse(*events: Mapping[str, Any]) -> bytes:
    """A stream's body, each event under its own name."""
    return b"".join(
        f"event: {event.get('type', '')}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
        for event in events
    )


def start(id: str = "msg_1", **usage: Any) -> dict[str, Any]:
    message = {"id": id, "type": "message", "role": "assistant", "model": "claude-x-1", "content": []}
    return {"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage or None}}


def opened(index: int, type: str, **members: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": type, **members}}


def piece(index: int, type: str, **members: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": type, **members}}


def closed(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def text(index: int, *pieces: str) -> list[dict[str, Any]]:
    """A whole text block."""
    deltas = [piece(index, "text_delta", text=part) for part in pieces]
    return [opened(index, "text", text=""), *deltas, closed(index)]


def ending(
    reason: str | None = "end_turn", usage: Mapping[str, Any] | None = None, **delta: Any
) -> list[dict[str, Any]]:
    """message_delta and message_stop."""
    told = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None, **delta}}
    return [{**told, "usage": usage or {"output_tokens": 7}}, {"type": "message_stop"}]


def run(
    data: bytes | Iterable[bytes], *, headers: Mapping[str, str] | None = None, at: ProviderCall | None = None
) -> list[StreamEvent]:
    """All events of a stream, guarded, adjacent deltas merged."""
    parser = wire().stream_parser(Exchange(at or call(), 200, headers or {}))
    events: list[StreamEvent] = []
    for read in [data] if isinstance(data, bytes) else data:
        events += parser.feed(read)
    events += parser.end()
    assert parser.finished
    assert parser.feed(sse(start())) == []
    assert Guard().feed(events) == events
    return merge_deltas(events)


def answer(document: Mapping[str, Any] | bytes, *, at: ProviderCall | None = None) -> list[StreamEvent]:
    """All events of a whole answer."""
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    events = wire().parse_response(Exchange(at or call(stream=False), 200, {}), raw)
    assert Guard().feed(events) == events
    return merge_deltas(events)


def of(events: Sequence[StreamEvent], kind: type) -> list[Any]:
    return [event for event in events if type(event) is kind]
