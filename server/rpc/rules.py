"""Who may call what: one table, for every RPC that the server answers. A method without a row is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from server.core.access import Role

Rule = Role | Literal["public"]
"""The least role that may call a method; public: no key needed."""

RULES: Mapping[str, Rule] = {
    "/dragoman.v1.LLMService/Generate": Role.MEMBER,
    "/dragoman.v1.LLMService/GenerateText": Role.MEMBER,
    "/dragoman.v1.LLMService/Complete": Role.MEMBER,
    "/dragoman.v1.LLMService/Chat": Role.MEMBER,
    "/dragoman.v1.LLMService/Embed": Role.MEMBER,
    "/dragoman.v1.ModelService/ListModels": Role.VIEWER,
    "/dragoman.v1.ModelService/GetModel": Role.VIEWER,
    "/dragoman.v1.ProviderConfigService/CreateProviderConfig": Role.ADMIN,
    "/dragoman.v1.ProviderConfigService/GetProviderConfig": Role.VIEWER,
    "/dragoman.v1.ProviderConfigService/ListProviderConfigs": Role.VIEWER,
    "/dragoman.v1.ProviderConfigService/ListAvailableProviderConfigs": Role.VIEWER,
    "/dragoman.v1.ProviderConfigService/UpdateProviderConfig": Role.ADMIN,
    "/dragoman.v1.ProviderConfigService/DeleteProviderConfig": Role.ADMIN,
    "/dragoman.v1.ProviderConfigService/ValidateProviderConfig": Role.ADMIN,
    "/dragoman.v1.ProviderConfigService/GetProviderConfigStats": Role.VIEWER,
    "/dragoman.v1.AccessService/CreateWorkspace": Role.ORG_ADMIN,
    "/dragoman.v1.AccessService/GetWorkspace": Role.VIEWER,
    "/dragoman.v1.AccessService/ListWorkspaces": Role.VIEWER,
    "/dragoman.v1.AccessService/CreateKey": Role.ADMIN,
    "/dragoman.v1.AccessService/ListKeys": Role.ADMIN,
    "/dragoman.v1.AccessService/RevokeKey": Role.ADMIN,
    "/dragoman.v1.AccessService/GetModelSettings": Role.VIEWER,
    "/dragoman.v1.AccessService/UpdateModelSettings": Role.ADMIN,
    "/dragoman.v1.AccessService/ListAuditEntries": Role.ADMIN,
    "/dragoman.v1.AccessService/ExportAuditLog": Role.ADMIN,
    "/dragoman.v1.OpenAIService/CreateChatCompletion": Role.MEMBER,
    "/dragoman.v1.OpenAIService/CreateEmbedding": Role.MEMBER,
    "/dragoman.v1.OpenAIService/CreateResponse": Role.MEMBER,
    "/dragoman.v1.OpenAIService/ListOpenAIModels": Role.VIEWER,
    "/dragoman.v1.OpenAIService/GetOpenAIModel": Role.VIEWER,
    "/dragoman.v1.AnthropicService/CreateMessage": Role.MEMBER,
    "/dragoman.v1.AnthropicService/CountTokens": Role.MEMBER,
    "/dragoman.v1.AnthropicService/ListAnthropicModels": Role.VIEWER,
    "/dragoman.v1.AnthropicService/GetAnthropicModel": Role.VIEWER,
    "/dragoman.v1.StatusService/GetLiveness": "public",
    "/dragoman.v1.StatusService/GetReadiness": "public",
    "/grpc.health.v1.Health/Check": "public",
    "/grpc.health.v1.Health/List": "public",
    "/grpc.health.v1.Health/Watch": "public",
    # The contract is public; reflection tells nothing else.
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": "public",
}
