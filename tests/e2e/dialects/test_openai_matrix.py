"""OpenAI's SDK to every wire: the same application, the same answers, whichever provider serves."""

from __future__ import annotations

import base64
import json
from typing import Any

import openai
import pytest

from tests.support.wires import WireServer
from tests.support.wires.scenes import PNG

pytestmark = pytest.mark.e2e

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


def test_create(openai_sdk: openai.OpenAI, model: str) -> None:
    """Text, finish reason and usage of a whole answer, with a system message said."""
    messages: Any = [{"role": "developer", "content": "Be brief."}, user("hello")]
    answer = openai_sdk.chat.completions.create(model=model, messages=messages, temperature=0.5, max_tokens=99)
    assert answer.choices[0].message.content == "You said 'hello', under 'Be brief.'."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 7)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 3


def test_stream(openai_sdk: openai.OpenAI, model: str) -> None:
    """The SDK's own sum of a stream's deltas is the answer that comes at once."""
    ask: Any = {"model": model, "messages": [user("hello")]}
    whole = openai_sdk.chat.completions.create(**ask)
    with openai_sdk.chat.completions.stream(**ask, stream_options={"include_usage": True}) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == whole.choices[0].finish_reason
    assert final.usage == whole.usage


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("words", ["weather", "weather parallel"])
def test_tools_with_a_second_turn(
    openai_sdk: openai.OpenAI, wires: WireServer, model: str, words: str, streamed: bool
) -> None:
    """Calls come as calls, several as several; the SDK's own message goes back with the results, and the provider gets
    its signature again."""
    ask: Any = {"model": model, "tools": [WEATHER]}
    messages: list[Any] = [user(words)]
    if streamed:
        with openai_sdk.chat.completions.stream(**ask, messages=messages) as stream:
            for _ in stream:
                pass
            choice: Any = stream.get_final_completion().choices[0]
    else:
        choice = openai_sdk.chat.completions.create(**ask, messages=messages).choices[0]
    assert choice.finish_reason == "tool_calls"
    cities = ["Paris", "Rome"] if "parallel" in words else ["Paris"]
    assert [json.loads(call.function.arguments)["city"] for call in choice.message.tool_calls] == cities
    messages.append(choice.message)
    for call, city in zip(choice.message.tool_calls, cities, strict=True):
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"{city} is sunny"})
    answer = openai_sdk.chat.completions.create(**ask, messages=messages)
    said = ", ".join(f"{city} is sunny" for city in cities)
    assert answer.choices[0].message.content == f"The tools said {said} (signed)."


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_thinking(openai_sdk: openai.OpenAI, wire: str, model: str, streamed: bool) -> None:
    """Thoughts come beside the text, and go back signed where their provider signs them."""
    ask: Any = {"model": model, "reasoning_effort": "low"}
    messages: list[Any] = [user("think")]
    if streamed:
        with openai_sdk.chat.completions.stream(**ask, messages=messages) as stream:
            for _ in stream:
                pass
            message: Any = stream.get_final_completion().choices[0].message
    else:
        message = openai_sdk.chat.completions.create(**ask, messages=messages).choices[0].message
    assert message.reasoning_content == "Let me see."
    assert message.content == "Thought it through (unsigned)."
    again = openai_sdk.chat.completions.create(**ask, messages=[*messages, message, user("think again")])
    # Chat Completions has nothing to sign with; a signature on a text has no place in this dialect (docs/dialects.md).
    signed = "signed" if wire == "anthropic" else "unsigned"
    assert again.choices[0].message.content == f"Thought it through ({signed})."


def test_structured_output(openai_sdk: openai.OpenAI, model: str) -> None:
    """A JSON schema reaches the provider, and the answer is its JSON."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}
    form: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    answer = openai_sdk.chat.completions.create(model=model, messages=[user("json")], response_format=form)
    assert json.loads(answer.choices[0].message.content or "") == {"city": "Paris", "form": "with a schema"}


def test_images(openai_sdk: openai.OpenAI, model: str) -> None:
    """An image in a data URL arrives byte for byte."""
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    content = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": url}}]
    answer = openai_sdk.chat.completions.create(model=model, messages=[user(content)])
    assert answer.choices[0].message.content == f"I see 1 image of {len(PNG)} bytes."


def test_length(openai_sdk: openai.OpenAI, model: str) -> None:
    """An answer that ran out of tokens says so."""
    answer = openai_sdk.chat.completions.create(model=model, messages=[user("long")])
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_the_providers_refusals(
    openai_sdk: openai.OpenAI, model: str, status: int, kind: type[openai.APIStatusError], streamed: bool
) -> None:
    """A refusal before the answer is the SDK's typed error, with the wait that the provider asked for."""
    with pytest.raises(kind) as caught:
        openai_sdk.chat.completions.create(model=model, messages=[user(f"fail {status}")], stream=streamed)
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "7"
        assert caught.value.code == "rate_limit_exceeded"


def test_a_failure_in_the_stream(openai_sdk: openai.OpenAI, model: str) -> None:
    """An answer that breaks off is the SDK's error, after what came of it."""
    seen: list[str] = []
    stream = openai_sdk.chat.completions.create(model=model, messages=[user("break")], stream=True)
    with pytest.raises(openai.APIError, match="error"):
        seen.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "".join(seen) == "It goes well until"


def test_a_caller_that_leaves(openai_sdk: openai.OpenAI, wires: WireServer, model: str) -> None:
    """Who stops reading a stream ends the provider's work."""
    with openai_sdk.chat.completions.create(model=model, messages=[user("endless")], stream=True) as stream:
        next(iter(stream))
    assert wires.hangups.acquire(timeout=10)
