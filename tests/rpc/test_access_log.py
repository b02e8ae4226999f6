"""The access log: a line for each call, the same by every way, in order, and none is lost."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from server.rpc.access_log import AccessLine, AccessLog
from server.rpc.log import JsonFormatter, LineHandler

NOW = 1_700_000_000.25


class Writes(io.StringIO):
    """Text that came, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return len(text)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in "".join(self.writes).splitlines()]


def logger(*handlers: logging.Handler, level: int = logging.INFO) -> logging.Logger:
    made = logging.Logger("dragoman.access", level)  # noqa: LOG001 - of its own: pytest has handlers at the root
    made.handlers = list(handlers)
    return made


def entry(**members: Any) -> AccessLine:
    return AccessLine(method="/m", status="OK", duration_ms=0.0, **members)


@pytest.mark.parametrize("model", ["gpt", "", "Grüße", "\ud800", "two\nlines", "\x00\u2028"])
def test_a_line_is_the_same_whether_logging_writes_it_or_not(model: str) -> None:
    direct, foreign = Writes(), Writes()
    slow = logging.StreamHandler(foreign)
    slow.setFormatter(JsonFormatter())
    for handler in (LineHandler(direct), slow):
        AccessLog(logger(handler), now=lambda: NOW).write(logging.INFO, entry(model=model, prompt_tokens=0))
    (line,), (other,) = direct.lines(), foreign.lines()
    assert line.pop("time") == "2023-11-14T22:13:20.250+00:00"
    assert other.pop("time")
    assert line == other
    assert list(line) == list(other)
    assert line.get("model", "") == model
    assert "".join(direct.writes).isascii()


def test_what_is_not_known_is_left_out_and_a_count_of_zero_is_not() -> None:
    stream = Writes()
    AccessLog(logger(LineHandler(stream)), now=lambda: NOW).write(logging.DEBUG, entry(completion_tokens=0))
    (line,) = stream.lines()
    del line["time"]
    assert line == {
        "level": "debug",
        "logger": "dragoman.access",
        "message": "call",
        "method": "/m",
        "status": "OK",
        "duration_ms": 0.0,
        "completion_tokens": 0,
    }


async def test_lines_of_one_turn_of_the_loop_are_one_write() -> None:
    stream = Writes()
    log = AccessLog(logger(LineHandler(stream)))
    for number in range(3):
        log.write(logging.INFO, entry(request_id=str(number)))
    assert stream.writes == []
    await asyncio.sleep(0)
    assert len(stream.writes) == 1
    assert [line["request_id"] for line in stream.lines()] == ["0", "1", "2"]


async def test_a_write_holds_whole_lines_and_no_more_than_a_pipe_takes_in_one_piece() -> None:
    stream = Writes()
    log = AccessLog(logger(LineHandler(stream)))
    sizes = [10, 3000, 900, 5000, *[300] * 40]
    for number, size in enumerate(sizes):
        log.write(logging.INFO, entry(request_id=str(number), model="m" * size))
    await asyncio.sleep(0)
    assert [line["request_id"] for line in stream.lines()] == [str(number) for number in range(len(sizes))]
    assert all(write.endswith("\n") and (len(write) <= 4096 or write.count("\n") == 1) for write in stream.writes)
    assert len(stream.writes) < len(sizes) / 2


async def test_lines_stay_in_order_with_records() -> None:
    stream = Writes()
    own = logger(LineHandler(stream))
    AccessLog(own).write(logging.INFO, entry(request_id="first"))
    own.error("second")
    AccessLog(own).write(logging.INFO, entry(request_id="third"))
    own.handlers[0].flush()
    assert [line.get("request_id", line["message"]) for line in stream.lines()] == ["first", "second", "third"]


def test_without_a_loop_a_line_is_written_at_once() -> None:
    stream = Writes()
    AccessLog(logger(LineHandler(stream))).write(logging.INFO, entry())
    assert len(stream.lines()) == 1


def test_the_logger_and_the_handler_say_which_levels_are_written() -> None:
    stream = Writes()
    handler = LineHandler(stream)
    log = AccessLog(logger(handler))
    assert log.wants(logging.INFO)
    assert not log.wants(logging.DEBUG)
    handler.setLevel(logging.ERROR)
    log.write(logging.INFO, entry())
    assert stream.lines() == []


def test_every_handler_gets_the_line_where_there_are_several() -> None:
    one, two = Writes(), Writes()
    AccessLog(logger(LineHandler(one), LineHandler(two))).write(logging.INFO, entry())
    assert (len(one.lines()), len(two.lines())) == (1, 1)


def test_a_handler_above_the_logger_gets_the_line_unless_it_does_not_propagate() -> None:
    stream = Writes()
    own = logger()
    own.parent = logging.Logger("dragoman", logging.INFO)  # noqa: LOG001
    own.parent.handlers = [LineHandler(stream)]
    AccessLog(own).write(logging.INFO, entry())
    own.propagate = False
    own.addHandler(logging.NullHandler())
    AccessLog(own).write(logging.INFO, entry())
    assert len(stream.lines()) == 1


def test_a_stream_that_is_gone_stops_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(logging, "raiseExceptions", False)
    AccessLog(logger(LineHandler(stream))).write(logging.INFO, entry())


_DIES = """
import asyncio, logging, sys
from server.rpc.access_log import AccessLine, AccessLog
from server.rpc.log import LineHandler

async def main():
    AccessLog().write(logging.INFO, AccessLine(method="/last"))
    raise SystemExit(3)

logging.basicConfig(level="INFO", handlers=[LineHandler(sys.stderr)])
asyncio.run(main())
"""


def test_a_process_that_ends_in_the_middle_of_a_turn_writes_its_last_lines() -> None:
    ended = subprocess.run([sys.executable, "-c", _DIES], capture_output=True, text=True, check=False)
    assert (ended.returncode, json.loads(ended.stderr)["method"]) == (3, "/last")
