"""Every model of the demo, one row each: how it answers, or how it fails.

A row whose name is NAME is the model `demo-NAME`; the same NAME chooses the row by marker, header or body field. Rows
that touch the wire turn a finished transcript into steps; nothing here does I/O.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import msgspec

from server.dev.demo.answer import Style
from server.dev.demo.errors import ErrorReply
from server.dev.demo.steps import CloseConnection, Pause, ResetConnection, Silence, Step
from server.dev.demo.transcript import Transcript

MODEL_PREFIX = "demo-"
DEFAULT_MODEL = "demo-chat"
EMBEDDING_MODEL = "demo-embedding"

HUGE_EVENT_BYTES = 64 * 1024 * 1024
_HUGE_PIECE = b"x" * 65536

HTML = b"<!DOCTYPE html>\n<html><head><title>Bad gateway</title></head><body><h1>It works!</h1></body></html>\n"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the slow scenarios wait, in seconds.

    slow_token, endless_token: between tokens of demo-slow and demo-endless. comment: between keep-alives. before_reset:
    before the connection is broken, so that what was sent can arrive.
    """

    slow_token: float = 0.05
    endless_token: float = 0.01
    comment: float = 0.2
    before_reset: float = 0.05


StreamPlan = Callable[[Transcript, Pace], Iterator[Step]]
UnaryPlan = Callable[[bytes, Pace], Iterator[Step]]


class Before(enum.Enum):
    """What happens instead of any HTTP response."""

    SILENCE = "silence"
    REDIRECT = "redirect"


@dataclass(frozen=True, slots=True)
class Row:
    """One model. summary: what a caller sees, as the documentation prints it."""

    name: str
    summary: str
    style: Style = Style.CHAT
    error: ErrorReply | None = None
    before: Before | None = None
    stream: StreamPlan | None = None
    unary: UnaryPlan | None = None
    status: int = 200
    content_type: str | None = None
    context_window: int | None = None
    repeats_input: bool = False

    @property
    def model(self) -> str:
        """The model id."""
        return MODEL_PREFIX + self.name


def plain_stream(script: Transcript, _pace: Pace) -> Iterator[Step]:
    """Every event in a write of its own."""
    yield from script.events


def plain_unary(body: bytes, _pace: Pace) -> Iterator[Step]:
    """The body at once."""
    yield body


def _some(script: Transcript) -> tuple[bytes, ...]:
    return (script.head, *script.deltas[: max(1, min(6, len(script.deltas) // 2))])


def _slow_stream(script: Transcript, pace: Pace) -> Iterator[Step]:
    yield script.head
    for delta in script.deltas:
        yield Pause(pace.slow_token)
        yield delta
    yield from (event for event in (script.finish, script.usage, script.done) if event)


def _slow_unary(body: bytes, pace: Pace) -> Iterator[Step]:
    tokens: int = msgspec.json.decode(body)["usage"]["completion_tokens"]
    yield Pause(pace.slow_token * tokens)
    yield body


def _endless_stream(script: Transcript, pace: Pace) -> Iterator[Step]:
    yield script.head
    for delta in itertools.cycle(script.deltas):
        yield delta
        yield Pause(pace.endless_token)


def _blank_lines_forever(_body: bytes, pace: Pace) -> Iterator[Step]:
    while True:
        yield b"\n"
        yield Pause(pace.comment)


def _comments_forever(_script: Transcript, pace: Pace) -> Iterator[Step]:
    while True:
        yield b": keep-alive\n\n"
        yield Pause(pace.comment)


def _comments_between(script: Transcript, _pace: Pace) -> Iterator[Step]:
    for event in script.events:
        yield b": keep-alive\n\n"
        yield event


def _blank_lines_first(body: bytes, _pace: Pace) -> Iterator[Step]:
    yield b"\n\n\n"
    yield body


def _html(_ignored: object, _pace: Pace) -> Iterator[Step]:
    yield HTML


def _garbage_stream(script: Transcript, _pace: Pace) -> Iterator[Step]:
    yield from _some(script)
    yield b'data: {"id": "chatcmpl-demo", "choices": [{"delta": {"content": "half a str\n\n'
    yield b"\x00\xff\xfe <garbage/> \r\n\r\n"


def _garbage_unary(body: bytes, _pace: Pace) -> Iterator[Step]:
    yield body[: len(body) // 2] + b"\x00\xff\xfe <garbage/>"


def _cut_stream(script: Transcript, _pace: Pace) -> Iterator[Step]:
    yield from _some(script)


def _cut_unary(body: bytes, _pace: Pace) -> Iterator[Step]:
    yield body[: len(body) // 2]


def _then(last: Step) -> tuple[StreamPlan, UnaryPlan]:
    """Half of the answer, then `last`."""

    def stream(script: Transcript, pace: Pace) -> Iterator[Step]:
        yield from _some(script)
        yield Pause(pace.before_reset)
        yield last

    def unary(body: bytes, pace: Pace) -> Iterator[Step]:
        yield body[: len(body) // 2]
        yield Pause(pace.before_reset)
        yield last

    return stream, unary


IN_STREAM_ERROR = ErrorReply(
    500, "server_error", "server_error", "The server had an error while processing your request."
)


def _error_stream(script: Transcript, _pace: Pace) -> Iterator[Step]:
    yield from _some(script)
    yield b"data: " + msgspec.json.encode(IN_STREAM_ERROR.payload()) + b"\n\n"


def _error_unary(_body: bytes, _pace: Pace) -> Iterator[Step]:
    yield msgspec.json.encode(IN_STREAM_ERROR.payload())


def _huge_stream(script: Transcript, _pace: Pace) -> Iterator[Step]:
    yield script.head
    yield b'data: {"choices": [{"index": 0, "delta": {"content": "'
    for _ in range(HUGE_EVENT_BYTES // len(_HUGE_PIECE)):
        yield _HUGE_PIECE
    yield b'"}}]}\n\n'
    yield from (script.finish, script.done)


def _huge_unary(body: bytes, _pace: Pace) -> Iterator[Step]:
    yield b'{"padding": "'
    for _ in range(HUGE_EVENT_BYTES // len(_HUGE_PIECE)):
        yield _HUGE_PIECE
    yield b'", ' + body[1:]


def _split(data: bytes) -> Iterator[Step]:
    """Cut before every byte that continues a code point, so that no write ends on a whole one."""
    start = 0
    for at in range(1, len(data)):
        if data[at] & 0xC0 == 0x80:
            yield data[start:at]
            yield Pause(0)
            start = at
    yield data[start:]


def _split_stream(script: Transcript, _pace: Pace) -> Iterator[Step]:
    yield from _split(b"".join(script.events))


def _split_unary(body: bytes, _pace: Pace) -> Iterator[Step]:
    yield from _split(body)


def _crlf_stream(script: Transcript, _pace: Pace) -> Iterator[Step]:
    yield from (event.replace(b"\n", b"\r\n") for event in script.events)


def _crlf_unary(body: bytes, _pace: Pace) -> Iterator[Step]:
    yield msgspec.json.format(body, indent=2).replace(b"\n", b"\r\n")


def _no_done_stream(script: Transcript, _pace: Pace) -> Iterator[Step]:
    events = replace(script, done=b"").events
    yield from events[:-1]
    yield events[-1].rstrip(b"\n")


def _no_usage_stream(script: Transcript, _pace: Pace) -> Iterator[Step]:
    yield from replace(script, usage=b"").events


def _no_usage_unary(body: bytes, _pace: Pace) -> Iterator[Step]:
    answer = msgspec.json.decode(body)
    del answer["usage"]
    yield msgspec.json.encode(answer)


def _plans(plans: tuple[StreamPlan, UnaryPlan], name: str, summary: str) -> Row:
    stream, unary = plans
    return Row(name, summary, stream=stream, unary=unary)


def _error(name: str, summary: str, error: ErrorReply) -> Row:
    return Row(name, summary, error=error)


ROWS: tuple[Row, ...] = (
    Row("chat", "the default: says what it was asked; calls tools where they are offered"),
    Row("tools", "calls every tool offered, in parallel; a single one twice", Style.TOOLS),
    Row("reasoner", "`reasoning_content` before the answer; none with `reasoning_effort: none`", Style.REASONER),
    Row("echo", "answers with the request's own parameters as JSON, without the messages", Style.ECHO),
    Row(
        "slow",
        "a token every 50 ms; unary: the same time, then the body",
        stream=_slow_stream,
        unary=_slow_unary,
    ),
    Row(
        "endless",
        "tokens until the caller leaves; unary: blank lines until the caller leaves",
        stream=_endless_stream,
        unary=_blank_lines_forever,
    ),
    Row("content-filter", "half of the answer, `finish_reason: content_filter`", Style.FILTERED),
    Row("refusal", "`refusal` instead of content", Style.REFUSAL),
    _error(
        "error-400",
        "400 `invalid_request_error`, `unsupported_parameter`, param `temperature`",
        ErrorReply(
            400,
            "invalid_request_error",
            "unsupported_parameter",
            "Unsupported parameter: 'temperature' is not supported with this model.",
            "temperature",
        ),
    ),
    _error(
        "error-401",
        "401 `invalid_api_key`, whatever the key",
        ErrorReply(401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    ),
    _error(
        "error-403",
        "403 `permission_denied`",
        ErrorReply(403, "permission_error", "permission_denied", "You are not allowed to use this model."),
    ),
    _error(
        "error-404",
        "404 `model_not_found`",
        ErrorReply(
            404,
            "invalid_request_error",
            "model_not_found",
            "The model does not exist or you do not have access to it.",
            "model",
        ),
    ),
    _error(
        "error-429",
        "429 `rate_limit_exceeded`, `retry-after: 7`",
        ErrorReply(
            429,
            "requests",
            "rate_limit_exceeded",
            "Rate limit reached for requests. Please try again in 7s.",
            headers={"retry-after": "7", "retry-after-ms": "7000"},
        ),
    ),
    _error(
        "error-429-quota",
        "429 `insufficient_quota`, no retry hint",
        ErrorReply(
            429,
            "insufficient_quota",
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details.",
        ),
    ),
    _error(
        "error-500",
        "500 `server_error`",
        ErrorReply(500, "server_error", None, "The server had an error while processing your request."),
    ),
    Row(
        "error-502-html",
        "502 whose body is a proxy's HTML page",
        status=502,
        stream=_html,
        unary=_html,
        content_type="text/html",
    ),
    _error(
        "error-503",
        "503 `server_error`: overloaded, no retry hint",
        ErrorReply(503, "server_error", "overloaded", "The engine is currently overloaded, please try again later."),
    ),
    Row(
        "error-leaky",
        "400 whose message repeats the caller's key and last user text: what must not reach a log",
        repeats_input=True,
    ),
    Row("context-too-long", "400 `context_length_exceeded`: window 16 tokens, both lengths named", context_window=16),
    Row("redirect", "307 to `/v1/redirected` on the same server", before=Before.REDIRECT),
    Row("timeout", "takes the request and never answers", before=Before.SILENCE),
    Row("garbage", "200 with an HTML page", stream=_html, unary=_html, content_type="text/html"),
    Row("garbage-stream", "half an answer, then bytes that are no JSON", stream=_garbage_stream, unary=_garbage_unary),
    Row("cut", "the body ends, cleanly for HTTP, in the middle of the answer", stream=_cut_stream, unary=_cut_unary),
    _plans(_then(CloseConnection()), "cut-connection", "half an answer, then the connection is closed (FIN)"),
    _plans(_then(ResetConnection()), "reset", "half an answer, then the connection is reset (RST)"),
    _plans(_then(Silence()), "stall", "half an answer, then silence on an open connection"),
    Row(
        "stall-comments",
        "a keep-alive comment every 200 ms and no token, ever; unary: blank lines",
        stream=_comments_forever,
        unary=_blank_lines_forever,
    ),
    Row("error-in-stream", "200, half an answer, then an error event", stream=_error_stream, unary=_error_unary),
    Row("huge", "one event of 64 MiB; unary: a body of 64 MiB", stream=_huge_stream, unary=_huge_unary),
    Row("split-utf8", "every multibyte character cut across writes", stream=_split_stream, unary=_split_unary),
    Row("crlf", "CRLF line ends throughout", stream=_crlf_stream, unary=_crlf_unary),
    Row(
        "comments",
        "a comment before every event; unary: blank lines first",
        stream=_comments_between,
        unary=_blank_lines_first,
    ),
    Row("no-done", "no `[DONE]`, and no blank line after the last event", stream=_no_done_stream),
    Row("usage-missing", "no usage, even where it was asked for", stream=_no_usage_stream, unary=_no_usage_unary),
)

BY_NAME = {row.name: row for row in ROWS}
BY_MODEL = {row.model: row for row in ROWS}
