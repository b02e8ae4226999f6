"""The `input` of a response request as turns of a conversation.

Items that the model made (messages of an assistant, calls, thoughts, steps of server tools) stand side by side in this
API; those that follow each other are one turn here, as every other API has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from server.core import messages as m
from server.core.errors import InvalidRequest, UnsupportedParameter
from server.rpc.compat.frame import Unknown, base64_bytes, read, source_of_url
from server.rpc.compat.opaque import MARK, PREVIOUS, Sealed, unseal
from server.rpc.compat.openai import responses_types as t

CUSTOM_CALL: Final = "custom_tool_call"

_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
_AUDIO_TYPES: Final = {"wav": "audio/wav", "mp3": "audio/mpeg"}


class Conversation(msgspec.Struct, frozen=True):
    """messages, and the input item that each begins with."""

    messages: tuple[m.Message, ...]
    origins: tuple[int, ...]


def read_input(raw: msgspec.Raw, unknown: Unknown) -> Conversation:
    """All items. unknown: takes what the types do not know, by the place that it has at a provider of this wire.

    Raises InvalidRequest for what is no item, UnsupportedParameter for one that refers to a stored one.
    """
    try:
        value = t.INPUT.decode(raw)
    except msgspec.DecodeError:
        value = ""
    if not value:
        raise InvalidRequest.field("input", "must be text or a list of items, and not empty")
    if isinstance(value, str):
        return Conversation((m.Message("user", (m.Text(value),)),), (0,))
    reader = _Reader(unknown)
    heads = [read(t.HEAD, bytes(item), f"input[{index}]")[0] for index, item in enumerate(value)]
    for index, (head, item) in enumerate(zip(heads, value, strict=True)):
        if head.type == "reasoning":
            reader.note_kept(bytes(item), index)
    for index, (head, item) in enumerate(zip(heads, value, strict=True)):
        reader.take(head, bytes(item), index)
    return reader.end()


class _Reader:
    """Items in, turns out. built: how many items a provider of this wire will be sent for what came so far."""

    def __init__(self, unknown: Unknown) -> None:
        self._unknown = unknown
        self._messages: list[m.Message] = []
        self._origins: list[int] = []
        self._turn: list[m.Part] = []
        self._turn_at = 0
        self._built = 0
        self._said: m.Opaque | bool | None = False
        """What the assistant's message that was the last item brought beside its words; False where it was none."""
        self._kept: dict[str, m.Opaque] = {}

    def note_kept(self, raw: bytes, index: int) -> None:
        """What must come back with a call, whether it stands before or behind it."""
        sealed = _sealed(read(t.REASONING, raw, f"input[{index}]")[0], index)
        if sealed is not None and sealed.of:
            self._kept[sealed.of] = sealed.opaque

    def take(self, head: t.Head, raw: bytes, index: int) -> None:
        place = f"input[{index}]"
        kind = head.type or ("message" if head.role else "")
        said, self._said = self._said, False
        if kind == "message" and head.role == "assistant":
            self._assistant(raw, index, said)
        elif kind == "message":
            self._other(raw, index)
        elif kind == "function_call":
            self._function_call(raw, index)
        elif kind == CUSTOM_CALL:
            self._custom_call(raw, index)
        elif kind in _OUTPUTS:
            self._result(raw, index)
        elif kind == "reasoning":
            self._reasoning(raw, index)
        elif kind == "item_reference":
            raise UnsupportedParameter.field(
                place, "refers to a stored item, and nothing is stored here: send the item itself (store: false)"
            )
        elif kind:
            # Steps of tools and whatever else only a server of this wire can read: byte for byte.
            self._add(m.ServerTool(kind, opaque=_native(raw)), index)
        else:
            raise InvalidRequest.field(f"{place}.type", "must be given")

    def end(self) -> Conversation:
        self._close_turn()
        return Conversation(tuple(self._messages), tuple(self._origins))

    # --- turns --------------------------------------------------------------------------------------------------------

    def _add(self, part: m.Part, index: int) -> None:
        """One more item of the model's turn."""
        if not self._turn:
            self._turn_at = index
        self._turn.append(part)
        self._built += 1

    def _say(self, message: m.Message, index: int) -> None:
        self._close_turn()
        self._messages.append(message)
        self._origins.append(index)
        self._built += 1

    def _close_turn(self) -> None:
        if self._turn:
            self._messages.append(m.Message("assistant", tuple(self._turn)))
            self._origins.append(self._turn_at)
            self._turn = []

    def _read(self, decoder: msgspec.json.Decoder[Any], raw: bytes, index: int) -> tuple[Any, dict[str, Any]]:
        """An item, and its own unknown members; those of its parts are noted."""
        place = f"input[{index}]"
        item, found = read(decoder, raw, place)
        own = found.pop(place, {})
        self._unknown |= {f"input[{self._built}]{at.removeprefix(place)}": members for at, members in found.items()}
        return item, {name: value for name, value in own.items() if value is not None}

    def _note(self, own: dict[str, Any]) -> None:
        if own:
            self._unknown[f"input[{self._built}]"] = own

    # --- items --------------------------------------------------------------------------------------------------------

    def _other(self, raw: bytes, index: int) -> None:
        item, own = self._read(t.MESSAGE, raw, index)
        self._note(own)
        place = f"input[{index}].content"
        parts = (m.Text(item.content),) if isinstance(item.content, str) else _parts(item.content, place)
        self._say(m.Message("user" if item.role == "user" else "system", parts), index)

    def _assistant(self, raw: bytes, index: int, before: m.Opaque | bool | None) -> None:
        """Its own members (`phase`) go with each of its texts."""
        item, own = self._read(t.MESSAGE, raw, index)
        opaque = _native(msgspec.json.encode(own)) if own else None
        texts = [item.content] if isinstance(item.content, str) else _said(item.content, f"input[{index}].content")
        texts = [text for text in texts if text]
        for text in texts:
            self._add(m.Text(text, opaque=opaque), index)
        # One item for all its texts; none of its own if it says the same beside them as the one before.
        self._built -= len(texts) - (0 if before == opaque else 1) if texts else 0
        self._said = opaque if texts else before

    def _function_call(self, raw: bytes, index: int) -> None:
        item, own = self._read(t.FUNCTION_CALL, raw, index)
        opaque = self._kept.get(item.call_id) or (_native(msgspec.json.encode(own)) if own else None)
        self._add(m.ToolCall(item.call_id, item.name, item.arguments or "{}", opaque), index)

    def _custom_call(self, raw: bytes, index: int) -> None:
        item, own = self._read(t.CUSTOM_CALL, raw, index)
        arguments = msgspec.json.encode({"input": item.input}).decode()
        opaque = _native(msgspec.json.encode({**own, "type": CUSTOM_CALL}))
        self._add(m.ToolCall(item.call_id, item.name, arguments, opaque), index)

    def _result(self, raw: bytes, index: int) -> None:
        item, own = self._read(t.CALL_OUTPUT, raw, index)
        self._note(own)
        place = f"input[{index}].output"
        output = (m.Text(item.output),) if isinstance(item.output, str) else _parts(item.output, place)
        self._say(m.Message("tool", (m.ToolResult(item.call_id, output),)), index)

    def _reasoning(self, raw: bytes, index: int) -> None:
        item, _ = read(t.REASONING, raw, f"input[{index}]")
        text = "\n\n".join(thought.text for thought in item.summary or item.content or () if thought.text)
        sealed = _sealed(item, index)
        if sealed is not None:
            if sealed.of is None:
                self._add(m.Reasoning(text, sealed.opaque), index)
                self._built -= 1
            elif sealed.of == PREVIOUS and self._turn and isinstance(self._turn[-1], m.Text):
                self._turn[-1] = msgspec.structs.replace(self._turn[-1], opaque=sealed.opaque)
        elif item.encrypted_content or item.content:
            self._add(m.Reasoning(text, _native(raw)), index)
        elif text:
            self._add(m.Reasoning(text), index)
            self._built -= 1


def _sealed(item: t.ReasoningItem, index: int) -> Sealed | None:
    """What is in our container, None where it is not ours."""
    encrypted = item.encrypted_content or ""
    if not encrypted.startswith(MARK):
        return None
    sealed = unseal(encrypted)
    if sealed is None:
        raise InvalidRequest.field(f"input[{index}].encrypted_content", "is damaged")
    return sealed


def _native(data: bytes) -> m.Opaque:
    return m.Opaque(m.NATIVE, t.WIRE, data)


# --- parts ------------------------------------------------------------------------------------------------------------


def _said(content: Sequence[t.Part], place: str) -> list[str]:
    """The texts of an earlier answer."""
    texts = []
    for index, part in enumerate(content):
        match part:
            case t.OutputText() | t.InputText():
                texts.append(part.text)
            case t.RefusalPart():
                texts.append(part.refusal)
            case _:
                raise UnsupportedParameter.field(f"{place}[{index}]", "of an earlier answer must be text or a refusal")
    return texts


def _parts(content: Sequence[t.Part], place: str) -> tuple[Any, ...]:
    if not content:
        raise InvalidRequest.field(place, "must not be empty")
    return tuple(_part(part, f"{place}[{index}]") for index, part in enumerate(content))


def _part(part: t.Part, place: str) -> m.Part:
    match part:
        case t.InputText():
            return m.Text(part.text, cache=_cache(part.prompt_cache_breakpoint))
        case t.InputImage():
            return m.Image(_image(part, place), part.detail, _cache(part.prompt_cache_breakpoint))
        case t.InputFile():
            return m.Document(_file(part, place), part.filename, cache=_cache(part.prompt_cache_breakpoint))
        case t.InputAudioPart(input_audio=audio):
            kind = audio.format.lower()
            data = base64_bytes(audio.data, f"{place}.input_audio.data")
            return m.Audio(m.Inline(_AUDIO_TYPES.get(kind, f"audio/{kind}"), data))
        case t.OutputText():
            return m.Text(part.text)
        case t.RefusalPart():
            return m.Text(part.refusal)


def _cache(marker: t.Breakpoint | None) -> m.CacheControl | None:
    return None if marker is None else m.CacheControl()


def _image(part: t.InputImage, place: str) -> m.Source:
    if (part.image_url is None) == (part.file_id is None):
        raise InvalidRequest.field(place, "must have one of image_url and file_id")
    if part.file_id is not None:
        return m.Uploaded(part.file_id)
    return source_of_url(part.image_url or "", f"{place}.image_url")


def _file(part: t.InputFile, place: str) -> m.Source:
    if [part.file_data, part.file_id, part.file_url].count(None) != 2:
        raise InvalidRequest.field(place, "must have one of file_data, file_url and file_id")
    if part.file_id is not None:
        return m.Uploaded(part.file_id)
    if part.file_url is not None:
        return source_of_url(part.file_url, f"{place}.file_url")
    data = part.file_data or ""
    if data[:5].lower() == "data:":
        return source_of_url(data, f"{place}.file_data")
    # Without a type of its own it is what the API takes files for.
    return m.Inline("application/pdf", base64_bytes(data, f"{place}.file_data"))
