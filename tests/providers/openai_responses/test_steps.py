"""Steps of tools that the provider ran."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.messages import ChatRequest, HostedTool, ServerTool
from server.core.stream import fold
from tests.providers.openai_responses.support import (
    HI,
    added,
    answer,
    call,
    completed,
    done,
    piece,
    response,
    run,
    sse,
    target,
)

STEPS: list[tuple[dict[str, Any], str, Any, Any]] = [
    (
        {"type": "web_search_call", "action": {"type": "search", "query": "q", "sources": [{"url": "u"}]}},
        "web_search",
        {"type": "search", "query": "q"},
        {"sources": [{"url": "u"}]},
    ),
    (
        {"type": "code_interpreter_call", "code": "1+1", "container_id": "c", "outputs": [{"logs": "2"}]},
        "code_interpreter",
        {"code": "1+1", "container_id": "c"},
        {"outputs": [{"logs": "2"}]},
    ),
    (
        {"type": "file_search_call", "queries": ["q"], "results": None},
        "file_search",
        {"queries": ["q"]},
        None,
    ),
    (
        {"type": "mcp_call", "name": "roll", "server_label": "d", "arguments": '{"n":1}', "output": "4", "error": None},
        "roll",
        {"server_label": "d", "arguments": '{"n":1}'},
        {"output": "4"},
    ),
    ({"type": "compaction", "encrypted_content": "x"}, "compaction", None, None),
    ({"type": "computer_call", "call_id": "c", "action": {"type": "click"}}, "computer", {"type": "click"}, None),
]


@pytest.mark.parametrize(("item", "name", "asked", "found"), STEPS, ids=[step[0]["type"] for step in STEPS])
def test_steps_of_server_tools(item: dict[str, Any], name: str, asked: Any, found: Any) -> None:
    """A block of its own that opens when the step begins; type, input and output, and the item itself to send back."""
    item = {"id": "i_1", "status": "completed", **item}
    begun = {key: item[key] for key in ("type", "id", "name") if key in item}
    streamed = [
        added(0, begun.pop("type"), **begun),
        {"type": "response.x.searching", "output_index": 0},
        done(0, item),
    ]
    for events in (run(sse(*streamed, completed(item))), answer(response("completed", [item]))):
        whole = fold(events)
        (step,) = whole.message.parts
        assert isinstance(step, ServerTool)
        assert (step.type, step.id, step.name) == (item["type"], "i_1", name)
        assert (json.loads(step.input or "null"), json.loads(step.output or "null")) == (asked, found)
        assert step.opaque is not None
        assert json.loads(step.opaque.data) == item
        assert whole.finish_reason == "stop"
        unanswerable = item["type"] == "computer_call"
        assert [warning.code for warning in whole.warnings] == (["unanswerable_item"] if unanswerable else [])


def test_xais_custom_calls_are_steps_unless_the_caller_brought_the_tool() -> None:
    """Trap 14: x_search runs at xAI and comes as custom_tool_call; a custom tool of the request is the caller's."""
    item = {
        "type": "custom_tool_call", "id": "ctc_1", "call_id": "xs_call_1", "name": "x_keyword_search",
        "input": '{"query":"q"}', "status": "completed",
    }  # fmt: skip
    events = sse(
        added(0, "custom_tool_call", id="ctc_1", call_id="xs_call_1", name="x_keyword_search", input=""),
        piece(0, "custom_tool_call_input", '{"query":"q"}'),
        done(0, item),
        completed(item),
    )
    whole = fold(run(events, "xai"))
    (step,) = whole.message.parts
    assert isinstance(step, ServerTool)
    assert (step.name, step.input, whole.finish_reason) == ("x_keyword_search", '{"query":"q"}', "stop")
    brought = HostedTool("custom", '{"name":"x_keyword_search"}')
    wanted = call(ChatRequest(messages=HI, hosted_tools=(brought,)), to=target("xai"))
    assert fold(run(events, "xai", at=wanted)).finish_reason == "tool_calls"
