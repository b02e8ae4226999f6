"""An answer counts only where it is the provider's: its text, its order, its end, in every form that peers give it."""

from __future__ import annotations

import json

import pytest

from bench.answers import Checker, Form, WrongAnswer
from bench.mock import ANSWER, FIRST, LAST, TEXT, token, words
from dragoman.v1 import chat_pb2 as pb

TOKENS = 20


def framed(*messages: pb.ChatEvent | pb.ChatResponse) -> bytes:
    wire = [message.SerializeToString() for message in messages]
    return b"".join(b"\0" + len(each).to_bytes(4, "big") + each for each in wire)


def openai(*numbers: int, end: bytes = LAST) -> bytes:
    return FIRST + b"".join(map(token, numbers)) + end


def sse(*texts: str, end: str = "stop") -> bytes:
    events: list[dict[str, object]] = [{"sequence": 1, "started": {"id": "x"}}]
    events += [{"blockDelta": {"index": 0, "text": text}} for text in texts]
    events += [{"completed": {"finishReason": end}}] if end else []
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def grpc(*texts: str, end: str = "stop") -> bytes:
    events = [pb.ChatEvent(block_delta=pb.BlockDelta(text=text)) for text in texts]
    return framed(*events, *([pb.ChatEvent(completed=pb.Completed(finish_reason=end))] if end else []))


ALL = range(TOKENS)
HALVES = words(TOKENS)[:40], words(TOKENS)[40:]
EACH = [f" tok{number}" for number in ALL]


@pytest.mark.parametrize(
    ("form", "tokens", "body"),
    [
        ("openai", 0, ANSWER),
        ("contract", 0, json.dumps({"text": TEXT, "finishReason": "stop"}).encode()),
        ("grpc", 0, framed(pb.ChatResponse(text=TEXT, finish_reason="stop"))),
        ("openai", TOKENS, openai(*ALL)),
        ("openai", TOKENS, openai(*ALL).removesuffix(b"data: [DONE]\n\n")),  # as MLflow ends it
        ("contract", TOKENS, sse(*EACH)),
        ("contract", TOKENS, sse(*HALVES)),  # tokens joined, at any place
        ("grpc", TOKENS, grpc(*EACH)),
        ("grpc", TOKENS, grpc(*HALVES)),
    ],
)
def test_the_providers_answer_is_right_in_every_form(form: Form, tokens: int, body: bytes) -> None:
    Checker(form, tokens).check(body)


@pytest.mark.parametrize(
    ("form", "tokens", "body", "said"),
    [
        ("openai", 0, ANSWER[:-20], "not well-formed"),
        ("openai", 0, b"", "not well-formed"),
        ("openai", 0, b'{"error":{"message":"no"}}', "another text"),
        ("openai", 0, ANSWER.replace(b"lazy", b"hazy", 1), "another text"),
        ("openai", 0, ANSWER.replace(b'"stop"', b'"length"'), "another end"),
        ("contract", 0, json.dumps({"text": TEXT}).encode(), "no end"),
        ("grpc", 0, b"", "no answer"),
        ("grpc", 0, framed(pb.ChatResponse(text=TEXT, finish_reason="stop"))[:-4], "a message is cut"),
        ("openai", TOKENS, openai(*range(TOKENS - 1)), "19 tokens"),
        ("openai", TOKENS, openai(*ALL, TOKENS), "21 tokens"),
        ("openai", TOKENS, openai(1, 0, *range(2, TOKENS)), "other tokens, or in another order"),
        ("openai", TOKENS, openai(0, 0, *range(2, TOKENS)), "other tokens, or in another order"),
        ("openai", TOKENS, openai(*ALL, end=b"data: [DONE]\n\n"), "no end"),
        ("openai", TOKENS, openai(*ALL)[:-30], "no end"),
        ("contract", TOKENS, sse(*EACH, end=""), "no end"),
        ("contract", TOKENS, sse(*EACH)[:-1], "no end"),
        ("contract", TOKENS, sse(*EACH[:-1]), "19 tokens"),
        ("contract", TOKENS, sse(*EACH).replace(b"}}", b"}", 1), "not well-formed"),
        ("grpc", TOKENS, grpc(*reversed(EACH)), "other tokens, or in another order"),
        ("grpc", TOKENS, grpc(*EACH, end=""), "no end"),
        ("grpc", TOKENS, b"\0\0\0\0\1x", "not well-formed"),
    ],
)
def test_what_is_wrong_is_named(form: Form, tokens: int, body: bytes, said: str) -> None:
    with pytest.raises(WrongAnswer) as caught:
        Checker(form, tokens).check(body)
    assert str(caught.value) == said
