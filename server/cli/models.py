"""`models`: what a workspace can call. On the store itself, or with --remote as a client of the running server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.access import JsonOption, WorkspaceOption
from server.cli.client import AddressOption, KeyFileOption, RemoteOption, TlsOption, remote_models
from server.cli.context import pick_workspace, setup_of, with_services
from server.cli.output import Row, show_row, show_rows

if TYPE_CHECKING:
    from server.app import Services
    from server.core.routing import WorkspaceModel

models = typer.Typer(help="Models: what a workspace can call.", no_args_is_help=True)

ModelId = Annotated[str, typer.Argument(help="provider/model, or a bare name where it is unambiguous.")]


@models.command("list")
def list_models(
    ctx: typer.Context,
    workspace: WorkspaceOption = "",
    remote: RemoteOption = False,
    address: AddressOption = "",
    key_file: KeyFileOption = None,
    tls: TlsOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the workspace's models."""

    async def work(services: Services) -> list[Row]:
        place = pick_workspace(ctx, services, workspace)
        return [_local_row(model) for model in services.models.list(place.id)]

    if remote:
        found = remote_models(setup_of(ctx).settings, address, key_file, tls=tls, workspace=workspace)
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


@models.command("enable")
def enable_model(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(help="provider/model.")],
    workspace: WorkspaceOption = "",
) -> None:
    """Let the workspace see a model that the catalogue does not list for its configurations."""

    async def work(services: Services) -> str:
        place = pick_workspace(ctx, services, workspace)
        route = services.models.resolve(place.id, id)
        await services.access.enable_model(place, route.id)
        return route.id

    print(f"{with_services(ctx, work)} is enabled.", file=sys.stderr)


@models.command("default")
def default_model(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(help="provider/model; none: show the present one.")] = "",
    workspace: WorkspaceOption = "",
    none: Annotated[bool, typer.Option("--none", help="Calls must name a model.")] = False,
) -> None:
    """Show or set the model of calls that name none."""
    if none and id:
        raise typer.BadParameter("give a model or --none, not both")

    async def work(services: Services) -> str | None:
        place = pick_workspace(ctx, services, workspace)
        if none:
            place = await services.access.set_default_model(place, None)
        elif id:
            # Resolved first: a default that no configuration serves would fail every call.
            place = await services.access.set_default_model(place, services.models.resolve(place.id, id).id)
        return place.default_model

    model = with_services(ctx, work)
    if model is None:
        print("There is no default model.", file=sys.stderr)
    else:
        print(model)


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
    }
