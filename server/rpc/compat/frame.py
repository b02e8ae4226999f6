"""What dialects share: their JSON read strictly, what it holds beyond the known, bytes out, what is told beside."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeVar

import msgspec
from google.api import httpbody_pb2

from server.core.errors import InvalidRequest
from server.core.events import StreamEvent, Warning
from server.core.messages import Inline, Passthrough, Remote, Source
from server.rpc.call import Call
from server.rpc.model_call import Render

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream; charset=utf-8"

WARNING_HEADER: Final = "x-dragoman-warning"
MOST_WARNING_HEADERS: Final = 16

Unknown = dict[str, dict[str, Any]]
"""Members that a dialect's types do not know, by their object's place: "" for the top, `messages[0].content[1]`."""

_T = TypeVar("_T", bound=msgspec.Struct)
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$(?P<place>.*?)`)?$", re.DOTALL)
_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?:;[^;,]*)*?;base64,", re.IGNORECASE)


# --- in ---------------------------------------------------------------------------------------------------------------


def read(decoder: msgspec.json.Decoder[_T], data: bytes, at: str = "") -> tuple[_T, Unknown]:
    """A body, typed; and what its types do not know. at: where it stands, for places and errors.

    Raises InvalidRequest that names the place and quotes nothing.
    """
    try:
        typed = decoder.decode(data)
        found: Unknown = {}
        _unknown(typed, msgspec.json.decode(data), at, found)
    except msgspec.ValidationError as error:
        match = _PLACE.match(str(error))
        what, place = (match["what"], match["place"] or "") if match else (str(error), "")
        raise InvalidRequest.field((at + place).removeprefix(".") or "body", _in_words(what)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        said = str(error) if isinstance(error, msgspec.DecodeError) else "it is not UTF-8"
        raise InvalidRequest.field(at or "body", f"is not valid JSON ({said})") from None
    except RecursionError:
        raise InvalidRequest.field(at or "body", "is nested too deeply") from None
    return typed, found


def _in_words(what: str) -> str:
    """msgspec's sentence, without a value that it repeats."""
    return re.sub(r"^Invalid value .*$", "has a value that is not known here", what, flags=re.DOTALL)


@cache
def _names(type: type[msgspec.Struct]) -> tuple[tuple[tuple[str, str], ...], frozenset[str]]:
    """A struct's fields with their names in JSON, and all names that it knows."""
    fields = tuple((field.name, field.encode_name) for field in msgspec.structs.fields(type))
    tag = type.__struct_config__.tag_field
    return fields, frozenset(name for _, name in fields) | ({tag} if tag else frozenset())


def _unknown(typed: msgspec.Struct, raw: Any, place: str, found: Unknown) -> None:
    fields, known = _names(type(typed))
    # A null says nothing.
    if extra := {name: value for name, value in raw.items() if name not in known and value is not None}:
        found[place] = extra
    for name, encoded in fields:
        value = getattr(typed, name)
        below = f"{place}.{encoded}" if place else encoded
        if isinstance(value, msgspec.Struct):
            _unknown(value, raw[encoded], below, found)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, msgspec.Struct):
                    _unknown(item, raw[encoded][index], f"{below}[{index}]", found)


def passthrough(wire: str, unknown: Unknown) -> Passthrough | None:
    """Unknown members for a provider of the same wire."""
    members = {place: msgspec.json.encode(found).decode() for place, found in unknown.items() if found}
    return Passthrough(wire, members) if members else None


def given(raw: msgspec.Raw) -> bool:
    """Whether a raw member came, and not as null."""
    return bytes(raw) not in (b"", b"null")


def base64_bytes(text: str, place: str) -> bytes:
    """The bytes of base64 text. Raises InvalidRequest naming `place`."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        raise InvalidRequest.field(place, "must be base64") from None
    if not data:
        raise InvalidRequest.field(place, "must not be empty")
    return data


def source_of_url(url: str, place: str) -> Source:
    """Media by URL: a `data:` URL is the media itself, any other is fetched by the provider."""
    if url[:5].lower() != "data:":
        if not url:
            raise InvalidRequest.field(place, "must not be empty")
        return Remote(url)
    match = _DATA_URL.match(url)
    if match is None or not match["type"]:
        raise InvalidRequest.field(place, "must be a data URL of the form data:<media type>;base64,<data>")
    return Inline(match["type"], base64_bytes(url[match.end() :], place))


def header(call: Call, name: str) -> str:
    """A header of the caller, "" where it sent none."""
    for key, value in call.context.invocation_metadata() or ():
        if key == name and isinstance(value, str):
            return value.strip()
    return ""


def named_workspace(call: Call, *more: str) -> str:
    """The workspace that the caller names by header `x-workspace-id`, "" for none. more: further headers, by which only
    an organisation key names one: SDKs send them by themselves, with ids of their own API."""
    named = header(call, "x-workspace-id")
    if not named and call.caller.workspace_id is None:
        return next((value for name in more if (value := header(call, name))), "")
    return named


# --- out --------------------------------------------------------------------------------------------------------------


def http_body(data: bytes, content_type: str = JSON) -> httpbody_pb2.HttpBody:
    """Bytes as they go out."""
    return httpbody_pb2.HttpBody(content_type=content_type, data=data)


def event_bodies(render: Callable[[Sequence[StreamEvent]], bytes]) -> Render:
    """A renderer's frames as messages: one for each batch that says something in its dialect."""

    def bodies(batch: Sequence[StreamEvent]) -> Sequence[httpbody_pb2.HttpBody]:
        frames = render(batch)
        return (httpbody_pb2.HttpBody(content_type=EVENTS, data=frames),) if frames else ()

    return bodies


def json_body(value: object) -> httpbody_pb2.HttpBody:
    """A value as JSON."""
    return http_body(msgspec.json.encode(value))


async def begin(call: Call, warnings: Sequence[Warning]) -> None:
    """Send the headers: what of the request was changed, as far as it is known. After this nothing may fail as a
    status."""
    told = dict.fromkeys(_ascii(f"{one.code} {one.parameter}".strip()) for one in warnings)
    await call.context.send_initial_metadata(tuple((WARNING_HEADER, value) for value in [*told][:MOST_WARNING_HEADERS]))


async def write_whole(call: Call, body: httpbody_pb2.HttpBody, warnings: Sequence[Warning]) -> None:
    """Write an answer that is no stream, by a method that can answer with one."""
    await begin(call, warnings)
    await call.context.write(body)


def told_warnings(warnings: Sequence[Warning]) -> list[dict[str, str]]:
    """Warnings as JSON."""
    return [{"code": one.code, "parameter": one.parameter, "message": one.message} for one in warnings]


def decoded(text: str) -> Mapping[str, Any]:
    """JSON text of an object as a mapping, {} for anything else."""
    try:
        found = msgspec.json.decode(text) if text else {}
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode().replace("\n", " ").replace("\r", " ")
