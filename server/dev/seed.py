"""What a first `make run` puts into the store so that a call works at once, and what a later one brings up to date."""

from __future__ import annotations

from pathlib import Path

import msgspec

from server.app import Services
from server.core.access import Principal, Role, Workspace
from server.core.errors import AlreadyExists, DragomanError, Unauthenticated
from server.core.model_settings import ModelSettingsChange
from server.core.provider_config import AiType, ProviderConfig, SecretField
from server.core.secret import Secret
from server.dev.env_file import DevEnv, close_env_file, read_env_file, write_env_file
from server.services.provider_configs import ConfigChange, ConfigDraft

ORG_ID = "org_dev"
WORKSPACE_ID = "ws_dev"
DEMO_CONFIG = "demo"
DEMO_MODEL = "custom/demo-chat"
OPENAI_CONFIG = "openai"


class Demo(msgspec.Struct, frozen=True):
    """The running demo provider: its base URL and the key that it takes."""

    endpoint: str
    key: Secret


async def validate(services: Services, env: DevEnv) -> None:
    """Have the demo's configuration validated, unless it is already: only such a one is listed as available."""
    workspace = services.store.snapshots.current().workspaces[env.workspace]
    for config in (await services.configs.list(workspace.id)).configs:
        if config.name == DEMO_CONFIG and not config.valid:
            await services.configs.validate(_admin(workspace), config.id)


async def seed(services: Services, env_file: Path, demo: Demo, openai_key: Secret | None) -> DevEnv:
    """The workspace, an admin key in `env_file`, the demo's configuration and, with a key for it, OpenAI's.

    What is there is kept as long as it works. Raises DragomanError.
    """
    env = await _caller(services, env_file)
    workspace = services.store.snapshots.current().workspaces[env.workspace]
    admin = _admin(workspace)
    await _configure(
        services, admin, workspace, DEMO_CONFIG, "OTHER", endpoint=demo.endpoint, secret=demo.key, provider="custom"
    )
    if openai_key is not None:
        await _configure(
            services, admin, workspace, OPENAI_CONFIG, "OPENAI", endpoint=None, secret=openai_key, provider="openai"
        )
    if workspace.default_model is None:
        await services.model_settings.update(admin, workspace.id, ModelSettingsChange(default_model=DEMO_MODEL))
    return env


def _admin(workspace: Workspace) -> Principal:
    return Principal("dev", workspace.org_id, workspace.id, Role.ADMIN, "dev")


async def _caller(services: Services, env_file: Path) -> DevEnv:
    kept = read_env_file(env_file)
    if kept is not None and await _works(services, kept):
        close_env_file(env_file)
        return kept
    workspace = await _workspace(services)
    _, clear = await services.access.create_key(
        workspace=workspace, org_id=workspace.org_id, role=Role.ADMIN, name="make run"
    )
    made = DevEnv(clear, workspace.id)
    write_env_file(env_file, made)
    return made


async def _works(services: Services, env: DevEnv) -> bool:
    try:
        principal = await services.access.authenticate(env.key.reveal())
    except Unauthenticated:
        return False
    return principal.workspace_id == env.workspace and principal.role >= Role.ADMIN


async def _workspace(services: Services) -> Workspace:
    found = services.store.snapshots.current().workspaces.get(WORKSPACE_ID)
    if found is not None:
        return found
    try:
        return await services.access.create_workspace("dev", org_id=ORG_ID, id=WORKSPACE_ID)
    except AlreadyExists:  # another dev profile on the same database was faster
        return (await services.store.snapshots.refresh()).workspaces[WORKSPACE_ID]


async def _configure(
    services: Services,
    admin: Principal,
    workspace: Workspace,
    name: str,
    ai_type: AiType,
    *,
    endpoint: str | None,
    secret: Secret,
    provider: str,
) -> None:
    """Make the configuration, or bring it up to date where its endpoint or credential is another."""
    page = await services.configs.list(workspace.id)
    found = next((config for config in page.configs if config.name == name), None)
    if found is None:
        draft = ConfigDraft(name=name, ai_type=ai_type, provider=provider, endpoint=endpoint, secret=secret)
        await services.configs.create(admin, workspace.id, draft)
        return
    same_place = (found.endpoint, found.provider, found.active) == (endpoint, provider, True)
    if same_place and _holds(services, found, "secret", secret):
        return
    change = ConfigChange(
        ai_type=ai_type,
        provider=provider,
        endpoint=endpoint or "",
        secret=secret,
        # A stored access key id would have to be given anew; neither of the two providers takes one.
        key=Secret("") if found.sealed_key is not None else None,
        active=True,
    )
    await services.configs.update(admin, found.id, change)


def _holds(services: Services, config: ProviderConfig, field: SecretField, value: Secret) -> bool:
    sealed = config.sealed_secret if field == "secret" else config.sealed_key
    if sealed is None:
        return False
    try:
        return services.store.vault.open(config.workspace_id, config.id, field, sealed).reveal() == value.reveal()
    except DragomanError:  # sealed with a key that is gone: it is replaced
        return False
