"""OpenAI's own recorded traffic through the gateway's two halves of its wire: what goes in comes out again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import pytest

from server.core.ports import ProviderCall, ProviderTarget
from server.core.secret import Secret
from server.core.stream import fold
from server.providers.openai_responses.servers import SERVERS
from server.providers.openai_responses.wire import ResponsesWire
from server.providers.wire import Exchange
from server.rpc.compat.openai.responses_answer import ResponseRenderer, response_object
from server.rpc.compat.openai.responses_request import ResponseRequest, read_response_request
from tests.providers.conformance import Case, fixtures_root, load_cases

ROOT = fixtures_root()
CASES = [case for case in load_cases(ROOT) if case.api == "openai-responses" and case.status == 200]
FAILED = {"openai/resp-err-quota-stream"}
OTHER_ORDER = {
    "lmstudio/lmstudio-resp-tool-stream": "it shows thoughts themselves, which are a summary here as all others",
    "openai/resp-custom-tool-stream": "the recording leaves out the event that ends the input",
}
STREAMS = [case for case in CASES if case.streams and case.name not in FAILED]
IN_ORDER = [case for case in STREAMS if case.name not in OTHER_ORDER]
WHOLE = [case for case in CASES if not case.streams]
ASKED = [case for case in CASES if case.request is not None and case.provider == "openai"]

needs_recordings = pytest.mark.skipif(not CASES, reason=f"no recordings at {ROOT} (DRAGOMAN_WIRE_FIXTURES)")
pytestmark = needs_recordings

WIRE = ResponsesWire(SERVERS["openai"], clock=lambda: 0.0)


def asked(case: Case) -> ResponseRequest:
    """The recorded request, or one that says nothing, with what only its tools tell: the names of custom ones."""
    body = dict(case.request["body"]) if case.request is not None else {"input": "hi"}
    body.pop("store", None)
    body.pop("previous_response_id", None)
    if case.request is None and "custom" in case.name:
        body["tools"] = [{"type": "custom", "name": name} for name in _custom_names(case)]
    return read_response_request(json.dumps(body).encode())


def _custom_names(case: Case) -> set[str]:
    items = [event["item"] for event in events_of(case.body) if "item" in event]
    return {item["name"] for item in items if item["type"] == "custom_tool_call"}


def exchange(case: Case, wanted: ResponseRequest) -> Exchange:
    target = ProviderTarget(provider="openai", config_id="c1", secret=Secret("sk-canary-0123456789"))
    call = ProviderCall(target=target, request=wanted.request, model="m", stream=case.streams)
    return Exchange(call, 200, case.headers, (), WIRE.dialect)


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """The data of all events."""
    lines = [line.removeprefix(b"data:").strip() for line in stream.splitlines() if line.startswith(b"data:")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def rendered(case: Case) -> list[dict[str, Any]]:
    """The recording, read and told again."""
    wanted = asked(case)
    parser = WIRE.stream_parser(exchange(case, wanted))
    events = [*parser.feed(case.body), *parser.end()]
    renderer = ResponseRenderer(wanted, id="resp_ours", created=1, request_id="r")
    return events_of(renderer.render(events))


def shape(events: list[dict[str, Any]]) -> list[str]:
    """The order of events, deltas of one kind in a row as one."""
    return [kind for kind, _ in groupby(event["type"].removeprefix("response.") for event in events)]


def said(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item without what is the server's to choose: ids of words and calls, and members that say nothing."""
    mute = {"status", "logprobs", "phase"} | ({"id"} if item["type"] in ("message", "function_call", "custom_tool_call")
                                             else set())  # fmt: skip
    found = {name: value for name, value in item.items() if name not in mute and value is not None}
    if item["type"] == "message":
        found["content"] = [{k: v for k, v in part.items() if k != "logprobs"} for part in item["content"]]
    if item["type"] == "reasoning":
        found.setdefault("summary", [])
        if not found.get("content"):
            found.pop("content", None)
        if not found.get("encrypted_content") and not found.get("content"):
            del found["id"]
    return found


def masked(item: Mapping[str, Any]) -> dict[str, Any]:
    """The same without the ciphertext, which OpenAI makes anew for its last event."""
    return {name: value if name != "encrypted_content" else "" for name, value in said(item).items()}


def done_items(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items as they were when they were done."""
    return [event["item"] for event in events if event["type"] == "response.output_item.done"]


@pytest.mark.parametrize("case", IN_ORDER, ids=lambda case: case.name)
def test_events_are_told_again_in_the_order_in_which_openai_told_them(case: Case) -> None:
    """The order of the recording is the order of the answer, numbered from 0."""
    found = rendered(case)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert shape(found) == shape(events_of(case.body))


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case.name)
def test_a_stream_ends_with_the_response_that_openai_ended_it_with(case: Case) -> None:
    """Output items, status and usage of the last event; items as they were called while they came."""
    ours = rendered(case)
    ends = {"response.completed", "response.incomplete"}
    last = next(event for event in events_of(case.body) if event["type"] in ends)
    found, wanted = ours[-1]["response"], last["response"]
    assert [masked(item) for item in found["output"]] == [masked(item) for item in wanted["output"]]
    assert found["status"] == wanted["status"]
    assert found["id"] == ours[0]["response"]["id"]
    if case.provider == "openai":  # GitHub Copilot's ids change from event to event
        assert found["id"] == wanted["id"]
    assert found["incomplete_details"] == wanted["incomplete_details"]
    for name in ("input_tokens", "output_tokens", "total_tokens"):
        assert found["usage"][name] == wanted["usage"][name]
    assert found["usage"]["output_tokens_details"] == wanted["usage"]["output_tokens_details"]
    done = done_items(ours)
    assert done == found["output"]
    assert [said(item) for item in done] == [said(item) for item in done_items(events_of(case.body))]
    added = [event["item"]["id"] for event in ours if event["type"] == "response.output_item.added"]
    assert added == [item["id"] for item in done]


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_a_whole_answer_is_the_response_that_openai_gave(case: Case) -> None:
    """Output items, status and usage."""
    wanted = asked(case)
    answer = fold(WIRE.parse_response(exchange(case, wanted), case.body))
    found = response_object(answer, wanted, id="resp_ours", created=1, request_id="r")
    recorded = json.loads(case.body)
    assert [said(item) for item in found["output"]] == [said(item) for item in recorded["output"]]
    assert (found["status"], found["id"]) == (recorded["status"], recorded["id"])


@pytest.mark.parametrize("case", ASKED, ids=lambda case: case.name)
def test_a_request_goes_on_as_it_came(case: Case) -> None:
    """A recorded body, read as a caller's, is the body that OpenAI is sent, members that the gateway does not know
    included; but that nothing is stored, thoughts always come encrypted, and ids and words that say nothing."""
    wanted = asked(case)
    assert case.request is not None
    body = case.request["body"]
    call = ProviderCall(
        target=exchange(case, wanted).call.target, request=wanted.request, model=body["model"], stream=wanted.stream
    )
    built = WIRE.build_request(call)
    sent = json.loads(built.http.body or b"")
    assert not built.warnings
    assert _plain(sent) == _plain(body)


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    body = {
        name: value for name, value in body.items() if value is not None and name not in ("store", "stream_options")
    }
    include = [one for one in body.pop("include", None) or () if one != "reasoning.encrypted_content"]
    items = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
    body["input"] = [_item(item) for item in items if item.get("content") != "" or item.get("role") != "assistant"]
    body["stream"] = bool(body.get("stream"))
    return {**body, "include": sorted(include)} if include else body


def _item(item: dict[str, Any]) -> dict[str, Any]:
    if item.get("type") == "reasoning":
        return item
    mute = ("id", "status", "type") if "role" in item else ("id", "status")
    item = {name: value for name, value in item.items() if name not in mute}
    if item.get("role") == "developer":
        item["role"] = "system"
    content = item.get("content")
    if isinstance(content, list) and len(content) == 1 and content[0]["type"] in ("input_text", "output_text"):
        item["content"] = content[0]["text"]
    return item
