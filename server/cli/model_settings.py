"""`models enable`, `disable`, `reset`, `alias`, `default`, `settings`: what a workspace offers. On the store itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.access import JsonOption, WorkspaceOption
from server.cli.context import command_origin, pick_workspace, with_services
from server.cli.output import show_row
from server.core.access import Workspace, operator

if TYPE_CHECKING:
    from server.app import Services

commands = typer.Typer()

Names = Annotated[list[str], typer.Argument(help="provider/model, or a beginning of ids with * after it.")]


@commands.command("enable")
def enable_models(
    ctx: typer.Context,
    ids: Annotated[list[str], typer.Argument(help="provider/model.")],
    workspace: WorkspaceOption = "",
) -> None:
    """Offer models whatever the catalogue says, and though a pattern disables them."""
    _change(ctx, workspace, enable=ids)
    print(f"{', '.join(ids)}: enabled.", file=sys.stderr)


@commands.command("disable")
def disable_models(ctx: typer.Context, names: Names, workspace: WorkspaceOption = "") -> None:
    """Neither offer nor call models. '*' leaves those alone that are enabled by their ids."""
    _change(ctx, workspace, disable=names)
    print(f"{', '.join(names)}: disabled.", file=sys.stderr)


@commands.command("reset")
def reset_models(ctx: typer.Context, names: Names, workspace: WorkspaceOption = "") -> None:
    """Take names off both lists, so that the catalogue decides."""
    _change(ctx, workspace, reset=names)
    print(f"{', '.join(names)}: as the catalogue says.", file=sys.stderr)


@commands.command("alias")
def alias_model(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The further name, without slashes.")],
    target: Annotated[str, typer.Argument(help="What it stands for: provider/model, or another alias.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
    workspace: WorkspaceOption = "",
) -> None:
    """Give a model a further name, or take it away."""
    if remove == bool(target):
        raise typer.BadParameter("give what it stands for, or --remove")
    changed = _change(ctx, workspace, **({"remove_aliases": [name]} if remove else {"set_aliases": {name: target}}))
    print(f"{name}: removed." if remove else f"{name}: {changed.aliases[name]}", file=sys.stderr)


@commands.command("default")
def default_model(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(help="provider/model or an alias; none: show the present one.")] = "",
    workspace: WorkspaceOption = "",
    none: Annotated[bool, typer.Option("--none", help="Calls must name a model.")] = False,
) -> None:
    """Show or set the model of calls that name none."""
    if none and id:
        raise typer.BadParameter("give a model or --none, not both")
    found = _change(ctx, workspace, default_model=id) if none or id else _read(ctx, workspace)
    if found.default_model is None:
        print("There is no default model.", file=sys.stderr)
    else:
        print(found.default_model)


@commands.command("settings")
def show_settings(ctx: typer.Context, workspace: WorkspaceOption = "", as_json: JsonOption = False) -> None:
    """Show the default model, enabled and disabled models, and aliases."""
    found = _read(ctx, workspace)
    show_row(
        {
            "workspace": found.id,
            "default": found.default_model,
            "enabled": found.enabled_models,
            "disabled": found.disabled_models,
            "aliases": [f"{name}={target}" for name, target in found.aliases.items()],
        },
        as_json=as_json,
    )


def _read(ctx: typer.Context, workspace: str) -> Workspace:
    async def work(services: Services) -> Workspace:
        return pick_workspace(ctx, services, workspace)

    return with_services(ctx, work)


def _change(ctx: typer.Context, workspace: str, **changes: Any) -> Workspace:
    """Change the settings, by fields of ModelSettingsChange. Raises DragomanError."""
    from server.core.model_settings import ModelSettingsChange  # noqa: PLC0415

    async def work(services: Services) -> Workspace:
        place = pick_workspace(ctx, services, workspace)
        change = ModelSettingsChange(**changes)
        return await services.model_settings.update(operator(place.org_id, command_origin()), place.id, change)

    return with_services(ctx, work)
