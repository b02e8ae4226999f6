"""Short forms for tests of the Converse wire: models, calls, bodies, frames and what they come to."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any
from zlib import crc32

from server.core.catalog import ModelInfo, ThinkingTraits
from server.core.events import StreamEvent
from server.core.messages import ChatRequest, Message, Text
from server.core.ports import ProviderCall, ProviderTarget
from server.core.secret import Secret
from server.core.stream import Guard
from server.providers.bedrock.wire import ConverseWire
from server.providers.parsing import merge_deltas
from server.providers.wire import BuiltRequest, Exchange

API_KEY = "ABSKcanary0123456789"
KEY_ID = "AKIDEXAMPLECANARY"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+canary"
TOKEN = "IQoJb3JpZ2luX2VjEcanaryTOKEN=="
NOW = 1_800_000_000.0
HI = (Message("user", (Text("Hi"),)),)

CLAUDE = ModelInfo(
    id="bedrock/anthropic.claude-haiku-4-5-v1:0",
    name="Thinks by a budget",
    provider="bedrock",
    model="anthropic.claude-haiku-4-5-v1:0",
    capabilities=("tools", "vision", "documents", "json_schema", "reasoning", "prompt_caching"),
    output_tokens=64_000,
    rejects_while_thinking=("temperature", "top_k"),
    thinking=ThinkingTraits(budget=True, min_budget=1024),
)
CLAUDE_BOTH = ModelInfo(
    id="bedrock/anthropic.claude-opus-4-6-v1",
    name="Thinks by a budget or by itself",
    provider="bedrock",
    model="anthropic.claude-opus-4-6-v1",
    capabilities=("tools", "vision", "json_schema", "reasoning", "prompt_caching"),
    thinking=ThinkingTraits(budget=True, min_budget=1024, adaptive=True, efforts=("low", "medium", "high", "max")),
)
CLAUDE_ADAPTIVE = ModelInfo(
    id="bedrock/anthropic.claude-fable-5",
    name="Thinks by itself, always",
    provider="bedrock",
    model="anthropic.claude-fable-5",
    capabilities=("tools", "vision", "reasoning"),
    thinking=ThinkingTraits(
        default_on=True, can_disable=False, adaptive=True, efforts=("low", "medium", "high", "xhigh", "max")
    ),
    forced_tool_choice=False,
)
NOVA = ModelInfo(
    id="bedrock/amazon.nova-2-lite-v1:0",
    name="Nova 2",
    provider="bedrock",
    model="amazon.nova-2-lite-v1:0",
    capabilities=("tools", "vision", "documents", "reasoning", "prompt_caching", "code_execution", "web_search"),
    thinking=ThinkingTraits(efforts=("low", "medium", "high")),
)
GPT = ModelInfo(
    id="bedrock/openai.gpt-oss-120b-1:0",
    name="gpt-oss",
    provider="bedrock",
    model="openai.gpt-oss-120b-1:0",
    capabilities=("tools", "json_schema", "reasoning"),
    thinking=ThinkingTraits(default_on=True, can_disable=False, efforts=("low", "medium", "high")),
)
R1 = ModelInfo(
    id="bedrock/deepseek.r1-v1:0",
    name="DeepSeek-R1",
    provider="bedrock",
    model="deepseek.r1-v1:0",
    capabilities=("tools", "reasoning"),
    thinking=ThinkingTraits(default_on=True, can_disable=False),
)
LLAMA = ModelInfo(
    id="bedrock/meta.llama3-1-8b-instruct-v1:0",
    name="Llama",
    provider="bedrock",
    model="meta.llama3-1-8b-instruct-v1:0",
    capabilities=("tools",),
    output_tokens=4_096,
)


def wire() -> ConverseWire:
    """A wire with a fixed clock, and ids call_0, call_1 ... for calls without one."""
    ids = count()
    return ConverseWire(clock=lambda: NOW, new_id=lambda: f"call_{next(ids)}")


def target(*, endpoint: str | None = None, secret: str | None = API_KEY, key: str | None = None) -> ProviderTarget:
    """With an API key; with `key`, an access key."""
    return ProviderTarget(
        provider="bedrock",
        config_id="c1",
        endpoint=endpoint,
        secret=None if secret is None else Secret(secret),
        key=None if key is None else Secret(key),
    )


def call(
    request: ChatRequest | None = None,
    *,
    info: ModelInfo | None = None,
    stream: bool = True,
    model: str | None = None,
    to: ProviderTarget | None = None,
) -> ProviderCall:
    name = model or (info.model if info is not None else "anthropic.claude-x")
    return ProviderCall(
        target=to or target(), request=request or ChatRequest(messages=HI), model=name, info=info, stream=stream
    )


def build(
    *,
    info: ModelInfo | None = None,
    stream: bool = False,
    model: str | None = None,
    to: ProviderTarget | None = None,
    **fields: Any,
) -> BuiltRequest:
    """The request that these fields of a ChatRequest become."""
    request = ChatRequest(**({"messages": HI} | fields))
    return wire().build_request(call(request, info=info, stream=stream, model=model, to=to))


def body(**fields: Any) -> dict[str, Any]:
    """The body alone; arguments as of `build`."""
    parsed: dict[str, Any] = json.loads(build(**fields).http.body)
    return parsed


def turns(*messages: Message, **fields: Any) -> list[dict[str, Any]]:
    """The body's messages."""
    found: list[dict[str, Any]] = body(messages=messages, **fields)["messages"]
    return found


def frame(headers: Mapping[str, str], payload: bytes = b"") -> bytes:
    """One message as AWS documents it."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack(">I", crc32(prelude)) + head + payload
    return message + struct.pack(">I", crc32(message))


def event(name: str, **payload: Any) -> bytes:
    """An event as ConverseStream sends it, padding included."""
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, json.dumps({**payload, "p": "abcdef"}, ensure_ascii=False).encode())


def exception(name: str, **payload: Any) -> bytes:
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps(payload).encode())


def start() -> bytes:
    return event("messageStart", role="assistant")


def piece(index: int, **delta: Any) -> bytes:
    return event("contentBlockDelta", contentBlockIndex=index, delta=delta)


def opened(index: int, **block: Any) -> bytes:
    return event("contentBlockStart", contentBlockIndex=index, start=block)


def closed(index: int) -> bytes:
    return event("contentBlockStop", contentBlockIndex=index)


def text(index: int, *pieces: str) -> bytes:
    """A whole text block, which no event announces."""
    return b"".join(piece(index, text=part) for part in pieces) + closed(index)


def tool(index: int, id: str, name: str, *pieces: str, **rest: Any) -> bytes:
    """A whole tool call."""
    deltas = b"".join(piece(index, toolUse={"input": part}) for part in pieces)
    return opened(index, toolUse={"toolUseId": id, "name": name, **rest}) + deltas + closed(index)


def ending(reason: str = "end_turn", **usage: int) -> bytes:
    counts = usage or {"inputTokens": 3, "outputTokens": 7, "totalTokens": 10}
    return event("messageStop", stopReason=reason) + event("metadata", usage=counts, metrics={"latencyMs": 5})


def document(*content: Mapping[str, Any], reason: str = "end_turn", **members: Any) -> dict[str, Any]:
    """A whole answer."""
    return {
        "output": {"message": {"role": "assistant", "content": list(content)}},
        "stopReason": reason,
        "usage": {"inputTokens": 3, "outputTokens": 7, "totalTokens": 10},
        "metrics": {"latencyMs": 5},
        **members,
    }


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
    assert parser.feed(start()) == []
    assert Guard().feed(events) == events
    return merge_deltas(events)


def answer(
    whole: Mapping[str, Any] | bytes, *, at: ProviderCall | None = None, headers: Mapping[str, str] | None = None
) -> list[StreamEvent]:
    """All events of a whole answer."""
    raw = whole if isinstance(whole, bytes) else json.dumps(whole).encode()
    events = wire().parse_response(Exchange(at or call(stream=False), 200, headers or {}), raw)
    assert Guard().feed(events) == events
    return merge_deltas(events)


def of(events: Sequence[StreamEvent], kind: type) -> list[Any]:
    return [event for event in events if type(event) is kind]
