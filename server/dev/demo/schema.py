"""A JSON value that fits a JSON Schema of simple types, always the same one for the same schema and subject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNSUPPORTED = frozenset(
    {
        "pattern",
        "not",
        "if",
        "contains",
        "patternProperties",
        "propertyNames",
        "dependentRequired",
        "dependentSchemas",
        "unevaluatedProperties",
        "prefixItems",
        "minProperties",
    }
)
"""Keywords that a value cannot be made to fit here; `fit` names them instead of ignoring them."""

ROOMY_DEPTH = 4
"""Down to here optional properties are filled and arrays have an element; below only what is required."""

MAX_DEPTH = 32
MAX_ITEMS = 64
MAX_VALUES = 10_000
MAX_LENGTH = 4096

_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class SchemaRefused(Exception):
    """No value can be made for this schema; says where and why, with nothing of the prompt."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"In {path}: {reason}")


def fit(schema: object, subject: str, *, strict: bool = True) -> Any:
    """A value for `schema`, whose free strings are `subject`.

    strict: refuse keywords that are not honoured (`UNSUPPORTED`) instead of passing over them.
    Raises SchemaRefused for these, for unknown types and references, for contradictory limits, endless recursion,
    values of more than MAX_VALUES parts, and keywords of a wrong type.
    """
    try:
        return _Fitter(schema, subject, strict).value(schema, "$", 0)
    except (TypeError, ValueError, AttributeError, ArithmeticError) as exc:
        raise SchemaRefused("$", "a keyword has a value of a wrong type") from exc


class _Fitter:
    def __init__(self, root: object, subject: str, strict: bool) -> None:
        self._root = root
        self._subject = subject
        self._strict = strict
        self._values = 0

    def value(self, schema: object, path: str, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            raise SchemaRefused(path, f"the value would have more than {MAX_VALUES} parts")
        if schema is True or schema == {}:
            return self._subject
        if not isinstance(schema, Mapping):
            raise SchemaRefused(path, "this is no schema")
        if depth > MAX_DEPTH:
            raise SchemaRefused(path, "the schema recurses without an end")
        if self._strict and (unsupported := UNSUPPORTED & schema.keys()):
            raise SchemaRefused(path, f"'{min(unsupported)}' is not supported by the demo provider")
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._first(schema["enum"], path, "enum")
        return self._composed(schema, path, depth)

    def _composed(self, schema: Mapping[str, Any], path: str, depth: int) -> Any:
        if "$ref" in schema:
            return self.value(self._resolve(schema["$ref"], path), path, depth + 1)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self.value(self._choose(schema[word], path, word, depth), path, depth + 1)
        if "allOf" in schema:
            return self.value(self._merged(schema, path), path, depth + 1)
        return self._typed(schema, path, depth)

    def _typed(self, schema: Mapping[str, Any], path: str, depth: int) -> Any:
        match self._type_of(schema, path, depth):
            case "object":
                return self._object(schema, path, depth)
            case "array":
                return self._array(schema, path, depth)
            case "string":
                return self._string(schema, path)
            case "integer" | "number" as word:
                return self._number(schema, path, whole=word == "integer")
            case "boolean":
                return True
            case "null":
                return None
            case other:
                raise SchemaRefused(path, f"'{other}' is not a type")

    def _type_of(self, schema: Mapping[str, Any], path: str, depth: int) -> object:
        kind = schema.get("type")
        if isinstance(kind, list):
            if depth >= ROOMY_DEPTH and "null" in kind:
                return "null"
            return self._first([word for word in kind if word != "null"] or kind, path, "type")
        if kind is not None:
            return kind
        if "properties" in schema or "required" in schema:
            return "object"
        return "array" if "items" in schema else "string"

    @staticmethod
    def _first(choices: object, path: str, word: str) -> Any:
        if not isinstance(choices, list) or not choices:
            raise SchemaRefused(path, f"'{word}' must be a list with an element")
        return choices[0]

    def _choose(self, choices: object, path: str, word: str, depth: int) -> object:
        first = self._first(choices, path, word)
        if depth >= ROOMY_DEPTH and isinstance(choices, list):
            return next((one for one in choices if one == {"type": "null"}), first)
        return first

    def _resolve(self, ref: object, path: str) -> object:
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise SchemaRefused(path, "only references within the schema ('#...') are followed")
        found = self._root
        for part in ref.removeprefix("#").strip("/").split("/"):
            if not part:
                continue
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or key not in found:
                raise SchemaRefused(path, f"'{ref}' leads nowhere")
            found = found[key]
        return found

    def _merged(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for part in [*schema["allOf"], {key: value for key, value in schema.items() if key != "allOf"}]:
            part = self._followed(part, path)  # noqa: PLW2901 -- the reference stands for its target
            if not isinstance(part, Mapping):
                raise SchemaRefused(path, "'allOf' must be a list of schemas")
            properties = {**merged.get("properties", {}), **part.get("properties", {})}
            required = [*merged.get("required", []), *part.get("required", [])]
            merged |= part
            if properties:
                merged["properties"] = properties
            if required:
                merged["required"] = required
        return merged

    def _followed(self, schema: object, path: str) -> object:
        for _ in range(MAX_DEPTH):
            if not isinstance(schema, Mapping) or "$ref" not in schema:
                return schema
            schema = self._resolve(schema["$ref"], path)
        raise SchemaRefused(path, "the schema recurses without an end")

    def _object(self, schema: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        wanted = list(properties) if depth < ROOMY_DEPTH else [name for name in properties if name in required]
        wanted += [name for name in required if name not in properties]
        return {name: self.value(properties.get(name, True), f"{path}.{name}", depth + 1) for name in wanted}

    def _array(self, schema: Mapping[str, Any], path: str, depth: int) -> list[Any]:
        least, most = schema.get("minItems", 0), schema.get("maxItems", MAX_ITEMS)
        length = min(max(least, 1 if depth < ROOMY_DEPTH else 0), most)
        if length < least or length > MAX_ITEMS:
            raise SchemaRefused(path, f"between {least} and {most} items cannot be made")
        if length > 1 and schema.get("uniqueItems") and self._strict:
            raise SchemaRefused(path, "'uniqueItems' with more than one item is not supported by the demo provider")
        return [self.value(schema.get("items", True), f"{path}[{i}]", depth + 1) for i in range(length)]

    def _string(self, schema: Mapping[str, Any], path: str) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength", MAX_LENGTH)
        if least > most or least > MAX_LENGTH:
            raise SchemaRefused(path, f"a string of {least} to {most} characters cannot be made")
        word = schema.get("format")
        if word in _FORMATS:
            text = _FORMATS[word]
            if not least <= len(text) <= most:
                raise SchemaRefused(path, f"a {word} of {least} to {most} characters cannot be made")
            return text
        if word is not None and self._strict:
            raise SchemaRefused(path, f"format '{word}' is not supported by the demo provider")
        return self._subject[:most].ljust(least, ".")

    def _number(self, schema: Mapping[str, Any], path: str, *, whole: bool) -> int | float:
        step = schema.get("multipleOf", 1 if whole else None)
        nudge = step if step is not None else 0.5
        value: int | float = 1 if whole else 1.5
        if (least := schema.get("minimum")) is not None:
            value = max(value, least)
        if (above := schema.get("exclusiveMinimum")) is not None:
            value = max(value, above + nudge)
        if (most := schema.get("maximum")) is not None:
            value = min(value, most)
        if (below := schema.get("exclusiveMaximum")) is not None:
            value = min(value, below - nudge)
        if step is not None:
            value = value // step * step
            if least is not None and value < least:
                value += step
        value = int(value) if whole else value
        outside = (
            (least is not None and value < least)
            or (most is not None and value > most)
            or (above is not None and value <= above)
            or (below is not None and value >= below)
        )
        if outside:
            raise SchemaRefused(path, "no number within these limits was found")
        return value
