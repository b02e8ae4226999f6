"""What validating a request costs: microseconds per ChatRequest, valid and invalid, by protovalidate alone and with the
quick check before it (docs/decisions/validation.md)."""

from __future__ import annotations

import contextlib
import statistics
import timeit
from functools import partial

import protovalidate

from dragoman.v1 import chat_pb2
from server.core.errors import InvalidRequest
from server.rpc.validation import RequestValidator


def request(temperature: float) -> chat_pb2.ChatRequest:
    """A usual call: three turns, eight fields."""
    turn = chat_pb2.Message
    return chat_pb2.ChatRequest(
        model="openai/gpt-4o-mini",
        messages=[
            turn(role="system", content="Be short."),
            turn(role="user", content="What is a dragoman?"),
            turn(role="assistant", content="An interpreter."),
        ],
        temperature=temperature,
        max_tokens=4096,
        top_p=0.9,
        stop=["END"],
        seed=7,
        user="someone",
    )


def checked(validator: RequestValidator, message: chat_pb2.ChatRequest) -> None:
    """As a call does it."""
    with contextlib.suppress(InvalidRequest):
        validator.check(message)


def main() -> None:
    """Print the medians of seven runs."""
    judge, validator = protovalidate.Validator(), RequestValidator()
    for name, message, broken in (("valid", request(0.7), 0), ("invalid", request(2.1), 1)):
        if len(judge.collect_violations(message)) != broken:
            raise SystemExit(f"the {name} request breaks {len(judge.collect_violations(message))} rules, not {broken}")
        for who, run in (
            ("protovalidate", partial(judge.collect_violations, message)),
            ("check", partial(checked, validator, message)),
        ):
            runs = timeit.repeat(run, number=2000, repeat=7)
            print(f"{name}, {who}: {statistics.median(runs) / 2000 * 1e6:.1f} us")


if __name__ == "__main__":
    main()
