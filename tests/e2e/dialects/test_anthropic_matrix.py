"""Anthropic's SDK to every provider: the same application, the same answers, whichever provider serves."""

from __future__ import annotations

import base64
import json
from typing import Any

import anthropic
import pytest

from tests.e2e.dialects.expected import (
    THOUGHT,
    as_documented,
    check_thoughts_that_went_back,
    forget_hangups,
    signs_calls,
)
from tests.support.matrix import HIDDEN, Dialect, Provider, cell, feature
from tests.support.wires import WireServer
from tests.support.wires.scenes import PNG, SIGNATURE

pytestmark = pytest.mark.e2e

DIALECT: Dialect = "Messages"

WAYS = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])

WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def answer(sdk: anthropic.Anthropic, streamed: bool, **ask: Any) -> Any:
    """A whole message, or the SDK's own sum of a stream."""
    if not streamed:
        return sdk.messages.create(**ask)
    with sdk.messages.stream(**ask) as stream:
        return stream.get_final_message()


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@feature("create")
def test_create(anthropic_at: anthropic.Anthropic, wires: WireServer, provider: Provider) -> None:
    """Text, stop reason and usage of a whole answer, with system text said as blocks, on the provider's own wire."""
    system: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    message = anthropic_at.messages.create(model=provider.model, max_tokens=99, system=system, messages=[user("hello")])
    assert text_of(message) == "You said 'hello', under 'Be brief.'."
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (8, 3)
    assert message.usage.output_tokens == 7
    assert wires.seen[-1][0] == provider.wire(DIALECT)


@feature("stream")
def test_stream(anthropic_at: anthropic.Anthropic, provider: Provider) -> None:
    """The events come in Anthropic's order, and add up to the answer that comes at once."""
    ask: Any = {"model": provider.model, "max_tokens": 99, "messages": [user("hello")]}
    whole = anthropic_at.messages.create(**ask)
    kinds: list[str] = []
    with anthropic_at.messages.create(**ask, stream=True) as events:
        kinds += [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    summed = answer(anthropic_at, True, **ask)
    assert [block.to_dict() for block in summed.content] == [block.to_dict() for block in whole.content]
    assert (summed.stop_reason, summed.usage.input_tokens) == (whole.stop_reason, whole.usage.input_tokens)
    assert summed.usage.output_tokens == whole.usage.output_tokens


@WAYS
@pytest.mark.parametrize(
    "words",
    [
        pytest.param("weather", marks=feature("tools")),
        pytest.param("weather parallel", marks=feature("parallel tools")),
    ],
)
def test_tools_with_a_second_turn(
    anthropic_at: anthropic.Anthropic, provider: Provider, words: str, streamed: bool
) -> None:
    """Calls come as tool_use, several as several; the SDK's own content goes back with the results, and the provider
    gets its signature again."""
    ask: Any = {"model": provider.model, "max_tokens": 99, "tools": [WEATHER]}
    messages: list[Any] = [user(words)]
    first = answer(anthropic_at, streamed, **ask, messages=messages)
    assert first.stop_reason == "tool_use"
    calls = [block for block in first.content if block.type == "tool_use"]
    cities = ["Paris", "Rome"] if "parallel" in words else ["Paris"]
    assert [call.input["city"] for call in calls] == cities
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": f"{city} is sunny"}
        for call, city in zip(calls, cities, strict=True)
    ]
    messages += [{"role": "assistant", "content": first.content}, user(results)]
    second = answer(anthropic_at, streamed, **ask, messages=messages)
    said = ", ".join(f"{city} is sunny" for city in cities)
    signed = signs_calls(provider.name, provider.wire(DIALECT))
    assert text_of(second) == f"The tools said {said} ({'signed' if signed else 'unsigned'})."


@WAYS
@feature("thinking", "thoughts back")
def test_thinking(anthropic_at: anthropic.Anthropic, wires: WireServer, provider: Provider, streamed: bool) -> None:
    """Thoughts come as thinking blocks, where the provider shows them, and go back as it wants them."""
    ask: Any = {"model": provider.model, "max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 2000}}
    messages: list[Any] = [user("think")]
    first = answer(anthropic_at, streamed, **ask, messages=messages)
    if cell(DIALECT, "thinking", provider.name) == HIDDEN:
        assert [block.type for block in first.content] == ["text"]
        assert wires.last["reasoning_effort"] == "low"
    else:
        assert first.content[0].type == "thinking"
        assert first.content[0].thinking == THOUGHT
    if provider.name == "anthropic":
        assert first.content[0].signature == SIGNATURE
    messages += [{"role": "assistant", "content": first.content}, user("think again")]
    second = answer(anthropic_at, False, **ask, messages=messages)
    check_thoughts_that_went_back(cell(DIALECT, "thoughts back", provider.name), wires, text_of(second), second)


@WAYS
@feature("structured output")
def test_structured_output(
    anthropic_at: anthropic.Anthropic, wires: WireServer, provider: Provider, streamed: bool
) -> None:
    """A JSON schema reaches the provider, and the answer is its JSON."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}
    ask: Any = {"max_tokens": 99, "output_config": {"format": {"type": "json_schema", "schema": schema}}}
    with as_documented(cell(DIALECT, "structured output", provider.name), wires):
        message = answer(anthropic_at, streamed, model=provider.model, messages=[user("json")], **ask)
        assert json.loads(text_of(message)) == {"city": "Paris", "form": "with a schema"}


@pytest.mark.parametrize(
    ("source", "size"),
    [
        pytest.param(
            {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()},
            len(PNG),
            marks=feature("images"),
            id="data",
        ),
        pytest.param(
            {"type": "url", "url": "https://pictures.example/1.png"}, 30, marks=feature("images by URL"), id="URL"
        ),
    ],
)
def test_images(
    anthropic_at: anthropic.Anthropic,
    wires: WireServer,
    provider: Provider,
    source: Any,
    size: int,
    request: pytest.FixtureRequest,
) -> None:
    """An image arrives byte for byte, a URL as it is."""
    (name,) = request.node.get_closest_marker("feature").args
    content = [{"type": "text", "text": "see"}, {"type": "image", "source": source}]
    with as_documented(cell(DIALECT, name, provider.name), wires):
        message = anthropic_at.messages.create(model=provider.model, max_tokens=99, messages=[user(content)])
        assert text_of(message) == f"I see 1 image of {size} bytes."


@feature("count tokens")
def test_count_tokens(anthropic_at: anthropic.Anthropic, wires: WireServer, provider: Provider) -> None:
    """The provider's own count, of what would be sent; where it has none, an error that says so."""
    ask: Any = {"model": provider.model, "system": "Be brief.", "tools": [WEATHER]}
    ask |= {"messages": [user("hello there you")]}
    with as_documented(cell(DIALECT, "count tokens", provider.name), wires):
        before = len(wires.seen)
        assert anthropic_at.messages.count_tokens(**ask).input_tokens == 5
        assert len(wires.seen) == before + 1
        assert "get_weather" in json.dumps(wires.last)


def test_a_count_that_is_refused(anthropic_sdk: anthropic.Anthropic) -> None:
    """Refusals are those of messages, whether the provider says them or the gateway."""
    ask: Any = {"model": "anthropic/wire-test", "messages": [user("fail 429")]}
    with pytest.raises(anthropic.RateLimitError) as caught:
        anthropic_sdk.messages.count_tokens(**ask)
    assert caught.value.response.headers["retry-after"] == "7"
    with pytest.raises(anthropic.BadRequestError, match="counts no tokens") as refused:
        anthropic_sdk.messages.count_tokens(**ask | {"model": "groq/wire-test"})
    assert refused.value.type == "invalid_request_error"


@feature("token limit")
def test_length(anthropic_at: anthropic.Anthropic, provider: Provider) -> None:
    """An answer that ran out of tokens says so, whole and streamed."""
    for streamed in (False, True):
        message = answer(anthropic_at, streamed, model=provider.model, max_tokens=99, messages=[user("long")])
        assert message.stop_reason == "max_tokens"


@pytest.mark.parametrize(
    ("status", "kind", "word"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (503, anthropic.InternalServerError, "overloaded_error"),
    ],
)
@feature("errors")
def test_the_providers_refusals(
    anthropic_at: anthropic.Anthropic, provider: Provider, status: int, kind: type[anthropic.APIStatusError], word: str
) -> None:
    """A refusal before the answer is the SDK's typed error, by whatever status the provider says it (a wrong key is a
    400 at some), with the wait that the provider asked for; whole and streamed."""
    ask: Any = {"model": provider.model, "max_tokens": 99, "messages": [user(f"fail {status}")]}
    for streamed in (False, True):
        with pytest.raises(kind) as caught:
            anthropic_at.messages.create(**ask, stream=streamed)
        assert caught.value.type == word
        assert caught.value.status_code == {500: 503, 503: 529}.get(status, status)
        assert caught.value.response.headers.get("retry-after") == ("7" if status == 429 else None)


@feature("broken stream")
def test_a_failure_in_the_stream(anthropic_at: anthropic.Anthropic, provider: Provider) -> None:
    """An answer that breaks off is the SDK's error, after what came of it."""
    seen: list[str] = []
    with (
        anthropic_at.messages.stream(model=provider.model, max_tokens=99, messages=[user("break")]) as stream,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        seen.extend(stream.text_stream)
    assert "".join(seen) == "It goes well until"
    assert caught.value.body["error"]["type"] == "api_error"  # type: ignore[index]  # a mapping


@feature("leaving")
def test_a_caller_that_leaves(anthropic_at: anthropic.Anthropic, wires: WireServer, provider: Provider) -> None:
    """Who stops reading a stream ends the provider's work."""
    forget_hangups(wires)
    with anthropic_at.messages.stream(model=provider.model, max_tokens=99, messages=[user("endless")]) as stream:
        next(iter(stream.text_stream))
    assert wires.hangups.acquire(timeout=10)


@feature("models")
def test_models(anthropic_at: anthropic.Anthropic, provider: Provider) -> None:
    """The workspace's models are listed, its own among them, and each can be asked for; an unknown one is NotFound."""
    assert provider.model in [one.id for one in anthropic_at.models.list()]
    found = anthropic_at.models.retrieve(provider.model)
    assert (found.id, found.type) == (provider.model, "model")
    with pytest.raises(anthropic.NotFoundError):
        anthropic_at.models.retrieve("no-such-model")
