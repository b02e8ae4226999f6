"""Who may call what: one row for every RPC of the contract, and for each kind of caller how it ends.

A new RPC joins here or the tests fail. The columns act on workspace OWN: `foreign` is an admin of another workspace,
`elsewhere` the admin of another organisation. Who each column is, by key and by an issuer's token, and who is let in
nowhere but by public methods, so that no column is needed, stands in `tests.app.callers`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from google.api import httpbody_pb2
from google.protobuf.message import Message

from dragoman.v1 import access_service_pb2 as access
from dragoman.v1 import anthropic_service_pb2 as anthropic
from dragoman.v1 import chat_pb2 as chat
from dragoman.v1 import embedding_pb2 as embedding
from dragoman.v1 import llm_service_pb2 as llm
from dragoman.v1 import model_service_pb2 as models
from dragoman.v1 import openai_service_pb2 as openai
from dragoman.v1 import provider_config_service_pb2 as configs
from dragoman.v1 import status_service_pb2 as status
from tests.app.callers import CALLERS, DENIED
from tests.app.world import MODEL, OWN, Metadata, World

EMBEDDING_MODEL = "custom/demo-embedding"

OK, HIDDEN = "OK", "NOT_FOUND"
UNCOUNTED = "INVALID_ARGUMENT"

Make = Callable[[World], Awaitable[Message]]


@dataclass(frozen=True)
class Row:
    """make: a request that would change or show something of OWN, anew for each caller. metadata: sent beside it."""

    make: Make
    viewer: str
    member: str
    admin: str
    organisation: str
    foreign: str
    elsewhere: str
    public: bool = False
    metadata: Metadata = ()

    def ending(self, who: str) -> str:
        """The status that a call of `CALLERS`' who ends with."""
        ends = CALLERS[who]
        return OK if self.public else getattr(self, ends, ends)


def reads(make: Make, *, foreign: str = DENIED, elsewhere: str = HIDDEN) -> Row:
    """Everybody of the workspace reads."""
    return Row(make, OK, OK, OK, OK, foreign, elsewhere)


def calls(make: Make) -> Row:
    """Members call models."""
    return Row(make, DENIED, OK, OK, OK, DENIED, HIDDEN)


def manages(make: Make, *, foreign: str = DENIED, elsewhere: str = HIDDEN) -> Row:
    """Admins manage."""
    return Row(make, DENIED, DENIED, OK, OK, foreign, elsewhere)


def public(make: Make) -> Row:
    """No key needed."""
    return Row(make, OK, OK, OK, OK, OK, OK, public=True)


def dialect(row: Row) -> Row:
    """The APIs of other SDKs name the workspace by a header."""
    return replace(row, metadata=(("x-workspace-id", OWN),))


def fixed(request: Message) -> Make:
    """The same request for everybody."""

    async def make(_world: World) -> Message:
        return request

    return make


async def _new_config(world: World) -> Message:
    return configs.CreateProviderConfigRequest(
        name=world.name(), ai_type="OPENAI", workspace_id=OWN, secret="sk-canary-of-the-matrix"
    )


async def _get_config(world: World) -> Message:
    return configs.GetProviderConfigRequest(id=(await world.a_config()).id)


async def _update_config(world: World) -> Message:
    return configs.UpdateProviderConfigRequest(id=(await world.a_config()).id, name=world.name())


async def _delete_config(world: World) -> Message:
    return configs.DeleteProviderConfigRequest(id=(await world.a_config()).id)


async def _validate_config(world: World) -> Message:
    return configs.ValidateProviderConfigRequest(id=(await world.a_config()).id)


async def _stats(world: World) -> Message:
    return configs.GetProviderConfigStatsRequest(ai_llm_id=(await world.a_config()).id)


async def _new_workspace(world: World) -> Message:
    return access.CreateWorkspaceRequest(name=world.name())


async def _new_key(world: World) -> Message:
    return access.CreateKeyRequest(workspace_id=OWN, role="admin", name=world.name())


async def _revoke_key(world: World) -> Message:
    return access.RevokeKeyRequest(id=(await world.a_key())[0])


async def _alias(world: World) -> Message:
    return access.UpdateModelSettingsRequest(workspace_id=OWN, set_aliases={world.name(): MODEL})


CHAT = chat.ChatRequest(project_id=OWN, model=MODEL, messages=[chat.Message(role="user", content="Hi")])
GENERATE = llm.GenerateRequest(project_id=OWN, model=MODEL, prompt="Hi")

# What OpenAI's and Anthropic's own APIs both take.
COMPLETION = httpbody_pb2.HttpBody(
    content_type="application/json",
    data=json.dumps({"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}).encode(),
)
EMBED = embedding.EmbedRequest(project_id=OWN, model=EMBEDDING_MODEL, input=["Hi"])
EMBEDDING = httpbody_pb2.HttpBody(
    content_type="application/json", data=json.dumps({"model": EMBEDDING_MODEL, "input": "Hi"}).encode()
)
RESPONSE = httpbody_pb2.HttpBody(
    content_type="application/json", data=json.dumps({"model": MODEL, "max_output_tokens": 99, "input": "Hi"}).encode()
)

MATRIX: dict[str, Row] = {
    "/dragoman.v1.LLMService/Generate": calls(fixed(GENERATE)),
    "/dragoman.v1.LLMService/GenerateText": calls(fixed(GENERATE)),
    "/dragoman.v1.LLMService/Complete": calls(fixed(CHAT)),
    "/dragoman.v1.LLMService/Chat": calls(fixed(CHAT)),
    "/dragoman.v1.LLMService/Embed": calls(fixed(EMBED)),
    "/dragoman.v1.ModelService/ListModels": reads(fixed(models.ListModelsRequest(workspace_id=OWN))),
    "/dragoman.v1.ModelService/GetModel": reads(fixed(models.GetModelRequest(workspace_id=OWN, id=MODEL))),
    "/dragoman.v1.ProviderConfigService/CreateProviderConfig": manages(_new_config),
    "/dragoman.v1.ProviderConfigService/GetProviderConfig": reads(_get_config, foreign=HIDDEN),
    "/dragoman.v1.ProviderConfigService/ListProviderConfigs": reads(
        fixed(configs.ListProviderConfigsRequest(workspace_id=OWN))
    ),
    "/dragoman.v1.ProviderConfigService/ListAvailableProviderConfigs": reads(
        fixed(configs.ListAvailableProviderConfigsRequest(workspace_id=OWN))
    ),
    "/dragoman.v1.ProviderConfigService/UpdateProviderConfig": manages(_update_config, foreign=HIDDEN),
    "/dragoman.v1.ProviderConfigService/DeleteProviderConfig": manages(_delete_config, foreign=HIDDEN),
    "/dragoman.v1.ProviderConfigService/ValidateProviderConfig": manages(_validate_config, foreign=HIDDEN),
    "/dragoman.v1.ProviderConfigService/GetProviderConfigStats": reads(_stats, foreign=HIDDEN),
    # Another organisation's admin makes a workspace too: in its own organisation.
    "/dragoman.v1.AccessService/CreateWorkspace": Row(_new_workspace, DENIED, DENIED, DENIED, OK, DENIED, OK),
    "/dragoman.v1.AccessService/GetWorkspace": reads(fixed(access.GetWorkspaceRequest(id=OWN))),
    # Everybody lists: what they may act in, and no more (another test).
    "/dragoman.v1.AccessService/ListWorkspaces": reads(fixed(access.ListWorkspacesRequest()), foreign=OK, elsewhere=OK),
    "/dragoman.v1.AccessService/CreateKey": manages(_new_key),
    "/dragoman.v1.AccessService/ListKeys": manages(fixed(access.ListKeysRequest(workspace_id=OWN))),
    "/dragoman.v1.AccessService/RevokeKey": manages(_revoke_key, foreign=HIDDEN),
    "/dragoman.v1.AccessService/GetModelSettings": reads(fixed(access.GetModelSettingsRequest(workspace_id=OWN))),
    "/dragoman.v1.AccessService/UpdateModelSettings": manages(_alias),
    "/dragoman.v1.AccessService/ListAuditEntries": manages(fixed(access.ListAuditEntriesRequest(workspace_id=OWN))),
    "/dragoman.v1.AccessService/ExportAuditLog": manages(fixed(access.ExportAuditLogRequest(workspace_id=OWN))),
    "/dragoman.v1.OpenAIService/CreateChatCompletion": dialect(calls(fixed(COMPLETION))),
    "/dragoman.v1.OpenAIService/CreateEmbedding": dialect(calls(fixed(EMBEDDING))),
    "/dragoman.v1.OpenAIService/CreateResponse": dialect(calls(fixed(RESPONSE))),
    "/dragoman.v1.OpenAIService/ListOpenAIModels": dialect(reads(fixed(openai.ListOpenAIModelsRequest()))),
    "/dragoman.v1.OpenAIService/GetOpenAIModel": dialect(reads(fixed(openai.GetOpenAIModelRequest(model=MODEL)))),
    "/dragoman.v1.AnthropicService/CreateMessage": dialect(calls(fixed(COMPLETION))),
    # Who may call it gets as far as the provider, which counts no tokens.
    "/dragoman.v1.AnthropicService/CountTokens": dialect(
        replace(calls(fixed(COMPLETION)), member=UNCOUNTED, admin=UNCOUNTED, organisation=UNCOUNTED)
    ),
    "/dragoman.v1.AnthropicService/ListAnthropicModels": dialect(reads(fixed(anthropic.ListAnthropicModelsRequest()))),
    "/dragoman.v1.AnthropicService/GetAnthropicModel": dialect(
        reads(fixed(anthropic.GetAnthropicModelRequest(model=MODEL)))
    ),
    "/dragoman.v1.StatusService/GetLiveness": public(fixed(status.GetLivenessRequest())),
    "/dragoman.v1.StatusService/GetReadiness": public(fixed(status.GetReadinessRequest())),
}
