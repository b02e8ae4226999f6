"""The compiled contract, ready to be asked: elements by name, their comments, their options by extension."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# Field numbers inside descriptor.proto, by which SourceCodeInfo addresses an element.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE = 4, 5, 6
MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM = 2, 3, 4
SERVICE_METHOD, ENUM_VALUE = 2, 2


class UnsupportedContractError(Exception):
    """The contract uses something that the OpenAPI document would show wrongly or not at all."""


Proto = TypeVar("Proto")


@dataclass(frozen=True)
class Element(Generic[Proto]):
    """A descriptor, its full name (no leading dot), and the comment above it."""

    name: str
    proto: Proto
    comment: str


class Contract:
    """A descriptor set with source info. Its own package is `package`; everything else in it is an import."""

    def __init__(self, files: descriptor_pb2.FileDescriptorSet, package: str) -> None:
        self.package = package
        self.messages: dict[str, Element[descriptor_pb2.DescriptorProto]] = {}
        self.enums: dict[str, Element[descriptor_pb2.EnumDescriptorProto]] = {}
        self.services: list[Element[descriptor_pb2.ServiceDescriptorProto]] = []
        self._comments: dict[str, str] = {}
        self._pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self._pool.AddSerializedFile(file.SerializeToString())
            self._index(file)

    def comment(self, name: str) -> str:
        """The comment above a field, RPC or enum value, by its full name; empty where there is none."""
        return self._comments.get(name, "")

    def option(self, options: Any, extension: str) -> Any | None:
        """An extension of some options, typed by this contract's own pool; None where it is not set."""
        factory = message_factory.GetMessageClass(self._pool.FindMessageTypeByName(options.DESCRIPTOR.full_name))
        typed: Any = factory.FromString(options.SerializeToString())
        found = self._pool.FindExtensionByName(extension)
        is_set = len(typed.Extensions[found]) > 0 if found.is_repeated else typed.HasExtension(found)
        return typed.Extensions[found] if is_set else None

    def _index(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        locations = {tuple(one.path): one.leading_comments for one in file.source_code_info.location}
        comments = {path: _unindent(text) for path, text in locations.items() if text}
        for name, path, message in _messages(file):
            self.messages[name] = Element(name, message, comments.get(path, ""))
            for index, field in enumerate(message.field):
                self._comments[f"{name}.{field.name}"] = comments.get((*path, MESSAGE_FIELD, index), "")
            for index, nested in enumerate(message.enum_type):
                place = (*path, MESSAGE_ENUM, index)
                self.enums[f"{name}.{nested.name}"] = Element(f"{name}.{nested.name}", nested, comments.get(place, ""))
        for index, enum in enumerate(file.enum_type):
            name = f"{file.package}.{enum.name}"
            self.enums[name] = Element(name, enum, comments.get((FILE_ENUM, index), ""))
        for index, service in enumerate(file.service):
            name = f"{file.package}.{service.name}"
            self.services.append(Element(name, service, comments.get((FILE_SERVICE, index), "")))
            for number, method in enumerate(service.method):
                place = (FILE_SERVICE, index, SERVICE_METHOD, number)
                self._comments[f"{name}.{method.name}"] = comments.get(place, "")


def _messages(
    file: descriptor_pb2.FileDescriptorProto,
) -> Iterator[tuple[str, tuple[int, ...], descriptor_pb2.DescriptorProto]]:
    """Every message of a file, nested ones too: full name, address, descriptor."""
    pending: list[tuple[str, tuple[int, ...], descriptor_pb2.DescriptorProto]] = [
        (f"{file.package}.{one.name}", (FILE_MESSAGE, i), one) for i, one in enumerate(file.message_type)
    ]
    while pending:
        name, path, message = pending.pop(0)
        yield name, path, message
        pending += [
            (f"{name}.{one.name}", (*path, MESSAGE_NESTED, index), one) for index, one in enumerate(message.nested_type)
        ]


def _unindent(comment: str) -> str:
    """A comment as text: each line loses the one space that follows the slashes."""
    return "\n".join(line.removeprefix(" ").rstrip() for line in comment.splitlines()).strip("\n")
