"""OpenAI's SDK by Chat Completions to every provider: the same application, the same answers, whoever serves."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.e2e.dialects.expected import (
    THOUGHT,
    as_documented,
    check_thoughts_that_went_back,
    each_image_url,
    forget_hangups,
    signs_calls,
)
from tests.support.matrix import HIDDEN, Dialect, Provider, cell, feature
from tests.support.wires import WireServer
from tests.support.wires.embeddings import vector

pytestmark = pytest.mark.e2e

DIALECT: Dialect = "Chat Completions"

WAYS = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def answer(sdk: openai.OpenAI, streamed: bool, **ask: Any) -> Any:
    """A whole completion, or the SDK's own sum of a stream."""
    if not streamed:
        return sdk.chat.completions.create(**ask)
    with sdk.chat.completions.stream(**ask, stream_options={"include_usage": True}) as stream:
        for _ in stream:
            pass
        return stream.get_final_completion()


@feature("create")
def test_create(openai_at: openai.OpenAI, wires: WireServer, provider: Provider) -> None:
    """Text, finish reason and usage of a whole answer, with a system message said, on the provider's own wire."""
    messages: Any = [{"role": "developer", "content": "Be brief."}, user("hello")]
    found = openai_at.chat.completions.create(model=provider.model, messages=messages, temperature=0.5, max_tokens=99)
    assert found.choices[0].message.content == "You said 'hello', under 'Be brief.'."
    assert found.choices[0].finish_reason == "stop"
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (11, 7)
    assert found.usage.prompt_tokens_details is not None
    assert found.usage.prompt_tokens_details.cached_tokens == 3
    assert wires.seen[-1][0] == provider.wire(DIALECT)


@feature("stream")
def test_stream(openai_at: openai.OpenAI, provider: Provider) -> None:
    """The SDK's own sum of a stream's deltas is the answer that comes at once."""
    ask: Any = {"model": provider.model, "messages": [user("hello")]}
    whole, summed = answer(openai_at, False, **ask), answer(openai_at, True, **ask)
    assert summed.choices[0].message.content == whole.choices[0].message.content
    assert summed.choices[0].finish_reason == whole.choices[0].finish_reason
    assert summed.usage == whole.usage


@WAYS
@pytest.mark.parametrize(
    "words",
    [
        pytest.param("weather", marks=feature("tools")),
        pytest.param("weather parallel", marks=feature("parallel tools")),
    ],
)
def test_tools_with_a_second_turn(openai_at: openai.OpenAI, provider: Provider, words: str, streamed: bool) -> None:
    """Calls come as calls, several as several; the SDK's own message goes back with the results, and the provider gets
    its signature again."""
    ask: Any = {"model": provider.model, "tools": [WEATHER]}
    messages: list[Any] = [user(words)]
    choice = answer(openai_at, streamed, **ask, messages=messages).choices[0]
    assert choice.finish_reason == "tool_calls"
    cities = ["Paris", "Rome"] if "parallel" in words else ["Paris"]
    assert [json.loads(call.function.arguments)["city"] for call in choice.message.tool_calls] == cities
    messages.append(choice.message)
    for call, city in zip(choice.message.tool_calls, cities, strict=True):
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"{city} is sunny"})
    second = answer(openai_at, streamed, **ask, messages=messages)
    said = ", ".join(f"{city} is sunny" for city in cities)
    signed = signs_calls(provider.name, provider.wire(DIALECT))
    assert second.choices[0].message.content == f"The tools said {said} ({'signed' if signed else 'unsigned'})."


@WAYS
@feature("thinking", "thoughts back")
def test_thinking(openai_at: openai.OpenAI, wires: WireServer, provider: Provider, streamed: bool) -> None:
    """Thoughts come beside the text, where the provider shows them, and go back as it wants them."""
    ask: Any = {"model": provider.model, "reasoning_effort": "low"}
    messages: list[Any] = [user("think")]
    message: Any = answer(openai_at, streamed, **ask, messages=messages).choices[0].message
    if cell(DIALECT, "thinking", provider.name) == HIDDEN:
        assert "reasoning_content" not in message.to_dict()
        assert wires.last["reasoning_effort"] == "low"
    else:
        assert message.reasoning_content == THOUGHT
    assert message.content == "Thought it through (unsigned)."
    again: Any = openai_at.chat.completions.create(**ask, messages=[*messages, message, user("think again")])
    expected = cell(DIALECT, "thoughts back", provider.name)
    check_thoughts_that_went_back(expected, wires, again.choices[0].message.content, again)


@WAYS
@feature("structured output")
def test_structured_output(openai_at: openai.OpenAI, wires: WireServer, provider: Provider, streamed: bool) -> None:
    """A JSON schema reaches the provider, and the answer is its JSON."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}
    form: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    with as_documented(cell(DIALECT, "structured output", provider.name), wires):
        found = answer(openai_at, streamed, model=provider.model, messages=[user("json")], response_format=form)
        assert json.loads(found.choices[0].message.content) == {"city": "Paris", "form": "with a schema"}


@each_image_url
def test_images(
    openai_at: openai.OpenAI,
    wires: WireServer,
    provider: Provider,
    url: str,
    size: int,
    request: pytest.FixtureRequest,
) -> None:
    """An image in a data URL arrives byte for byte, another URL as it is."""
    (name,) = request.node.get_closest_marker("feature").args
    content = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": url}}]
    with as_documented(cell(DIALECT, name, provider.name), wires):
        found = openai_at.chat.completions.create(model=provider.model, messages=[user(content)])
        assert found.choices[0].message.content == f"I see 1 image of {size} bytes."


@feature("token limit")
def test_length(openai_at: openai.OpenAI, provider: Provider) -> None:
    """An answer that ran out of tokens says so, whole and streamed."""
    ask: Any = {"model": provider.model, "messages": [user("long")]}
    assert openai_at.chat.completions.create(**ask).choices[0].finish_reason == "length"
    *_, last = openai_at.chat.completions.create(**ask, stream=True)
    assert last.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        # The provider's fault, which may pass.
        (500, openai.InternalServerError, "provider_unavailable"),
        (400, openai.BadRequestError, None),
        (401, openai.AuthenticationError, "provider_unauthenticated"),
        (404, openai.NotFoundError, "model_not_found"),
        (429, openai.RateLimitError, "rate_limit_exceeded"),
    ],
)
@feature("errors")
def test_the_providers_refusals(
    openai_at: openai.OpenAI, provider: Provider, status: int, kind: type[openai.APIStatusError], code: str | None
) -> None:
    """A refusal before the answer is the SDK's typed error, by whatever status the provider says it (a wrong key is a
    400 at some), with the wait that the provider asked for; whole and streamed."""
    for streamed in (False, True):
        with pytest.raises(kind) as caught:
            openai_at.chat.completions.create(model=provider.model, messages=[user(f"fail {status}")], stream=streamed)
        assert caught.value.status_code == (503 if status == 500 else status)
        if code is not None:
            assert caught.value.code == code
        assert caught.value.response.headers.get("retry-after") == ("7" if status == 429 else None)


@feature("broken stream")
def test_a_failure_in_the_stream(openai_at: openai.OpenAI, provider: Provider) -> None:
    """An answer that breaks off is the SDK's error, after what came of it."""
    seen: list[str] = []
    stream = openai_at.chat.completions.create(model=provider.model, messages=[user("break")], stream=True)
    with pytest.raises(openai.APIError, match="error"):
        seen.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "".join(seen) == "It goes well until"


@feature("leaving")
def test_a_caller_that_leaves(openai_at: openai.OpenAI, wires: WireServer, provider: Provider) -> None:
    """Who stops reading a stream ends the provider's work."""
    forget_hangups(wires)
    with openai_at.chat.completions.create(model=provider.model, messages=[user("endless")], stream=True) as stream:
        next(iter(stream))
    assert wires.hangups.acquire(timeout=10)


@feature("models")
def test_models(openai_at: openai.OpenAI, provider: Provider) -> None:
    """The workspace's models are listed, its own among them, and each can be asked for; an unknown one is NotFound."""
    assert provider.model in [one.id for one in openai_at.models.list()]
    found = openai_at.models.retrieve(provider.model)
    assert (found.id, found.object, found.owned_by) == (provider.model, "model", provider.slug)
    with pytest.raises(openai.NotFoundError):
        openai_at.models.retrieve("no-such-model")


@feature("embeddings")
def test_embeddings(openai_at: openai.OpenAI, wires: WireServer, provider: Provider) -> None:
    """A vector for each text, in order, of the length that was asked for, with the tokens that the provider counted."""
    texts = ["one", "two words", "three more words"]
    model = f"{provider.slug}/{provider.embeds or 'wire-embed'}"
    with as_documented(cell(DIALECT, "embeddings", provider.name), wires):
        found = openai_at.embeddings.create(model=model, input=texts, dimensions=256)
        assert [one.embedding for one in found.data] == [vector(text, 256) for text in texts]
