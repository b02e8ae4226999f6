"""The contract's REST side as an OpenAPI 3.1 document: paths from google.api.http, limits from buf.validate.

Written here because no generator at hand reads protovalidate's rules, and all of them would put Go beside Python; see
docs/decisions/dependencies.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet, MethodDescriptorProto

from tools.openapi.contract import Contract, UnsupportedContractError
from tools.openapi.limits import Schema, describe
from tools.openapi.schemas import Schemas

__all__ = ["UnsupportedContractError", "document", "render"]

PACKAGE = "dragoman.v1"
HTTP_BODY = "google.api.HttpBody"
# A path `P:verb` is another form of the answer of `P`, which callers ask for by its media type on `P` itself.
VARIANTS = {"stream": "text/event-stream", "text": "text/plain"}
# The same, for what callers ask for by a header of a dialect.
HEADER_VARIANTS = {"anthropic": "anthropic-version"}
DESCRIPTION = """\
Three REST surfaces over one gRPC contract, transcoded.

Names are lowerCamelCase; snake_case is accepted too. A null is the same as an absent member. Every error is the JSON
object `Error`, whoever raises it."""

ERROR: Schema = {
    "type": "object",
    "description": "Any failure.",
    "properties": {
        "success": {"type": "boolean", "const": False},
        "code": {"type": "integer", "description": "Number of the gRPC status code."},
        "status": {"type": "string", "description": "Name of the gRPC status code, e.g. `INVALID_ARGUMENT`."},
        "message": {"type": "string", "description": "For people."},
        "details": {
            "type": "array",
            "description": "google.rpc messages: BadRequest names fields, ErrorInfo the reason and whose fault it is, "
            "RetryInfo how long to wait (also in the `retry-after` header).",
            "items": {"type": "object", "properties": {"@type": {"type": "string"}}, "additionalProperties": True},
        },
    },
    "required": ["success", "code", "status", "message"],
}
ERROR_REFERENCE: Schema = {"$ref": "#/components/schemas/Error"}
# Probes carry no key.
KEYLESS = {f"{PACKAGE}.StatusService"}
SECURITY_SCHEMES: Schema = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A caller's key."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key."},
}


@dataclass(frozen=True)
class Binding:
    """One google.api.http rule of one RPC. number: 1 for the rule itself, then its additional bindings."""

    service: str
    method: MethodDescriptorProto
    comment: str
    verb: str
    template: str
    body: str
    number: int

    @property
    def path(self) -> str:
        """The template as OpenAPI writes it: `{id=**}` is `{id}`."""
        return re.sub(r"\{(\w+)=[^}]*\}", r"{\1}", self.template)

    @property
    def takes_anything(self) -> bool:
        """Whether its body is JSON that the contract does not describe."""
        return bool(self.body) and self.method.input_type.lstrip(".") == HTTP_BODY

    @property
    def answers_anything(self) -> bool:
        """Whether its answer is bytes that the contract does not describe."""
        return self.method.output_type.lstrip(".") == HTTP_BODY

    @property
    def parameters(self) -> list[tuple[str, bool]]:
        """The path's variables (proto names), and whether one may hold slashes."""
        return [(name, "**" in rest) for name, rest in re.findall(r"\{([\w.]+)(=[^}]*)?\}", self.template)]


def document(files: FileDescriptorSet) -> dict[str, Any]:
    """The document for a descriptor set with source info.

    Raises UnsupportedContractError where the contract uses what the document could not show.
    """
    contract = Contract(files, PACKAGE)
    bindings = [binding for service in contract.services for binding in _bindings(contract, service.name)]
    schemas = Schemas(contract)
    schemas.expect_requests(*(one.method.input_type.lstrip(".") for one in bindings if not one.takes_anything))
    paths: dict[str, dict[str, Any]] = {}
    variants = []
    for binding in bindings:
        base, _, variant = binding.path.rpartition(":")
        is_variant = any(other.path == base and other.verb == binding.verb for other in bindings)
        if variant in VARIANTS | HEADER_VARIANTS and is_variant:
            variants.append((base, variant, binding))
        else:
            paths.setdefault(binding.path, {})[binding.verb] = _operation(contract, schemas, binding)
    for base, variant, binding in variants:
        _add_variant(contract, schemas, paths[base][binding.verb], variant, binding)
    shown = [service for service in contract.services if any(b.service == service.name for b in bindings)]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Dragoman", "version": "v1", "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{name: []} for name in SECURITY_SCHEMES],
        "tags": [{"name": _short(service.name), "description": service.comment} for service in shown],
        "paths": paths,
        "components": {
            "securitySchemes": SECURITY_SCHEMES,
            "responses": {
                "Error": {"description": "Failed.", "content": _json({"$ref": "#/components/schemas/Error"})}
            },
            "schemas": {"Error": ERROR, **dict(sorted(schemas.components.items()))},
        },
    }


def _add_variant(
    contract: Contract, schemas: Schemas, operation: dict[str, Any], variant: str, binding: Binding
) -> None:
    """Add what another form of an operation answers, and takes beyond it."""
    if variant in HEADER_VARIANTS:
        describe(operation, f"With an `{HEADER_VARIANTS[variant]}` header: {binding.comment}")
        known = {parameter["name"] for parameter in operation.get("parameters", ())}
        more = [p for p in _parameters(contract, schemas, binding) if p["name"] not in known]
        operation["parameters"] = operation.get("parameters", []) + more
        return
    media_type = VARIANTS[variant]
    schema = {"type": "string"} if binding.answers_anything else _answer(schemas, binding)
    operation["responses"]["200"]["content"][media_type] = {"schema": schema}
    describe(operation, f"With `Accept: {media_type}`: {binding.comment}")


def render(content: dict[str, Any]) -> str:
    """The document as YAML, texts of several lines as blocks."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Block style for texts of several lines, and no anchors."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _bindings(contract: Contract, service: str) -> Iterator[Binding]:
    element = next(one for one in contract.services if one.name == service)
    for method in element.proto.method:
        rule = contract.option(method.options, "google.api.http")
        for number, one in enumerate([rule, *rule.additional_bindings] if rule is not None else [], start=1):
            verb = one.WhichOneof("pattern")
            if verb == "custom" or one.body not in {"", "*"} or one.response_body:
                raise UnsupportedContractError(f'{service}.{method.name}: only plain verbs with body "*" or none')
            comment = contract.comment(f"{service}.{method.name}")
            yield Binding(service, method, comment, verb, getattr(one, verb), one.body, number)


def _operation(contract: Contract, schemas: Schemas, binding: Binding) -> dict[str, Any]:
    service, request = _short(binding.service), binding.method.input_type.lstrip(".")
    first, _, rest = binding.comment.partition("\n\n")
    summary, _, more = " ".join(first.split()).partition(". ")
    description = "\n\n".join(part for part in (more, rest) if part)
    suffix = f"_{binding.number}" if binding.number > 1 else ""
    operation: dict[str, Any] = {
        "operationId": f"{service}_{binding.method.name}{suffix}",
        "tags": [service],
        "summary": summary.rstrip("."),
    }
    if description:
        operation["description"] = description
    if binding.service in KEYLESS:
        operation["security"] = []
    parameters = list(_parameters(contract, schemas, binding))
    if parameters:
        operation["parameters"] = parameters
    if binding.body:
        operation["requestBody"] = _request_body(schemas, binding, request)
    operation["responses"] = {
        "200": {"description": "Done.", "content": _content(schemas, binding)},
        "default": {"$ref": "#/components/responses/Error"},
    }
    return operation


def _request_body(schemas: Schemas, binding: Binding, request: str) -> dict[str, Any]:
    if binding.takes_anything:
        return {"required": True, "content": _json({"type": "object", "additionalProperties": True})}
    in_path = frozenset(name for name, _ in binding.parameters)
    body = schemas.object(request, in_path) if in_path else schemas.message(request)
    whole = schemas.object(request, in_path)
    return {"required": bool(whole.get("required")), "content": _json(body)}


def _parameters(contract: Contract, schemas: Schemas, binding: Binding) -> Iterator[dict[str, Any]]:
    """The path's variables, then, for a request without a body, all other fields as query parameters."""
    request = binding.method.input_type.lstrip(".")
    fields = {field.name: field for field in contract.messages[request].proto.field}
    for name, slashes in binding.parameters:
        if name not in fields:
            raise UnsupportedContractError(f"{binding.template}: {request} has no field {name}")
        parameter = _parameter(schemas, request, fields.pop(name), "path")
        if slashes:
            describe(parameter, "May hold slashes, which are sent as they are.")
        yield parameter
    if not binding.body:
        for field in fields.values():
            if field.type == FieldDescriptorProto.TYPE_MESSAGE:
                raise UnsupportedContractError(f"{request}.{field.name}: a message is no query parameter")
            yield _parameter(schemas, request, field, "query")


def _parameter(schemas: Schemas, request: str, field: FieldDescriptorProto, place: str) -> dict[str, Any]:
    schema = schemas.field(request, field)
    description = schema.pop("description", "")
    name = field.name if place == "path" else field.json_name
    required = place == "path" or schemas.is_required(field)
    return {"name": name, "in": place, "required": required, "description": description, "schema": schema}


def _content(schemas: Schemas, binding: Binding) -> dict[str, Any]:
    """The media types of an answer. A dialect's stream is one JSON object unless the body asks for events."""
    stream = {"text/event-stream": {"schema": _answer(schemas, binding)}} if binding.method.server_streaming else {}
    if binding.takes_anything or not stream:
        return _json(_answer(schemas, binding)) | stream
    return stream


def _answer(schemas: Schemas, binding: Binding) -> Schema:
    return {} if binding.answers_anything else schemas.message(binding.method.output_type.lstrip("."))


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _short(name: str) -> str:
    return name.removeprefix(f"{PACKAGE}.")
