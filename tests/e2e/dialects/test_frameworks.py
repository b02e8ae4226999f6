"""A framework over each SDK: an agent of pydantic-ai with a tool and an answer in a form, whichever provider serves the
model. Base URL and key alone are changed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anthropic
import openai
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tests.e2e.stack import Stack

pytestmark = pytest.mark.e2e

ABLE = ModelProfile(supports_json_schema_output=True)
"""What the framework knows of models by their names, and cannot know of the name of a test's."""


class Report(BaseModel):
    """The form of the answer."""

    city: str
    words: str


@asynccontextmanager
async def openai_chat(gateway: Stack, model: str) -> AsyncGenerator[Model]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.envoy.url}/v1", api_key=gateway.keys["member"]) as sdk:
        yield OpenAIChatModel(model, provider=OpenAIProvider(openai_client=sdk), profile=ABLE)


@asynccontextmanager
async def openai_responses(gateway: Stack, model: str) -> AsyncGenerator[Model]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.envoy.url}/v1", api_key=gateway.keys["member"]) as sdk:
        yield OpenAIResponsesModel(model, provider=OpenAIProvider(openai_client=sdk), profile=ABLE)


@asynccontextmanager
async def anthropic_messages(gateway: Stack, model: str) -> AsyncGenerator[Model]:
    async with anthropic.AsyncAnthropic(base_url=gateway.envoy.url, api_key=gateway.keys["member"]) as sdk:
        yield AnthropicModel(model, provider=AnthropicProvider(anthropic_client=sdk), profile=ABLE)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("form", [ToolOutput, NativeOutput], ids=["by a tool", "by a schema"])
@pytest.mark.parametrize("made", [openai_chat, openai_responses, anthropic_messages], ids=lambda made: made.__name__)
async def test_an_agent_with_a_tool_answers_in_a_form(
    gateway: Stack,
    model: str,
    made: Callable[[Stack, str], AbstractAsyncContextManager[Model]],
    form: type,
    streamed: bool,
) -> None:
    """The agent's tool is called as the model asked, and what it said comes back in the form that was asked for."""
    asked: list[str] = []

    def get_weather(city: str) -> str:
        """The weather."""
        asked.append(city)
        return f"{city} is sunny"

    async with made(gateway, model) as served:
        agent = Agent(served, output_type=form(Report), system_prompt="Be brief.", tools=[get_weather])
        if streamed:
            async with agent.run_stream("weather") as stream:
                output, usage = await stream.get_output(), stream.usage
        else:
            result = await agent.run("weather")
            output, usage = result.output, result.usage
    assert asked == ["Paris"]
    assert output == Report(city="Paris", words="Paris is sunny")
    assert (usage.requests, usage.output_tokens) == (2, 14)
