"""One output item as blocks: text, reasoning, a tool call, or a step of a server tool."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

import msgspec

from server.core.errors import ProviderProtocolError
from server.core.messages import Citation
from server.providers.blocks import BlockWriter, is_object
from server.providers.openai_chat.chunks import arguments_text, given
from server.providers.openai_responses.kept import CUSTOM_CALL, extras, step_input, step_name, step_output
from server.providers.openai_responses.order import ADDED
from server.providers.openai_responses.types import ANNOTATION, ITEM, OBJECT, Event, Item, Part
from server.providers.parsing import decode, tokens, try_decode
from server.providers.wire import Exchange

Key = tuple[str, int]
"""A part of an item: which list it stands in (text, refusal, summary, thought), and where."""

_TEXTS: Final[dict[str, tuple[str, bool]]] = {
    "response.output_text.delta": ("text", False),
    "response.output_text.done": ("text", True),
    "response.refusal.delta": ("refusal", False),
    "response.refusal.done": ("refusal", True),
    "response.reasoning_summary_text.delta": ("summary", False),
    "response.reasoning_summary_text.done": ("summary", True),
    "response.reasoning_text.delta": ("thought", False),
    "response.reasoning_text.done": ("thought", True),
}
"""Event -> the list that its text belongs to, and whether it repeats all of it."""

_ARGUMENTS: Final[dict[str, bool]] = {
    "response.function_call_arguments.delta": False,
    "response.function_call_arguments.done": True,
    "response.custom_tool_call_input.delta": False,
    "response.custom_tool_call_input.done": True,
}

_ANNOTATION: Final = "response.output_text.annotation.added"
_PART_DONE: Final = "response.content_part.done"

ITEM_EVENTS: Final = frozenset({*_TEXTS, *_ARGUMENTS, _ANNOTATION, _PART_DONE, ADDED, "response.output_item.done"})
"""The events that `ItemWriter` understands. All others about an item tell of progress, and are passed over."""

CLIENT_STEPS: Final = frozenset(
    {"computer_call", "local_shell_call", "shell_call", "apply_patch_call", "mcp_approval_request"}
)
"""Items that ask the caller to act in a way that the contract has no answer for."""


class Shared:
    """What the items of one answer have in common.

    client_customs: names of the caller's own custom tools, None where every custom call is the caller's. new_id: for a
    call without an id. warn: takes code and message.
    """

    def __init__(
        self,
        exchange: Exchange,
        writer: BlockWriter,
        *,
        client_customs: frozenset[str] | None,
        new_id: Callable[[], str],
        warn: Callable[[str, str], None],
    ) -> None:
        self.exchange = exchange
        self.writer = writer
        self.client_customs = client_customs
        self.new_id = new_id
        self.warn = warn
        self.calls = 0
        self.refusal: list[str] = []
        self.annotations: list[msgspec.Raw] = []
        """Those that are no Citation in full: they go into provider_metadata."""
        self._ids: set[str] = set()

    def call_id(self, given_id: str | None) -> str:
        """The provider's id if it can serve, else one of ours: ids are unique within an answer."""
        id = given_id if given_id and given_id not in self._ids else self.new_id()
        self._ids.add(id)
        return id


class ItemWriter:
    """An ItemSink. Shows what comes as it comes, and at the item's end what of it had not come."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._writer = shared.writer
        self._item = Item()
        self._open: Key | None = None
        self._seen: dict[Key, list[str]] = {}
        self._annotations: list[msgspec.Raw] = []
        self._logprobs: list[msgspec.Raw] = []
        self._extras: bytes | None = None
        self._mode: Literal["", "call", "custom", "step"] = ""
        self._arguments: list[str] = []
        self._held = ""

    # --- events -------------------------------------------------------------------------------------------------------

    def take(self, kind: str, event: Event) -> None:
        if (text := _TEXTS.get(kind)) is not None:
            listed, whole = text
            key = (listed, tokens(event.summary_index if listed == "summary" else event.content_index) or 0)
            if whole:
                self._settle(key, event.refusal if listed == "refusal" else event.text, logprobs=event.logprobs)
            else:
                self._piece(key, event.delta or "")
        elif (entire := _ARGUMENTS.get(kind)) is not None:
            if entire:
                self._settle_arguments(event.input if event.input is not None else arguments_text(event.arguments))
            else:
                self._argument(event.delta or "")
        elif kind == ADDED:
            self._begin(bytes(event.item) if given(event.item) else b"{}")
        elif kind == _ANNOTATION and given(event.annotation):
            self._annotations.append(msgspec.Raw(bytes(event.annotation)))
        elif kind == _PART_DONE and event.part is not None and event.part.type == "output_text":
            key = ("text", tokens(event.content_index) or 0)
            self._settle(key, event.part.text, event.part.annotations, event.part.logprobs)

    def finish(self, raw: bytes | None) -> None:
        if raw is not None:
            self._begin(raw)
        kind = self._item.type
        if kind == "message":
            self._message(self._item.content or ())
        elif kind == "reasoning":
            self._reasoning(raw)
        elif self._mode == "step":
            self._step(raw)
        elif self._mode or self._held or kind:
            self._end_call()
        self._end_part()
        self._writer.close()

    def _begin(self, raw: bytes) -> None:
        """Note the item as far as it is known: when it is added, and once more when it is done."""
        kind = decode(OBJECT, raw, "an output item").get("type") or self._item.type
        if kind in ("message", "reasoning"):
            self._item = decode(ITEM, raw, "an output item")
            self._extras = extras(raw) if kind == "message" else None
        elif kind == "function_call" or (kind == CUSTOM_CALL and self._is_clients(raw)):
            self._item = decode(ITEM, raw, "an output item")
            self._extras = extras(raw)
            self._open_call("custom" if kind == CUSTOM_CALL else "call")
        elif kind:
            self._open_step(raw, str(kind))

    def _is_clients(self, raw: bytes) -> bool:
        names = self._shared.client_customs
        return names is None or (try_decode(OBJECT, raw) or {}).get("name") in names

    # --- text and reasoning -------------------------------------------------------------------------------------------

    def _piece(self, key: Key, text: str) -> None:
        if not text:
            return
        if key[0] == "refusal":
            self._shared.refusal.append(text)
        else:
            if self._open != key:
                self._end_part()
                self._writer.open("text" if key[0] == "text" else "reasoning", id=self._item.id or "")
                self._open = key
            self._writer.delta(text)
        self._seen.setdefault(key, []).append(text)

    def _settle(
        self,
        key: Key,
        whole: str | None,
        annotations: list[msgspec.Raw] | None = None,
        logprobs: list[msgspec.Raw] | None = None,
    ) -> None:
        """A part as a whole: what of it had not come is shown now."""
        have = "".join(self._seen.get(key, ()))
        if whole and whole.startswith(have):
            self._piece(key, whole[len(have) :])
        if self._open == key:
            self._annotations = _own(annotations) or self._annotations
            self._logprobs = _own(logprobs) or self._logprobs

    def _end_part(self) -> None:
        """Give the open text block what belongs to its end."""
        if self._open is not None and self._open[0] == "text":
            logprobs = msgspec.json.encode({"content": self._logprobs}).decode() if self._logprobs else ""
            opaque = self._shared.exchange.opaque(self._extras) if self._extras else None
            self._writer.attach(citations=self._citations(), opaque=opaque, logprobs=logprobs)
        self._annotations, self._logprobs, self._open = [], [], None

    def _citations(self) -> list[Citation]:
        found = []
        for raw in self._annotations:
            annotation = try_decode(ANNOTATION, bytes(raw))
            if annotation is None or annotation.type != "url_citation":
                self._shared.annotations.append(raw)
            if annotation is not None and (annotation.url or annotation.filename):
                start, end = tokens(annotation.start_index), tokens(annotation.end_index)
                found.append(Citation(annotation.url, annotation.title or annotation.filename, start=start, end=end))
        return found

    def _message(self, content: Iterable[Part]) -> None:
        for index, part in enumerate(content):
            if part.type == "refusal":
                self._settle(("refusal", index), part.refusal)
            elif part.text is not None:
                self._settle(("text", index), part.text, part.annotations, part.logprobs)
            else:
                self._shared.warn("content_dropped", f"A part of type {part.type} has no place in the neutral answer")

    def _reasoning(self, raw: bytes | None) -> None:
        item = self._item
        for listed, parts in (("summary", item.summary), ("thought", item.content)):
            for index, part in enumerate(parts or ()):
                self._settle((listed, index), part.text)
        # Without `store` the server knows no ids: an item that has neither ciphertext nor text cannot be sent back.
        if raw is None or not (item.encrypted_content or item.content):
            return
        if self._open is None:
            self._writer.open("reasoning", id=item.id or "")
        self._writer.attach(opaque=self._shared.exchange.opaque(raw))

    # --- calls --------------------------------------------------------------------------------------------------------

    def _open_call(self, mode: Literal["call", "custom"]) -> None:
        """Show the call as soon as it has a name; what came before that is held."""
        if self._mode or not self._item.name:
            return
        self._mode = mode
        self._shared.calls += 1
        self._writer.open("tool_call", id=self._shared.call_id(self._item.call_id), name=self._item.name)
        if mode == "custom":
            self._writer.delta('{"input":"')
        held, self._held = self._held, ""
        self._argument(held)

    def _argument(self, text: str) -> None:
        if self._mode == "":
            self._held += text
        elif self._mode != "step" and text:
            self._arguments.append(text)
            self._writer.delta(msgspec.json.encode(text)[1:-1].decode() if self._mode == "custom" else text)

    def _settle_arguments(self, whole: str | None) -> None:
        have = "".join(self._arguments) + self._held
        if whole and whole.startswith(have):
            self._argument(whole[len(have) :])

    def _end_call(self) -> None:
        if self._mode == "":
            raise ProviderProtocolError("The provider sent a tool call without a name.")
        item = self._item
        self._settle_arguments(item.input if self._mode == "custom" else arguments_text(item.arguments))
        whole = "".join(self._arguments)
        if self._mode == "custom":
            self._writer.delta('"}')
        elif whole.strip() and not is_object(whole):
            self._shared.warn(
                "invalid_tool_arguments",
                f"The arguments of tool call {item.call_id} are not a JSON object; they are passed on as they came",
            )
        if self._extras:
            self._writer.attach(opaque=self._shared.exchange.opaque(self._extras))

    # --- steps of server tools ----------------------------------------------------------------------------------------

    def _open_step(self, raw: bytes, kind: str) -> None:
        if self._mode:
            return
        self._mode = "step"
        item = try_decode(OBJECT, raw) or {}
        self._writer.open("server_tool", id=str(item.get("id") or ""), name=step_name(item), type=kind)
        if kind in CLIENT_STEPS:
            self._shared.warn("unanswerable_item", f"An item of type {kind} asks for what this contract cannot answer")

    def _step(self, raw: bytes | None) -> None:
        item: dict[str, Any] = (try_decode(OBJECT, raw) if raw is not None else None) or {}
        self._writer.delta(step_input(item))
        opaque = self._shared.exchange.opaque(raw) if raw is not None else None
        self._writer.attach(output=step_output(item), opaque=opaque)


def _own(raws: list[msgspec.Raw] | None) -> list[msgspec.Raw]:
    """Copies, that do not keep a whole read alive."""
    return [msgspec.Raw(bytes(raw)) for raw in raws or ()]
