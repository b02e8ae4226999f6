"""`providers`: a workspace's provider configurations, on the store itself. Credentials go in and never come out."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.access import JsonOption, WorkspaceOption
from server.cli.context import local_admin, pick_workspace, setup_of, with_services
from server.cli.output import Row, show_rows
from server.core.errors import InvalidRequest, NotFound
from server.core.provider_config import DEFAULT_PROVIDER, FLAVORS, AiType, ProviderConfig, needs_credential
from server.core.secret import Secret

if TYPE_CHECKING:
    from server.app import Services
    from server.core.access import Workspace

providers = typer.Typer(help="Provider configurations: which provider, where, as whom.", no_args_is_help=True)


class Slug(StrEnum):
    """`server.core.provider_config.PROVIDERS`, as the command line takes them."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    BEDROCK = "bedrock"
    GROQ = "groq"
    GEMINI = "gemini"
    XAI = "xai"
    CUSTOM = "custom"


NamedConfig = Annotated[str, typer.Argument(help="Its name, or its id.")]

_MOST_SECRET_CHARS = 64 * 1024


@providers.command("list")
def list_configs(ctx: typer.Context, workspace: WorkspaceOption = "", as_json: JsonOption = False) -> None:
    """List the configurations, newest first, credentials masked."""

    async def work(services: Services) -> list[Row]:
        place = pick_workspace(ctx, services, workspace)
        return [_row(config) for config in (await services.configs.list(place.id)).configs]

    show_rows(with_services(ctx, work), as_json=as_json, empty="There is none: see 'dragoman providers add --help'.")


@providers.command("add")
def add_config(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Unique in the workspace.")],
    provider: Annotated[Slug, typer.Option(help="Whose protocol it speaks.")],
    endpoint: Annotated[str, typer.Option(help="Base URL; default: the provider's own.")] = "",
    key_id: Annotated[str, typer.Option(help="AWS access key id.")] = "",
    secret_file: Annotated[
        str, typer.Option(help="A file with the credential, - for stdin. Default: a prompt, or stdin in a pipe.")
    ] = "",
    no_secret: Annotated[bool, typer.Option("--no-secret", help="The server wants no credential.")] = False,
    flavor: Annotated[
        str, typer.Option(help=f"Which compatible server a custom endpoint is: {', '.join(FLAVORS)}.")
    ] = "",
    workspace: WorkspaceOption = "",
) -> None:
    """Add a configuration. Its credential is read from a prompt, stdin or a file, and stored sealed."""
    from server.services.provider_configs import ConfigDraft  # noqa: PLC0415

    slug = str(provider)
    if no_secret and (secret_file or needs_credential(slug)):
        raise typer.BadParameter(
            f"{slug} needs a credential" if needs_credential(slug) else "give --no-secret or --secret-file, not both"
        )
    secret = None if no_secret else _read_secret(secret_file)
    draft = ConfigDraft(
        name=name,
        ai_type=_ai_type(slug),
        provider=slug,
        endpoint=endpoint or None,
        key=Secret(key_id) if key_id else None,
        secret=secret,
        flavor=flavor,
    )

    async def work(services: Services) -> ProviderConfig:
        place = pick_workspace(ctx, services, workspace)
        return await services.configs.create(local_admin(place), place.id, draft)

    config = with_services(ctx, work)
    print(
        f"Configuration {config.name} is stored; try it with 'dragoman providers validate {config.id}'.",
        file=sys.stderr,
        flush=True,
    )
    print(config.id)


@providers.command("validate")
def validate_config(ctx: typer.Context, config: NamedConfig, workspace: WorkspaceOption = "") -> None:
    """Ask the provider whether it accepts the credential. Exit status 1 where it does not."""

    async def work(services: Services) -> tuple[bool, str]:
        place = pick_workspace(ctx, services, workspace)
        found = await _find(services, place, config)
        _check_endpoint(ctx, found)
        outcome = await services.configs.validate(local_admin(place), found.id)
        return outcome.ok, outcome.message

    ok, message = with_services(ctx, work)
    print(message, file=sys.stdout if ok else sys.stderr)
    if not ok:
        raise typer.Exit(1)


@providers.command("remove")
def remove_config(
    ctx: typer.Context,
    config: NamedConfig,
    workspace: WorkspaceOption = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a configuration with its credential, for good."""
    if not yes:
        typer.confirm(f"Remove configuration {config}?", abort=True, err=True)

    async def work(services: Services) -> None:
        place = pick_workspace(ctx, services, workspace)
        found = await _find(services, place, config)
        await services.configs.delete(local_admin(place), found.id)

    with_services(ctx, work)
    print(f"Configuration {config} is removed.", file=sys.stderr)


async def _find(services: Services, workspace: Workspace, named: str) -> ProviderConfig:
    """By name, then by id. Raises NotFound."""
    configs = (await services.configs.list(workspace.id)).configs
    for config in (*(c for c in configs if c.name == named), *(c for c in configs if c.id == named)):
        return config
    raise NotFound(f"There is no configuration {named} in workspace {workspace.id}.", action="See 'providers list'.")


def _check_endpoint(ctx: typer.Context, config: ProviderConfig) -> None:
    """Raises SetupError where this command, by its own settings, may not go where the server perhaps may: that would
    be noted as the configuration's fault."""
    from server.core.setup import SetupError  # noqa: PLC0415

    try:
        if config.endpoint:
            setup_of(ctx).settings.allowed_endpoints.check_url(config.endpoint)
    except InvalidRequest as error:
        raise SetupError(
            f"The settings of this command do not allow {config.endpoint}.",
            mend="Set DRAGOMAN_ALLOWED_ENDPOINTS as it is set for the server.",
        ) from error


def _ai_type(slug: str) -> AiType:
    types: dict[str, AiType] = {"openai": "OPENAI", "gemini": "GOOGLE", "anthropic": "ANTHROPIC", "bedrock": "AWS"}
    assert all(DEFAULT_PROVIDER[type] == provider for provider, type in types.items())  # noqa: S101 - says the same
    return types.get(slug, "OTHER")


def _read_secret(source: str) -> Secret:
    """From a file, from stdin where that is asked for or is a pipe, else from a prompt that does not echo. Raises
    InvalidRequest for an empty one, SetupError for a file that cannot be read."""
    from server.core.setup import SetupError  # noqa: PLC0415

    if source not in {"", "-"}:
        try:
            with Path(source).open(encoding="utf-8") as file:
                text = file.read(_MOST_SECRET_CHARS + 1)
        except (OSError, UnicodeDecodeError) as exc:
            raise SetupError(
                f"The file {source} cannot be read.", mend="Name a text file with the credential."
            ) from exc
    elif source == "-" or not sys.stdin.isatty():
        text = sys.stdin.read(_MOST_SECRET_CHARS + 1)
    else:
        text = typer.prompt("Credential", hide_input=True, err=True)
    text = text.strip()
    if not text or len(text) > _MOST_SECRET_CHARS:
        raise InvalidRequest.field("secret", "is empty" if not text else "is too long")
    return Secret(text)


def _row(config: ProviderConfig) -> Row:
    valid = {None: None, True: "valid", False: f"invalid: {config.validation_message}"}[config.valid]
    return {
        "id": config.id,
        "name": config.name,
        "provider": config.provider,
        "endpoint": config.endpoint,
        "key id": config.key_mask,
        "secret": config.secret_mask,
        "active": config.active,
        "last validation": valid,
        "validated": config.validated_at,
        "created": config.created_at,
    }
