"""Anthropic's SDK to every wire: the same application, the same answers, whichever provider serves."""

from __future__ import annotations

import base64
import json
from typing import Any

import anthropic
import pytest

from tests.support.wires import WireServer
from tests.support.wires.scenes import PNG, SIGNATURE

pytestmark = pytest.mark.e2e

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


def test_create(anthropic_sdk: anthropic.Anthropic, model: str) -> None:
    """Text, stop reason and usage of a whole answer, with system text said as blocks."""
    system: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    message = anthropic_sdk.messages.create(model=model, max_tokens=99, system=system, messages=[user("hello")])
    assert text_of(message) == "You said 'hello', under 'Be brief.'."
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (8, 3)
    assert message.usage.output_tokens == 7


def test_stream(anthropic_sdk: anthropic.Anthropic, model: str) -> None:
    """The events come in Anthropic's order, and add up to the answer that comes at once."""
    ask: Any = {"model": model, "max_tokens": 99, "messages": [user("hello")]}
    whole = anthropic_sdk.messages.create(**ask)
    kinds: list[str] = []
    with anthropic_sdk.messages.create(**ask, stream=True) as events:
        kinds += [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    summed = answer(anthropic_sdk, True, **ask)
    assert [block.to_dict() for block in summed.content] == [block.to_dict() for block in whole.content]
    assert (summed.stop_reason, summed.usage.input_tokens) == (whole.stop_reason, whole.usage.input_tokens)
    assert summed.usage.output_tokens == whole.usage.output_tokens


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("words", ["weather", "weather parallel"])
def test_tools_with_a_second_turn(anthropic_sdk: anthropic.Anthropic, model: str, words: str, streamed: bool) -> None:
    """Calls come as tool_use, several as several; the SDK's own content goes back with the results, and the provider
    gets its signature again."""
    ask: Any = {"model": model, "max_tokens": 99, "tools": [WEATHER]}
    messages: list[Any] = [user(words)]
    first = answer(anthropic_sdk, streamed, **ask, messages=messages)
    assert first.stop_reason == "tool_use"
    calls = [block for block in first.content if block.type == "tool_use"]
    cities = ["Paris", "Rome"] if "parallel" in words else ["Paris"]
    assert [call.input["city"] for call in calls] == cities
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": f"{city} is sunny"}
        for call, city in zip(calls, cities, strict=True)
    ]
    messages += [{"role": "assistant", "content": first.content}, user(results)]
    second = answer(anthropic_sdk, streamed, **ask, messages=messages)
    said = ", ".join(f"{city} is sunny" for city in cities)
    assert text_of(second) == f"The tools said {said} (signed)."


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_thinking(anthropic_sdk: anthropic.Anthropic, wire: str, model: str, streamed: bool) -> None:
    """Thoughts come as thinking blocks, and go back signed where their provider signs."""
    ask: Any = {"model": model, "max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 2000}}
    messages: list[Any] = [user("think")]
    first = answer(anthropic_sdk, streamed, **ask, messages=messages)
    assert first.content[0].type == "thinking"
    assert first.content[0].thinking == "Let me see."
    if wire == "anthropic":
        assert first.content[0].signature == SIGNATURE
    messages += [{"role": "assistant", "content": first.content}, user("think again")]
    second = answer(anthropic_sdk, streamed, **ask, messages=messages)
    signed = "unsigned" if wire == "chat" else "signed"  # Chat Completions has nothing to sign with
    assert text_of(second) == f"Thought it through ({signed})."


def test_structured_output(anthropic_sdk: anthropic.Anthropic, model: str) -> None:
    """A JSON schema reaches the provider, and the answer is its JSON."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}
    config: Any = {"format": {"type": "json_schema", "schema": schema}}
    message = anthropic_sdk.messages.create(model=model, max_tokens=99, messages=[user("json")], output_config=config)
    assert json.loads(text_of(message)) == {"city": "Paris", "form": "with a schema"}


def test_images(anthropic_sdk: anthropic.Anthropic, model: str) -> None:
    """An image arrives byte for byte."""
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
    content = [{"type": "text", "text": "see"}, {"type": "image", "source": source}]
    message = anthropic_sdk.messages.create(model=model, max_tokens=99, messages=[user(content)])
    assert text_of(message) == f"I see 1 image of {len(PNG)} bytes."


def test_count_tokens(anthropic_sdk: anthropic.Anthropic, wires: WireServer, wire: str, model: str) -> None:
    """The provider's own count, of what would be sent; where it has none, an error that says so."""
    ask: Any = {"model": model, "system": "Be brief.", "tools": [WEATHER], "messages": [user("hello there you")]}
    before = len(wires.seen)
    if wire == "chat":
        with pytest.raises(anthropic.BadRequestError, match="counts no tokens") as caught:
            anthropic_sdk.messages.count_tokens(**ask)
        assert caught.value.type == "invalid_request_error"
        assert len(wires.seen) == before
        return
    assert anthropic_sdk.messages.count_tokens(**ask).input_tokens == 5
    assert len(wires.seen) == before + 1
    assert "get_weather" in json.dumps(wires.last)


def test_a_count_that_is_refused(anthropic_sdk: anthropic.Anthropic) -> None:
    """Refusals are those of messages."""
    ask: Any = {"model": "anthropic/wire-test", "messages": [user("fail 429")]}
    with pytest.raises(anthropic.RateLimitError) as caught:
        anthropic_sdk.messages.count_tokens(**ask)
    assert caught.value.response.headers["retry-after"] == "7"


def test_length(anthropic_sdk: anthropic.Anthropic, model: str) -> None:
    """An answer that ran out of tokens says so."""
    message = anthropic_sdk.messages.create(model=model, max_tokens=99, messages=[user("long")])
    assert message.stop_reason == "max_tokens"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
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
def test_the_providers_refusals(
    anthropic_sdk: anthropic.Anthropic,
    model: str,
    status: int,
    kind: type[anthropic.APIStatusError],
    word: str,
    streamed: bool,
) -> None:
    """A refusal before the answer is the SDK's typed error, with the wait that the provider asked for."""
    with pytest.raises(kind) as caught:
        anthropic_sdk.messages.create(model=model, max_tokens=99, messages=[user(f"fail {status}")], stream=streamed)
    assert caught.value.type == word
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "7"
    if status == 503:
        assert caught.value.status_code == 529


def test_a_failure_in_the_stream(anthropic_sdk: anthropic.Anthropic, model: str) -> None:
    """An answer that breaks off is the SDK's error, after what came of it."""
    seen: list[str] = []
    with (
        anthropic_sdk.messages.stream(model=model, max_tokens=99, messages=[user("break")]) as stream,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        seen.extend(stream.text_stream)
    assert "".join(seen) == "It goes well until"
    assert caught.value.body["error"]["type"] == "api_error"  # type: ignore[index]  # a mapping


def test_a_caller_that_leaves(anthropic_sdk: anthropic.Anthropic, wires: WireServer, model: str) -> None:
    """Who stops reading a stream ends the provider's work."""
    with anthropic_sdk.messages.stream(model=model, max_tokens=99, messages=[user("endless")]) as stream:
        next(iter(stream.text_stream))
    assert wires.hangups.acquire(timeout=10)
