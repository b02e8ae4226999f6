"""Workspaces, keys, model settings and the audit log: contract <-> core."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from google.api import httpbody_pb2
from google.protobuf import json_format, timestamp_pb2

from dragoman.v1 import access_pb2 as pb
from dragoman.v1 import access_service_pb2 as service_pb
from server.core.access import ApiKey, Workspace
from server.core.audit import AuditEntry, AuditFilter
from server.core.errors import InvalidRequest
from server.core.model_settings import ModelSettingsChange, settings_etag
from server.rpc.translate.configs import timestamp

NDJSON = "application/x-ndjson"


def workspace(found: Workspace) -> pb.Workspace:
    """A workspace without its model settings, which are read by themselves."""
    return pb.Workspace(id=found.id, org_id=found.org_id, name=found.name, created_at=timestamp(found.created_at))


def key(found: ApiKey) -> pb.ApiKey:
    """A key as it may be shown."""
    return pb.ApiKey(
        id=found.id,
        org_id=found.org_id,
        workspace_id=found.workspace_id or "",
        role=found.role.name.lower(),
        name=found.name,
        hint=found.hint,
        allowed_models=found.allowed_models,
        created_at=timestamp(found.created_at),
        expires_at=_optional(found.expires_at),
        revoked_at=_optional(found.revoked_at),
        last_used_at=_optional(found.last_used_at),
    )


def model_settings(found: Workspace) -> pb.ModelSettings:
    """The model settings of a workspace."""
    return pb.ModelSettings(
        workspace_id=found.id,
        default_model=found.default_model or "",
        enabled_models=found.enabled_models,
        disabled_models=found.disabled_models,
        aliases=found.aliases,
        etag=settings_etag(found),
    )


def settings_change(request: service_pb.UpdateModelSettingsRequest) -> ModelSettingsChange:
    """What to change; absent stays."""
    return ModelSettingsChange(
        default_model=request.default_model if request.HasField("default_model") else None,
        enable=tuple(request.enable),
        disable=tuple(request.disable),
        reset=tuple(request.reset),
        set_aliases=dict(request.set_aliases),
        remove_aliases=tuple(request.remove_aliases),
        etag=request.etag,
    )


def audit_filter(
    request: service_pb.ListAuditEntriesRequest | service_pb.ExportAuditLogRequest,
    org_id: str,
    workspace_id: str | None,
) -> AuditFilter:
    """Which entries are asked for. Raises InvalidRequest for a time that does not exist."""
    start, end = _time(request.start_time, "start_time"), _time(request.end_time, "end_time")
    if isinstance(request, service_pb.ExportAuditLogRequest):
        return AuditFilter(org_id=org_id, workspace_id=workspace_id, start=start, end=end)
    return AuditFilter(
        org_id=org_id,
        workspace_id=workspace_id,
        start=start,
        end=end,
        action=request.action,
        object_id=request.object_id,
        key_id=request.key_id,
        outcome=request.outcome,
    )


def audit_entry(entry: AuditEntry) -> pb.AuditEntry:
    """One line of the log."""
    return pb.AuditEntry(
        id=entry.id,
        at=timestamp(entry.at),
        org_id=entry.org_id,
        workspace_id=entry.workspace_id or "",
        key_id=entry.key_id,
        role=entry.role,
        action=entry.action,
        object_kind=entry.object_kind,
        object_id=entry.object_id,
        object_name=entry.object_name,
        address=entry.address,
        request_id=entry.request_id,
        outcome=entry.outcome,
        reason=entry.reason,
        details=entry.details,
    )


def audit_lines(entries: Sequence[AuditEntry]) -> httpbody_pb2.HttpBody:
    """Entries as lines of JSON, each with every field."""
    lines = [
        json_format.MessageToJson(
            audit_entry(entry), indent=None, ensure_ascii=False, always_print_fields_with_no_presence=True
        )
        for entry in entries
    ]
    return httpbody_pb2.HttpBody(content_type=NDJSON, data="".join(f"{line}\n" for line in lines).encode())


def audit_end(count: int) -> httpbody_pb2.HttpBody:
    """The last line of an export: what comes without it was cut short."""
    return httpbody_pb2.HttpBody(
        content_type=NDJSON, data=json.dumps({"complete": True, "entries": count}).encode() + b"\n"
    )


def moment(time: timestamp_pb2.Timestamp) -> datetime:
    """An aware datetime. Raises InvalidRequest for one that does not exist."""
    try:
        return time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest.field("expires_at", "is no moment between the years 1 and 9999") from None


def _time(text: str, field: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest.field(field, "is no moment that exists") from None


def _optional(time: datetime | None) -> timestamp_pb2.Timestamp | None:
    return None if time is None else timestamp(time)
