"""The frame that all adapters share: what a wire is, and what it is given.

An adapter is pure. It turns a call into an HTTP request and bytes into events; `runner.py` does the I/O once for all of
them. Each wire's module has the same roles under the same names:

    build_request      ProviderCall -> BuiltRequest
    parse_response     the body of a whole answer -> the same events that a stream would have
    stream_parser      a StreamParser for an answer that arrives in pieces
    map_finish_reason  the provider's word -> the neutral one
    map_usage          the provider's counts -> Usage
    map_error          a refusal -> ProviderError
    build_list_models, parse_models, build_validate
    build_embed, parse_embed   EmbedCall -> the requests it takes, and the vectors of each answer; where there are such
    build_count, parse_count   ProviderCall -> the request for its count of tokens, and that count; where there is one

Beside it: `errors.py` (status, type and code to error), `parsing.py` (decoding, and the base of stream parsers),
`blocks.py` (one block after the other), `params.py` (what a model does not take; provider_options).
"""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol

import msgspec

from server.core.embedding import Vector
from server.core.errors import ProviderError, UnsupportedParameter
from server.core.events import Started, StreamEvent, Usage, Warning
from server.core.messages import NATIVE, Opaque
from server.core.ports import EmbedCall, ListedModel, ProviderCall, ProviderTarget
from server.providers.errors import rate_limit, request_id
from server.providers.http import HttpRequest

Clock = Callable[[], float]
"""Seconds since the epoch."""

IdSource = Callable[[], str]
"""A new id for a tool call of which the provider gives none."""


def random_call_id() -> str:
    """An id as OpenAI forms them, unique without coordination."""
    return f"call_{uuid.uuid4().hex[:24]}"


class BuiltRequest(msgspec.Struct, frozen=True):
    """What goes out, and what of the call was changed for it."""

    http: HttpRequest
    warnings: tuple[Warning, ...] = ()


class Exchange(msgspec.Struct, frozen=True):
    """One call and the head of its response. headers: lower-case names. warnings: of the request that was built. wire:
    `Wire.dialect`."""

    call: ProviderCall
    status: int
    headers: Mapping[str, str]
    warnings: tuple[Warning, ...] = ()
    wire: str = ""

    def started(self, *, id: str | None, model: str | None) -> Started:
        """The Started event: the model that the provider names, else the one that was asked for."""
        return Started(
            provider=self.call.target.provider,
            model=model or self.call.model,
            id=id or "",
            request_id=request_id(self.headers),
            warnings=self.warnings,
            wire=self.wire,
        )

    def opaque(self, data: bytes) -> Opaque:
        """Data that goes back with the next turn, bound to this provider and to the model as it was asked for."""
        return Opaque(self.call.target.provider, self.call.model, data)

    def provider_metadata(self, extra: Mapping[str, object]) -> str:
        """JSON text of `extra`, with `rate_limit` from the headers; "" when there is nothing. Values: JSON, or Raw."""
        found = dict(extra)
        if None in found.values():
            found = {key: value for key, value in extra.items() if value is not None}
        if limits := rate_limit(self.headers):
            found["rate_limit"] = limits
        return msgspec.json.encode(found).decode() if found else ""


def own_data(opaque: Opaque | None, call: ProviderCall, wire: str = "") -> bytes | None:
    """What `Exchange.opaque` kept, if it belongs to this call's provider and model, or what a caller brought in the
    form of this `wire` (`Wire.dialect`); else None."""
    if opaque is not None and opaque.provider == NATIVE:
        return opaque.data if wire and opaque.model == wire else None
    if opaque is None or (opaque.provider, opaque.model) != (call.target.provider, call.model):
        return None
    return opaque.data


class EmbedPiece(msgspec.Struct, frozen=True):
    """One request of a call: it asks for the vectors of `count` inputs from `start` on."""

    http: HttpRequest
    start: int
    count: int


class EmbedPlan(msgspec.Struct, frozen=True):
    """All requests of a call, and what of the call was changed for them. wire: `Passthrough.wire` of what it takes."""

    pieces: tuple[EmbedPiece, ...]
    warnings: tuple[Warning, ...] = ()
    wire: str = ""


class EmbedExchange(msgspec.Struct, frozen=True):
    """One of them, and the head of its response. headers: lower-case names."""

    call: EmbedCall
    piece: EmbedPiece
    headers: Mapping[str, str]


class EmbedAnswer(msgspec.Struct, frozen=True):
    """Its vectors, in the order of its inputs. model: "" where the provider names none."""

    vectors: list[Vector[float]]
    usage: Usage = Usage()
    model: str = ""


class ModelPage(msgspec.Struct, frozen=True):
    """A page of a provider's list. next_page: what `build_list_models` takes for the next one, None after the last."""

    models: tuple[ListedModel, ...]
    next_page: str | None = None


class StreamParser(Protocol):
    """Bytes to events, for one answer. Pure: it never raises for what a provider sent, it fails in the stream."""

    @property
    def finished(self) -> bool:
        """Whether the terminal event is out; what comes after it is of no interest."""
        ...

    def feed(self, data: bytes) -> list[StreamEvent]:
        """The events that these bytes complete; none after the terminal one."""
        ...

    def end(self) -> list[StreamEvent]:
        """The body has ended: what was held back, and the terminal event if it is not out yet. Failed(StreamTruncated)
        unless the provider had said that the answer is whole: a finish is never made up."""
        ...


class Wire(ABC):
    """One protocol. Holds no state of a call, so one instance serves all.

    clock: for signatures and for retry hints given as a date. new_id: for tool calls without an id.
    """

    dialect: ClassVar[str] = ""
    """Name of the protocol where callers may speak it too (`openai_chat`, ...): between such, what the neutral request
    has no place for still passes."""

    def __init__(self, *, clock: Clock = time.time, new_id: IdSource = random_call_id) -> None:
        self._clock = clock
        self._new_id = new_id

    def dialect_of(self, call: ProviderCall) -> str:  # noqa: ARG002  one protocol, whatever the call
        """The name for this call, where a wire is two protocols."""
        return self.dialect

    @abstractmethod
    def build_request(self, call: ProviderCall) -> BuiltRequest:
        """The whole request, credential included. Raises InvalidRequest for what this wire cannot say, NotConfigured
        for a target that lacks something."""

    @abstractmethod
    def parse_response(self, exchange: Exchange, body: bytes) -> list[StreamEvent]:
        """A whole answer (2xx): Started, blocks, Completed. Raises ProviderError for an error that came with a 2xx,
        and ProviderProtocolError for what is no answer."""

    @abstractmethod
    def stream_parser(self, exchange: Exchange) -> StreamParser:
        """A new parser for the body of a 2xx."""

    @abstractmethod
    def map_error(self, target: ProviderTarget, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """The error of a response that is no 2xx. Takes any body: JSON, a proxy's HTML, nothing."""

    @abstractmethod
    def build_list_models(self, target: ProviderTarget, page: str | None = None) -> HttpRequest:
        """The request for the provider's models; page: what `ModelPage.next_page` said."""

    @abstractmethod
    def parse_models(self, body: bytes, page: str | None = None) -> ModelPage:
        """The list. page: the one that was asked for. Raises ProviderProtocolError."""

    def build_validate(self, target: ProviderTarget) -> HttpRequest:
        """The cheapest request that only a good credential passes. By default the list of models."""
        return self.build_list_models(target)

    def build_embed(self, call: EmbedCall) -> EmbedPlan:
        """The requests of an embedding call, as few as the provider's limits allow. Raises as `build_request` does, and
        UnsupportedParameter where the provider makes no embeddings."""
        raise UnsupportedParameter.field("model", f"the provider {call.target.provider} makes no embeddings")

    def parse_embed(self, exchange: EmbedExchange, body: bytes) -> EmbedAnswer:
        """The vectors of one answer (2xx). Raises as `parse_response` does."""
        raise NotImplementedError

    def build_count(self, call: ProviderCall) -> BuiltRequest:
        """The request that counts the tokens of what `build_request` would send. Raises as that does, and
        UnsupportedParameter where the provider counts none."""
        raise UnsupportedParameter.field(
            "model", f"the provider {call.target.provider} counts no tokens; only a call's own usage tells them"
        )

    def parse_count(self, body: bytes) -> int:
        """The count of an answer (2xx). Raises ProviderProtocolError where there is none."""
        raise NotImplementedError

    def map_validation_error(
        self, target: ProviderTarget, status: int, headers: Mapping[str, str], body: bytes
    ) -> ProviderError:
        """The error of a validation; for providers that answer a bad key with a status that means something else."""
        return self.map_error(target, status, headers, body)
