"""What validating a request costs: microseconds per ChatRequest, valid and invalid (docs/decisions/validation.md)."""

from __future__ import annotations

import statistics
import timeit
from functools import partial

import protovalidate

from dragoman.v1 import chat_pb2


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


def collect(validator: protovalidate.Validator, message: chat_pb2.ChatRequest) -> int:
    """How many rules a message breaks."""
    return len(validator.collect_violations(message))


def main() -> None:
    """Print the medians of seven runs."""
    validator = protovalidate.Validator()
    for name, message, broken in (("valid", request(0.7), 0), ("invalid", request(2.1), 1)):
        if collect(validator, message) != broken:
            raise SystemExit(f"the {name} request breaks {collect(validator, message)} rules, not {broken}")
        runs = timeit.repeat(partial(collect, validator, message), number=2000, repeat=7)
        print(f"{name}: {statistics.median(runs) / 2000 * 1e6:.1f} us")


if __name__ == "__main__":
    main()
