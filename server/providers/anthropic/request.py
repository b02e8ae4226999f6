"""ChatRequest to the body of POST /v1/messages (platform.claude.com/docs, api/messages; anthropic-sdk-python
`types/message_create_params.py`)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from server.core.errors import InvalidRequest, UnsupportedParameter
from server.core.events import Warning
from server.core.messages import ChatRequest
from server.core.ports import ProviderCall
from server.providers.anthropic.history import History
from server.providers.anthropic.thinking import ThinkingFields, map_thinking
from server.providers.anthropic.tools import (
    INTERLEAVED_BETA,
    asked_betas,
    build_tool_choice,
    build_tools,
    needed_betas,
)
from server.providers.anthropic.types import DIALECT
from server.providers.params import (
    JsonObject,
    applicable,
    approximated,
    at_most_one,
    merge_options,
    raw_object,
    stripped,
)
from server.providers.passthrough import put_back

DEFAULT_MAX_TOKENS: Final = 16_384
"""max_tokens is required. Where the caller gives none: this, or what the model can at most. It stays below 21,333,
above which Anthropic's SDKs take an answer only as a stream."""

DEFAULT_MAX_TOKENS_UNKNOWN: Final = 4_096
"""The same for a model of which nothing is known: every model takes it."""

ROOM_FOR_ANSWER: Final = 4_096
"""Beside a thinking budget, where max_tokens is ours to choose."""

_ABSENT: Final[dict[str, tuple[object, ...]]] = {
    "seed": (None,),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
}
"""What the API has not, and the values that ask for nothing."""


def build_body(call: ProviderCall) -> tuple[JsonObject, list[str], tuple[Warning, ...]]:
    """The body, ready to be encoded; the betas that it needs; what of the request was changed for it.

    Raises UnsupportedParameter for what neither wire nor model takes, InvalidRequest for what does not fit together.
    """
    absent = {name: "the Messages API has none" for name in _ABSENT if _asks(call.request, name)}
    request, warnings = applicable(call.request, call.info, absent)
    options, betas = _options(request.provider_options)
    thinking = ThinkingFields()
    if request.thinking is not None:
        ours = request.max_tokens is None or "max_tokens" in request.defaults
        thinking = map_thinking(request.thinking, call.info, None if ours else request.max_tokens)
    history = History(call)
    body: JsonObject = {"model": call.model, "max_tokens": _max_tokens(request, call, thinking, betas)}
    history.build(request, body)
    _sampling(body, request, call, warnings)
    if tools := build_tools(request, call):
        body["tools"] = tools
        if (choice := build_tool_choice(request, call, budget=thinking.budget)) is not None:
            body["tool_choice"] = choice
    if thinking.config is not None:
        body["thinking"] = thinking.config
    _output(body, request, call, thinking, warnings)
    if call.stream:
        body["stream"] = True
    warnings += put_back(body, request, DIALECT)
    betas += [beta for beta in asked_betas(body.pop("betas", [])) if beta not in betas]
    merge_options(body, options)
    betas += [beta for beta in needed_betas(body, files=history.files) if beta not in betas]
    return body, betas, (*warnings, *thinking.warnings, *history.warnings)


def _asks(request: ChatRequest, name: str) -> bool:
    return getattr(request, name) not in _ABSENT[name]


def _options(text: str) -> tuple[str, list[str]]:
    """provider_options without `betas`, which is a header."""
    if not text:
        return "", []
    found: dict[str, Any] = msgspec.json.decode(raw_object(text, "provider_options"))
    if "betas" not in found:
        return text, []
    betas = asked_betas(found.pop("betas"))
    return msgspec.json.encode(found).decode(), list(dict.fromkeys(betas))


def _max_tokens(request: ChatRequest, call: ProviderCall, thinking: ThinkingFields, betas: list[str]) -> int:
    """The caller's number as it is; one of ours fits the budget and the model's limit."""
    limit = call.info.output_tokens if call.info is not None else None
    value, budget = request.max_tokens, thinking.budget
    if value is None or "max_tokens" in request.defaults:
        chosen = value or (DEFAULT_MAX_TOKENS if call.info is not None else DEFAULT_MAX_TOKENS_UNKNOWN)
        if budget:
            chosen = max(chosen, budget + ROOM_FOR_ANSWER)
        value = min(chosen, limit) if limit is not None else chosen
    # Thoughts between tool calls may take more than one answer's tokens: there the budget may be above.
    if budget >= value and call.info is not None and INTERLEAVED_BETA not in betas:
        raise InvalidRequest.field(
            "thinking.budget_tokens", f"must be below max_tokens for {call.model} (got {budget}, max_tokens {value})"
        )
    return value


def _sampling(body: JsonObject, request: ChatRequest, call: ProviderCall, warnings: list[Warning]) -> None:
    if (temperature := request.temperature) is not None:
        known = call.info is not None
        body["temperature"] = at_most_one("temperature", temperature, request, warnings) if known else temperature
    for name in ("top_p", "top_k"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.user:
        body["metadata"] = {"user_id": request.user}


def _output(
    body: JsonObject, request: ChatRequest, call: ProviderCall, thinking: ThinkingFields, warnings: list[Warning]
) -> None:
    """`output_config`: the form of the answer, and the effort."""
    config: JsonObject = {}
    wanted = request.response_format
    if wanted is not None and wanted.type != "text":
        if wanted.type == "json_object" or wanted.schema is None:
            why = f"{call.model}: the Messages API has no {wanted.type} without a schema; give a json_schema"
            raise UnsupportedParameter.field("response_format", why)
        if call.info is not None and "json_schema" not in call.info.capabilities:
            raise UnsupportedParameter.field("response_format", f"{call.model} takes no json_schema")
        config["format"] = {"type": "json_schema", "schema": raw_object(wanted.schema, "response_format.schema")}
        if wanted.description:
            warnings.append(stripped("response_format.description", "the Messages API has no place for it"))
        if wanted.strict is False:
            warnings.append(approximated("response_format.strict", "an answer always fits the schema here"))
    if thinking.effort is not None:
        config["effort"] = thinking.effort
    if config:
        body["output_config"] = config
