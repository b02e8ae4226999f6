"""The rows of servers: which one a call follows, where it goes, and with which credential."""

from __future__ import annotations

import pytest

from server.core.errors import NotConfigured
from server.core.messages import ChatRequest
from server.core.ports import ProviderCall, ProviderTarget
from server.core.provider_config import FLAVORS
from server.core.secret import Secret
from server.providers.openai_chat.presets import CUSTOM, OPENAI, PRESETS, preset_for
from server.providers.openai_chat.wire import OpenAIChatWire
from tests.providers.chat_support import HI, KEY
from tests.support.canary import assert_absent


def where(endpoint: str | None, wire: str = "", key: str | None = KEY) -> ProviderTarget:
    secret = None if key is None else Secret(key)
    return ProviderTarget(provider="custom", config_id="c", endpoint=endpoint, secret=secret, wire=wire)


def chat_url(preset: str, target: ProviderTarget) -> str:
    call = ProviderCall(target=target, request=ChatRequest(messages=HI), model="m", stream=False)
    return OpenAIChatWire(PRESETS[preset]).build_request(call).http.url


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("https://api.deepseek.com", "DeepSeek"),
        ("https://API.Mistral.AI/v1", "Mistral"),
        ("https://openrouter.ai/api/v1", "OpenRouter"),
        ("https://mine.openai.azure.com/openai/v1", "Azure OpenAI"),
        ("https://mine.services.ai.azure.com", "Azure OpenAI"),
        ("http://localhost:11434/v1", "Ollama"),
        ("https://llm.example/v1", CUSTOM.name),
        ("https://notopenrouter.ai/v1", CUSTOM.name),
        ("https://openrouter.ai.evil.example/v1", CUSTOM.name),
        ("http://[broken", CUSTOM.name),
        (None, CUSTOM.name),
    ],
)
def test_a_custom_endpoint_is_recognised_by_its_host(endpoint: str | None, name: str) -> None:
    """By the whole host, never by a part of it; an unknown one is custom."""
    assert preset_for(where(endpoint), CUSTOM).name == name


def test_a_named_row_and_a_slug_win_over_the_host() -> None:
    """What a configuration says is not guessed; a slug of its own keeps its row behind any proxy."""
    assert preset_for(where("https://api.deepseek.com", "vllm"), CUSTOM).name == "vLLM"
    assert preset_for(where("https://proxy.example"), OPENAI) is OPENAI


@pytest.mark.parametrize(
    ("preset", "endpoint", "url"),
    [
        ("openai", None, "https://api.openai.com/v1/chat/completions"),
        ("openai", "https://eu.api.openai.com", "https://eu.api.openai.com/v1/chat/completions"),
        ("groq", None, "https://api.groq.com/openai/v1/chat/completions"),
        ("xai", None, "https://api.x.ai/v1/chat/completions"),
        ("custom", "http://localhost:8000", "http://localhost:8000/v1/chat/completions"),
        ("custom", "http://localhost:8000/", "http://localhost:8000/v1/chat/completions"),
        ("custom", "http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions"),
        ("custom", "https://a.example/x/chat/completions", "https://a.example/x/chat/completions"),
        ("custom", "https://a.example/v1?api-version=1", "https://a.example/v1/chat/completions?api-version=1"),
        ("custom", "https://api.deepseek.com", "https://api.deepseek.com/chat/completions"),
        ("custom", "https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1/chat/completions"),
        ("custom", "https://openrouter.ai", "https://openrouter.ai/api/v1/chat/completions"),
    ],
)
def test_the_address_of_a_call(preset: str, endpoint: str | None, url: str) -> None:
    """An endpoint is taken as it is written; one without a path gets the server's usual one."""
    assert chat_url(preset, where(endpoint)) == url


def test_each_server_gets_the_key_its_way_and_nobody_without_one() -> None:
    """Bearer, Azure's api-key header, or none for a local server; a cloud without a key is not configured."""
    call = ProviderCall(target=where("https://llm.example"), request=ChatRequest(messages=HI), model="m", stream=True)
    headers = dict(OpenAIChatWire(CUSTOM).build_request(call).http.headers)
    assert headers["authorization"] == f"Bearer {KEY}"
    azure = OpenAIChatWire(CUSTOM).build_list_models(where("https://r.openai.azure.com"))
    assert dict(azure.headers)["api-key"] == KEY
    assert "authorization" not in dict(azure.headers)
    local = OpenAIChatWire(CUSTOM).build_list_models(where("http://localhost:8000", key=None))
    assert "authorization" not in dict(local.headers)
    with pytest.raises(NotConfigured):
        OpenAIChatWire(OPENAI).build_list_models(where(None, key=None))


def test_custom_without_a_usable_endpoint_is_not_configured() -> None:
    """There is no default place for it, and no key goes anywhere."""
    for endpoint in (None, "http://[broken"):
        with pytest.raises(NotConfigured):
            chat_url("custom", where(endpoint))


def test_the_key_is_in_the_headers_and_nowhere_else() -> None:
    """Not in the body, the URL or the repr of a request."""
    call = ProviderCall(target=where("https://llm.example"), request=ChatRequest(messages=HI), model="m", stream=True)
    built = OpenAIChatWire(CUSTOM).build_request(call)
    assert_absent(KEY, built.http.body, built.http.url, repr(built), repr(call))


@pytest.mark.parametrize("name", PRESETS)
def test_every_row_builds_a_plain_call(name: str) -> None:
    """Every row is complete: a plain call has an address and no warning."""
    preset = PRESETS[name]
    target = where(None if preset.base_url else "http://localhost:9/v1", name)
    call = ProviderCall(target=target, request=ChatRequest(messages=HI), model="m", stream=True)
    built = OpenAIChatWire(preset).build_request(call)
    assert built.http.url.endswith("/chat/completions")
    assert built.warnings == ()
    assert set(preset.unsupported) <= set(ChatRequest.__struct_fields__)


def test_every_flavor_that_a_configuration_can_name_is_a_row() -> None:
    assert set(FLAVORS) == set(PRESETS) - {"openai", "groq", "xai", "custom"}
