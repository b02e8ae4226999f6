"""The demo fails on demand, as its table says, and tells a test what it saw."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from server.dev.demo.journal import wait_until
from server.dev.demo.scenarios import BY_NAME, HUGE_EVENT_BYTES, ROWS
from server.dev.demo_provider import DEFAULT_API_KEY, DemoServer, start
from tests.support.demo import FAST
from tests.support.process import PROJECT

ASK = [{"role": "user", "content": "What is it?"}]


@pytest_asyncio.fixture
async def client(demo_provider: DemoServer) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {demo_provider.api_key}"}
    async with httpx.AsyncClient(base_url=demo_provider.base_url, headers=headers, timeout=10) as client:
        yield client


def body(model: str = "demo-chat", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": ASK, **fields}


ERRORS: dict[str, tuple[int, str, str | None, dict[str, str]]] = {
    "error-400": (400, "invalid_request_error", "unsupported_parameter", {}),
    "error-401": (401, "invalid_request_error", "invalid_api_key", {}),
    "error-403": (403, "permission_error", "permission_denied", {}),
    "error-404": (404, "invalid_request_error", "model_not_found", {}),
    "error-429": (429, "requests", "rate_limit_exceeded", {"retry-after": "7"}),
    "error-429-quota": (429, "insufficient_quota", "insufficient_quota", {}),
    "error-500": (500, "server_error", None, {}),
    "error-503": (503, "server_error", "overloaded", {}),
    "error-leaky": (400, "invalid_request_error", "invalid_value", {}),
    "context-too-long": (400, "invalid_request_error", "context_length_exceeded", {}),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("name", "expected"), ERRORS.items(), ids=ERRORS)
async def test_errors_on_demand(
    client: httpx.AsyncClient, name: str, expected: tuple[int, str, str | None, dict[str, str]], stream: bool
) -> None:
    """An error row answers with its status, type, code and retry hint as JSON, streaming or not."""
    response = await client.post("/chat/completions", json=body(f"demo-{name}", stream=stream))
    status, kind, code, headers = expected
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert (response.json()["error"]["type"], response.json()["error"]["code"]) == (kind, code)
    assert response.headers.get("retry-after") == headers.get("retry-after")


async def test_a_prompt_too_long_names_both_lengths(client: httpx.AsyncClient) -> None:
    """context_length_exceeded says the window and the prompt's own count."""
    whole = (await client.post("/chat/completions", json=body())).json()["usage"]["prompt_tokens"]
    text = "x" * 400
    messages = [{"role": "user", "content": text}]
    message = (await client.post("/chat/completions", json=body("demo-context-too-long", messages=messages))).json()
    lengths = [int(n) for n in re.findall(r"\d+", message["error"]["message"])]
    assert lengths[0] == 16
    assert lengths[1] == 3 + 3 + 100
    assert whole > 3


async def test_the_leaky_error_repeats_what_it_was_sent(client: httpx.AsyncClient) -> None:
    """demo-error-leaky holds key and prompt, so that a test can prove that nothing passes them on."""
    message = (await client.post("/chat/completions", json=body("demo-error-leaky"))).json()["error"]["message"]
    assert DEFAULT_API_KEY in message
    assert "What is it?" in message


@pytest.mark.parametrize("stream", [False, True])
async def test_html_pages(client: httpx.AsyncClient, stream: bool) -> None:
    """garbage is HTML with 200, error-502-html with 502."""
    for name, status in (("garbage", 200), ("error-502-html", 502)):
        response = await client.post("/chat/completions", json=body(f"demo-{name}", stream=stream))
        assert response.status_code == status
        assert response.headers["content-type"] == "text/html"
        assert "<html>" in response.text


async def test_redirect_stays_on_the_same_server(client: httpx.AsyncClient, demo_provider: DemoServer) -> None:
    """demo-redirect points to a path of its own, where a client that follows is seen."""
    response = await client.post("/chat/completions", json=body("demo-redirect"))
    assert (response.status_code, response.headers["location"]) == (307, "/v1/redirected")
    await client.post("/chat/completions", json=body("demo-redirect"), follow_redirects=True)
    assert demo_provider.exchanges[-1].path == "/v1/redirected"


async def read(client: httpx.AsyncClient, model: str, **fields: Any) -> tuple[bytes, str]:
    """What arrives of a body, and the name of the error that ended it ("" for a clean end)."""
    got = b""
    async with client.stream("POST", "/chat/completions", json=body(model, **fields)) as response:
        assert response.status_code == 200
        try:
            async for piece in response.aiter_raw():
                got += piece
        except httpx.HTTPError as exc:
            return got, type(exc).__name__
    return got, ""


@pytest.mark.parametrize(
    ("name", "end"),
    [("cut", ""), ("cut-connection", "RemoteProtocolError"), ("reset", "ReadError"), ("garbage-stream", "")],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_half_answers(client: httpx.AsyncClient, name: str, end: str, stream: bool) -> None:
    """Something arrives, no finish and no [DONE] does, and the connection ends the way the row says."""
    got, ended = await read(client, f"demo-{name}", stream=stream)
    assert ended == end
    assert b'"chatcmpl-demo' in got
    assert b'"finish_reason":"stop"' not in got
    assert b"[DONE]" not in got


async def test_a_reset_is_taken_down_as_the_providers_doing(
    client: httpx.AsyncClient, demo_provider: DemoServer
) -> None:
    """Breaking the connection is not counted as a caller going away."""
    await read(client, "demo-reset", stream=True)
    await read(client, "demo-cut-connection", stream=True)
    assert [exchange.outcome for exchange in demo_provider.exchanges] == ["provider_cut", "provider_cut"]
    assert demo_provider.journal.hangups_total == 0


@pytest.mark.parametrize("name", ["stall", "stall-comments", "timeout"])
@pytest.mark.parametrize("stream", [False, True])
async def test_stalls_never_finish(client: httpx.AsyncClient, name: str, stream: bool) -> None:
    """A stalled answer sends what its row says, and is still not finished when the caller gives up."""
    got = b""

    async def consume() -> None:
        nonlocal got
        async with client.stream("POST", "/chat/completions", json=body(f"demo-{name}", stream=stream)) as response:
            async for piece in response.aiter_raw():
                got += piece

    sends = {"stall": b'"chatcmpl-demo', "stall-comments": b": keep-alive\n\n" if stream else b"\n", "timeout": b""}
    call = asyncio.ensure_future(consume())
    await wait_until(lambda: sends[name] in got, 5, "what the row sends")
    await asyncio.sleep(0.1)
    assert not call.done()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert b"[DONE]" not in got
    if name != "stall":
        assert got.replace(sends[name] or b"x", b"") == b""


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_after_a_good_start(client: httpx.AsyncClient, stream: bool) -> None:
    """error-in-stream ends, after 200, with OpenAI's error object and no [DONE]."""
    got, ended = await read(client, "demo-error-in-stream", stream=stream)
    last = got.strip().split(b"\n\n")[-1].removeprefix(b"data: ")
    assert json.loads(last)["error"]["code"] == "server_error"
    assert (ended, b"[DONE]" in got) == ("", False)


@pytest.mark.parametrize("stream", [False, True])
async def test_huge_is_over_any_limit_and_stops_when_the_caller_does(
    client: httpx.AsyncClient, demo_provider: DemoServer, stream: bool
) -> None:
    """A caller that leaves within the huge event is seen leaving."""
    seen = 0
    async with client.stream("POST", "/chat/completions", json=body("demo-huge", stream=stream)) as response:
        async for piece in response.aiter_raw():
            seen += len(piece)
            if seen > 1_000_000:
                break
    await demo_provider.wait_for_hangup()
    assert seen < HUGE_EVENT_BYTES


ODD_BUT_GOOD = ["split-utf8", "crlf", "comments", "no-done", "usage-missing"]


@pytest.mark.parametrize("name", ODD_BUT_GOOD)
async def test_odd_framing_carries_the_same_answer(client: httpx.AsyncClient, name: str) -> None:
    """Rows that only frame oddly say what demo-chat says, unary and streamed."""

    def text(raw: bytes) -> str:
        events = [line[6:] for line in raw.decode().splitlines() if line.startswith("data: {")]
        deltas = [choice["delta"] for event in events for choice in json.loads(event)["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)

    header = {"x-demo-scenario": name}
    plain = (await client.post("/chat/completions", json=body())).json()
    odd = await client.post("/chat/completions", json=body(), headers=header)
    assert json.loads(odd.content)["choices"] == plain["choices"]
    streamed = await client.post("/chat/completions", json=body(stream=True), headers=header)
    assert text(streamed.content) == plain["choices"][0]["message"]["content"]


async def test_how_each_odd_row_frames(client: httpx.AsyncClient) -> None:
    """CRLF has no lone LF, comments stand between events, no-done ends without a line end, usage is not there."""
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    raw = {name: (await read(client, f"demo-{name}", **asked))[0] for name in ODD_BUT_GOOD}
    assert b"\n" not in raw["crlf"].replace(b"\r\n", b"")
    assert raw["crlf"].count(b"\r\n") > 4
    assert raw["comments"].count(b": keep-alive\n\n") == raw["comments"].count(b"data: ")
    assert b"[DONE]" not in raw["no-done"]
    assert raw["no-done"].endswith(b"}")
    assert b'"prompt_tokens"' not in raw["usage-missing"]
    assert b'"prompt_tokens"' in raw["split-utf8"]


async def test_multibyte_characters_are_cut_across_writes(client: httpx.AsyncClient) -> None:
    """Of split-utf8 some HTTP chunk ends within a character."""
    cut = 0
    async with client.stream("POST", "/chat/completions", json=body("demo-split-utf8", stream=True)) as response:
        async for chunk in response.aiter_raw():
            try:
                chunk.decode()
            except UnicodeDecodeError:
                cut += 1
    assert cut > 0


CHOOSERS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "marker": ({"messages": [{"role": "user", "content": "Hi [[demo:error-503]]"}]}, {}),
    "field": ({"demo_scenario": "error-503"}, {}),
    "header": ({"demo_scenario": "chat"}, {"x-demo-scenario": "error-503"}),
}


@pytest.mark.parametrize(("fields", "headers"), CHOOSERS.values(), ids=CHOOSERS)
async def test_ways_to_choose_a_row(client: httpx.AsyncClient, fields: dict[str, Any], headers: dict[str, str]) -> None:
    """Marker, body field and header choose a row whatever the model, the header over the field."""
    response = await client.post("/chat/completions", json=body(**fields), headers=headers)
    assert response.status_code == 503


async def test_only_the_last_user_text_can_hold_a_marker(client: httpx.AsyncClient) -> None:
    """A conversation recovers from a marker in an earlier turn, or in the assistant's answer that quoted it."""
    marked = "[[demo:error-500]]"
    messages = [
        {"role": "user", "content": marked},
        {"role": "assistant", "content": marked},
        {"role": "user", "content": "And now?"},
    ]
    assert (await client.post("/chat/completions", json=body(messages=messages))).status_code == 200


async def test_an_unknown_scenario_is_refused(client: httpx.AsyncClient) -> None:
    """A misspelt scenario is 400 and lists what there is."""
    response = await client.post("/chat/completions", json=body(demo_scenario="stal"))
    assert response.status_code == 400
    assert "stall-comments" in response.json()["error"]["message"]


async def test_a_script_is_played_once_in_order(client: httpx.AsyncClient, demo_provider: DemoServer) -> None:
    """script() decides the next chat requests, then the models do again."""
    demo_provider.script("error-503", "error-429", "chat")
    statuses = [(await client.post("/chat/completions", json=body("demo-error-500"))).status_code for _ in range(4)]
    assert statuses == [503, 429, 200, 500]


@pytest.mark.parametrize("model", ["demo-stall", "demo-timeout", "demo-endless", "demo-stall-comments", "demo-slow"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_leaves_is_seen(demo_provider: DemoServer, model: str, stream: bool) -> None:
    """Closing the connection before or after the first token is reported with its time, and nothing stays open."""
    headers = {"authorization": f"Bearer {demo_provider.api_key}"}
    client = httpx.AsyncClient(base_url=demo_provider.base_url, headers=headers)
    call = asyncio.ensure_future(client.post("/chat/completions", json=body(model, stream=stream)))
    exchange = await demo_provider.wait_for_exchange()
    assert demo_provider.connections == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await client.aclose()
    assert exchange.started_at < await demo_provider.wait_for_hangup() < time.monotonic()
    await demo_provider.wait_for_connections(0)
    assert exchange.outcome == "client_went_away"
    assert demo_provider.journal.client_went_away.is_set()
    assert demo_provider.journal.open == set()


async def test_requests_are_kept_whole_and_bounded(client: httpx.AsyncClient) -> None:
    """The journal holds the last keep_requests exchanges with body and headers, and its repr shows neither."""
    async with await start(keep_requests=2) as demo:
        for n in range(3):
            await client.post(f"{demo.base_url}/chat/completions", json=body(seed=n))
        assert [exchange.json()["seed"] for exchange in demo.exchanges] == [1, 2]
        assert demo.journal.requests_total == 3
        assert demo.exchanges[0].headers["authorization"] == f"Bearer {DEFAULT_API_KEY}"
        assert {exchange.outcome for exchange in demo.exchanges} == {"answered"}
        assert "What is it" not in repr(demo.exchanges)
        assert DEFAULT_API_KEY not in repr(demo.exchanges)


async def test_stopping_ends_stalled_answers() -> None:
    """stop() does not wait for an answer that never ends, and counts no caller as gone."""
    demo = await start(pace=FAST)
    headers = {"authorization": f"Bearer {demo.api_key}"}
    async with httpx.AsyncClient(base_url=demo.base_url, headers=headers) as client:
        call = asyncio.ensure_future(client.post("/chat/completions", json=body("demo-timeout")))
        exchange = await demo.wait_for_exchange()
        await asyncio.wait_for(demo.stop(), 5)
        with pytest.raises(httpx.HTTPError):
            await call
    assert exchange.outcome == "stopped"
    assert demo.journal.hangups_total == 0


def test_every_row_is_documented() -> None:
    """docs/demo-provider.md has exactly the rows of the table, in order, word for word."""
    documented = re.findall(
        r"^\| `demo-([\w-]+)` \| (.*) \|$", (PROJECT / "docs/demo-provider.md").read_text(), re.MULTILINE
    )
    assert documented == [(row.name, row.summary) for row in ROWS]
    assert len(BY_NAME) == len(ROWS)
