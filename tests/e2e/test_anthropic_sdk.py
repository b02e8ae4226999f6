"""Applications written for Anthropic's SDK: the SDK itself, by another base URL and key, through the real Envoy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.e2e.stack import Stack

pytestmark = pytest.mark.e2e

MODEL = "custom/demo-chat"
ASK: Any = {"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": "hello there"}]}


@pytest.fixture
def client(stack: Stack) -> Iterator[anthropic.Anthropic]:
    """The SDK as an application makes it, without retries."""
    with anthropic.Anthropic(base_url=stack.envoy.url, api_key=stack.keys["member"], max_retries=0) as one:
        yield one


def test_create(client: anthropic.Anthropic) -> None:
    """A message is the SDK's own object, with text, stop reason and usage."""
    answer = client.messages.create(**ASK)
    assert (answer.type, answer.role, answer.stop_reason) == ("message", "assistant", "end_turn")
    assert isinstance(answer.content[0], anthropic.types.TextBlock)
    assert answer.content[0].text
    assert answer.usage.input_tokens > 0
    assert answer._request_id


def test_stream(client: anthropic.Anthropic) -> None:
    """The events of a stream add up, by the SDK's own sums, to the answer that comes at once."""
    whole = client.messages.create(**ASK)
    with client.messages.stream(**ASK) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert [block.to_dict() for block in final.content] == [block.to_dict() for block in whole.content]
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    assert final.usage.input_tokens == whole.usage.input_tokens


def test_models(client: anthropic.Anthropic) -> None:
    """The list of models is Anthropic's where its header is sent."""
    page = client.models.list(limit=5)
    assert MODEL in [model.id for model in page]
    assert client.models.retrieve(MODEL).type == "model"


def test_typed_errors(client: anthropic.Anthropic) -> None:
    """Failures are the SDK's own exceptions."""
    with pytest.raises(anthropic.AuthenticationError) as refused:
        client.with_options(api_key="sk-nonsense").messages.create(**ASK)
    assert refused.value.type == "authentication_error"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**ASK | {"model": "no-such-model"})
    with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\].role"):
        client.messages.create(**ASK | {"messages": [{"role": "martian", "content": "hi"}]})
    with pytest.raises(anthropic.NotFoundError):
        client.post("/v1/messages/nothing", body={}, cast_to=object)
