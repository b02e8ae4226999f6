"""protovalidate's rules as JSON Schema keywords; a rule without an equal is said in words or refused, not left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.openapi.contract import UnsupportedContractError

Schema = dict[str, Any]

NUMBER = {"gte": "minimum", "lte": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum", "const": "const"}
KEYWORDS: dict[str, dict[str, str]] = {
    **dict.fromkeys(("double", "float", "int32", "uint32", "sint32", "int64", "uint64", "sint64"), NUMBER),
    "string": {"min_len": "minLength", "max_len": "maxLength", "const": "const"},
    "repeated": {"min_items": "minItems", "max_items": "maxItems", "unique": "uniqueItems"},
    "map": {"min_pairs": "minProperties", "max_pairs": "maxProperties"},
    "bool": {"const": "const"},
    "enum": {},
}
FORMATS = {"email": "email", "uri": "uri", "uuid": "uuid", "hostname": "hostname", "ip": "ip"}


def describe(schema: Schema, sentence: str) -> None:
    """Add a sentence to a schema's description, as a paragraph of its own."""
    schema["description"] = f"{schema['description']}\n\n{sentence}" if schema.get("description") else sentence


def _pattern(schema: Schema, value: str) -> None:
    # RE2's inline flags are unknown to the regular expressions of JSON Schema.
    if "(?" in value:
        describe(schema, f"Must match the RE2 pattern `{value}`.")
    else:
        schema["pattern"] = value


def _apply(schema: Schema, kind: str, name: str, value: Any) -> bool:
    """Apply one rule; whether it has an equal here."""
    special: dict[tuple[str, str], Callable[[], None]] = {
        ("string", "pattern"): lambda: _pattern(schema, value),
        ("string", "len"): lambda: schema.update(minLength=value, maxLength=value),
        ("repeated", "items"): lambda: apply(schema["items"], value),
        ("map", "keys"): lambda: apply(schema.setdefault("propertyNames", {}), value),
        ("map", "values"): lambda: apply(schema["additionalProperties"], value),
        ("enum", "defined_only"): lambda: None,  # names that are not defined are no JSON of this enum
    }
    if name in KEYWORDS.get(kind, {}):
        schema[KEYWORDS[kind][name]] = value
    elif name == "in" and kind in KEYWORDS:
        schema["enum"] = list(value)
    elif kind == "string" and name in FORMATS:
        schema["format"] = FORMATS[name]
    elif (kind, name) in special:
        special[kind, name]()
    else:
        return False
    return True


def apply(schema: Schema, rules: Any) -> None:
    """Write a field's rules (buf.validate.FieldRules) into its schema. Raises UnsupportedContractError."""
    for rule in rules.cel:
        describe(schema, f"{rule.message[:1].upper()}{rule.message[1:]}.")
    if rules.cel_expression:
        raise UnsupportedContractError("buf.validate cel_expression has no message to show: use cel with one")
    kind = rules.WhichOneof("type")
    if kind is None:
        return
    for field, value in getattr(rules, kind).ListFields():
        if not _apply(schema, kind, field.name, value):
            raise UnsupportedContractError(f"the OpenAPI document cannot show buf.validate {kind}.{field.name}")


def is_required(rules: Any, has_presence: bool) -> bool:
    """Whether a request without the field breaks the rules.

    A field without presence is its zero value when absent, so it is required where the rules refuse that value.
    """
    if rules.required:
        return True
    ignored = rules.DESCRIPTOR.fields_by_name["ignore"].enum_type.values_by_name["IGNORE_UNSPECIFIED"].number
    if has_presence or rules.ignore != ignored:
        return False
    return (
        rules.repeated.min_items > 0
        or rules.map.min_pairs > 0
        or rules.string.min_len > 0
        or (len(getattr(rules.string, "in")) > 0 and "" not in getattr(rules.string, "in"))
    )
