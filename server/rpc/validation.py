"""The contract's own rules, enforced. protovalidate decides, wherever `quick_check` does not know that a request is
clean; this says in words what it found: field, what is allowed, what came.

What came is said of numbers, lengths and short words only, never of a text that might be a prompt or a credential.
"""

from __future__ import annotations

import re
from typing import Any

import protovalidate
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from buf.validate import validate_pb2
from server.core.errors import InvalidRequest, Violation
from server.rpc.quick_check import QuickCheck

MOST_VIOLATIONS = 16

_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,40}")
_ANY_CASE_LIST = re.compile(r"\^\(\?i:([a-z|]+)\)\$")


class RequestValidator:
    """Checks requests against the rules in the contract. Keeps the compiled rules, so one serves for all."""

    def __init__(self) -> None:
        self._validator = protovalidate.Validator()
        self._quick = QuickCheck()

    def check(self, request: Message) -> None:
        """Raises InvalidRequest with a violation for each rule that `request` breaks, as far as MOST_VIOLATIONS."""
        if self._quick.passes(request):
            return
        found = self._validator.collect_violations(request)
        if not found:
            self._quick.learn(request)
            return
        violations = tuple(_describe(request.DESCRIPTOR, violation) for violation in found[:MOST_VIOLATIONS])
        message = "; ".join(f"{v.field}: {v.description}" if v.field else v.description for v in violations[:3])
        more = len(found) - 3
        raise InvalidRequest(message + (f"; and {more} more" if more > 0 else ""), violations=violations)


def _describe(descriptor: Any, violation: protovalidate.Violation) -> Violation:
    path, field, oneof = "", None, ""
    owner: Descriptor | None = descriptor  # upb's class, which only looks like Descriptor
    for element in violation.proto.field.elements if violation.proto.field else ():
        if owner is None:
            break
        if element.field_name in owner.oneofs_by_name and element.field_name not in owner.fields_by_name:
            oneof = ", ".join(member.name for member in owner.oneofs_by_name[element.field_name].fields)
            break
        field = owner.fields_by_name[element.field_name]
        owner = field.message_type
        path += f".{field.name}" if path else field.name
        subscript = element.subscript
        if subscript is not None:
            path += f"[{subscript.value}]"
    if oneof:
        return Violation(path, f"must hold one of {oneof}")
    return Violation(path, _words(violation, field))


def _words(violation: protovalidate.Violation, field: FieldDescriptor | None) -> str:
    rule, _, check = (violation.proto.rule_id or "").rpartition(".")
    said = violation.proto.message or "breaks a rule of the contract"
    if field is None or (violation.proto.rule is None and violation.proto.rule_id != "required"):
        return said
    allowed = _allowed(rule, check, violation.rule_value, field) or said
    came = "" if field.GetOptions().debug_redact else _came(check, violation.field_value)
    return f"{allowed} (got {came})" if came else allowed


def _allowed(rule: str, check: str, limit: Any, field: FieldDescriptor) -> str:
    if check == "gte_lte":
        bounds = getattr(field.GetOptions().Extensions[validate_pb2.field], rule.rpartition(".")[2])
        return f"must be between {bounds.gte:g} and {bounds.lte:g}"
    if check == "gte":
        return f"must be at least {limit:g}"
    if check == "in":
        return f"must be one of {', '.join(word for word in limit if word)}"
    if check in ("min_len", "min_items") and limit == 1:
        return "must not be empty"
    if check == "pattern":
        words = _ANY_CASE_LIST.fullmatch(limit)
        return f"must be one of {words[1].replace('|', ', ')}" if words else f"must match {limit}"
    return "must be given" if check == "required" else ""


def _came(check: str, value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if check in ("max_len", "max_items") and hasattr(value, "__len__"):
        return f"{len(value)}"
    if isinstance(value, str) and check in ("in", "pattern"):
        return repr(value) if not value or _WORD.fullmatch(value) else f"{len(value)} characters"
    return ""
