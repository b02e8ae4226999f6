"""An error as OpenAI words it: status, headers, and `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from aiohttp import web


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """One error answer: HTTP status, OpenAI's type, code and param, the message, and headers beside it."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def payload(self) -> dict[str, object]:
        """The body as plain data."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def response(self) -> web.Response:
        """The whole HTTP answer."""
        body = msgspec.json.encode(self.payload())
        return web.Response(status=self.status, headers=self.headers, body=body, content_type="application/json")


class Refused(Exception):
    """The request is answered with an error; `reply` is that answer."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.code)
        self.reply = reply


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> Refused:
    """A 400 of type invalid_request_error."""
    return Refused(ErrorReply(400, "invalid_request_error", code, message, param))
