"""Applications written for OpenAI's SDK: the SDK itself, by another base URL and key, through the real Envoy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.e2e.stack import Stack

pytestmark = pytest.mark.e2e

MODEL = "custom/demo-chat"


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    """The SDK as an application makes it, without retries."""
    with openai.OpenAI(base_url=f"{stack.envoy.url}/v1", api_key=stack.keys["member"], max_retries=0) as one:
        yield one


def test_create(client: openai.OpenAI) -> None:
    """A completion is the SDK's own object, with text, finish reason and usage."""
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello there"}])
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_stream(client: openai.OpenAI) -> None:
    """The deltas of a stream add up to the answer that comes at once, and usage comes last where it is asked for."""
    ask: Any = {"model": MODEL, "messages": [{"role": "user", "content": "hello there"}]}
    whole = client.chat.completions.create(**ask)
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_models(client: openai.OpenAI) -> None:
    """The workspace's models are listed, and one is found by its id with a slash."""
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).owned_by == "custom"


def test_typed_errors(stack: Stack, client: openai.OpenAI) -> None:
    """Failures are the SDK's own exceptions, with code and parameter."""
    ask: Any = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    with pytest.raises(openai.AuthenticationError) as refused:
        client.with_options(api_key="sk-nonsense").chat.completions.create(**ask)
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(**ask | {"model": "no-such-model"})
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(**ask, n=2)
    assert (bad.value.param, bad.value.code) == ("n", "unsupported_parameter")
    with pytest.raises(openai.NotFoundError):
        client.post("/nothing", body={}, cast_to=object)
