"""Messages of the contract as JSON Schemas, in the shape that proto JSON gives them."""

from __future__ import annotations

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

from tools.openapi import limits
from tools.openapi.contract import Contract, UnsupportedContractError
from tools.openapi.limits import Schema

F = FieldDescriptorProto
INT32: Schema = {"type": "integer", "format": "int32"}
UINT32: Schema = {"type": "integer", "format": "int64", "minimum": 0}
# 64-bit integers are strings in proto JSON, so that no reader rounds them; numbers are taken as well.
INT64_OUT: Schema = {"type": "string", "format": "int64"}
INT64_IN: Schema = {"type": ["integer", "string"], "format": "int64"}
SCALARS: dict[int, Schema] = {
    F.TYPE_DOUBLE: {"type": "number", "format": "double"},
    F.TYPE_FLOAT: {"type": "number", "format": "float"},
    F.TYPE_INT32: INT32,
    F.TYPE_SINT32: INT32,
    F.TYPE_SFIXED32: INT32,
    F.TYPE_UINT32: UINT32,
    F.TYPE_FIXED32: UINT32,
    F.TYPE_BOOL: {"type": "boolean"},
    F.TYPE_STRING: {"type": "string"},
    F.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
INT64_TYPES = {F.TYPE_INT64, F.TYPE_UINT64, F.TYPE_SINT64, F.TYPE_FIXED64, F.TYPE_SFIXED64}
WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string", "description": "Full name of the type, as a URL."}},
        "required": ["@type"],
        "additionalProperties": True,
    },
    "google.protobuf.Duration": {"type": "string", "description": "Seconds, e.g. `1.5s`."},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.FieldMask": {"type": "string", "description": "Field names, separated by commas."},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Value": {},
}


class Schemas:
    """Collects the schemas that a document refers to; `components` holds them by short name."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._requests: set[str] = set()
        self.components: dict[str, Schema] = {}

    def expect_requests(self, *names: str) -> None:
        """Note messages that callers send, with all that they contain. Call before any schema is made."""
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in self._requests and name in self._contract.messages:
                self._requests.add(name)
                fields = self._contract.messages[name].proto.field
                pending += [field.type_name.lstrip(".") for field in fields if field.type == F.TYPE_MESSAGE]

    def message(self, name: str) -> Schema:
        """A reference to a message's schema, which is made where it is missing; a well-known type's schema itself."""
        if name in WELL_KNOWN:
            return dict(WELL_KNOWN[name])
        short = self._short(name)
        if short not in self.components:
            self.components[short] = {}  # a message may contain itself
            self.components[short] = self.object(name)
        return {"$ref": f"#/components/schemas/{short}"}

    def object(self, name: str, without: frozenset[str] = frozenset()) -> Schema:
        """The schema of a message, less the fields (proto names) that travel elsewhere."""
        element = self._contract.messages[name]
        schema: Schema = {"type": "object"}
        if element.comment:
            schema["description"] = element.comment
        rules = self._contract.option(element.proto.options, "buf.validate.message")
        for rule in rules.cel if rules is not None else ():
            limits.describe(schema, f"{rule.message[:1].upper()}{rule.message[1:]}.")
        for sentence in self._oneofs(element.proto):
            limits.describe(schema, sentence)
        fields = [field for field in element.proto.field if field.name not in without]
        if fields:
            schema["properties"] = {field.json_name: self.field(name, field) for field in fields}
        required = [field.json_name for field in fields if self.is_required(field)]
        if required:
            schema["required"] = required
        return schema

    def field(self, message: str, field: FieldDescriptorProto) -> Schema:
        """The schema of one field: its type, comment and limits."""
        schema = self._type(message, field)
        if field.label == F.LABEL_REPEATED and "additionalProperties" not in schema:
            schema = {"type": "array", "items": schema}
        comment = self._contract.comment(f"{message}.{field.name}")
        if comment:
            schema["description"] = comment
        if field.options.deprecated:
            schema["deprecated"] = True
        if field.options.debug_redact and message in self._requests:
            schema["writeOnly"] = True
        rules = self._contract.option(field.options, "buf.validate.field")
        if rules is not None:
            try:
                limits.apply(schema, rules)
            except UnsupportedContractError as error:
                raise UnsupportedContractError(f"{message}.{field.name}: {error}") from None
        return schema

    def is_required(self, field: FieldDescriptorProto) -> bool:
        """Whether a request needs the field."""
        rules = self._contract.option(field.options, "buf.validate.field")
        has_presence = field.proto3_optional or field.HasField("oneof_index") or field.type == F.TYPE_MESSAGE
        return rules is not None and limits.is_required(rules, has_presence and field.label != F.LABEL_REPEATED)

    def _oneofs(self, message: DescriptorProto) -> list[str]:
        """A sentence for each real oneof, which JSON Schema shows as optional properties."""
        sentences = []
        for index, oneof in enumerate(message.oneof_decl):
            members = [f for f in message.field if f.HasField("oneof_index") and f.oneof_index == index]
            if any(member.proto3_optional for member in members):
                continue
            required = self._contract.option(oneof.options, "buf.validate.oneof")
            count = "Exactly" if required is not None and required.required else "At most"
            sentences.append(f"{count} one of {', '.join(f'`{member.json_name}`' for member in members)} is set.")
        return sentences

    def _type(self, message: str, field: FieldDescriptorProto) -> Schema:
        name = field.type_name.lstrip(".")
        if field.type in SCALARS:
            return dict(SCALARS[field.type])
        if field.type in INT64_TYPES:
            return dict(INT64_IN if message in self._requests else INT64_OUT)
        if field.type == F.TYPE_ENUM:
            return {"type": "string", "enum": [value.name for value in self._contract.enums[name].proto.value]}
        if field.type != F.TYPE_MESSAGE or (name.startswith("google.protobuf.") and name not in WELL_KNOWN):
            raise UnsupportedContractError(f"{message}.{field.name}: no schema for {name or field.type}")
        entry = self._contract.messages[name].proto
        if entry.options.map_entry:
            return {"type": "object", "additionalProperties": self._type(name, entry.field[1])}
        return self.message(name)

    def _short(self, name: str) -> str:
        return name.removeprefix(f"{self._contract.package}.")
