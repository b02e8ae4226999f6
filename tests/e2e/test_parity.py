"""One conversation, four ways in: gRPC Chat, gRPC Complete, REST and SSE give the same answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf import json_format

from dragoman.v1 import chat_pb2 as pb
from tests.e2e.stack import Stack

pytestmark = pytest.mark.e2e


@dataclass
class Answer:
    """What must be equal, whichever way it came."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    finish: str = ""
    usage: dict[str, int] = field(default_factory=dict)


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

REQUESTS: dict[str, dict[str, Any]] = {
    "text": {"messages": [{"role": "user", "content": "Repeat after me: grüezi 👋 Ω"}]},
    "split code points": {
        "model": "custom/demo-split-utf8",
        "messages": [{"role": "user", "content": "Grüße, 世界 👋"}],
    },
    "CRLF": {"model": "custom/demo-crlf", "messages": [{"role": "user", "content": "Hello"}]},
    "length": {"messages": [{"role": "user", "content": "count to 50"}], "maxTokens": 5},
    "reasoning": {"model": "custom/demo-reasoner", "messages": [{"role": "user", "content": "Why?"}]},
    "tools": {
        "model": "custom/demo-tools",
        "messages": [{"role": "user", "content": "Weather in Bern and Basel?"}],
        "tools": [TOOL],
    },
    "history": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather in Bern?"},
            {
                "role": "assistant",
                "toolCalls": [{"id": "c1", "function": {"name": "get_weather", "arguments": '{"city": "Bern"}'}}],
            },
            {"role": "tool", "toolCallId": "c1", "content": "sunny"},
        ],
        "tools": [TOOL],
    },
    "an image": {
        "messages": [
            {
                "role": "user",
                "parts": [
                    {"text": {"text": "What is this?"}},
                    {
                        "image": {
                            "data": "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7",
                            "mediaType": "image/gif",
                        }
                    },
                ],
            }
        ]
    },
}


def of_response(response: pb.ChatResponse) -> Answer:
    return Answer(
        response.text,
        response.reasoning,
        [(call.function.name, call.function.arguments) for call in response.tool_calls],
        response.finish_reason,
        json_format.MessageToDict(response.usage),
    )


def of_events(events: list[pb.ChatEvent]) -> Answer:
    """Adds a stream up, and checks its grammar on the way."""
    answer, open_block, blocks = Answer(), None, 0
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[0].WhichOneof("event") == "started"
    assert [event.WhichOneof("event") for event in events[1:]].count("completed") == 1
    for event in events[1:]:
        match event.WhichOneof("event"):
            case "block_start":
                assert open_block is None
                assert event.block_start.index == blocks
                open_block, blocks = event.block_start, blocks + 1
                if open_block.WhichOneof("block") == "tool_call":
                    answer.calls.append((open_block.tool_call.name, ""))
            case "block_delta":
                assert open_block is not None
                assert event.block_delta.index == open_block.index
                delta = event.block_delta
                answer.text += delta.text
                answer.reasoning += delta.reasoning
                if delta.arguments:
                    name, arguments = answer.calls[-1]
                    answer.calls[-1] = (name, arguments + delta.arguments)
            case "block_end":
                assert open_block is not None
                open_block = None
            case "completed":
                assert open_block is None
                assert event is events[-1]
                answer.finish = event.completed.finish_reason
                answer.usage = json_format.MessageToDict(event.completed.usage)
            case other:
                raise AssertionError(f"unexpected {other}")
    return answer


@pytest.mark.parametrize("body", REQUESTS.values(), ids=REQUESTS.keys())
async def test_the_same_conversation_gives_the_same_answer_whichever_way_it_comes(
    stack: Stack, body: dict[str, Any]
) -> None:
    request = json_format.ParseDict(body, pb.ChatRequest())
    with stack.rest() as client:
        rest = client.post("/api/v1/ai/llm/chat", json=body)
        assert rest.status_code == 200, rest.text
        sse = client.post("/api/v1/runtime/v1/chat", json=body, headers={"accept": "text/event-stream"})
    frames = [json.loads(frame.removeprefix("data: ")) for frame in sse.text.split("\n\n") if frame]
    async with stack.grpc() as stubs:
        complete = await stubs.llm.Complete(request, metadata=stack.metadata())
        chat = [event async for event in stubs.llm.Chat(request, metadata=stack.metadata())]

    expected = of_response(complete)
    assert expected.finish
    assert expected.usage["totalTokens"] > 0
    assert of_events(chat) == expected
    assert of_response(json_format.ParseDict(rest.json(), pb.ChatResponse())) == expected
    assert of_events([json_format.ParseDict(frame, pb.ChatEvent()) for frame in frames]) == expected
