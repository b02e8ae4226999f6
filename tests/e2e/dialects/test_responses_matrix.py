"""OpenAI's SDK by its Responses API to every provider: the same application, the same answers, whoever serves."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pydantic
import pytest

from tests.e2e.dialects.conftest import MODELS
from tests.e2e.dialects.expected import (
    THOUGHT,
    as_documented,
    check_thoughts_that_went_back,
    each_image_url,
    forget_hangups,
    signs_calls,
)
from tests.e2e.stack import Stack
from tests.support.matrix import HIDDEN, Dialect, Provider, cell, feature
from tests.support.wires import WireServer

pytestmark = pytest.mark.e2e

DIALECT: Dialect = "Responses"

WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}

WAYS = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])


def answer(sdk: openai.OpenAI, streamed: bool, **ask: Any) -> Any:
    """A whole response, or the SDK's own sum of a stream, which checks each event against those before it."""
    if not streamed:
        return sdk.responses.create(**ask)
    with sdk.responses.stream(**ask) as stream:
        return stream.get_final_response()


@feature("create")
def test_create(openai_at: openai.OpenAI, wires: WireServer, provider: Provider) -> None:
    """Text, status, usage and the request's own settings of a whole answer, on the provider's own wire."""
    response = openai_at.responses.create(
        model=provider.model, input="hello", instructions="Be brief.", temperature=0.5, metadata={"of": "a test"}
    )
    assert response.output_text == "You said 'hello', under 'Be brief.'."
    assert (response.object, response.status, response.error) == ("response", "completed", None)
    assert (response.instructions, response.temperature, response.metadata) == ("Be brief.", 0.5, {"of": "a test"})
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (11, 7, 18)
    assert response.usage.input_tokens_details.cached_tokens == 3
    assert wires.seen[-1][0] == provider.wire(DIALECT)


@feature("stream")
def test_stream(openai_at: openai.OpenAI, provider: Provider) -> None:
    """The events come in OpenAI's order and numbered, and add up to the answer that comes at once."""
    ask: Any = {"model": provider.model, "input": [{"role": "user", "content": "hello"}]}
    whole = openai_at.responses.create(**ask)
    events: list[Any] = list(openai_at.responses.create(**ask, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events[4:-4])
    assert text == whole.output_text == events[-1].response.output_text
    assert events[-1].response.usage == whole.usage
    assert answer(openai_at, True, **ask).output_text == text


@WAYS
@pytest.mark.parametrize(
    "words",
    [
        pytest.param("weather", marks=feature("tools")),
        pytest.param("weather parallel", marks=feature("parallel tools")),
    ],
)
def test_tools_with_a_second_turn(openai_at: openai.OpenAI, provider: Provider, words: str, streamed: bool) -> None:
    """Calls come as items, several as several; the SDK's own output goes back with the results, and the provider gets
    its signature again."""
    ask: Any = {"model": provider.model, "tools": [WEATHER]}
    items: list[Any] = [{"role": "user", "content": words}]
    first = answer(openai_at, streamed, **ask, input=items)
    assert first.status == "completed"
    calls = [item for item in first.output if item.type == "function_call"]
    cities = ["Paris", "Rome"] if "parallel" in words else ["Paris"]
    assert [json.loads(call.arguments)["city"] for call in calls] == cities
    items += first.output
    items += [
        {"type": "function_call_output", "call_id": call.call_id, "output": f"{city} is sunny"}
        for call, city in zip(calls, cities, strict=True)
    ]
    second = answer(openai_at, streamed, **ask, input=items)
    said = ", ".join(f"{city} is sunny" for city in cities)
    signed = signs_calls(provider.name, provider.wire(DIALECT))
    assert second.output_text == f"The tools said {said} ({'signed' if signed else 'unsigned'})."


@WAYS
@feature("thinking", "thoughts back")
def test_thinking(openai_at: openai.OpenAI, wires: WireServer, provider: Provider, streamed: bool) -> None:
    """Thoughts come as a reasoning item, where the provider shows them, and go back as it wants them."""
    ask: Any = {"model": provider.model, "reasoning": {"effort": "low", "summary": "auto"}, "max_output_tokens": 9000}
    ask |= {"store": False, "include": ["reasoning.encrypted_content"]}
    items: list[Any] = [{"role": "user", "content": "think"}]
    first = answer(openai_at, streamed, **ask, input=items)
    if cell(DIALECT, "thinking", provider.name) == HIDDEN:
        assert [item.type for item in first.output] == ["message"]
        assert wires.last["reasoning_effort"] == "low"
    else:
        assert first.output[0].type == "reasoning"
        assert [part.text for part in first.output[0].summary] == [THOUGHT]
    assert first.output_text == "Thought it through (unsigned)."
    items += [*first.output, {"role": "user", "content": "think again"}]
    second = answer(openai_at, streamed, **ask, input=items)
    check_thoughts_that_went_back(cell(DIALECT, "thoughts back", provider.name), wires, second.output_text, second)


@WAYS
@feature("structured output")
def test_structured_output(openai_at: openai.OpenAI, wires: WireServer, provider: Provider, streamed: bool) -> None:
    """A schema reaches the provider, and the SDK makes its own object of the answer."""

    class Place(pydantic.BaseModel):
        city: str
        form: str

    with as_documented(cell(DIALECT, "structured output", provider.name), wires):
        if streamed:
            with openai_at.responses.stream(model=provider.model, input="json", text_format=Place) as stream:
                parsed = stream.get_final_response().output_parsed
        else:
            parsed = openai_at.responses.parse(model=provider.model, input="json", text_format=Place).output_parsed
        assert parsed == Place(city="Paris", form="with a schema")


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
    content: Any = [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": url, "detail": "auto"}]
    with as_documented(cell(DIALECT, name, provider.name), wires):
        response = openai_at.responses.create(model=provider.model, input=[{"role": "user", "content": content}])
        assert response.output_text == f"I see 1 image of {size} bytes."


@WAYS
@feature("token limit")
def test_length(openai_at: openai.OpenAI, provider: Provider, streamed: bool) -> None:
    """An answer that ran out of tokens is incomplete, and says why."""
    ask: Any = {"model": provider.model, "input": "long"}
    if streamed:
        last: Any = list(openai_at.responses.create(**ask, stream=True))[-1]
        assert last.type == "response.incomplete"
        response = last.response
    else:
        response = openai_at.responses.create(**ask)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.output[0].status == "incomplete"
    assert response.output_text == "It is cut"


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
@feature("errors")
def test_the_providers_refusals(
    openai_at: openai.OpenAI, provider: Provider, status: int, kind: type[openai.APIStatusError]
) -> None:
    """A refusal before the answer is the SDK's typed error, by whatever status the provider says it (a wrong key is a
    400 at some), with the wait that the provider asked for; whole and streamed."""
    for streamed in (False, True):
        with pytest.raises(kind) as caught:
            openai_at.responses.create(model=provider.model, input=f"fail {status}", stream=streamed)
        assert caught.value.status_code == (503 if status == 500 else status)
        assert caught.value.response.headers.get("retry-after") == ("7" if status == 429 else None)


@feature("broken stream")
def test_a_failure_in_the_stream(openai_at: openai.OpenAI, provider: Provider) -> None:
    """An answer that breaks off is the SDK's error, after what came of it."""
    seen = ""
    stream = openai_at.responses.create(model=provider.model, input="break", stream=True)
    with pytest.raises(openai.APIError) as caught:  # noqa: PT012  what came before counts
        for event in stream:
            if event.type == "response.output_text.delta":
                seen += event.delta
    assert seen == "It goes well until"
    assert caught.value.type == "server_error"


@feature("leaving")
def test_a_caller_that_leaves(openai_at: openai.OpenAI, wires: WireServer, provider: Provider) -> None:
    """Who stops reading a stream ends the provider's work."""
    forget_hangups(wires)
    with openai_at.responses.create(model=provider.model, input="endless", stream=True) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                break
    assert wires.hangups.acquire(timeout=10)


@pytest.mark.parametrize(
    ("ask", "param"),
    [
        ({"input": "hi", "store": True}, "store"),
        ({"input": "hi", "background": True}, "background"),
        ({"input": "hi", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": "hi", "conversation": "conv_1"}, "conversation"),
        ({"input": "hi", "prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "smell"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": "hi"}, {"type": "function_call_output", "call_id": "call_0",
                                                        "output": "no such call"}]}, "input[1].call_id"),
        ({"input": "hi", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "hi", "tool_choice": {"type": "function", "name": "none"}}, "tool_choice.name"),
    ],
)  # fmt: skip
def test_errors_name_the_field(openai_sdk: openai.OpenAI, ask: Any, param: str) -> None:
    """What is not carried, state above all, is refused before any provider is asked, by its name in this API."""
    with pytest.raises(openai.BadRequestError) as caught:
        openai_sdk.responses.create(model=MODELS["gemini"], **ask)
    assert caught.value.param == param


@pytest.mark.parametrize("other", sorted(MODELS.keys() - {"openai"}))
def test_what_has_no_place_is_told(openai_sdk: openai.OpenAI, other: str) -> None:
    """A member that only OpenAI's wire has is left out, and the answer says so."""
    response: Any = openai_sdk.responses.create(model=MODELS[other], input="hello", text={"verbosity": "low"})
    assert "text.verbosity" in [one["parameter"] for one in response.x_dragoman["warnings"]]


async def test_a_hundred_streams_at_once(gateway: Stack, model: str) -> None:
    """Each comes whole and unmixed."""

    async def one(sdk: openai.AsyncOpenAI, number: int) -> str:
        async with sdk.responses.stream(model=model, input=f"stream {number}") as stream:
            return (await stream.get_final_response()).output_text

    async with openai.AsyncOpenAI(
        base_url=f"{gateway.envoy.url}/v1", api_key=gateway.keys["member"], max_retries=0, timeout=60
    ) as sdk:
        texts = await asyncio.gather(*(one(sdk, number) for number in range(100)))
    assert texts == [f"You said 'stream {number}', under ''." for number in range(100)]


def test_who_is_not_known_and_what_is_not_stored(openai_sdk: openai.OpenAI, model: str) -> None:
    """A wrong key is the SDK's AuthenticationError; an answer cannot be fetched again, as there is none."""
    with pytest.raises(openai.AuthenticationError) as refused:
        openai_sdk.with_options(api_key="dgm_nonsense").responses.create(model=model, input="hi")
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError):
        openai_sdk.responses.retrieve("resp_1")
