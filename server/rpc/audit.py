"""What the audit log calls each RPC, and what an attempt that was refused is noted as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, get_args

from google.protobuf.message import Message

from server.core.access import Origin, Principal
from server.core.audit import AuditObject, ObjectKind, Outcome
from server.core.errors import DragomanError, PermissionDenied
from server.rpc.call import Call

ACTIONS: Mapping[str, str] = {
    "/dragoman.v1.LLMService/Generate": "model.call",
    "/dragoman.v1.LLMService/GenerateText": "model.call",
    "/dragoman.v1.LLMService/Complete": "model.call",
    "/dragoman.v1.LLMService/Chat": "model.call",
    "/dragoman.v1.LLMService/Embed": "model.call",
    "/dragoman.v1.ModelService/ListModels": "model.read",
    "/dragoman.v1.ModelService/GetModel": "model.read",
    "/dragoman.v1.ProviderConfigService/CreateProviderConfig": "provider_config.create",
    "/dragoman.v1.ProviderConfigService/GetProviderConfig": "provider_config.read",
    "/dragoman.v1.ProviderConfigService/ListProviderConfigs": "provider_config.read",
    "/dragoman.v1.ProviderConfigService/ListAvailableProviderConfigs": "provider_config.read",
    "/dragoman.v1.ProviderConfigService/UpdateProviderConfig": "provider_config.update",
    "/dragoman.v1.ProviderConfigService/DeleteProviderConfig": "provider_config.delete",
    "/dragoman.v1.ProviderConfigService/ValidateProviderConfig": "provider_config.validate",
    "/dragoman.v1.ProviderConfigService/GetProviderConfigStats": "provider_config.read",
    "/dragoman.v1.AccessService/CreateWorkspace": "workspace.create",
    "/dragoman.v1.AccessService/GetWorkspace": "workspace.read",
    "/dragoman.v1.AccessService/ListWorkspaces": "workspace.read",
    "/dragoman.v1.AccessService/CreateKey": "key.create",
    "/dragoman.v1.AccessService/ListKeys": "key.read",
    "/dragoman.v1.AccessService/RevokeKey": "key.revoke",
    "/dragoman.v1.AccessService/GetModelSettings": "model_settings.read",
    "/dragoman.v1.AccessService/UpdateModelSettings": "model_settings.update",
    "/dragoman.v1.AccessService/ListAuditEntries": "audit_log.read",
    "/dragoman.v1.AccessService/ExportAuditLog": "audit_log.export",
    "/dragoman.v1.OpenAIService/CreateChatCompletion": "model.call",
    "/dragoman.v1.OpenAIService/CreateEmbedding": "model.call",
    "/dragoman.v1.OpenAIService/CreateResponse": "model.call",
    "/dragoman.v1.OpenAIService/ListOpenAIModels": "model.read",
    "/dragoman.v1.OpenAIService/GetOpenAIModel": "model.read",
    "/dragoman.v1.AnthropicService/CreateMessage": "model.call",
    "/dragoman.v1.AnthropicService/CountTokens": "model.call",
    "/dragoman.v1.AnthropicService/ListAnthropicModels": "model.read",
    "/dragoman.v1.AnthropicService/GetAnthropicModel": "model.read",
}
"""Every method that needs a key, with `object.verb`. Of `read` and `call` only what is denied is logged."""

_KINDS: Mapping[str, ObjectKind] = {kind: kind for kind in get_args(ObjectKind)}
_ID_FIELDS = ("id", "ai_llm_id")
_MOST_CHARS = 255


class Refusals(Protocol):
    """Where refused attempts are noted; `server.services.audit.RefusalLog`."""

    def note(
        self,
        caller: Principal,
        action: str,
        subject: AuditObject,
        *,
        workspace_id: str | None,
        outcome: Outcome,
        reason: str,
    ) -> None: ...


def note_refusal(refusals: Refusals, call: Call, request: Any, error: DragomanError) -> None:
    """Log that the call was denied; of one that would have changed something, also that it failed."""
    action, caller = ACTIONS.get(call.method), call.principal
    if action is None or caller is None:
        return
    denied = isinstance(error, PermissionDenied)
    if not denied and action.rpartition(".")[2] in ("read", "call"):
        return
    refusals.note(
        with_origin(caller, call),
        action,
        _subject(action, request, error),
        workspace_id=call.workspace_id or caller.workspace_id,
        outcome="denied" if denied else "failed",
        reason=error.reason,
    )


def with_origin(caller: Principal, call: Call) -> Principal:
    """The caller, with where the call came from."""
    if caller.origin != Origin():
        return caller
    return Principal(
        caller.key_id,
        caller.org_id,
        caller.workspace_id,
        caller.role,
        caller.user_id,
        caller.allowed_models,
        Origin(call.address(), call.peer(), call.request_id),
    )


def _subject(action: str, request: Any, error: DragomanError) -> AuditObject:
    """What the request names; a caller's words, so never more than a name's worth of them."""
    kind = _KINDS[action.partition(".")[0]]
    if kind == "model":
        return AuditObject(kind, error.metadata.get("model", "")[:_MOST_CHARS])
    if not isinstance(request, Message):
        return AuditObject(kind)
    fields = request.DESCRIPTOR.fields_by_name
    id = next((getattr(request, field) for field in _ID_FIELDS if field in fields), "")
    name = request.name if "name" in fields else ""  # type: ignore[attr-defined]  # not of every Message
    return AuditObject(kind, id[:_MOST_CHARS], name[:_MOST_CHARS])
