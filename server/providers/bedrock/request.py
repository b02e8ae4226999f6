"""ChatRequest to the body of Converse and ConverseStream, which is the same (docs.aws.amazon.com/bedrock/latest/
APIReference/API_runtime_Converse.html; botocore's service model)."""

from __future__ import annotations

import re
from typing import Final

from server.core.errors import InvalidRequest, UnsupportedParameter
from server.core.events import Warning
from server.core.messages import ChatRequest
from server.core.ports import ProviderCall
from server.providers.bedrock.families import family_of
from server.providers.bedrock.history import History
from server.providers.bedrock.thinking import ThinkingFields, map_thinking
from server.providers.bedrock.tools import build_tools
from server.providers.params import JsonObject, applicable, approximated, at_most_one, merge_options, raw_object

_ABSENT: Final[dict[str, tuple[object, ...]]] = {
    "seed": (None,),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
}
"""What Converse has not, and the values that ask for nothing."""

_METADATA: Final = re.compile(r"[A-Za-z0-9\s:_@$#=/+,.-]{1,256}", re.ASCII)
"""Service model, RequestMetadataValueString."""


def build_body(call: ProviderCall) -> tuple[JsonObject, tuple[Warning, ...]]:
    """The body, ready to be encoded; what of the request was changed for it.

    Raises UnsupportedParameter for what neither Converse nor the model takes, InvalidRequest for what does not fit
    together.
    """
    request, found = applicable(call.request, call.info, _absent(call))
    warnings = list(found)
    thinking = ThinkingFields()
    if request.thinking is not None:
        ours = "max_tokens" in request.defaults
        thinking = map_thinking(request.thinking, call, None if ours else request.max_tokens)
    body: JsonObject = {}
    history = History(call)
    history.build(request, body)
    extra: JsonObject = dict(thinking.fields)
    if config := _inference(request, call, thinking, extra, warnings):
        body["inferenceConfig"] = config
    tools = build_tools(request, call, history.used, budget=thinking.budget)
    if tools.config is not None:
        body["toolConfig"] = tools.config
    if tools.choice is not None:
        extra["tool_choice"] = tools.choice
    if config := _output(request, call, thinking, warnings):
        body["outputConfig"] = config
    if extra:
        body["additionalModelRequestFields"] = extra
    if request.user:
        body["requestMetadata"] = {"user": _user(request.user)}
    merge_options(body, request.provider_options)
    return body, (*warnings, *thinking.warnings, *history.warnings, *tools.warnings)


def _absent(call: ProviderCall) -> dict[str, str]:
    """What of the request Converse cannot say to this model, and why."""
    reasons = {
        name: "Converse has none; provider_options.additionalModelRequestFields may say it"
        for name, nothing in _ABSENT.items()
        if getattr(call.request, name) not in nothing
    }
    if not family_of(call).top_k:
        reasons["top_k"] = "no way to say it to this model is documented"
    return reasons


def _inference(
    request: ChatRequest, call: ProviderCall, thinking: ThinkingFields, extra: JsonObject, warnings: list[Warning]
) -> JsonObject:
    """inferenceConfig; top_k goes into `extra`, which is additionalModelRequestFields."""
    config: JsonObject = {}
    if (limit := _max_tokens(request, call, thinking)) is not None:
        config["maxTokens"] = limit
    for name, word in (("temperature", "temperature"), ("top_p", "topP")):
        if (value := getattr(request, name)) is not None:
            config[word] = at_most_one(name, value, request, warnings)
    if request.stop:
        config["stopSequences"] = list(request.stop)
    if request.top_k is not None:
        _top_k(request.top_k, call, extra)
    return config


def _max_tokens(request: ChatRequest, call: ProviderCall, thinking: ThinkingFields) -> int | None:
    """As it is; the gateway's default gives way to a thinking budget. Without one nothing is sent: then the model
    answers as far as it can."""
    value = request.max_tokens
    if value is None or (thinking.budget and "max_tokens" in request.defaults):
        return None
    if thinking.budget >= value and call.info is not None:
        raise InvalidRequest.field(
            "thinking.budget_tokens",
            f"must be below max_tokens for {call.model} (got {thinking.budget}, max_tokens {value})",
        )
    return value


def _top_k(value: int, call: ProviderCall, extra: JsonObject) -> None:
    path = family_of(call).top_k
    for key in path[:-1]:
        extra = extra.setdefault(key, {})
    extra[path[-1]] = value


def _output(request: ChatRequest, call: ProviderCall, thinking: ThinkingFields, warnings: list[Warning]) -> JsonObject:
    """outputConfig: the form of the answer, and the effort."""
    config: JsonObject = {}
    wanted = request.response_format
    if wanted is not None and wanted.type != "text":
        if wanted.type == "json_object" or wanted.schema is None:
            why = f"{call.model}: Converse has no {wanted.type} without a schema; give a json_schema"
            raise UnsupportedParameter.field("response_format", why)
        if call.info is not None and "json_schema" not in call.info.capabilities:
            raise UnsupportedParameter.field("response_format", f"{call.model} takes no json_schema")
        # The schema travels as a string.
        schema: JsonObject = {"schema": bytes(raw_object(wanted.schema, "response_format.schema")).decode()}
        for name in ("name", "description"):
            if value := getattr(wanted, name):
                schema[name] = value
        config["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": schema}}
        if wanted.strict is False:
            warnings.append(approximated("response_format.strict", "an answer always fits the schema here"))
    if thinking.effort is not None:
        config["effort"] = thinking.effort
    return config


def _user(user: str) -> str:
    """The end user's id goes into requestMetadata, which is for the account's own logs; models do not see it."""
    if not _METADATA.fullmatch(user):
        raise InvalidRequest.field("user", "must be at most 256 letters, digits, spaces and :_@$#=/+,.- for Bedrock")
    return user
