"""Short forms for tests of the Gemini wire: calls, streams, and what they come to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

from server.core.catalog import ModelInfo, ThinkingTraits
from server.core.events import BlockEnd, Completed, Failed, StreamEvent, Warning
from server.core.messages import ChatRequest, Message, Opaque, Text
from server.core.ports import ProviderCall, ProviderTarget
from server.core.secret import Secret
from server.core.stream import ChatResponse, Guard, fold
from server.providers.gemini.wire import GeminiWire
from server.providers.parsing import merge_deltas
from server.providers.wire import BuiltRequest, Exchange

KEY = "AIza-canary-key-0123456789"
NOW = 1_800_000_000.0
HI = (Message("user", (Text("Hi"),)),)
VERTEX = "https://europe-west4-aiplatform.googleapis.com/v1beta1/projects/p/locations/europe-west4"


def info(model: str = "m", **fields: Any) -> ModelInfo:
    return ModelInfo(id=f"gemini/{model}", name=model, provider="gemini", model=model, **fields)


LEVELS = info(
    capabilities=("reasoning", "tools", "vision", "documents", "web_search", "code_execution"),
    thinking=ThinkingTraits(default_on=True, can_disable=False, efforts=("low", "high")),
)
"""A model of the third generation."""

BUDGETS = info(thinking=ThinkingTraits(default_on=True, budget=True, max_budget=24_576, adaptive=True))
"""One of the second, that can be told not to think."""

ALWAYS = info(
    thinking=ThinkingTraits(default_on=True, can_disable=False, budget=True, min_budget=128, max_budget=32_768)
)


def wire() -> GeminiWire:
    """With a fixed clock, and ids call_0, call_1 ... for calls without one."""
    ids = count()
    return GeminiWire(clock=lambda: NOW, new_id=lambda: f"call_{next(ids)}")


def target(endpoint: str | None = None, *, key: str | None = KEY) -> ProviderTarget:
    return ProviderTarget(
        provider="gemini", config_id="c1", endpoint=endpoint, secret=None if key is None else Secret(key)
    )


def call(
    request: ChatRequest | None = None,
    *,
    stream: bool = True,
    model_info: ModelInfo | None = None,
    model: str = "m",
    endpoint: str | None = None,
) -> ProviderCall:
    return ProviderCall(
        target=target(endpoint),
        request=request or ChatRequest(messages=HI),
        model=model,
        stream=stream,
        info=model_info,
    )


def build(model_info: ModelInfo | None = None, *, endpoint: str | None = None, **fields: Any) -> BuiltRequest:
    request = ChatRequest(**({"messages": HI} | fields))
    return wire().build_request(call(request, stream=False, model_info=model_info, endpoint=endpoint))


def body(model_info: ModelInfo | None = None, *, endpoint: str | None = None, **fields: Any) -> dict[str, Any]:
    """The body that a request of these fields becomes."""
    parsed: dict[str, Any] = json.loads(build(model_info, endpoint=endpoint, **fields).http.body)
    return parsed


def warned(built: BuiltRequest) -> list[tuple[str, str]]:
    return [(warning.code, warning.parameter) for warning in built.warnings]


def exchange(*, stream: bool = True, warnings: tuple[Warning, ...] = ()) -> Exchange:
    return Exchange(call(stream=stream), 200, {}, warnings)


def chunk(*parts: Mapping[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """One response with one candidate. fields: of the candidate; `usage` and others of the response with a capital."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)} if parts else {}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate | fields], "modelVersion": "m-001", "responseId": "r1"}


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"text": words, **fields}


def function(name: str, args: Mapping[str, Any] | None = None, signature: str | None = None, **more: Any) -> Any:
    part: dict[str, Any] = {"functionCall": {"name": name, **({"args": args} if args is not None else {}), **more}}
    return part | ({"thoughtSignature": signature} if signature else {})


def sse(*chunks: Mapping[str, Any] | str) -> bytes:
    """A stream's body as Google writes it, with CRLF; a string stands for itself as data."""
    return b"".join(
        b"data: "
        + (data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))).encode()
        + b"\r\n\r\n"
        for data in chunks
    )


def read(reads: Iterable[bytes]) -> list[StreamEvent]:
    """The events of a stream that comes in these reads, proven to obey the grammar."""
    parser = wire().stream_parser(exchange())
    events = [event for piece in reads for event in parser.feed(piece)] + parser.end()
    guard = Guard()
    assert guard.feed(events) == events
    assert not guard.end()
    return merge_deltas(events)


def streamed(*chunks: Mapping[str, Any] | str) -> list[StreamEvent]:
    """The events of a whole stream, which are the same byte by byte."""
    data = sse(*chunks)
    events = read([data])
    bytewise = read([data[i : i + 1] for i in range(len(data))])
    assert [_comparable(event) for event in bytewise] == [_comparable(event) for event in events]
    return events


def _comparable(event: StreamEvent) -> object:
    return (type(event.error), str(event.error), event.usage) if isinstance(event, Failed) else event


def whole(document: Any) -> list[StreamEvent]:
    """The events of a whole answer, pretty-printed as Google does."""
    return wire().parse_response(exchange(stream=False), json.dumps(document, indent=2).encode())


def answer(*chunks: Mapping[str, Any] | str) -> ChatResponse:
    return fold(streamed(*chunks))


def done(events: list[StreamEvent]) -> Completed:
    last = events[-1]
    assert isinstance(last, Completed), last
    return last


def ends(events: list[StreamEvent]) -> list[BlockEnd]:
    return [event for event in events if isinstance(event, BlockEnd)]


def opaque(data: bytes, model: str = "m") -> Opaque:
    return Opaque("gemini", model, data)


def again(*turns: Message, model_info: ModelInfo | None = None) -> list[dict[str, Any]]:
    """`contents` of a request with this history, behind a first question."""
    contents: list[dict[str, Any]] = body(model_info, messages=(*HI, *turns))["contents"][1:]
    return contents
