"""`audit`: the log of who changed what. On the store itself."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.access import DEFAULT_ORG, JsonOption
from server.cli.context import command_origin, setup_of, with_services
from server.cli.output import Row, show_rows
from server.core.access import operator
from server.core.audit import AuditEntry, AuditFilter

if TYPE_CHECKING:
    from server.app import Services

audit = typer.Typer(help="The audit log: who did what, from where, when.", no_args_is_help=True)

WorkspaceFilter = Annotated[str, typer.Option("--workspace", "-w", help="Only this workspace. Default: all.")]
OrgOption = Annotated[str, typer.Option(help="The organisation, where no workspace is named.")]
Since = Annotated[str, typer.Option(help="Only from this moment (UTC unless it says otherwise), as 2030-12-31T08:00.")]
Until = Annotated[str, typer.Option(help="Only before this moment.")]


@audit.command("list")
def list_entries(
    ctx: typer.Context,
    workspace: WorkspaceFilter = "",
    org: OrgOption = DEFAULT_ORG,
    since: Since = "",
    until: Until = "",
    action: Annotated[str, typer.Option(help="Only this action, as key.revoke, or key.* for all of a kind.")] = "",
    object_id: Annotated[str, typer.Option("--object", help="Only what was done to the thing of this id.")] = "",
    key_id: Annotated[str, typer.Option("--key", help="Only what was done with the key of this id.")] = "",
    outcome: Annotated[str, typer.Option(help="Only ok, denied or failed.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List entries, newest first."""
    start, end = _moment(since), _moment(until)

    async def work(services: Services) -> list[Row]:
        org_id, workspace_id = _scope(ctx, services, workspace, org)
        wanted = AuditFilter(
            org_id=org_id, workspace_id=workspace_id, start=start, end=end, action=action, object_id=object_id,
            key_id=key_id, outcome=outcome,
        )  # fmt: skip
        return [_row(entry) for entry in (await services.audit.list(wanted, page_size=limit)).entries]

    show_rows(with_services(ctx, work), as_json=as_json, empty="There is no such entry.")


@audit.command("export")
def export_entries(
    ctx: typer.Context,
    workspace: WorkspaceFilter = "",
    org: OrgOption = DEFAULT_ORG,
    since: Since = "",
    until: Until = "",
) -> None:
    """Write entries to stdout as lines of JSON, oldest first. The last line says that they are all."""
    start, end = _moment(since), _moment(until)

    async def work(services: Services) -> None:
        from server.rpc.translate.access import audit_end, audit_lines  # noqa: PLC0415

        org_id, workspace_id = _scope(ctx, services, workspace, org)
        wanted = AuditFilter(org_id=org_id, workspace_id=workspace_id, start=start, end=end)
        count = 0
        async for batch in services.audit.export(operator(org_id, command_origin()), wanted):
            count += len(batch)
            sys.stdout.write(audit_lines(batch).data.decode())
        sys.stdout.write(audit_end(count).data.decode())

    with_services(ctx, work)


def _scope(ctx: typer.Context, services: Services, workspace: str, org: str) -> tuple[str, str | None]:
    """Organisation and workspace, None for all of them. Raises NotFound."""
    from server.core.errors import NotFound  # noqa: PLC0415

    id = workspace or setup_of(ctx).settings.workspace
    if not id:
        return org, None
    found = services.store.snapshots.current().workspaces.get(id)
    if found is None:
        raise NotFound(f"There is no workspace {id}.", action="See 'dragoman workspaces list'.")
    return found.org_id, found.id


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("must be a date and time, as 2030-12-31T08:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _row(entry: AuditEntry) -> Row:
    return {
        "at": entry.at,
        "key": entry.key_id,
        "role": entry.role,
        "action": entry.action,
        "object": entry.object_id,
        "name": entry.object_name,
        "from": entry.address,
        "outcome": entry.outcome if not entry.reason else f"{entry.outcome}: {entry.reason}",
        "details": [f"{name}={value}" for name, value in entry.details.items()],
    }
