"""The AWS SDK as a judge: it takes what we build, and would have sent the same, to the same place."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.session import Session

from server.core.messages import (
    Audio,
    CacheControl,
    Document,
    HostedTool,
    Image,
    Inline,
    Message,
    Opaque,
    Reasoning,
    Remote,
    ResponseFormat,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tests.providers.bedrock.support import CLAUDE_BOTH, HI, NOVA, build

MODEL = "us.anthropic.claude-x-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-x-v1:0"
CACHE = CacheControl("1h")


def own(data: dict[str, Any]) -> Opaque:
    return Opaque("bedrock", MODEL, json.dumps(data).encode())


HISTORY = (
    Message(
        "user",
        (
            Text("a", cache=CACHE),
            Image(Inline("image/png", b"png")),
            Image(Remote("s3://bucket/a.jpeg")),
            Document(Inline("application/pdf", b"pdf"), "A.pdf", citations=True),
            Audio(Inline("audio/wav", b"wav")),
        ),
    ),
    Message(
        "assistant",
        (
            Reasoning("Hm.", own({"signature": "S"})),
            Reasoning("", own({"redactedContent": "UkVE"})),
            Text("cited", opaque=own({"citations": [{"title": "t", "sourceContent": [{"text": "x"}]}]})),
            ServerTool("toolUse", "s1", "nova_code_interpreter", "{}",
                       opaque=own({"toolUseId": "s1", "name": "nova_code_interpreter", "type": "server_tool_use"})),
            ServerTool("toolResult", "s1", output='[{"json":{"a":1}},{"text":"b"}]',
                       opaque=own({"toolUseId": "s1", "type": "nova_code_interpreter_result", "status": "success"})),
            ToolCall("t 1", "f", '{"a":[1,null]}'),
            ToolCall("t2", "g", "{}", cache=CACHE),
        ),
    ),
    Message(
        "tool",
        (
            ToolResult("t 1", (Text("r"), Image(Inline("image/webp", b"w")), Document(Inline("text/csv", b"1,2")))),
            ToolResult("t2", (), is_error=True),
        ),
    ),
)  # fmt: skip

CASES: dict[str, dict[str, Any]] = {
    "history": {"messages": HISTORY, "model": MODEL, "system": "s"},
    "arn": {"messages": HI, "model": ARN},
    "sampling": {
        "model": MODEL, "temperature": 0.5, "top_p": 0.25, "max_tokens": 9, "stop": ("x",), "top_k": 2, "user": "u-1",
    },
    "claude thinking": {"info": CLAUDE_BOTH, "thinking": Thinking("adaptive", effort="high", include=True)},
    "nova": {"info": NOVA, "thinking": Thinking("enabled", effort="low"), "hosted_tools": (HostedTool("web_search"),)},
    "tools": {
        "model": MODEL,
        "tools": (Tool("f", "F.", '{"type":"object"}', strict=True, cache=CACHE), Tool("g")),
        "tool_choice": ToolChoice("tool", "f"),
    },
    "any tool": {"model": MODEL, "tools": (Tool("g"),), "tool_choice": ToolChoice("required")},
    "one call at a time": {"model": MODEL, "tools": (Tool("g"),), "parallel_tool_calls": False},
    "schema": {"model": MODEL, "response_format": ResponseFormat("json_schema", "n", '{"type":"object"}')},
    "options": {
        "model": MODEL,
        "provider_options": '{"guardrailConfig":{"guardrailIdentifier":"abc","guardrailVersion":"1","trace":"enabled"},'
        '"serviceTier":{"type":"flex"},"performanceConfig":{"latency":"optimized"}}',
    },
}  # fmt: skip


class Sent(Exception):
    """Carries the request out of the SDK, before a connection is made."""

    def __init__(self, request: AWSPreparedRequest) -> None:
        super().__init__()
        self.request = request


@pytest.fixture(scope="module")
def client() -> Any:
    """An SDK client that gives its requests out instead of sending them."""

    def stop(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        raise Sent(request)

    session = Session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    config = Config(retries={"total_max_attempts": 1}, ignore_configured_endpoint_urls=True)
    made = session.create_client("bedrock-runtime", region_name="us-east-1", config=config)
    made.meta.events.register_last("before-send", stop)
    return made


def as_params(value: Any, key: str = "") -> Any:
    """The body as the SDK takes it: bytes instead of base64."""
    if isinstance(value, dict):
        return {name: as_params(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [as_params(inner) for inner in value]
    return b64decode(value) if key in ("bytes", "redactedContent") else value


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_the_sdk_would_have_sent_the_same(client: Any, name: str, stream: bool) -> None:
    """Its validation against the service's description passes, and path and body are equal."""
    ours = build(stream=stream, **CASES[name]).http
    body = json.loads(ours.body)
    model = CASES[name].get("model") or CASES[name]["info"].model
    with pytest.raises(Sent) as caught:
        (client.converse_stream if stream else client.converse)(modelId=model, **as_params(body))
    theirs = caught.value.request
    assert (ours.method, ours.url) == (theirs.method, theirs.url)
    assert body == json.loads(theirs.body)
