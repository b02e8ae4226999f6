"""The demo's HTTP face: routes, the key, the choice of a row, and the answer on the wire."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import Awaitable, Callable, Collection

import msgspec
from aiohttp import web

from server.dev.demo.answer import answer, context_too_long, last_user_text
from server.dev.demo.embeddings import embeddings
from server.dev.demo.errors import ErrorReply, Refused, bad_request
from server.dev.demo.journal import Exchange, Journal
from server.dev.demo.scenarios import (
    BY_MODEL,
    BY_NAME,
    EMBEDDING_MODEL,
    ROWS,
    Before,
    Pace,
    Row,
    plain_stream,
    plain_unary,
)
from server.dev.demo.steps import play, silence
from server.dev.demo.transcript import transcript, unary_body
from server.dev.demo.wire import ChatBody, parse_chat

DEFAULT_API_KEY = "demo-key-guards-nothing"
"""The key that the demo takes when no other is given. It is public: the demo has nothing to guard."""

MAX_BODY_BYTES = 64 * 1024 * 1024
SCENARIO_HEADER = "x-demo-scenario"
MODELS_CREATED = 1767225600
COMMON_HEADERS = {
    "cache-control": "no-store",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-reset-requests": "6ms",
}

_MARKER = re.compile(r"\[\[demo:([\w-]+)\]\]")
_EXCHANGE = web.RequestKey("exchange", Exchange)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(
    *,
    api_keys: Collection[str] = (DEFAULT_API_KEY,),
    journal: Journal | None = None,
    pace: Pace | None = None,
) -> web.Application:
    """The application, for a runner with handler_cancellation=True: without it a caller's leaving is seen late.

    api_keys: the bearer keys taken. journal: where requests are taken down, by default nowhere.
    """
    demo = _Demo(api_keys, journal or Journal(keep=0), pace or Pace())
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[demo.recorded, demo.refusals, demo.keyed])
    app.router.add_post("/v1/chat/completions", demo.chat)
    app.router.add_post("/v1/embeddings", demo.embed)
    app.router.add_get("/v1/models", demo.models)
    app.router.add_get("/v1/models/{id}", demo.model)
    app.router.add_get("/demo/stats", demo.stats)
    return app


class _Demo:
    def __init__(self, api_keys: Collection[str], journal: Journal, pace: Pace) -> None:
        self._keys = [key.encode() for key in api_keys]
        self._journal = journal
        self._pace = pace

    @web.middleware
    async def recorded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Take down the request and how it ended."""
        exchange = Exchange(
            id=f"req_demo_{self._journal.requests_total + 1:08d}",
            method=request.method,
            path=request.path,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=b"",
            task=asyncio.current_task(),
        )
        self._journal.begin(exchange)
        request[_EXCHANGE] = exchange
        try:
            response = await handler(request)
        except (asyncio.CancelledError, ConnectionError):
            self._journal.end(exchange, "client_went_away")
            raise
        self._journal.end(exchange, "answered")
        if not response.prepared:
            response.headers["x-request-id"] = exchange.id
        return response

    @web.middleware
    async def refusals(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every error in OpenAI's shape, without a stack trace and without the request."""
        try:
            return await handler(request)
        except Refused as exc:
            return exc.reply.response()
        except web.HTTPException as exc:
            message = f"{exc.reason} ({request.method} {request.path})"
            return ErrorReply(exc.status, "invalid_request_error", None, message).response()

    @web.middleware
    async def keyed(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """401 without a key or with a wrong one."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            message = "You didn't provide an API key. Send it as 'Authorization: Bearer KEY'."
            raise Refused(ErrorReply(401, "invalid_request_error", None, message))
        if not any(hmac.compare_digest(known, key.encode(errors="replace")) for known in self._keys):
            message = "Incorrect API key provided."
            raise Refused(ErrorReply(401, "invalid_request_error", "invalid_api_key", message))
        return await handler(request)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        raw = request[_EXCHANGE].body = await request.read()
        body = parse_chat(raw)
        row = self._choose(request, body)
        request[_EXCHANGE].scenario = row.name
        if row.before is Before.SILENCE:
            await silence()
        if row.before is Before.REDIRECT:
            return web.Response(status=307, headers={"location": "/v1/redirected"})
        _raise_error(row, request, body)
        said = answer(body, row.style, raw)
        if row.context_window is not None:
            raise context_too_long(row.context_window, max(said.prompt_tokens, row.context_window + 1))
        created = int(time.time())
        if body.stream:
            include_usage = bool(body.stream_options and body.stream_options.include_usage)
            script = transcript(said, created, include_usage=include_usage)
            steps = (row.stream or plain_stream)(script, self._pace)
        else:
            steps = (row.unary or plain_unary)(unary_body(said, created), self._pace)
        content_type = "text/event-stream; charset=utf-8" if body.stream else "application/json"
        exchange = request[_EXCHANGE]
        headers = {"content-type": row.content_type or content_type, "x-request-id": exchange.id, **COMMON_HEADERS}
        response = web.StreamResponse(status=row.status, headers=headers)
        return await play(request, response, steps, lambda: self._journal.end(exchange, "provider_cut"))

    def _choose(self, request: web.Request, body: ChatBody) -> Row:
        """The row: by the script, else header, else body field, else marker in the last user text, else model."""
        name = self._journal.next_scripted() or request.headers.get(SCENARIO_HEADER) or body.demo_scenario
        if name is None and (marker := _MARKER.search(last_user_text(body))):
            name = marker[1]
        if name is not None:
            if name not in BY_NAME:
                raise bad_request(f"No demo scenario '{name}'; there are: {', '.join(BY_NAME)}.", param="demo_scenario")
            return BY_NAME[name]
        if body.model not in BY_MODEL:
            raise _unknown_model(body.model)
        return BY_MODEL[body.model]

    async def embed(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/embeddings."""
        raw = request[_EXCHANGE].body = await request.read()
        return web.Response(body=embeddings(raw), content_type="application/json")

    async def models(self, _request: web.Request) -> web.StreamResponse:
        """GET /v1/models."""
        ids = [*(row.model for row in ROWS), EMBEDDING_MODEL]
        return _json({"object": "list", "data": [_model(id) for id in ids]})

    async def model(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/models/{id}."""
        id = request.match_info["id"]
        if id not in BY_MODEL and id != EMBEDDING_MODEL:
            raise _unknown_model(id)
        return _json(_model(id))

    async def stats(self, request: web.Request) -> web.StreamResponse:
        """GET /demo/stats: counts only, for a test that drives the demo as another process."""
        # The request that asks is not counted among the open ones.
        others = len(self._journal.open - {request[_EXCHANGE]})
        journal = self._journal
        return _json({"requests": journal.requests_total, "open": others, "clientWentAway": journal.hangups_total})


def _raise_error(row: Row, request: web.Request, body: ChatBody) -> None:
    if row.error is not None:
        raise Refused(row.error)
    if row.repeats_input:
        key = request.headers.get("authorization", "")
        raise bad_request(f"Could not serve '{last_user_text(body)}' for '{key}'.", code="invalid_value")


def _unknown_model(id: str) -> Refused:
    message = f"The model `{id}` does not exist or you do not have access to it."
    return Refused(ErrorReply(404, "invalid_request_error", "model_not_found", message, "model"))


def _model(id: str) -> dict[str, object]:
    return {"id": id, "object": "model", "created": MODELS_CREATED, "owned_by": "dragoman-demo"}


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
