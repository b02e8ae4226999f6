"""One suite that every adapter passes: recorded traffic in, the neutral result out.

Reads every directory under DRAGOMAN_WIRE_FIXTURES (default: ../shared/fixtures) that has a `meta.json`; new directories
need no code. Which wire reads a recording is decided by the `api` of its meta: each module in `wires/` offers drivers
for some. An api without a driver is reported, not failed; `NOT_SPOKEN` says why there is none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from server.core.errors import DragomanError, ProviderError
from server.core.events import BlockDelta, BlockEnd, BlockStart, Completed, Failed, StreamEvent, Usage
from server.core.messages import ChatRequest, Message, Text
from server.core.ports import ProviderCall, ProviderTarget
from server.core.secret import Secret
from server.core.stream import Guard
from server.providers.parsing import merge_deltas
from server.providers.wire import Exchange, Wire

PROJECT = Path(__file__).resolve().parents[2]
SECRET = "sk-conformance-canary-0123456789"

KNOWN_DISAGREEMENTS: dict[str, str] = {}
"""Recording -> why this suite holds another view than its expected.json. Filled by the modules in `wires/`."""

NOT_SPOKEN: dict[str, str] = {}
"""api -> why no adapter speaks it, where that is decided and not merely outstanding. Filled likewise."""


def fixtures_root() -> Path:
    return Path(os.environ.get("DRAGOMAN_WIRE_FIXTURES") or PROJECT.parent / "shared" / "fixtures")


@dataclass(frozen=True)
class Case:
    """One recording. name: its directory below the root."""

    name: str
    provider: str
    api: str
    meta: dict[str, Any]
    expected: dict[str, Any]
    body: bytes
    request: dict[str, Any] | None

    @property
    def status(self) -> int:
        return int(self.meta.get("status") or 200)

    @property
    def headers(self) -> dict[str, str]:
        return {str(name).lower(): str(value) for name, value in (self.meta.get("headers") or {}).items()}

    @property
    def streams(self) -> bool:
        return self.status < 300 and self.meta.get("framing") not in ("json", "protobuf")


@dataclass(frozen=True)
class Driver:
    """How one wire reads a recording.

    reverse: a recorded request body -> the neutral request that should build it and the model's name, or None where
    the body says something that a neutral request cannot. normalise: a body without what may differ (key order aside).
    listed: an id of expected.json's model list -> the name that the adapter gives. amend: expected.json -> the same
    with what its script did not derive although its own `raw_usage` holds it.
    """

    wire: Wire
    target: ProviderTarget
    reverse: Callable[[Case], tuple[ChatRequest, str] | None] = lambda _: None
    normalise: Callable[[Any], Any] = lambda body: body
    listed: Callable[[str], str] = lambda id: id
    amend: Callable[[dict[str, Any]], dict[str, Any]] = lambda expected: expected
    options: Mapping[str, Any] = field(default_factory=dict)

    def call(self, *, stream: bool, request: ChatRequest | None = None, model: str = "a-model") -> ProviderCall:
        return ProviderCall(
            target=self.target,
            request=request or ChatRequest(messages=(Message("user", (Text("Hi"),)),)),
            model=model,
            stream=stream,
            **self.options,
        )

    def amended(self, case: Case) -> Case:
        return replace(case, expected=self.amend(case.expected))

    def exchange(self, case: Case) -> Exchange:
        return Exchange(self.call(stream=case.streams), case.status, case.headers)


DriverFactory = Callable[[Case], Driver | None]


def secret() -> Secret:
    return Secret(SECRET)


def load_cases(root: Path) -> list[Case]:
    return [_load(root, path) for path in sorted(root.rglob("meta.json")) if "_vectors" not in path.parts]


def _load(root: Path, path: Path) -> Case:
    folder = path.parent
    meta = json.loads(path.read_text("utf-8"))
    request = folder / "request.json"
    expected = folder / "expected.json"
    name = folder.relative_to(root).as_posix()
    return Case(
        name=name,
        provider=name.split("/", maxsplit=1)[0],
        api=str(meta.get("api") or ""),
        meta=meta,
        expected=json.loads(expected.read_text("utf-8")) if expected.exists() else {},
        body=(folder / meta["body_file"]).read_bytes(),
        request=json.loads(request.read_text("utf-8")) if request.exists() else None,
    )


def driver_factories() -> dict[str, DriverFactory]:
    """api -> factory, from every module in `wires/`."""
    factories: dict[str, DriverFactory] = {}
    for info in iter_modules([str(Path(__file__).parent / "wires")]):
        module = import_module(f"tests.providers.wires.{info.name}")
        factories |= module.DRIVERS
        KNOWN_DISAGREEMENTS.update(getattr(module, "KNOWN_DISAGREEMENTS", {}))
        NOT_SPOKEN.update(getattr(module, "NOT_SPOKEN", {}))
    return factories


def driver_for(case: Case, factories: Mapping[str, DriverFactory]) -> Driver | None:
    """The driver of a case, None where nobody speaks its protocol. A list of models goes by `models-list:{folder}`."""
    key = f"models-list:{case.name.rsplit('/', maxsplit=1)[-1]}" if case.api == "models-list" else case.api
    factory = factories.get(key)
    return factory(case) if factory is not None else None


# --- running a wire --------------------------------------------------------------------------------------------------


def whole(driver: Driver, case: Case) -> list[StreamEvent]:
    """The events of a recording, through the parser that fits it, guarded."""
    if case.streams:
        return stream(driver, case, [case.body])
    return guarded(driver.wire.parse_response(driver.exchange(case), case.body))


def stream(driver: Driver, case: Case, reads: Iterable[bytes]) -> list[StreamEvent]:
    parser = driver.wire.stream_parser(driver.exchange(case))
    events: list[StreamEvent] = []
    for read in reads:
        events += parser.feed(read)
    return guarded([*events, *parser.end()])


def guarded(events: list[StreamEvent]) -> list[StreamEvent]:
    """The same events, proven to obey the grammar by themselves."""
    guard = Guard()
    passed = guard.feed(events)
    assert passed == events, "the adapter broke the grammar, or went on after the terminal event"
    assert not guard.end(), "the adapter gave no terminal event"
    return merge_deltas(passed)


def event_boundaries(case: Case) -> list[int]:
    """Offsets after each event of the body, the end excluded."""
    body, cuts = case.body, []
    if case.meta.get("framing") == "aws-eventstream":
        at = 0
        while at + 4 <= len(body):
            at += int.from_bytes(body[at : at + 4], "big") or len(body)
            cuts.append(at)
    else:
        at = 0
        for line in body.splitlines(keepends=True):
            at += len(line)
            if not line.strip():
                cuts.append(at)
    return [cut for cut in cuts if cut < len(body)]


# --- comparing -------------------------------------------------------------------------------------------------------


def neutral(events: Iterable[StreamEvent]) -> dict[str, Any]:
    """What expected.json states, from events. Works for failed streams too."""
    text = reasoning = ""
    calls: list[dict[str, Any]] = []
    steps: list[tuple[str, str]] = []
    opened: BlockStart | None = None
    pieces: list[str] = []
    result: dict[str, Any] = {}
    for event in events:
        match event:
            case BlockStart():
                opened, pieces = event, []
                if event.kind == "server_tool":
                    steps.append((event.type, event.name))
            case BlockDelta():
                pieces.append(event.text)
                if opened is not None and opened.kind == "text":
                    text += event.text
                elif opened is not None and opened.kind == "reasoning":
                    reasoning += event.text
            case BlockEnd() if opened is not None and opened.kind == "tool_call":
                calls.append({"id": opened.id, "name": opened.name, "arguments": _parsed("".join(pieces))})
            case Completed():
                result = {"finish_reason": event.finish_reason, "raw_finish_reason": event.raw_finish_reason}
                result["usage"] = event.usage
            case Failed():
                result = {"finish_reason": "error", "usage": event.usage, "error": event.error}
            case _:
                pass
    return {"text": text, "reasoning_text": reasoning, "tool_calls": calls, "server_items": steps, **result}


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return {"__raw__": arguments}


def differences(case: Case, events: Iterable[StreamEvent]) -> list[str]:
    """What a result has otherwise than expected.json, one line each."""
    found, expected = neutral(events), case.expected
    lines: list[str] = []

    def compare(key: str, want: object, got: object) -> None:
        if want != got:
            lines.append(f"{key}: expected {_short(want)}, got {_short(got)}")

    error = found.get("error")
    lines += failure_differences(expected, error)
    for key in ("text", "reasoning_text"):
        compare(key, expected.get(key) or "", found[key])
    compare("tool_calls", *_aligned(expected.get("tool_calls") or [], found["tool_calls"]))
    if error is None:
        compare("finish_reason", expected.get("finish_reason"), found.get("finish_reason"))
        if "raw_finish_reason" in expected:
            compare("raw_finish_reason", expected["raw_finish_reason"], found.get("raw_finish_reason"))
    compare("usage", _counts(expected.get("usage")), _counts(found.get("usage")))
    if "server_items" in expected:
        compare("server_items", list(expected["server_items"]), _steps(expected["server_items"], found["server_items"]))
    return lines


def failure_differences(expected: Mapping[str, Any], error: DragomanError | None) -> list[str]:
    """How a failure, None for an answer, is another than expected."""
    wanted = expected.get("error")
    if error is None:
        return ["error: expected one, got an answer"] if wanted else []
    if wanted:
        return error_differences(wanted, error)
    # A recording may state the finish reason `error` and no error (Gemini's MALFORMED_FUNCTION_CALL): the failure then
    # has the provider's word as its code.
    stated = (expected.get("finish_reason"), expected.get("raw_finish_reason"))
    if isinstance(error, ProviderError) and stated == ("error", error.code):
        return []
    return [f"error: expected none, got {error!r} {getattr(error, 'provider_message', '')}"]


def error_differences(expected: Mapping[str, Any], error: DragomanError) -> list[str]:
    """The fields of an expected error that the core error has otherwise."""
    if not isinstance(error, ProviderError):
        return [f"error: expected a ProviderError, got {error!r}"]
    got: dict[str, object] = {
        "http_status": error.http_status,
        "type": error.type,
        "code": error.code,
        "retryable": error.retryable,
        "retry_after_s": error.retry_after,
    }
    lines = []
    for key, value in got.items():
        if key not in expected:
            continue
        want = expected[key]
        if key == "code" and want is not None:
            want = str(want)
        if want != value:
            lines.append(f"error.{key}: expected {want!r}, got {value!r}")
    said = expected.get("message")
    if said and said not in (error.provider_message or ""):
        lines.append(f"error.message: expected {said!r}, got {error.provider_message!r}")
    return lines


def _aligned(want: list[dict[str, Any]], got: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Both lists, with the ids that the provider did not give replaced by a mark; ours must not be empty."""
    ours = [dict(call) for call in got]
    theirs = [{key: call.get(key) for key in ("id", "name", "arguments")} for call in want]
    for mine, other in zip(ours, theirs, strict=False):
        if not other["id"]:
            other["id"] = "(given)"
            mine["id"] = "(given)" if mine["id"] else "(none)"
    return theirs, ours


def _counts(usage: object) -> dict[str, int]:
    """Known counts; parts are only stated above 0."""
    if isinstance(usage, Usage):
        usage = {name: getattr(usage, name) for name in usage.__struct_fields__}
    if not isinstance(usage, dict):
        return {}
    totals = ("prompt_tokens", "completion_tokens", "total_tokens")
    parts = ("cached_tokens", "cache_write_tokens", "reasoning_tokens")
    counts = {key: int(usage[key]) for key in totals if usage.get(key) is not None}
    return counts | {key: int(usage[key]) for key in parts if usage.get(key)}


def _steps(want: list[str], got: list[tuple[str, str]]) -> list[str]:
    named = {item for item in want if ":" in item}
    return [f"{type}:{name}" if f"{type}:{name}" in named else type for type, name in got]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 400 else f"{text[:200]} ... {text[-150:]}"


def model_ids(driver: Driver, case: Case) -> Iterator[str]:
    for model in driver.wire.parse_models(case.body).models:
        yield model.name
