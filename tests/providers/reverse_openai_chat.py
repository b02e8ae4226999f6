"""Recorded Chat Completions requests back to the neutral requests that should build them."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

from server.core.messages import (
    CacheControl,
    ChatRequest,
    HostedTool,
    Image,
    Inline,
    Message,
    Part,
    Reasoning,
    Remote,
    ResponseFormat,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tests.providers.conformance import Case

SAME = (
    "temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "logprobs", "top_logprobs", "user",
    "parallel_tool_calls",
)  # fmt: skip

TAKEN = {
    *SAME, "model", "messages", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "stop", "tools",
    "tool_choice", "response_format", "reasoning_effort", "thinking", "reasoning", "web_search_options",
}  # fmt: skip


def request_from_wire(case: Case) -> tuple[ChatRequest, str] | None:
    """None for a body that is no valid request (recorded errors), or asks for several answers."""
    assert case.request is not None
    body: dict[str, Any] = case.request["body"]
    if body.get("n", 1) != 1 or any(m["role"] == "user" and m.get("content") is None for m in body["messages"]):
        return None
    rest = {key: value for key, value in body.items() if key not in TAKEN}
    request = ChatRequest(
        messages=tuple(_message(message) for message in body["messages"]),
        max_tokens=body.get("max_completion_tokens", body.get("max_tokens")),
        stop=tuple(body.get("stop") or ()),
        tools=tuple(_tool(tool) for tool in body.get("tools") or ()),
        hosted_tools=(
            (HostedTool("web_search", json.dumps(body["web_search_options"])),) if "web_search_options" in body else ()
        ),
        tool_choice=_choice(body.get("tool_choice")),
        response_format=_format(body.get("response_format")),
        thinking=_thinking(body),
        provider_options=json.dumps(rest) if rest else "",
        **{name: body[name] for name in SAME if name in body},
    )
    return request, body["model"]


def _message(message: dict[str, Any]) -> Message:
    role = {"developer": "system"}.get(message["role"], message["role"])
    parts: list[Part] = []
    content = message.get("content")
    texts = _parts(content)
    if role == "tool":
        return Message("tool", (ToolResult(message["tool_call_id"], tuple(texts)),))  # type: ignore[arg-type]
    thoughts = (message.get("reasoning"), message.get("reasoning_content"))
    parts += [Reasoning(thought) for thought in thoughts if thought is not None]
    parts += texts
    calls = [(call["id"], call["function"]) for call in message.get("tool_calls") or ()]
    parts += [ToolCall(id, function["name"], function["arguments"]) for id, function in calls]
    return Message(role, tuple(parts), name=message.get("name"))


def _parts(content: Any) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)]
    parts: list[Part] = []
    for part in content:
        cache = CacheControl(part["cache_control"].get("ttl")) if "cache_control" in part else None
        if part["type"] == "text":
            parts.append(Text(part["text"], cache=cache))
        else:
            url = part["image_url"]["url"]
            head, _, data = url.partition(";base64,")
            source = Inline(head.removeprefix("data:"), b64decode(data)) if data else Remote(url)
            parts.append(Image(source, part["image_url"].get("detail"), cache))
    return parts


def _tool(tool: dict[str, Any]) -> Tool:
    function = tool["function"]
    return Tool(
        function["name"],
        function.get("description"),
        json.dumps(function["parameters"]) if "parameters" in function else None,
        function.get("strict"),
        CacheControl(tool["cache_control"].get("ttl")) if "cache_control" in tool else None,
    )


def _choice(choice: Any) -> ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, dict):
        return ToolChoice("tool", choice["function"]["name"])
    return ToolChoice("required" if choice == "any" else choice)


def _format(wanted: dict[str, Any] | None) -> ResponseFormat | None:
    if wanted is None:
        return None
    schema = wanted.get("json_schema") or {}
    return ResponseFormat(
        wanted["type"],
        schema.get("name"),
        json.dumps(schema["schema"]) if "schema" in schema else None,
        schema.get("strict"),
        schema.get("description"),
    )


def _thinking(body: dict[str, Any]) -> Thinking | None:
    effort = body.get("reasoning_effort")
    reasoning = body.get("reasoning") or {}
    if effort is None and "thinking" not in body and not reasoning:
        return None
    return Thinking("enabled", reasoning.get("max_tokens"), effort or reasoning.get("effort"))


def normalise(body: dict[str, Any]) -> dict[str, Any]:
    """A body without what says nothing (n: 1, stream: false, null content), and one spelling for what has several."""
    out = {key: value for key, value in body.items() if key not in ("n", "stream", "stream_options")}
    if "max_completion_tokens" in out:
        out["max_tokens"] = out.pop("max_completion_tokens")
    out["messages"] = [_normal_message(message) for message in body["messages"]]
    return out


def _normal_message(message: dict[str, Any]) -> dict[str, Any]:
    out = dict(message)
    if out["role"] == "developer":
        out["role"] = "system"
    content = out.get("content")
    if isinstance(content, list) and len(content) == 1 and set(content[0]) == {"type", "text"}:
        out["content"] = content[0]["text"]
    if out.get("content") is None:
        out.pop("content", None)
    return out
