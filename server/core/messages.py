"""What a caller asks for: the neutral request that every provider's wire is built from.

All types are immutable. Text is str, media are raw bytes (never base64), JSON documents whose bytes matter (schemas,
tool arguments) are JSON text. `None` means "not given" everywhere: an adapter sends nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]

NATIVE = "*"
"""`Opaque.provider` of data that came in a wire's own form; see there."""


class CacheControl(msgspec.Struct, frozen=True):
    """The prompt up to and including this part is worth caching at the provider. ttl: "5m", "1h" or None (its
    default)."""

    ttl: str | None = None


class Opaque(msgspec.Struct, frozen=True):
    """What only its provider can read: a signature, encrypted reasoning, the raw item of a server tool.

    data goes back unchanged to the same provider (slug) and model, and to nobody else. Its bytes mean something to that
    provider's adapter alone. provider NATIVE: a caller brought it in the form of the wire that `model` names, and it
    goes to whoever speaks that wire.
    """

    provider: str
    model: str
    data: bytes


class Citation(msgspec.Struct, frozen=True, omit_defaults=True):
    """A source that the provider names for a stretch of the answer's text.

    start, end: offsets in characters of the block's text (end exclusive), None where the provider gives none.
    """

    url: str | None = None
    title: str | None = None
    cited_text: str | None = None
    start: int | None = None
    end: int | None = None


class Inline(msgspec.Struct, frozen=True):
    """Media carried in the request: raw bytes and their MIME type."""

    media_type: str
    data: bytes


class Remote(msgspec.Struct, frozen=True):
    """Media that the provider fetches by itself; the gateway fetches nothing. media_type is a hint, "" if unknown."""

    url: str
    media_type: str = ""


class Uploaded(msgspec.Struct, frozen=True):
    """A file that was uploaded to the provider beforehand, by the id it has there."""

    file_id: str
    media_type: str = ""


Source = Inline | Remote | Uploaded


class Text(msgspec.Struct, frozen=True):
    """Visible text. citations, opaque and logprobs (JSON text, as the provider gives it) only come from an answer."""

    text: str
    citations: tuple[Citation, ...] = ()
    opaque: Opaque | None = None
    logprobs: str = ""
    cache: CacheControl | None = None


class Image(msgspec.Struct, frozen=True):
    """detail: "low", "high" or "auto" where a wire knows it."""

    source: Source
    detail: str | None = None
    cache: CacheControl | None = None


class Document(msgspec.Struct, frozen=True):
    """A PDF, a text, an office file. name: shown to the model. citations: ask the provider to cite from it."""

    source: Source
    name: str | None = None
    citations: bool = False
    cache: CacheControl | None = None


class Audio(msgspec.Struct, frozen=True):
    """A sound recording."""

    source: Source


class Reasoning(msgspec.Struct, frozen=True):
    """What the model thought, as far as the provider shows it. text is "" where it shows nothing but opaque data."""

    text: str
    opaque: Opaque | None = None


class ToolCall(msgspec.Struct, frozen=True):
    """The model asks the caller to run a tool. arguments: JSON text, an object; "{}" where the model gave none."""

    id: str
    name: str
    arguments: str
    opaque: Opaque | None = None
    cache: CacheControl | None = None


class ServerTool(msgspec.Struct, frozen=True):
    """One step of a tool that the provider ran by itself: its call, or its result.

    type: the provider's own item type (`server_tool_use`, `web_search_tool_result`, `code_interpreter_call` ...).
    input and output: JSON text, "" where this step has none.
    """

    type: str
    id: str = ""
    name: str = ""
    input: str = ""
    output: str = ""
    opaque: Opaque | None = None


class NativeBlock(msgspec.Struct, frozen=True):
    """A block of a caller's message for which there is no part here, as it came: it goes to a provider of the caller's
    own wire, and any other refuses it.

    type: the wire's word (`search_result`). place: where it stood in the caller's body. opaque: its JSON, NATIVE.
    """

    type: str
    place: str
    opaque: Opaque


class ToolResult(msgspec.Struct, frozen=True):
    """The caller's answer to a ToolCall. content: text, images, documents, or what stands for them on the caller's own
    wire. name: the tool's, for wires that match by name."""

    tool_call_id: str
    content: tuple[Text | Image | Document | NativeBlock, ...]
    is_error: bool = False
    name: str | None = None
    cache: CacheControl | None = None


Part = Text | Image | Document | Audio | Reasoning | ToolCall | ServerTool | ToolResult | NativeBlock


class Message(msgspec.Struct, frozen=True):
    """One turn. Assistant: text, reasoning, tool calls, server tools, in the order of the answer. Tool: results
    only."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None


class Tool(msgspec.Struct, frozen=True):
    """A function that the caller can run. parameters: a JSON schema as JSON text, None for a tool without arguments."""

    name: str
    description: str | None = None
    parameters: str | None = None
    strict: bool | None = None
    cache: CacheControl | None = None


class HostedTool(msgspec.Struct, frozen=True):
    """A tool that the provider runs. type: neutral (`web_search`, `code_execution`) or the provider's own versioned
    word (`web_search_20250305`). options: JSON text of an object, merged into the provider's tool object; "" for
    none. wire: the one that has this word and this form of options, where no other can make anything of them; else
    ""."""

    type: str
    options: str = ""
    wire: str = ""


class ToolChoice(msgspec.Struct, frozen=True):
    """mode: auto, none, required (any tool), or tool (the one that `name` says)."""

    mode: Literal["auto", "none", "required", "tool"]
    name: str | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """type json_schema has name and schema (JSON text); json_object has neither; text is the default of every model."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: str | None = None
    strict: bool | None = None
    description: str | None = None


class Thinking(msgspec.Struct, frozen=True):
    """type enabled or disabled; budget_tokens and effort (none, minimal, low, medium, high, xhigh, max) say how much.

    adaptive: the model decides. include: whether the thoughts are wanted in the answer where the provider lets one
    choose.
    """

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = None
    effort: str | None = None
    include: bool | None = None


class Passthrough(msgspec.Struct, frozen=True):
    """What a caller's body of a known wire holds beyond what a request can say.

    wire: the wire's name (`openai_chat`, `anthropic_messages`, ...). members: by place in that wire's body (`""` for
    the top, `messages[0].content[1]`), JSON text of an object with the members found there. An adapter of the same wire
    puts them back in their place (a null takes out what it would have said there by itself); for any other they are
    left out with a warning.
    """

    wire: str
    members: Mapping[str, str]


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a chat model.

    model: as the caller wrote it (`provider/model`, or bare). provider, provider_name: the caller's narrowing to a
    provider or to one configuration by its name. system: text that stands before the conversation. provider_options:
    JSON text of an object that is merged into the provider's body last. defaults: fields (proto names) that hold the
    gateway's default and not the caller's word; an adapter leaves one out, without a warning, where the model does not
    take it, and lowers one to the model's limit. dialect: name of the wire that the
    caller speaks (`openai_chat`, ...), "" for the gateway's own contract. passthrough: see there. Deadlines and
    credentials travel beside it, in `ports.ProviderCall`.
    """

    messages: tuple[Message, ...]
    model: str = ""
    provider: str | None = None
    provider_name: str | None = None
    legacy: bool = False
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    user: str | None = None
    tools: tuple[Tool, ...] = ()
    hosted_tools: tuple[HostedTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    thinking: Thinking | None = None
    provider_options: str = ""
    defaults: frozenset[str] = frozenset()
    dialect: str = ""
    passthrough: Passthrough | None = None
