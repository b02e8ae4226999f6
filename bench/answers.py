"""Whether an answer is the one that the mock provider gave: the whole text, every token in its order, and a proper end.

It is decoded as a client would, by typed structs in C: 1 us for a whole answer and 0.7 us for an event, so that looking
does not slow the load down.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec
from google.protobuf.message import DecodeError

from bench.mock import MARK, TEXT, words
from dragoman.v1 import chat_pb2

Form = Literal["openai", "contract", "grpc"]
"""OpenAI's JSON, our contract's JSON, or framed messages of our contract."""


class WrongAnswer(Exception):
    """What is wrong with it, in a few words that say nothing of it: they are counted."""


class _Part(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Part | None = None
    message: _Part | None = None
    finish_reason: str | None = None


class _OpenAI(msgspec.Struct):
    """A whole answer, or a chunk."""

    choices: list[_Choice] = []


class _Delta(msgspec.Struct, rename="camel"):
    text: str = ""


class _End(msgspec.Struct, rename="camel"):
    finish_reason: str = ""


class _Contract(msgspec.Struct, rename="camel"):
    """A whole answer, or an event."""

    text: str = ""
    finish_reason: str = ""
    block_delta: _Delta | None = None
    completed: _End | None = None


_EVENT: Final = b"\n\ndata: "
_DONE: Final = b"data: [DONE]\n\n"


class Checker:
    """Looks at the answers of one plan. tokens: of a whole stream, 0 for a whole answer."""

    def __init__(self, form: Form, tokens: int) -> None:
        self._form = form
        self._tokens = tokens
        self._expected = words(tokens) if tokens else TEXT
        self._openai = msgspec.json.Decoder(_OpenAI)
        self._contract = msgspec.json.Decoder(_Contract)

    def check(self, body: bytes) -> None:
        """Raises WrongAnswer."""
        try:
            text, end = self._stream(body) if self._tokens else self._whole(body)
        except (msgspec.DecodeError, DecodeError) as error:
            raise WrongAnswer("not well-formed") from error
        if text != self._expected:
            raise WrongAnswer(self._difference(text))
        if end != "stop":
            raise WrongAnswer("no end" if not end else "another end")

    def _difference(self, text: str) -> str:
        if not self._tokens:
            return "another text"
        came = text.count(MARK.decode())
        return f"{came} tokens" if came != self._tokens else "other tokens, or in another order"

    def _whole(self, body: bytes) -> tuple[str, str]:
        if self._form == "openai":
            choice = next(iter(self._openai.decode(body).choices), _Choice())
            return (choice.message and choice.message.content) or "", choice.finish_reason or ""
        if self._form == "contract":
            answer = self._contract.decode(body)
            return answer.text, answer.finish_reason
        messages = list(_messages(body))
        if len(messages) != 1:
            raise WrongAnswer("no answer" if not messages else "more than one message")
        whole = chat_pb2.ChatResponse.FromString(messages[0])
        return whole.text, whole.finish_reason

    def _stream(self, body: bytes) -> tuple[str, str]:
        if self._form == "grpc":
            return self._events([chat_pb2.ChatEvent.FromString(message) for message in _messages(body)])
        if not body.endswith(b"\n\n"):
            raise WrongAnswer("no end")
        lines = body.removesuffix(_DONE).removeprefix(b"data: ").replace(_EVENT, b"\n")
        if self._form == "openai":
            choices = [chunk.choices[0] for chunk in self._openai.decode_lines(lines) if chunk.choices]
            text = "".join([choice.delta.content for choice in choices if choice.delta and choice.delta.content])
            return text, next((choice.finish_reason for choice in reversed(choices) if choice.finish_reason), "")
        events = self._contract.decode_lines(lines)
        text = "".join([event.block_delta.text for event in events if event.block_delta])
        end = events[-1].completed if events else None
        return text, end.finish_reason if end else ""

    @staticmethod
    def _events(events: list[chat_pb2.ChatEvent]) -> tuple[str, str]:
        end = events[-1].completed.finish_reason if events else ""
        return "".join([event.block_delta.text for event in events]), end


def _messages(body: bytes) -> Iterator[bytes]:
    """gRPC's frames. Raises WrongAnswer for one that is not whole."""
    at, end = 0, len(body)
    while at < end:
        begin = at + 5
        at = begin + int.from_bytes(body[at + 1 : begin], "big")
        if at > end:
            raise WrongAnswer("a message is cut")
        yield body[begin:at]
