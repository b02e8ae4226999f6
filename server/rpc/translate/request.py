"""Requests of LLMService: from the contract's messages, valid by its rules, to the core's ChatRequest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from google.protobuf import struct_pb2

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import llm_service_pb2 as llm_pb
from server.core import messages as m
from server.core.errors import InvalidRequest
from server.rpc.translate import structs
from server.rpc.translate.parts import cache_from_proto, part_from_proto, tool_call_from_proto

DEFAULT_TEMPERATURE = 0.7
DEFAULT_MAX_TOKENS = 4096

_SCALARS = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "logprobs",
        "top_logprobs",
        "parallel_tool_calls",
    }
)
"""Optional fields that are the same on both sides."""

_ROLES: Mapping[str, m.Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


def chat_request(request: pb.ChatRequest, *, stream: bool) -> m.ChatRequest:
    """One request of Chat (stream) or Complete. Raises InvalidRequest.

    What a request does not have is asked for, not called for: most have few of these fields.
    """
    has = request.HasField
    if has("stream") and request.stream != stream:
        raise _wrong_stream(request.stream)
    messages = _messages(request.messages)
    tools = tuple([_tool(tool, f"tools[{n}]") for n, tool in enumerate(request.tools)]) if request.tools else ()
    hosted = _hosted_tools(request.server_tools) if request.server_tools else ()
    if tools or has("tool_choice"):
        _check_tool_names(tools, hosted, request)
    options = ""
    if has("provider_options"):
        options = structs.object_json(request.provider_options, "provider_options", "send it as a string")
    scalars: dict[str, Any] = {}
    for name in _SCALARS:
        if has(name):  # type: ignore[arg-type]  # the stubs want literals
            scalars[name] = getattr(request, name)
    return m.ChatRequest(
        messages=messages,
        model=request.model,
        provider=request.provider.lower() or None,
        provider_name=request.provider_name or None,
        legacy=request.legacy,
        system=_system(request, messages) if request.instructions or request.system_prompt else None,
        stop=tuple(request.stop),
        user=request.user or None,
        tools=tools,
        hosted_tools=hosted,
        tool_choice=_tool_choice(request.tool_choice) if has("tool_choice") else None,
        response_format=_response_format(request.response_format) if has("response_format") else None,
        thinking=_thinking(request.thinking) if has("thinking") else None,
        provider_options=options,
        **scalars,
    )


def generate_request(request: llm_pb.GenerateRequest) -> m.ChatRequest:
    """One request of Generate and GenerateText; `defaults` names what the caller did not give."""
    defaults = frozenset(name for name in ("temperature", "max_tokens") if not request.HasField(name))
    return m.ChatRequest(
        messages=(m.Message("user", (m.Text(request.prompt),)),),
        model=request.model,
        system=request.system_prompt or None,
        temperature=DEFAULT_TEMPERATURE if "temperature" in defaults else request.temperature,
        max_tokens=DEFAULT_MAX_TOKENS if "max_tokens" in defaults else request.max_tokens,
        defaults=defaults,
    )


def _wrong_stream(asked: bool) -> InvalidRequest:
    if asked:
        how = "a stream is asked for with 'Accept: text/event-stream', or by the Chat RPC (got true on a unary call)"
    else:
        how = "a whole answer is asked for without 'Accept: text/event-stream', or by the Complete RPC (got false)"
    return InvalidRequest.field("stream", how)


def _system(request: pb.ChatRequest, messages: Sequence[m.Message]) -> str | None:
    instructions, prompt = request.instructions, request.system_prompt
    if prompt and any(message.role == "system" for message in messages):
        prompt = ""
    return f"{instructions}\n\n{prompt}" if instructions and prompt else instructions or prompt or None


# --- turns ------------------------------------------------------------------------------------------------------------


def _messages(messages: Sequence[pb.Message]) -> tuple[m.Message, ...]:
    made: list[m.Message] = []
    for number, message in enumerate(messages):
        role = _ROLES[message.role]
        # Nearly all turns are a text and nothing else, which needs no look at the rest.
        if message.content and role != "tool" and not message.tool_calls and not message.is_error:
            made.append(m.Message(role, (m.Text(message.content),), message.name or None))
        else:
            made.append(_message(message, role, f"messages[{number}]"))
    return tuple(made)


def _message(message: pb.Message, role: m.Role, path: str) -> m.Message:
    if message.is_error and role != "tool":
        raise InvalidRequest.field(f"{path}.is_error", "only a message with role tool reports a tool's failure")
    parts: tuple[m.Part, ...]
    if message.content:
        parts = (m.Text(message.content),)
    else:
        parts = tuple([part_from_proto(part, role, f"{path}.parts[{n}]") for n, part in enumerate(message.parts)])
    if role == "tool":
        # ROLE_PARTS lets only these three kinds through.
        content = cast("tuple[m.Text | m.Image | m.Document, ...]", parts)
        return m.Message("tool", (m.ToolResult(message.tool_call_id, content, message.is_error, message.name or None),))
    if message.tool_calls:
        parts += tuple(map(tool_call_from_proto, message.tool_calls))
    if not parts and role != "assistant":
        raise InvalidRequest.field(f"{path}.content", f"must not be empty in a message with role {message.role}")
    return m.Message(role, parts, message.name or None)


# --- tools ------------------------------------------------------------------------------------------------------------


def _tool(tool: pb.Tool, path: str) -> m.Tool:
    function = tool.function
    return m.Tool(
        function.name,
        function.description or None,
        _parameters(function, f"{path}.function"),
        function.strict if function.HasField("strict") else None,
        cache_from_proto(tool),
    )


def _parameters(function: pb.FunctionDefinition, path: str) -> str | None:
    if function.parameters_json:
        return structs.check_json_object(function.parameters_json, f"{path}.parameters_json")
    if not function.HasField("parameters"):
        return None
    return structs.schema_json(function.parameters, f"{path}.parameters", "send the schema as parameters_json")


def _hosted_tools(tools: Sequence[struct_pb2.Value]) -> tuple[m.HostedTool, ...]:
    return tuple([_hosted_tool(tool, f"server_tools[{n}]") for n, tool in enumerate(tools)])


def _hosted_tool(tool: struct_pb2.Value, path: str) -> m.HostedTool:
    if tool.WhichOneof("kind") == "string_value":
        members: dict[str, Any] = {"type": tool.string_value}
    elif tool.WhichOneof("kind") == "struct_value":
        members = structs.value_object(tool.struct_value, path, "send it as a string")
    else:
        raise InvalidRequest.field(path, 'must be a string ("web_search") or an object ({"type": "web_search"})')
    kind = members.pop("type", None)
    if not isinstance(kind, str) or not kind:
        raise InvalidRequest.field(f"{path}.type", 'must be a word that is not empty, e.g. "web_search"')
    return m.HostedTool(kind, structs.encode_object(members) if members else "")


def _check_tool_names(tools: Sequence[m.Tool], hosted: Sequence[m.HostedTool], request: pb.ChatRequest) -> None:
    names: set[str] = set()
    for number, tool in enumerate(tools):
        if tool.name in names:
            raise InvalidRequest.field(f"tools[{number}].function.name", f"must be unique (got {tool.name!r} twice)")
        names.add(tool.name)
    chosen = request.tool_choice.name
    # The names that hosted tools are called by are their provider's own, so with them only the provider can tell.
    if chosen and not hosted and chosen not in names:
        raise InvalidRequest.field("tool_choice.name", "must be the name of one of the tools")


def _tool_choice(choice: pb.ToolChoice) -> m.ToolChoice:
    return m.ToolChoice(choice.mode, choice.name or None)  # type: ignore[arg-type]  # the contract's rule lists them


# --- form of the answer -----------------------------------------------------------------------------------------------


def _response_format(form: pb.ResponseFormat) -> m.ResponseFormat:
    if form.type != "json_schema":
        return m.ResponseFormat(form.type)  # type: ignore[arg-type]  # the contract's rule lists them
    schema = form.json_schema
    path = "response_format.json_schema"
    if schema.schema_json:
        text = structs.check_json_object(schema.schema_json, f"{path}.schema_json")
    else:
        text = structs.schema_json(schema.schema, f"{path}.schema", "send the schema as schema_json")
    strict = schema.strict if schema.HasField("strict") else None
    return m.ResponseFormat("json_schema", schema.name, text, strict, schema.description or None)


def _thinking(thinking: pb.Thinking) -> m.Thinking:
    return m.Thinking(
        thinking.type,  # type: ignore[arg-type]  # the contract's rule lists them
        thinking.budget_tokens if thinking.HasField("budget_tokens") else None,
        thinking.effort or None,
        thinking.include if thinking.HasField("include") else None,
    )
