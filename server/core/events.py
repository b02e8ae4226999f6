"""What an answer is made of: one closed union of events, for streams and for answers that come at once.

    started (block_start block_delta* block_end)* (completed | failed)

with `native` anywhere between started and the end, for callers who speak the provider's own wire.

`server/core/stream.py` holds that grammar as a table and enforces it. Blocks come one after the other, numbered from 0;
a delta belongs to the block that is open.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from server.core.errors import DragomanError
from server.core.messages import Citation, Opaque

BlockKind = Literal["text", "reasoning", "tool_call", "server_tool"]

FINISH_REASONS = ("stop", "length", "tool_calls", "content_filter")
"""The neutral finish reasons. Where there is no equal (`pause_turn`), the provider's own word stands in their place."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens that the provider counted. None: it did not say, which is not 0.

    prompt_tokens includes cache reads and writes and what server tools put into the prompt; completion_tokens includes
    reasoning; total_tokens as the provider reports it (the sum where it reports none). cached_tokens (read from the
    prompt cache), cache_write_tokens and reasoning_tokens are parts of these, not additions.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class Warning(msgspec.Struct, frozen=True):
    """Something of the request was dropped, changed or approximated. code: stable word, e.g. `parameter_stripped`;
    parameter: the request's field in proto names, e.g. `temperature`; message: for people."""

    code: str
    message: str
    parameter: str = ""


class Started(msgspec.Struct, frozen=True, gc=False):
    """The provider accepted the request. model: as it names the model that serves. id: of the response, at the
    provider.

    warnings: what of the request was changed on the way to it. wire: name of the protocol that it speaks
    (`openai_chat`, `anthropic_messages`, ...), "" for one that no caller speaks.
    """

    provider: str
    model: str
    id: str = ""
    request_id: str = ""
    warnings: tuple[Warning, ...] = ()
    wire: str = ""


class BlockStart(msgspec.Struct, frozen=True, gc=False):
    """A block opens. id and name: of a tool_call (never "") or server_tool; type: a server_tool's own item type. A text
    or reasoning block has the id of the provider's item that it is from, where there is one."""

    index: int
    kind: BlockKind
    id: str = ""
    name: str = ""
    type: str = ""


class BlockDelta(msgspec.Struct, frozen=True, gc=False):
    """More of the open block: text, reasoning text, a piece of the tool's arguments (JSON text), by the block's
    kind."""

    index: int
    text: str


class BlockEnd(msgspec.Struct, frozen=True, gc=False):
    """The block is complete. citations: for text. output: the result (JSON text) of a server_tool. opaque: goes back
    with the block's part in the next request to the same provider. logprobs: JSON text, for text, as the provider gives
    it."""

    index: int
    citations: tuple[Citation, ...] = ()
    output: str = ""
    opaque: Opaque | None = None
    logprobs: str = ""


class Native(msgspec.Struct, frozen=True, gc=False):
    """What a provider said in its own wire that no other event says, for a caller who speaks that wire
    (`ChatRequest.dialect`); nobody else gets one. members: JSON text of an object, in the form that the wire's adapter
    and its dialect share (`server/core/native.py`)."""

    members: str


class Completed(msgspec.Struct, frozen=True, gc=False):
    """The provider said that the answer is whole.

    finish_reason: neutral (FINISH_REASONS, or the provider's word where there is no equal); raw_finish_reason: the
    provider's word. provider_metadata: JSON text of an object with what has no neutral place; "" for none. refusal: the
    provider's explanation where it declined.
    """

    finish_reason: str
    raw_finish_reason: str
    usage: Usage
    model: str = ""
    warnings: tuple[Warning, ...] = ()
    provider_metadata: str = ""
    refusal: str = ""


class Failed(msgspec.Struct, frozen=True):
    """The answer is not whole and never will be. usage: what the provider counted until then, if it said so."""

    error: DragomanError
    usage: Usage = Usage()


StreamEvent = Started | BlockStart | BlockDelta | BlockEnd | Native | Completed | Failed
Terminal = Completed | Failed
