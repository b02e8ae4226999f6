"""The contract as a Lua table for edge/strict.lua: paths, their verbs, and the fields that a JSON body may hold."""

from __future__ import annotations

import re
from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet

from tools.openapi.contract import Contract, UnsupportedContractError

PACKAGE = "dragoman.v1"
HTTP_BODY = "google.api.HttpBody"
BANNER = "-- Generated from protos/ by `make gen`. Do not edit.\n"

# Path -> verb -> full name of the request message; True where the body is the server's to read (HttpBody), None where
# the call takes no body.
Paths = dict[str, dict[str, str | bool | None]]


def render(files: FileDescriptorSet) -> str:
    """The table for a descriptor set.

    Raises UnsupportedContractError where a body may hold what the table could not describe.
    """
    contract = Contract(files, PACKAGE)
    paths: Paths = {}
    for path, verb, message in _bindings(contract):
        paths.setdefault(path, {})[verb] = message
    exact = {path: verbs for path, verbs in paths.items() if "{" not in path}
    # A template with fewer wildcards, then the longer one, is the more particular: it is tried first.
    templates = sorted(paths.keys() - exact.keys(), key=lambda path: ("**" in path, -len(path), path))
    messages = _messages(
        contract, {name for verbs in paths.values() for name in verbs.values() if isinstance(name, str)}
    )
    lines = [BANNER + "return {"]
    lines += ["  -- path -> verb -> request message (true: any body; false: none)", "  paths = {"]
    lines += [f'    ["{path}"] = {_verbs(exact[path])},' for path in sorted(exact)]
    lines += ["  },", "  -- the same for paths with variables, as Lua patterns, the most particular first"]
    lines += ["  templates = {", *(f'    {{"{pattern(path)}", {_verbs(paths[path])}}},' for path in templates), "  },"]
    lines += ["  -- message -> each field's JSON and proto name -> its message, false: one plain value, true: anything"]
    lines += ["  messages = {"]
    for name in sorted(messages):
        lines += [f'    ["{name}"] = {{']
        lines += [f'      ["{field}"] = {_lua(kind)},' for field, kind in sorted(messages[name].items())]
        lines += ["    },"]
    return "\n".join([*lines, "  },", "}", ""])


def pattern(template: str) -> str:
    """A path template of google.api.http as a Lua pattern: `{id}` is one segment, `{id=**}` is everything."""
    parts = re.split(r"(\{[^}]*\})", template)
    words = [
        (".+" if "**" in part else "[^/]+") if part.startswith("{") else re.sub(r"([-^$()%.\[\]*+?])", r"%\1", part)
        for part in parts
    ]
    return f"^{''.join(words)}$"


def _verbs(verbs: dict[str, str | bool | None]) -> str:
    return f"{{{', '.join(f'{verb} = {_lua(name or False)}' for verb, name in sorted(verbs.items()))}}}"


def _lua(value: str | bool) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _bindings(contract: Contract) -> Iterator[tuple[str, str, str | bool | None]]:
    """Path template, verb, and what body each REST binding takes (see Paths)."""
    for service in contract.services:
        for method in service.proto.method:
            rule = contract.option(method.options, "google.api.http")
            for one in [rule, *rule.additional_bindings] if rule is not None else []:
                verb = one.WhichOneof("pattern")
                if verb == "custom" or one.body not in {"", "*"}:
                    raise UnsupportedContractError(
                        f'{service.name}.{method.name}: only plain verbs with body "*" or none'
                    )
                message: str | bool | None = method.input_type.lstrip(".") if one.body else None
                yield getattr(one, verb), verb.upper(), message if message != HTTP_BODY else True


def _messages(contract: Contract, roots: set[str]) -> dict[str, dict[str, str | bool]]:
    """The fields of every message that a body may hold, from the request messages down."""
    found: dict[str, dict[str, str | bool]] = {}
    pending = sorted(roots)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        fields: dict[str, str | bool] = {}
        for field in contract.messages[name].proto.field:
            kind = _kind(contract, name, field)
            fields[field.name] = fields[field.json_name] = kind
            if isinstance(kind, str):
                pending.append(kind)
        found[name] = fields
    return found


def _kind(contract: Contract, owner: str, field: FieldDescriptorProto) -> str | bool:
    """A message of the contract's own by its name; False for a scalar; True for lists and maps of scalars, and for what
    has a JSON form of its own."""
    if field.type != FieldDescriptorProto.TYPE_MESSAGE:
        return field.label == FieldDescriptorProto.LABEL_REPEATED
    name = field.type_name.lstrip(".")
    if not name.startswith(f"{contract.package}."):
        return True
    message = contract.messages[name].proto
    if not message.options.map_entry:
        return name
    if any(one.name == "value" and one.type == FieldDescriptorProto.TYPE_MESSAGE for one in message.field):
        raise UnsupportedContractError(f"{owner}.{field.name}: a map of messages cannot be checked at the edge")
    return True
