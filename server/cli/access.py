"""`keys` and `workspaces`: who may call. On the store itself, so also while the server runs, which sees a change within
a second."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.context import command_origin, pick_workspace, with_services
from server.cli.output import Row, show_row, show_rows
from server.core.access import ApiKey, Role, Workspace, operator

if TYPE_CHECKING:
    from server.app import Services

keys = typer.Typer(help="Keys for callers: made and shown once, listed, revoked.", no_args_is_help=True)
workspaces = typer.Typer(help="Workspaces: what keys, configurations and models belong to.", no_args_is_help=True)

DEFAULT_ORG = "default"

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WorkspaceOption = Annotated[
    str, typer.Option("--workspace", "-w", help="Its id. Default: DRAGOMAN_WORKSPACE, or the only one there is.")
]

_SPAN = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class KeyRole(StrEnum):
    """The roles that a workspace's key can have."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"


@keys.command("create")
def create_key(
    ctx: typer.Context,
    name: Annotated[str, typer.Option(help="What it is for, to know it by in the list.")] = "",
    role: Annotated[KeyRole, typer.Option(help="What it may do.")] = KeyRole.MEMBER,
    workspace: WorkspaceOption = "",
    org: Annotated[
        str, typer.Option(help="Make an admin key of this organisation instead: all its workspaces, every right.")
    ] = "",
    expires: Annotated[
        str, typer.Option(help="After how long it ends, as 12h, 90d or 8w, or at which date, as 2030-12-31 (UTC).")
    ] = "",
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="Only this model, or a beginning of ids with * after it; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is printed once, alone on stdout, and cannot be shown again."""
    if org and workspace:
        raise typer.BadParameter("give --workspace or --org, not both")
    expires_at = parse_expiry(expires, datetime.now(UTC)) if expires else None

    async def work(services: Services) -> tuple[ApiKey, str]:
        place = None if org else pick_workspace(ctx, services, workspace)
        if org and not any(each.org_id == org for each in services.store.snapshots.current().workspaces.values()):
            raise typer.BadParameter(f"no workspace belongs to an organisation {org!r}")
        key, clear = await services.access.create_key(
            workspace=place,
            org_id=place.org_id if place else org,
            role=Role[role.name] if place else Role.ORG_ADMIN,
            name=name,
            expires_at=expires_at,
            allowed_models=models or (),
            by=operator(place.org_id if place else org, command_origin()),
        )
        return key, clear.reveal()

    key, clear = with_services(ctx, work)
    if as_json:
        show_row({"key": clear, **_key_row(key)}, as_json=True)
        return
    where = f"workspace {key.workspace_id}" if key.workspace_id else f"organisation {key.org_id}"
    print(
        f"Key {key.id} for {where}, role {key.role.name.lower()}; it is shown this once:", file=sys.stderr, flush=True
    )
    print(clear)


@keys.command("list")
def list_keys(
    ctx: typer.Context,
    workspace: Annotated[str, typer.Option("--workspace", "-w", help="Only this workspace's.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List keys, oldest first: their last four characters, never themselves."""

    async def work(services: Services) -> list[Row]:
        place = pick_workspace(ctx, services, workspace).id if workspace else None
        return [_key_row(key) for key in await services.access.list_keys(place)]

    show_rows(with_services(ctx, work), as_json=as_json, empty="There are no keys: see 'dragoman keys create --help'.")


@keys.command("revoke")
def revoke_key(
    ctx: typer.Context, id: Annotated[str, typer.Argument(help="The key's id, as the list shows it.")]
) -> None:
    """End a key, for good."""

    async def work(services: Services) -> None:
        key = await services.store.access.get_key(id)
        await services.access.revoke_key(id, by=operator(key.org_id, command_origin()) if key else None)

    with_services(ctx, work)
    print(f"Key {id} is revoked.", file=sys.stderr)


@workspaces.command("create")
def create_workspace(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="For people.")],
    org: Annotated[str, typer.Option(help="The organisation that it belongs to.")] = DEFAULT_ORG,
    id: Annotated[str, typer.Option(help="Its id, where it must be a certain one. Default: a new one.")] = "",
) -> None:
    """Make a workspace. Its id is printed, alone on stdout."""

    async def work(services: Services) -> Workspace:
        return await services.access.create_workspace(
            name, org_id=org, id=id or None, by=operator(org, command_origin())
        )

    print(with_services(ctx, work).id)


@workspaces.command("list")
def list_workspaces(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the workspaces."""

    async def work(services: Services) -> list[Row]:
        found = await services.store.access.list_workspaces()
        return [
            {"id": w.id, "org": w.org_id, "name": w.name, "default model": w.default_model, "created": w.created_at}
            for w in found
        ]

    show_rows(
        with_services(ctx, work), as_json=as_json, empty="There is none: see 'dragoman workspaces create --help'."
    )


def parse_expiry(text: str, now: datetime) -> datetime:
    """When something ends: `now` and so many hours, days or weeks, or the end of a day (UTC). Raises BadParameter."""
    span = _SPAN.fullmatch(text)
    if span:
        return now + int(span[1]) * _UNITS[span[2]]
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise typer.BadParameter("must be a span as 12h, 90d or 8w, or a date as 2030-12-31") from None
    if day + timedelta(days=1) <= now:
        raise typer.BadParameter("is in the past")
    return day + timedelta(days=1)


def _key_row(key: ApiKey) -> Row:
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role.name.lower(),
        "workspace": key.workspace_id,
        "org": key.org_id,
        "hint": f"...{key.hint}",
        "created": key.created_at,
        "expires": key.expires_at,
        "revoked": key.revoked_at,
        "models": key.allowed_models,
        "last used": key.last_used_at,
    }
