"""The servers that speak the Responses API, one row each: when it is used, and how they differ.

Where a server is, how its key travels and what its errors mean is said by its row of `openai_chat/presets.py`: both
APIs stand at one address. Facts are from the servers' public references and from recorded traffic.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from server.core.errors import ProviderContentFiltered, ProviderInvalidRequest, ProviderUnavailable
from server.core.ports import ProviderCall, ProviderTarget
from server.providers.errors import ErrorClass
from server.providers.openai_chat.presets import AZURE, OPENAI, XAI, Preset
from server.providers.openai_responses.types import DIALECT
from server.providers.wire import own_data

When = Literal["always", "hosted_tools"]

CHAT: Final = "chat"
"""What `ProviderTarget.wire` says where the caller wants Chat Completions (`legacy`)."""

_CODES: Final[Mapping[str, ErrorClass]] = MappingProxyType(
    {
        # ResponseError.code of the API reference. An invalid prompt is one that moderation flagged. `server_error` is a
        # vague word here, as a 503 says it too ("The engine is currently overloaded").
        "invalid_prompt": ProviderContentFiltered,
        "bio_policy": ProviderContentFiltered,
        "cyber_policy": ProviderContentFiltered,
        "image_content_policy_violation": ProviderContentFiltered,
        "vector_store_timeout": ProviderUnavailable,
        **dict.fromkeys(
            (
                "invalid_image",
                "invalid_image_format",
                "invalid_base64_image",
                "invalid_image_url",
                "image_too_large",
                "image_too_small",
                "image_parse_error",
                "invalid_image_mode",
                "image_file_too_large",
                "unsupported_image_media_type",
                "empty_image_file",
                "failed_to_download_image",
                "image_file_not_found",
            ),
            ProviderInvalidRequest,
        ),
    }
)


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One server.

    preset: the same server in Chat Completions. responses: when a call goes by Responses: always, or with server tools
    and in a conversation that had them. Otherwise, and wherever the caller asked for `chat`, it goes by Chat
    Completions. unsupported: request field -> why this API cannot say it; it is left out with a warning. hosted_tools:
    neutral name -> the server's tool object. includes: tool type -> what has to be asked for so that its results are in
    the answer. logprobs: how they are asked for. summary: what asks for readable thoughts, "" where they always come.
    runs_custom_tools: `custom_tool_call` items are steps of the server's own tools. min_output_tokens: the least that
    `max_output_tokens` may say. cache_breakpoints: beginnings of the names of models that take cache markers.
    counts_tokens: there is POST /responses/input_tokens.
    """

    preset: Preset
    responses: When
    unsupported: Mapping[str, str]
    hosted_tools: Mapping[str, Mapping[str, object]]
    includes: Mapping[str, str] = MappingProxyType({})
    logprobs: Literal["include", "field"] = "include"
    summary: str = "auto"
    runs_custom_tools: bool = False
    min_output_tokens: int = 1
    cache_breakpoints: tuple[str, ...] = ()
    counts_tokens: bool = False

    def takes(self, call: ProviderCall) -> bool:
        """Whether this call goes by Responses."""
        if call.target.wire == CHAT:
            return False
        return self.responses == "always" or bool(call.request.hosted_tools) or _holds_items(call)


def _holds_items(call: ProviderCall) -> bool:
    """Whether the history has items that only Responses can take back: Chat Completions leaves none."""
    return any(
        own_data(getattr(part, "opaque", None), call, DIALECT) is not None
        for message in call.request.messages
        if message.role == "assistant"
        for part in message.parts
    )


def _known(preset: Preset) -> Preset:
    """The row with the codes that only this API has."""
    return msgspec.structs.replace(preset, errors=preset.errors.extended(codes=_CODES))


def _missing(api: str, otherwise: str) -> dict[str, str]:
    fields = {"frequency_penalty": "frequency penalty", "presence_penalty": "presence penalty", "stop": "stop"}
    missing = {name: f"{api} has no {word}; {otherwise}" for name, word in {**fields, "seed": "seed"}.items()}
    return {**missing, "top_k": f"{api} has no top_k"}


_TOOLS: Final[Mapping[str, Mapping[str, object]]] = MappingProxyType(
    {
        "web_search": {"type": "web_search"},
        "code_execution": {"type": "code_interpreter", "container": {"type": "auto"}},
    }
)

_INCLUDES: Final = MappingProxyType(
    {
        "web_search": "web_search_call.action.sources",
        "code_interpreter": "code_interpreter_call.outputs",
        "file_search": "file_search_call.results",
    }
)

_LEAST: Final = 16
"""Below it OpenAI answers with a 400: "integer below minimum value. Expected a value >= 16"."""

OPENAI_SERVER: Final = Server(
    preset=_known(OPENAI),
    responses="always",
    unsupported=_missing("the Responses API", "legacy: true sends it to Chat Completions, which has it"),
    hosted_tools=_TOOLS,
    includes=_INCLUDES,
    min_output_tokens=_LEAST,
    cache_breakpoints=("gpt-5.6", "gpt-6"),
    counts_tokens=True,
)

AZURE_SERVER: Final = Server(
    # The v1 API. Responses is not in every region and not for every deployment, Chat Completions is.
    preset=_known(AZURE),
    responses="hosted_tools",
    unsupported=_missing("the Responses API", "without server tools the call goes to Chat Completions, which has it"),
    hosted_tools=_TOOLS,
    includes=_INCLUDES,
    min_output_tokens=_LEAST,
)

XAI_SERVER: Final = Server(
    # docs.x.ai: `include` knows reasoning.encrypted_content alone; logprobs is a field of its own. The steps of
    # x_search come as custom_tool_call.
    preset=_known(XAI),
    responses="hosted_tools",
    unsupported=_missing("xAI's Responses API", "without server tools the call goes to Chat Completions, which has it"),
    hosted_tools=MappingProxyType({**_TOOLS, "code_execution": {"type": "code_interpreter"}}),
    logprobs="field",
    summary="",
    runs_custom_tools=True,
)

SERVERS: Final[Mapping[str, Server]] = MappingProxyType({"openai": OPENAI_SERVER, "xai": XAI_SERVER})
"""The row of each slug."""

HOSTS: Final[tuple[tuple[str, Server], ...]] = (
    (".openai.azure.com", AZURE_SERVER),
    (".services.ai.azure.com", AZURE_SERVER),
    (".cognitiveservices.azure.com", AZURE_SERVER),
)
"""Ends of host names by which an endpoint is known to be another server than its slug's own."""


def server_for(target: ProviderTarget, default: Server) -> Server:
    """The row that a call follows: the one of its endpoint's host, else `default`."""
    try:
        host = (urlsplit(target.endpoint or "").hostname or "").lower()
    except ValueError:
        return default
    return next((server for end, server in HOSTS if host.endswith(end)), default)
