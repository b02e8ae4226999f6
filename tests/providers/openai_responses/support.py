"""Short forms for tests of the Responses wire: models, calls, bodies, streams and what they come to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from server.core.catalog import ModelInfo, ThinkingTraits
from server.core.events import StreamEvent
from server.core.messages import ChatRequest, Message, Opaque, Text
from server.core.ports import ProviderCall, ProviderTarget
from server.core.secret import Secret
from server.core.stream import Guard
from server.providers.openai_responses.choice import TwoApiWire
from server.providers.openai_responses.servers import SERVERS
from server.providers.openai_responses.wire import ResponsesWire
from server.providers.parsing import merge_deltas
from server.providers.wire import BuiltRequest, Exchange

KEY = "sk-canary-key-0123456789"
NOW = 1_800_000_000.0
HI = (Message("user", (Text("Hi"),)),)
SAMPLING = ("temperature", "top_p", "logprobs", "top_logprobs", "stop")

REASONING = ModelInfo(
    id="openai/gpt-5",
    name="Always thinks",
    provider="openai",
    model="gpt-5",
    output_tokens=128_000,
    rejects=SAMPLING,
    thinking=ThinkingTraits(default_on=True, can_disable=False, efforts=("minimal", "low", "medium", "high")),
)
SOMETIMES = ModelInfo(
    id="openai/gpt-5.1",
    name="Thinks when told to",
    provider="openai",
    model="gpt-5.1",
    rejects_while_thinking=SAMPLING,
    thinking=ThinkingTraits(efforts=("none", "low", "medium", "high")),
)
PLAIN = ModelInfo(id="openai/gpt-4o", name="Does not think", provider="openai", model="gpt-4o", output_tokens=16_384)


def wire(slug: str = "openai") -> ResponsesWire:
    """A wire with a fixed clock, and ids call_0, call_1 ... for calls without one."""
    ids = count()
    return ResponsesWire(SERVERS[slug], clock=lambda: NOW, new_id=lambda: f"call_{next(ids)}")


def both(slug: str = "openai") -> TwoApiWire:
    """The wire as the registry gives it, that chooses the API."""
    return TwoApiWire(SERVERS[slug], clock=lambda: NOW)


def target(slug: str = "openai", *, endpoint: str | None = None, wire: str = "") -> ProviderTarget:
    return ProviderTarget(provider=slug, config_id="c1", endpoint=endpoint, secret=Secret(KEY), wire=wire)


def call(
    request: ChatRequest | None = None,
    *,
    info: ModelInfo | None = None,
    stream: bool = True,
    model: str | None = None,
    to: ProviderTarget | None = None,
) -> ProviderCall:
    name = model or (info.model if info is not None else "m")
    request = request or ChatRequest(messages=HI)
    return ProviderCall(target=to or target(), request=request, model=name, info=info, stream=stream)


def build(
    slug: str = "openai",
    *,
    info: ModelInfo | None = None,
    stream: bool = False,
    model: str | None = None,
    **fields: Any,
) -> BuiltRequest:
    """The request that these fields of a ChatRequest become."""
    request = ChatRequest(**({"messages": HI} | fields))
    return wire(slug).build_request(call(request, info=info, stream=stream, model=model, to=target(slug)))


def body(slug: str = "openai", **fields: Any) -> dict[str, Any]:
    """The body alone; arguments as of `build`."""
    parsed: dict[str, Any] = json.loads(build(slug, **fields).http.body)
    return parsed


def items(*messages: Message, model: str = "m", slug: str = "openai") -> list[dict[str, Any]]:
    """The input items that a conversation becomes."""
    found: list[dict[str, Any]] = body(slug, messages=messages, model=model)["input"]
    return found


def kept(data: Mapping[str, Any], *, model: str = "m", slug: str = "openai") -> Opaque:
    """Opaque data of a provider and model."""
    return Opaque(slug, model, json.dumps(data).encode())


def sse(*events: Mapping[str, Any]) -> bytes:
    """A stream's body, each event under its own name, numbered."""
    return b"".join(
        f"event: {event.get('type', '')}\n".encode()
        + b"data: "
        + json.dumps({"sequence_number": number, **event}, ensure_ascii=False).encode()
        + b"\n\n"
        for number, event in enumerate(events)
    )


def response(status: str = "in_progress", output: Sequence[Mapping[str, Any]] = (), **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "m-1", "status": status, "output": list(output), **more}


def created() -> list[dict[str, Any]]:
    return [{"type": f"response.{word}", "response": response()} for word in ("created", "in_progress")]


def completed(*output: Mapping[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    usage = {"usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}}
    return {"type": f"response.{status}", "response": response(status, output, **(usage | more))}


def added(index: int, type: str, **members: Any) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": index, "item": {"type": type, **members}}


def done(index: int, item: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": dict(item)}


def piece(index: int, what: str, delta: str, part: int = 0) -> dict[str, Any]:
    """A delta; what: output_text, refusal, reasoning_text, reasoning_summary_text, function_call_arguments ..."""
    place = "summary_index" if "summary" in what else "content_index"
    return {"type": f"response.{what}.delta", "output_index": index, place: part, "delta": delta}


def message(*texts: str, id: str = "msg_1", **more: Any) -> dict[str, Any]:
    """A whole message item."""
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []} for text in texts]
    return {"type": "message", "id": id, "role": "assistant", "status": "completed", "content": content, **more}


def function(name: str = "f", arguments: str = "{}", id: str = "call_a", **more: Any) -> dict[str, Any]:
    """A whole function_call item."""
    return {
        "type": "function_call", "id": f"fc_{id}", "call_id": id, "name": name, "arguments": arguments,
        "status": "completed", **more,
    }  # fmt: skip


def thought(*summary: str, id: str = "rs_1", encrypted: str | None = "Z2VoZWlt", **more: Any) -> dict[str, Any]:
    """A whole reasoning item."""
    parts = [{"type": "summary_text", "text": text} for text in summary]
    return {"type": "reasoning", "id": id, "summary": parts, "encrypted_content": encrypted, **more}


def said(index: int, *pieces: str, **more: Any) -> list[dict[str, Any]]:
    """A message as OpenAI streams it."""
    text = "".join(pieces)
    whole = message(text, **more)
    (part,) = whole["content"]
    place = {"output_index": index, "content_index": 0}
    return [
        added(index, "message", id="msg_1", role="assistant", content=[], **more),
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *(piece(index, "output_text", text) for text in pieces),
        {"type": "response.output_text.done", **place, "text": text},
        {"type": "response.content_part.done", **place, "part": part},
        done(index, whole),
    ]


def run(
    data: bytes | Iterable[bytes],
    slug: str = "openai",
    *,
    at: ProviderCall | None = None,
    headers: Mapping[str, str] | None = None,
) -> list[StreamEvent]:
    """All events of a stream, guarded, adjacent deltas merged."""
    parser = wire(slug).stream_parser(Exchange(at or call(to=target(slug)), 200, headers or {}))
    events: list[StreamEvent] = []
    for read in [data] if isinstance(data, bytes) else data:
        events += parser.feed(read)
    events += parser.end()
    assert parser.finished
    assert parser.feed(sse(*created())) == []
    assert Guard().feed(events) == events
    return merge_deltas(events)


def answer(document: Mapping[str, Any] | bytes, slug: str = "openai") -> list[StreamEvent]:
    """All events of a whole answer."""
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    events = wire(slug).parse_response(Exchange(call(stream=False, to=target(slug)), 200, {}), raw)
    assert Guard().feed(events) == events
    return merge_deltas(events)


def of(events: Sequence[StreamEvent], kind: type) -> list[Any]:
    return [event for event in events if type(event) is kind]
