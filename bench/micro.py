"""What each stage of a call costs, alone and in one process: `python -m bench.micro`, microseconds.

Caches are warm and nothing waits here: a stage under load costs up to twice as much. A regression shows all the same,
and names its stage. The call is that of `bench/surfaces.py`, the answers are those of `bench/mock.py`. What needs a
provider to call is in `bench/micro_calls.py`.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import mock
from bench.cases import CASES
from bench.figures import Stage as Measured
from bench.figures import keep
from bench.gateway import furnish
from bench.micro_calls import call_costs
from bench.surfaces import grpc
from dragoman.v1 import chat_pb2
from server.app import Services, open_services
from server.core.events import BlockDelta, StreamEvent
from server.core.history import check_history
from server.core.ports import CallTimeouts, ProviderCall
from server.core.stream import Guard, fold
from server.providers.openai_chat.presets import PRESETS
from server.providers.openai_chat.wire import OpenAIChatWire
from server.providers.parsing import merge_deltas
from server.providers.wire import Exchange
from server.rpc.access_log import AccessLine, AccessLog
from server.rpc.interceptors import presented_key
from server.rpc.log import LineHandler
from server.rpc.translate.events import EventRenderer
from server.rpc.translate.request import chat_request
from server.rpc.translate.response import chat_response
from server.rpc.validation import RequestValidator
from server.services.targets import Targets
from server.settings import Settings, load_settings

_ROUND_SECONDS: Final = 0.05
_ROUNDS: Final = 5

Stage = tuple[str, Callable[[], object], int]
"""Its name, one turn of it, and how many events a turn is for (0: it is one for each call)."""


def cost(turn: Callable[[], object]) -> float:
    """Microseconds for one turn: the best of some rounds, which is the least disturbed one."""
    turn()
    turns, best = 1, float("inf")
    for _ in range(_ROUNDS):
        while True:
            began = time.perf_counter()
            for _ in range(turns):
                turn()
            took = time.perf_counter() - began
            if took >= _ROUND_SECONDS:
                break
            turns = max(turns + 1, int(turns * _ROUND_SECONDS * 1.2 / max(took, 1e-6)))
        best = min(best, took / turns)
    return best * 1e6


def now(coroutine: Coroutine[Any, Any, Any]) -> object:
    """The result of a coroutine that does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: object = end.value
        return result
    raise RuntimeError("it waits")


def request_stages(services: Services, settings: Settings, folder: Path, key: str) -> tuple[ProviderCall, list[Stage]]:
    """From the bytes of a request to what is asked of the provider, over a real store."""
    metadata = (("x-request-id", "bench"), ("authorization", f"Bearer {key}"))
    case = next(case for case in CASES if case.group == "unary-32")
    wire = grpc("micro", 0, {}).write_body(folder, case).read_bytes()
    message = chat_pb2.ChatRequest.FromString(wire)
    request = chat_request(message, stream=False)
    validator = RequestValidator()
    resolve = services.models.resolve
    targets = Targets(services.store.vault, settings.allowed_endpoints)
    route = resolve("ws_bench", "custom/mock")
    call = ProviderCall(
        target=targets.open(route.config, wire=route.wire),
        request=request,
        model=route.model,
        info=route.info,
        stream=False,
        timeouts=CallTimeouts(),
    )
    return call, [
        ("decode", lambda: chat_pb2.ChatRequest.FromString(wire), 0),
        ("auth: key from metadata", lambda: presented_key(metadata), 0),
        ("auth: principal", lambda: now(services.access.authenticate(key)), 0),
        ("validate", lambda: validator.check(message), 0),
        ("translate in", lambda: chat_request(message, stream=False), 0),
        ("history", lambda: check_history(request.messages), 0),
        ("resolve", lambda: resolve("ws_bench", "custom/mock"), 0),
        ("open credential", lambda: targets.open(route.config, wire=route.wire), 0),
    ]


def answer_stages(call: ProviderCall) -> list[Stage]:
    """From the call of the provider to the bytes of the answer."""
    wire = OpenAIChatWire(PRESETS["custom"])
    headers = {"content-type": "application/json", "content-length": "800"}
    exchange = Exchange(call, 200, headers)
    events = wire.parse_response(exchange, mock.ANSWER)
    answer = fold(events)
    rendered = chat_response(answer)
    return [
        ("build", lambda: wire.build_request(call), 0),
        ("parse", lambda: wire.parse_response(exchange, mock.ANSWER), 0),
        ("guard", lambda: Guard().feed(events), 0),
        ("fold", lambda: fold(events), 0),
        ("render", lambda: chat_response(answer), 0),
        ("encode", rendered.SerializeToString, 0),
    ]


def stream_stages(call: ProviderCall) -> list[Stage]:
    """For each event, in reads of one event and of 200."""
    wire = OpenAIChatWire(PRESETS["custom"])
    exchange = Exchange(msgspec.structs.replace(call, stream=True), 200, {})
    reads = [mock.token(number) for number in range(mock.BURST_TOKENS)]
    burst = b"".join(reads)

    def fed() -> Any:
        parser = wire.stream_parser(exchange)
        parser.feed(mock.FIRST)
        return parser

    def one_by_one() -> None:
        feed = fed().feed
        for read in reads:
            feed(read)

    tokens: list[StreamEvent] = [BlockDelta(0, " tok1")] * mock.BURST_TOKENS
    guard = Guard()
    guard.feed(wire.stream_parser(exchange).feed(mock.FIRST + mock.token(0)))
    render = EventRenderer().render
    delta = render(tokens[0])
    return [
        ("parse, one event a read", one_by_one, mock.BURST_TOKENS),
        ("parse, 200 a read", lambda: fed().feed(burst), mock.BURST_TOKENS),
        ("join deltas, 200 a read", lambda: merge_deltas(list(tokens)), mock.BURST_TOKENS),
        ("guard, a delta", lambda: guard.feed(tokens[:1]), 1),
        ("render, a delta", lambda: render(tokens[0]), 1),
        ("encode, a delta", delta.SerializeToString, 1),
    ]


def log_stage() -> Stage:
    """A line as the access log writes it, alone, into memory."""
    logger = logging.getLogger("dragoman.bench")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(LineHandler(io.StringIO()))
    log = AccessLog(logger)

    def turn() -> None:
        line = AccessLine(
            method="/dragoman.v1.LLMService/Complete",
            status="OK",
            duration_ms=12.3,
            request_id="0123456789abcdef0123456789abcdef",
            transport="rest",
            key_id="key_1k0t1p5yy2jzpcvhdvpjjwkv",
            workspace_id="ws_bench",
            provider="custom",
            model="gpt-4o-mini",
            prompt_tokens=20,
            completion_tokens=110,
        )
        log.write(logging.INFO, line)

    return ("access log", turn, 0)


async def main() -> None:
    """Print the table, and keep it for docs/performance.md."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured: list[Measured] = []
        made = furnish(folder, 9, sys.executable, {"PATH": os.environ["PATH"]})
        settings = load_settings({name: value for name, value in made.environ.items() if name.startswith("DRAGOMAN_")})
        async with open_services(settings) as services:
            call, stages = request_stages(services, settings, folder, made.key)
            stages += [*answer_stages(call), log_stage(), *stream_stages(call)]
            for stage, turn, events in stages:
                # In a thread without a loop, where what would be done at the end of its turn is done at once.
                took = await asyncio.to_thread(cost, turn) / (events or 1)
                measured.append(Measured(name=stage, us=took, per="event" if events else "call"))
            whole, of_events = await asyncio.to_thread(call_costs, call, folder, dict(os.environ))
    together = sum(each.us for each in measured if each.per == "call") + dict(whole)["transport"]
    measured += [Measured(name=stage, us=took, per="call") for stage, took in whole]
    measured += [Measured(name=stage, us=took, per="event") for stage, took in of_events]
    measured.append(Measured(name="a whole answer, together", us=together, per="call"))
    for each in measured:
        print(f"{each.name:26}{each.us:8.2f} us{' an event' if each.per == 'event' else ''}")
    keep("stages", [msgspec.structs.replace(each, us=round(each.us, 2)) for each in measured])


if __name__ == "__main__":
    asyncio.run(main())
