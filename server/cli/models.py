"""`models`: what a workspace can call. On the store itself, or with --remote as a client of the running server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli import model_settings
from server.cli.access import JsonOption, WorkspaceOption
from server.cli.client import (
    AddressOption,
    KeyFileOption,
    RemoteOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    TlsOption,
    remote_models,
    way,
)
from server.cli.context import pick_workspace, setup_of, with_services
from server.cli.output import Row, show_row, show_rows

if TYPE_CHECKING:
    from server.app import Services
    from server.core.routing import WorkspaceModel

models = typer.Typer(help="Models: what a workspace can call.", no_args_is_help=True)
models.add_typer(model_settings.commands)

ModelId = Annotated[str, typer.Argument(help="provider/model, or a bare name where it is unambiguous.")]


@models.command("list")
def list_models(
    ctx: typer.Context,
    workspace: WorkspaceOption = "",
    remote: RemoteOption = False,
    address: AddressOption = "",
    key_file: KeyFileOption = None,
    tls: TlsOption = False,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the workspace's models."""

    async def work(services: Services) -> list[Row]:
        place = pick_workspace(ctx, services, workspace)
        return [_local_row(model) for model in services.models.list(place.id)]

    if remote:
        settings = setup_of(ctx).settings
        there = way(settings, address, key_file, tls=tls, ca=tls_ca, certificate=tls_cert, key=tls_key)
        found = remote_models(settings, there, workspace)
        rows = [_remote_row(model) for model in found]
    else:
        rows = with_services(ctx, work)
    show_rows(rows, as_json=as_json, empty="There is none: add a provider ('dragoman providers add --help').")


@models.command("show")
def show_model(ctx: typer.Context, id: ModelId, workspace: WorkspaceOption = "", as_json: JsonOption = False) -> None:
    """Show what is known of one model."""

    async def work(services: Services) -> Row:
        return _local_row(services.models.get(pick_workspace(ctx, services, workspace).id, id))

    show_row(with_services(ctx, work), as_json=as_json)


def _local_row(model: WorkspaceModel) -> Row:
    info = model.info
    return {
        "id": info.id,
        "name": info.name,
        "kind": info.kind,
        "capabilities": sorted(info.capabilities),
        "context tokens": info.context_tokens,
        "output tokens": info.output_tokens,
        "default": model.is_default,
        "configurations": model.configurations,
        "alias of": model.alias_of or None,
    }


def _remote_row(model: Any) -> Row:
    return {
        "id": model.id,
        "name": model.name,
        "kind": model.kind,
        "capabilities": sorted(model.capabilities),
        "context tokens": model.context_tokens if model.HasField("context_tokens") else None,
        "output tokens": model.max_output_tokens if model.HasField("max_output_tokens") else None,
        "default": model.is_default,
        "configurations": list(model.provider_configs),
        "alias of": model.alias_of or None,
    }
