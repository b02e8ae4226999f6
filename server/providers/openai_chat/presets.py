"""The servers that speak Chat Completions, one row each: what they are called, where they are, how they differ.

A difference that data can say is a field here; nothing else in this package knows a server by name. Facts are from the
servers' public references and from recorded traffic; the doubtful ones carry a note.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from server.core.errors import ProviderContentFiltered
from server.core.ports import ProviderTarget
from server.providers.errors import ErrorTable
from server.providers.openai_chat import quirks
from server.providers.openai_chat.errors import CHAT_ERRORS

Auth = Literal["bearer", "optional_bearer", "api_key_header"]
ReasoningBack = Literal["dropped", "reasoning", "reasoning_content", "reasoning_details", "thinking_parts"]

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """One server.

    base_url: where it is unless the configuration says otherwise, None if it must. path: put after a configured
    endpoint that has no path of its own. auth: how the key travels; only `optional_bearer` does without one.
    unsupported: request field -> why it cannot be sent; it is left out with a warning. stream_usage: whether
    `stream_options.include_usage` is known there. reasoning_back: where the thoughts of earlier turns go.
    reasoning_outside: completion_tokens does not count reasoning, so it is added. infers_finish: the server is known
    to end a stream with [DONE] and no finish_reason after tool calls. call_id: rewrites tool call ids, the same way for
    a call and its result. tool_choices: the modes that it knows. hosted_tools: neutral name -> the server's own, as a
    member of `tools`; any_hosted_tool: other types are passed on as they are. embed_base64: embeddings are asked for in
    base64, which is known there and a third of the bytes. bad_key: words of a 400 by which alone the server tells a bad
    key.
    """

    name: str
    base_url: str | None = None
    path: str = "/v1"
    auth: Auth = "bearer"
    errors: ErrorTable = CHAT_ERRORS
    unsupported: Mapping[str, str] = _NONE
    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    seed: Literal["seed", "random_seed"] = "seed"
    required: Literal["required", "any"] = "required"
    stream_usage: bool = True
    thinking: Callable[[quirks.ThinkingCall], quirks.Fields] = quirks.effort
    reasoning_back: ReasoningBack = "dropped"
    reasoning_outside: bool = False
    infers_finish: bool = False
    call_id: Callable[[str], str] | None = None
    tool_choices: tuple[str, ...] = ("auto", "none", "required", "tool")
    json_schema: bool = True
    remote_images: bool = True
    files: bool = False
    cache_control: bool = False
    web_search_options: bool = False
    hosted_tools: Mapping[str, str] = _NONE
    any_hosted_tool: bool = False
    dimensions: Literal["dimensions", "output_dimension"] = "dimensions"
    embed_base64: bool = False
    validate_path: str = "/models"
    bad_key: tuple[str, ...] = ()


_NO_TOP_K: Final = {"top_k": "the Chat Completions API has no top_k"}

OPENAI: Final = Preset(
    name="OpenAI",
    base_url="https://api.openai.com/v1",
    max_tokens="max_completion_tokens",
    unsupported=_NO_TOP_K,
    files=True,
    web_search_options=True,
    embed_base64=True,
)

AZURE: Final = Preset(
    # The v1 API: {resource}.openai.azure.com/openai/v1, model = deployment.
    name="Azure OpenAI",
    path="/openai/v1",
    auth="api_key_header",
    max_tokens="max_completion_tokens",
    unsupported=_NO_TOP_K,
    files=True,
    embed_base64=True,
)

GROQ: Final = Preset(
    # console.groq.com/docs/openai: logprobs, top_logprobs, logit_bias and n > 1 are refused; penalties unsupported.
    name="Groq",
    base_url="https://api.groq.com/openai/v1",
    path="/openai/v1",
    max_tokens="max_completion_tokens",
    unsupported={
        **_NO_TOP_K,
        "logprobs": "Groq does not support it",
        "top_logprobs": "Groq does not support it",
        "frequency_penalty": "Groq does not support it yet",
        "presence_penalty": "Groq does not support it yet",
    },
    thinking=quirks.groq,
    reasoning_back="reasoning",
    hosted_tools={"web_search": "browser_search", "code_execution": "code_interpreter"},
    any_hosted_tool=True,
)

XAI: Final = Preset(
    name="xAI",
    base_url="https://api.x.ai/v1",
    max_tokens="max_completion_tokens",
    unsupported=_NO_TOP_K,
    reasoning_outside=True,
    # A bad key is a 400 with the code of any bad request (recorded).
    bad_key=("incorrect api key", "invalid api key"),
)

DEEPSEEK: Final = Preset(
    # api-docs.deepseek.com: no json_schema; reasoning_content of tool-call turns must come back while thinking.
    name="DeepSeek",
    base_url="https://api.deepseek.com",
    path="",
    unsupported={
        **_NO_TOP_K,
        "seed": "DeepSeek has no seed",
        "user": "DeepSeek has no user",
        "parallel_tool_calls": "DeepSeek has no parallel_tool_calls",
    },
    thinking=quirks.deepseek,
    reasoning_back="reasoning_content",
    json_schema=False,
)

MISTRAL: Final = Preset(
    # Its API refuses unknown fields with a 422, so everything it does not know must be left out.
    name="Mistral",
    base_url="https://api.mistral.ai/v1",
    seed="random_seed",
    required="any",
    stream_usage=False,
    unsupported={
        **_NO_TOP_K,
        "user": "Mistral has no user",
        "logprobs": "Mistral has no logprobs",
        "top_logprobs": "Mistral has no logprobs",
    },
    reasoning_back="thinking_parts",
    call_id=quirks.nine_characters,
    # docs.mistral.ai/api/endpoint/embeddings
    dimensions="output_dimension",
    infers_finish=True,
)

OPENROUTER: Final = Preset(
    # openrouter.ai/docs: 403 is its moderation; GET /models needs no key, GET /key does.
    name="OpenRouter",
    base_url="https://openrouter.ai/api/v1",
    path="/api/v1",
    errors=CHAT_ERRORS.extended(statuses={403: ProviderContentFiltered}),
    thinking=quirks.openrouter,
    reasoning_back="reasoning_details",
    infers_finish=True,
    files=True,
    cache_control=True,
    any_hosted_tool=True,
    validate_path="/key",
)

VLLM: Final = Preset(
    name="vLLM", auth="optional_bearer", thinking=quirks.vllm, infers_finish=True, reasoning_back="reasoning"
)

OLLAMA: Final = Preset(
    # docs.ollama.com/openai: images as base64 only, no tool_choice, no logprobs.
    name="Ollama",
    auth="optional_bearer",
    unsupported={
        **_NO_TOP_K,
        "parallel_tool_calls": "Ollama does not support it",
        "user": "Ollama does not support it",
        "logprobs": "Ollama does not support it",
        "top_logprobs": "Ollama does not support it",
    },
    tool_choices=("auto",),
    remote_images=False,
    reasoning_back="reasoning",
    infers_finish=True,
)

LLAMACPP: Final = Preset(
    name="llama.cpp",
    auth="optional_bearer",
    reasoning_back="reasoning_content",
    # A named choice silently becomes auto there.
    tool_choices=("auto", "none", "required"),
    infers_finish=True,
)

LMSTUDIO: Final = Preset(name="LM Studio", auth="optional_bearer", infers_finish=True)

CUSTOM: Final = Preset(
    name="OpenAI-compatible endpoint", auth="optional_bearer", infers_finish=True, files=True, any_hosted_tool=True
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "openai": OPENAI,
        "azure": AZURE,
        "groq": GROQ,
        "xai": XAI,
        "deepseek": DEEPSEEK,
        "mistral": MISTRAL,
        "openrouter": OPENROUTER,
        "vllm": VLLM,
        "ollama": OLLAMA,
        "llamacpp": LLAMACPP,
        "lmstudio": LMSTUDIO,
        "custom": CUSTOM,
    }
)
"""Every row by its name. A configuration's `wire` may name one where the endpoint's host does not tell."""

HOSTS: Final[tuple[tuple[str, Preset], ...]] = (
    ("api.openai.com", OPENAI),
    ("api.groq.com", GROQ),
    ("api.x.ai", XAI),
    ("api.deepseek.com", DEEPSEEK),
    ("api.mistral.ai", MISTRAL),
    ("openrouter.ai", OPENROUTER),
    ("ollama.com", OLLAMA),
    (".openai.azure.com", AZURE),
    (".services.ai.azure.com", AZURE),
    (".cognitiveservices.azure.com", AZURE),
    (":11434", OLLAMA),
)
"""How a custom endpoint is recognised: a host, `.` and the end of one, or `:` and a server's well-known port."""


def preset_for(target: ProviderTarget, default: Preset) -> Preset:
    """The row that a call follows: the one its configuration names, else (for `custom`) the one of its endpoint's host,
    else `default`."""
    if target.wire in PRESETS:
        return PRESETS[target.wire]
    if default is not CUSTOM or not target.endpoint:
        return default
    return _by_host(target.endpoint) or default


@lru_cache(maxsize=1024)
def _by_host(endpoint: str) -> Preset | None:
    """Asked for three times a call, and the same each time."""
    try:
        parts = urlsplit(endpoint)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return None
    for pattern, preset in HOSTS:
        if (
            host == pattern
            or (pattern.startswith(".") and host.endswith(pattern))
            or (pattern.startswith(":") and pattern == f":{port}")
        ):
            return preset
    return None
