"""llama.cpp's own server with a real, if tiny, model: three of the gateway's wires against a server that runs one.

The model is written here (`tests.support.tiny_model`), the server is not: it comes out of the package xllamacpp.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.e2e.house import House, running_house
from tests.e2e.providers import KEY, WAYS, Answer, Provider, Refused
from tests.e2e.stack import Stack
from tests.support.ports import free_port
from tests.support.process import RunningProcess
from tests.support.tiny_model import ANSWER, write_tiny_model

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed"),
]

Way = Callable[[Stack, Mapping[str, Any]], Awaitable[Answer]]

REFUSED: tuple[int, object] = (401, {})
WIRES = (
    Provider("Chat Completions", "OTHER", "custom", "tiny", "/v1/chat/completions", REFUSED, path="/v1"),
    Provider("Responses", "OPENAI", "openai", "tiny", "/v1/responses", REFUSED, path="/v1"),
    Provider("Messages", "ANTHROPIC", "anthropic", "tiny", "/v1/messages", REFUSED),
)

CITIES = {"type": "object", "properties": {"city": {"enum": ["Bern", "Zürich"]}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": CITIES}}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The server's port."""
    folder = tmp_path_factory.mktemp("llama")
    write_tiny_model(folder / "tiny.gguf")
    port = free_port()
    command = [sys.executable, "-m", "tests.support.llama_server", str(folder / "tiny.gguf"), str(port), KEY]
    with RunningProcess(command, log=folder / "llama.log") as process:
        process.wait_for_line("^listening on http")
        yield port


@pytest.fixture(scope="module")
def house(stack: Stack, llama: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running_house(stack, tmp_path_factory.mktemp("house"), [llama]) as it:
        yield it


each_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def user(words: str) -> dict[str, Any]:
    return {"role": "user", "content": words}


@each_way
@each_wire
async def test_text_and_its_counts(house: House, llama: int, wire: Provider, way: Way) -> None:
    """The model's words, until it ends by itself, with the tokens that were really counted."""
    with house.configured(wire, llama) as config:
        answer = await way(house.stack, config.asks(user("Grüße"), maxTokens=100))
        longer = await way(house.stack, config.asks(user("Grüße " * 20), maxTokens=100))
    assert (answer.text, answer.finish) == (longer.text, longer.finish) == (ANSWER, "stop")
    assert answer.usage["promptTokens"] < longer.usage["promptTokens"]
    assert answer.usage["completionTokens"] == longer.usage["completionTokens"] == 7


@each_way
@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire.slug != "openai"], ids=lambda wire: wire.name)
async def test_an_answer_that_is_cut_at_its_limit(house: House, llama: int, wire: Provider, way: Way) -> None:
    """OpenAI's Responses API takes no limit that is so low."""
    with house.configured(wire, llama) as config:
        answer = await way(house.stack, config.asks(user("hello"), maxTokens=3))
    assert (answer.text, answer.finish, answer.usage["completionTokens"]) == ("Hello from a", "length", 3)


@each_way
@each_wire
async def test_a_tool_call_and_the_turn_after_it(house: House, llama: int, wire: Provider, way: Way) -> None:
    """The arguments fit the schema, which the server sees to; the result goes back and is answered."""
    with house.configured(wire, llama) as config:
        first = await way(house.stack, config.asks(user("weather?"), tools=[WEATHER], maxTokens=300))
        assert first.finish == "tool_calls"
        (call,) = first.calls
        assert call["function"]["name"] == "get_weather"
        assert json.loads(call["function"]["arguments"]) in ({"city": "Bern"}, {"city": "Zürich"})
        result = {"role": "tool", "toolCallId": call["id"], "content": "sunny"}
        turns = (user("weather?"), first.message, result)
        second = await way(house.stack, config.asks(*turns, tools=[WEATHER], maxTokens=300))
    assert (second.text, second.finish) == (ANSWER, "stop")


@each_way
async def test_an_answer_in_the_form_of_a_schema(house: House, llama: int, way: Way) -> None:
    """What llama.cpp was told to write it writes."""
    form = {"type": "json_schema", "jsonSchema": {"name": "city", "schema": CITIES, "strict": True}}
    with house.configured(WIRES[0], llama) as config:
        answer = await way(house.stack, config.asks(user("where?"), responseFormat=form, maxTokens=100))
    assert json.loads(answer.text) in ({"city": "Bern"}, {"city": "Zürich"})


@each_way
@each_wire
async def test_a_prompt_that_is_too_long_names_both_lengths(house: House, llama: int, wire: Provider, way: Way) -> None:
    """A real overflow of a real context."""
    with house.configured(wire, llama) as config, pytest.raises(Refused) as caught:
        await way(house.stack, config.asks(user("x" * 5_000), maxTokens=10))
    error = caught.value
    assert (error.status, error.reason) == ("INVALID_ARGUMENT", "CONTEXT_LENGTH_EXCEEDED")
    assert (error.facts["max_tokens"], error.facts["provider_status"]) == ("2048", "400")
    assert int(error.facts["requested_tokens"]) > 5_000


@each_way
@each_wire
async def test_a_wrong_key_is_refused(house: House, llama: int, wire: Provider, way: Way) -> None:
    """By the server's own check."""
    with (
        house.configured(replace(wire, secret="sk-of-somebody-else"), llama) as config,
        pytest.raises(Refused) as caught,
    ):
        await way(house.stack, config.asks(user("hello")))
    assert caught.value.reason == "PROVIDER_UNAUTHENTICATED"


@each_wire
def test_validation_and_models(house: House, llama: int, wire: Provider) -> None:
    """The key passes, by the server's own list of models."""
    with house.configured(wire, llama) as config:
        validated = house.admin.post(f"/ai/llm/{config.id}/validate").json()
    assert validated["success"] is True, validated
