"""A log line is one JSON object; exceptions and foreign libraries cannot put a prompt or a key into it."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from server.rpc.log import JsonFormatter


def line(name: str, message: str, *args: object, fields: dict[str, object] | None = None, exc: bool = False) -> Any:
    record = logging.LogRecord(name, logging.INFO, __file__, 1, message, args, sys.exc_info() if exc else None)
    if fields is not None:
        record.fields = fields
    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert "canary" not in text
    return json.loads(text)


def test_own_records_are_written_with_their_arguments_and_fields() -> None:
    written = line("dragoman.access", "%d calls\nof %s", 2, "x", fields={"method": "/m", "tokens": 3, "odd": object()})
    assert written.pop("time").endswith("+00:00")
    assert written == {
        "level": "info",
        "logger": "dragoman.access",
        "message": "2 calls\nof x",
        "method": "/m",
        "tokens": 3,
        "odd": "object",
    }


@pytest.mark.parametrize("text", ["plain", "two\nlines", "Grüße", "\ud800", "\x00\u2028"])
def test_any_text_is_written_in_ascii_and_read_back(text: str) -> None:
    record = logging.LogRecord("dragoman.access", logging.INFO, __file__, 1, "call", (), None)
    record.fields = {"model": text, "tokens": 3, "share": 0.5, "cached": None}
    written = JsonFormatter().format(record)
    assert written.isascii()
    assert json.loads(written)["model"] == text


def test_times_are_in_utc_to_the_millisecond() -> None:
    record = logging.LogRecord("dragoman.access", logging.INFO, __file__, 1, "call", (), None)
    formatter = JsonFormatter()
    for created, written in ((0.5, "1970-01-01T00:00:00.500+00:00"), (86399.0625, "1970-01-01T23:59:59.062+00:00")):
        record.created = created
        assert json.loads(formatter.format(record))["time"] == written


def test_foreign_records_are_written_without_their_arguments_and_further_lines() -> None:
    assert line("aiohttp.client", "got %s", "canary")["message"] == "got %s"
    assert line("asyncio", "Task exception was never retrieved\nfuture: <Task ValueError('canary')>")["message"] == (
        "Task exception was never retrieved"
    )


def parse(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise RuntimeError(f"no number: {text}") from error


def test_an_exception_is_told_by_types_and_places_alone() -> None:
    written: Any = None
    try:
        parse("canary")
    except RuntimeError:
        written = line("dragoman.errors", "call failed", exc=True)
    outer, inner = written["error"]
    assert (outer["type"], inner["type"]) == ("RuntimeError", "ValueError")
    assert [frame.split()[-1] for frame in outer["frames"]] == [
        "test_an_exception_is_told_by_types_and_places_alone",
        "parse",
    ]
    assert outer["frames"][0].startswith("tests/rpc/test_log.py:")
