"""The Messages wire: requests out, answers and streams in.

A long answer is best asked for as a stream. Anthropic asks for it where an answer may take more than ten minutes (its
SDKs refuse above 21,333 max_tokens), as networks drop connections that are silent for long; a whole answer waits here
as long as the runner's patience lasts. See docs/providers/anthropic.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from server.core.errors import NotConfigured, ProviderError
from server.core.events import StreamEvent
from server.core.ports import ListedModel, ProviderCall, ProviderTarget
from server.providers.anthropic.errors import map_error, read_error
from server.providers.anthropic.request import build_body
from server.providers.anthropic.stream import MessagesStreamParser, parse_message
from server.providers.anthropic.types import DIALECT, MODELS
from server.providers.http import HttpRequest
from server.providers.parsing import counted, decode, tokens
from server.providers.wire import BuiltRequest, Exchange, ModelPage, StreamParser, Wire

BASE_URL: Final = "https://api.anthropic.com"

VERSION: Final = "2023-06-01"
"""Of the API: the only one since, and a request without it is refused (platform.claude.com/docs, api/versioning)."""

TOKEN_PREFIX: Final = "sk-ant-oat"  # noqa: S105  how such a token begins
"""What Workload Identity Federation gives for an identity token: it goes as a bearer token, API keys go as x-api-key
(platform.claude.com/docs, manage-claude/authentication)."""

NOT_COUNTED: Final = (
    "max_tokens",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "metadata",
    "service_tier",
    "container",
)
"""What a message takes and its count does not (anthropic-sdk-python, `types/message_count_tokens_params.py`): how to
answer, which is no part of the input. Members that are unknown here pass, and the API says what it does not take."""

MOST_MODELS: Final = 1000
"""Rows of a page of the list of models, the most that the API gives."""


class MessagesWire(Wire):
    """Everything at `{endpoint}/v1/...`; without an endpoint, Anthropic's own."""

    dialect = DIALECT

    def build_request(self, call: ProviderCall) -> BuiltRequest:
        body, betas, warnings = build_body(call)
        headers = [*_headers(call.target), ("content-type", "application/json")]
        headers.append(("accept", "text/event-stream" if call.stream else "application/json"))
        if betas:
            headers.append(("anthropic-beta", ",".join(betas)))
        url = _url(call.target, "/messages")
        return BuiltRequest(HttpRequest("POST", url, tuple(headers), msgspec.json.encode(body)), warnings)

    def parse_response(self, exchange: Exchange, body: bytes) -> list[StreamEvent]:
        return parse_message(exchange, body, new_id=self._new_id, clock=self._clock)

    def stream_parser(self, exchange: Exchange) -> StreamParser:
        return MessagesStreamParser(exchange, new_id=self._new_id, clock=self._clock)

    def build_count(self, call: ProviderCall) -> BuiltRequest:
        body, betas, warnings = build_body(call)
        for name in NOT_COUNTED:
            body.pop(name, None)
        headers = [*_headers(call.target), ("content-type", "application/json"), ("accept", "application/json")]
        if betas:
            headers.append(("anthropic-beta", ",".join(betas)))
        url = _url(call.target, "/messages/count_tokens")
        return BuiltRequest(HttpRequest("POST", url, tuple(headers), msgspec.json.encode(body)), warnings)

    def parse_count(self, body: bytes) -> int:
        return counted(decode(_COUNT, body.strip(), "a count of tokens").input_tokens)

    def map_error(
        self,
        target: ProviderTarget,  # noqa: ARG002  the same for every server of this wire
        status: int,
        headers: Mapping[str, str],
        body: bytes,
    ) -> ProviderError:
        return map_error(read_error(body, status), headers, now=self._clock())

    def build_list_models(self, target: ProviderTarget, page: str | None = None) -> HttpRequest:
        query = f"limit={MOST_MODELS}" + (f"&after_id={quote(page, safe='')}" if page is not None else "")
        return self._get(target, query)

    def parse_models(self, body: bytes, page: str | None = None) -> ModelPage:
        found = decode(MODELS, body.strip(), "a list of models")
        models = tuple(
            ListedModel(row.id, row.display_name, tokens(row.max_input_tokens), tokens(row.max_tokens))
            for row in found.data or ()
            if row.id
        )
        # A page that points at itself would never end.
        following = found.last_id if found.has_more and found.last_id != page else None
        return ModelPage(models, following or None)

    def build_validate(self, target: ProviderTarget) -> HttpRequest:
        return self._get(target, "limit=1")

    @staticmethod
    def _get(target: ProviderTarget, query: str) -> HttpRequest:
        return HttpRequest(
            "GET", f"{_url(target, '/models')}?{query}", (*_headers(target), ("accept", "application/json"))
        )


def _url(target: ProviderTarget, path: str) -> str:
    """`{endpoint}/v1{path}`; an endpoint may end in /v1 or in /v1/messages already."""
    parts = urlsplit(target.endpoint or BASE_URL)
    root = parts.path.rstrip("/").removesuffix("/messages").removesuffix("/v1")
    return urlunsplit((parts.scheme, parts.netloc, f"{root}/v1{path}", "", ""))


def _headers(target: ProviderTarget) -> tuple[tuple[str, str], ...]:
    """The credential and the version. A server of one's own may do without a key, Anthropic does not."""
    version = ("anthropic-version", VERSION)
    if target.secret is None:
        if target.endpoint is not None:
            return (version,)
        raise NotConfigured("The configuration for Anthropic has no API key.")
    key = target.secret.reveal()
    if key.startswith(TOKEN_PREFIX):
        return (("authorization", f"Bearer {key}"), version)
    return (("x-api-key", key), version)


class _Count(msgspec.Struct, frozen=True):
    input_tokens: float | None = None


_COUNT: Final = msgspec.json.Decoder(_Count)
