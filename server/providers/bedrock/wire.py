"""The Converse wire: requests out, answers and streams in; models from the control plane. See
docs/providers/bedrock.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import msgspec

from server.core.errors import ProviderError, ProviderPermissionDenied
from server.core.events import StreamEvent
from server.core.ports import EmbedCall, ListedModel, ProviderCall, ProviderTarget
from server.providers.bedrock.embeddings import plan, read_answer
from server.providers.bedrock.endpoint import place
from server.providers.bedrock.errors import map_error
from server.providers.bedrock.families import FAMILIES
from server.providers.bedrock.request import build_body
from server.providers.bedrock.signing import authorized
from server.providers.bedrock.stream import ConverseStreamParser, parse_response
from server.providers.bedrock.types import MODELS, InferenceProfile
from server.providers.http import HttpRequest
from server.providers.parsing import counted, decode
from server.providers.wire import (
    BuiltRequest,
    EmbedAnswer,
    EmbedExchange,
    EmbedPlan,
    Exchange,
    ModelPage,
    StreamParser,
    Wire,
)

EVENT_STREAM: Final = "application/vnd.amazon.eventstream"

FOUNDATION_MODELS: Final = "/foundation-models?byInferenceType=ON_DEMAND&byOutputModality=TEXT"
"""Those that can be called by their own id and answer with text."""

PROFILES: Final = "/inference-profiles?maxResults=1000"
"""The others, which are called by a profile's id, and the account's own profiles."""

COUNTED: Final = ("messages", "system", "toolConfig", "additionalModelRequestFields")
"""What of Converse is counted (service model, ConverseTokensRequest); the rest is no input of the model."""

MAY_NOT_LIST: Final = (
    "The credential is genuine. Allow it bedrock:ListFoundationModels, which validation asks for; calls need"
    " bedrock:InvokeModel and bedrock:InvokeModelWithResponseStream alone."
)

_FIRST_PROFILES: Final = "profiles"
_NEXT_PROFILES: Final = "profiles:"


class ConverseWire(Wire):
    """Converse and ConverseStream at `{endpoint}/model/{model}/...`, for embeddings InvokeModel; without an endpoint,
    those of us-east-1."""

    def build_request(self, call: ProviderCall) -> BuiltRequest:
        where = place(call.target)
        url = where.model_url(call.model, "converse-stream" if call.stream else "converse")
        body, warnings = build_body(call)
        content_type = ("content-type", "application/json")
        request = HttpRequest("POST", url, (content_type,), msgspec.json.encode(body))
        accept = EVENT_STREAM if call.stream else "application/json"
        return BuiltRequest(self._authorized(request, call.target, where.region, accept), warnings)

    def parse_response(self, exchange: Exchange, body: bytes) -> list[StreamEvent]:
        return parse_response(exchange, body, new_id=self._new_id, clock=self._clock)

    def stream_parser(self, exchange: Exchange) -> StreamParser:
        return ConverseStreamParser(exchange, new_id=self._new_id, clock=self._clock)

    def build_embed(self, call: EmbedCall) -> EmbedPlan:
        where = place(call.target)
        url = where.model_url(call.model, "invoke")

        def request(body: bytes) -> HttpRequest:
            bare = HttpRequest("POST", url, (("content-type", "application/json"),), body)
            return self._authorized(bare, call.target, where.region, "application/json")

        return plan(call, request)

    def parse_embed(self, exchange: EmbedExchange, body: bytes) -> EmbedAnswer:
        return read_answer(exchange, body)

    def build_count(self, call: ProviderCall) -> BuiltRequest:
        """CountTokens (docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html), which knows
        foundation models alone: of a system's inference profile, the model behind it."""
        where = place(call.target)
        whole, warnings = build_body(call)
        body = {"input": {"converse": {name: whole[name] for name in COUNTED if name in whole}}}
        url = where.model_url(_foundation_model(call.model), "count-tokens")
        bare = HttpRequest("POST", url, (("content-type", "application/json"),), msgspec.json.encode(body))
        return BuiltRequest(self._authorized(bare, call.target, where.region, "application/json"), warnings)

    def parse_count(self, body: bytes) -> int:
        return counted(decode(_COUNT, body, "a count of tokens").input_tokens)

    def map_error(self, target: ProviderTarget, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return map_error(target, status, headers, body, now=self._clock())

    def build_list_models(self, target: ProviderTarget, page: str | None = None) -> HttpRequest:
        where = place(target)
        path = FOUNDATION_MODELS
        if page is not None:
            token = page.removeprefix(_NEXT_PROFILES) if page.startswith(_NEXT_PROFILES) else ""
            path = PROFILES + (f"&nextToken={quote(token, safe='')}" if token else "")
        return self._authorized(HttpRequest("GET", where.control + path), target, where.region, "application/json")

    def parse_models(self, body: bytes, page: str | None = None) -> ModelPage:
        """Foundation models first, then the pages of profiles."""
        found = decode(MODELS, body.strip(), "a list of models")
        models = [ListedModel(row.model_id, row.model_name) for row in found.model_summaries or () if row.model_id]
        models += [
            ListedModel(name, profile.inference_profile_name)
            for profile in found.inference_profile_summaries or ()
            if (name := _profile_name(profile))
        ]
        if page is None:
            return ModelPage(tuple(models), _FIRST_PROFILES)
        following = f"{_NEXT_PROFILES}{found.next_token}" if found.next_token else None
        # A page that points at itself would never end.
        return ModelPage(tuple(models), following if following != page else None)

    def map_validation_error(
        self, target: ProviderTarget, status: int, headers: Mapping[str, str], body: bytes
    ) -> ProviderError:
        """A credential that may not list models was accepted all the same, which AWS says by refusing it."""
        error = self.map_error(target, status, headers, body)
        if isinstance(error, ProviderPermissionDenied):
            error.message = f"{error.message} {MAY_NOT_LIST}"
        return error

    def _authorized(self, request: HttpRequest, target: ProviderTarget, region: str, accept: str) -> HttpRequest:
        """With the credential. accept is left out of the signature: proxies change it."""
        signed = authorized(request, target, region=region, now=self._clock())
        return msgspec.structs.replace(signed, headers=(*signed.headers, ("accept", accept)))


def _profile_name(profile: InferenceProfile) -> str | None:
    """What a call names: the id of a profile of AWS, the ARN of one that the account has made."""
    if profile.type == "APPLICATION":
        return profile.inference_profile_arn
    return profile.inference_profile_id or profile.inference_profile_arn


def _foundation_model(model: str) -> str:
    """`anthropic.claude-...` of the profile `us.anthropic.claude-...`; any other name as it is."""
    _, _, rest = model.partition(".")
    return rest if rest.partition(".")[0] in FAMILIES and rest.partition(".")[2] else model


class _Count(msgspec.Struct, frozen=True, rename="camel"):
    input_tokens: float | None = None


_COUNT: Final = msgspec.json.Decoder(_Count)
