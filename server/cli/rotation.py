"""`keys rotate-master` and `keys rotate-data`: new keys for what is stored, while servers run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.access import JsonOption, WorkspaceOption
from server.cli.context import command_origin, pick_workspace, setup_of, with_services
from server.cli.output import Row, show_row

if TYPE_CHECKING:
    from server.app import Services
    from server.settings import Settings
    from server.store.cipher import Keyring
    from server.store.db import Database
    from server.store.rotation import DataRotation, MasterRotation
    from server.store.rotation_log import RotationLog


def rotate_master(
    ctx: typer.Context,
    generate: Annotated[
        bool,
        typer.Option("--generate", help="Put a new random key into the master key file first, unless that was done."),
    ] = False,
    drop_old: Annotated[
        bool,
        typer.Option("--drop-old", help="At the end take the old keys out of the file, if nothing needs them."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Wrap everything by the first master key.

    Servers go on meanwhile; a run that was stopped is finished by the next one. See docs/security.md for the steps.
    """
    import asyncio  # noqa: PLC0415

    settings = setup_of(ctx).settings
    done, others = asyncio.run(rotate_master_keys(settings, generate=generate, drop_old=drop_old))
    row: Row = {
        "master_key": done.key_id,
        "rewrapped": done.rewrapped,
        "unreadable": done.unreadable,
        "still_needed": done.still_needed,
        "not_needed": sorted(others - set(done.still_needed)),
    }
    show_row(row, as_json=as_json)
    if done.unreadable or done.still_needed:
        _say("Not everything opens with the keys that were given: add the ones that are still needed, or restore.")
        raise typer.Exit(1)
    if others:
        _say(
            "The old keys are needed no more by this database. Take them away when every server reads the new one "
            "(SIGHUP makes it), by --drop-old where they are in a file on this machine; keep them with the backups "
            "that were made before, which need them."
        )


def rotate_data(ctx: typer.Context, workspace: WorkspaceOption = "", as_json: JsonOption = False) -> None:
    """Give a workspace a new data key and seal its credentials by it.

    Servers go on meanwhile; a run that was stopped is finished by the next one.
    """

    async def work(services: Services) -> DataRotation:
        from server.app import master_keyring  # noqa: PLC0415
        from server.store.rotation import rotate_data_key  # noqa: PLC0415

        place = pick_workspace(ctx, services, workspace)
        ring = master_keyring(setup_of(ctx).settings)
        return await rotate_data_key(services.store.database, ring, place.id, _log())

    done = with_services(ctx, work)
    row: Row = {
        "data_key": done.key_id,
        "resumed": done.resumed,
        "resealed": done.resealed,
        "removed": done.removed,
        "still_used": done.still_used,
        "unreadable": done.unreadable,
    }
    show_row(row, as_json=as_json)
    if done.key_id is None:
        _say("The workspace has no credential yet, so there is no key to change.")
    if done.unreadable or done.still_used:
        _say("Some credentials do not open. Give these configurations theirs anew or delete them, then run this again.")
        raise typer.Exit(1)


async def rotate_master_keys(
    settings: Settings, *, generate: bool, drop_old: bool
) -> tuple[MasterRotation, frozenset[str]]:
    """How it went, and the ids of the other master keys that are still given. Raises SetupError, Unavailable."""
    from server.app import master_key_source  # noqa: PLC0415
    from server.core.setup import SetupError  # noqa: PLC0415
    from server.store.db import open_database  # noqa: PLC0415
    from server.store.rotation import rotate_master  # noqa: PLC0415
    from server.store.schema import require_current_schema  # noqa: PLC0415
    from server.store.url import parse_url  # noqa: PLC0415

    source = master_key_source(settings)
    url = settings.database()
    database = open_database(parse_url(url))
    try:
        await require_current_schema(url, database)
        if not (generate or drop_old):
            ring = source.read()
            return await rotate_master(database, ring, _log()), _others(ring)
        if source.file is None or source.command:
            raise SetupError(
                "The master key is not in a file that this command may change.",
                mend="Put the new key first where it comes from, restart the servers with both, and run this without "
                "--generate and --drop-old.",
            )
        return await _rotate_in_file(database, source.file, settings, generate=generate, drop_old=drop_old)
    finally:
        await database.dispose()


async def _rotate_in_file(
    database: Database, path: Path, settings: Settings, *, generate: bool, drop_old: bool
) -> tuple[MasterRotation, frozenset[str]]:
    from server.store.cipher import Key  # noqa: PLC0415
    from server.store.key_file import editing  # noqa: PLC0415
    from server.store.rotation import note_master_removed, rotate_master  # noqa: PLC0415

    log = _log()
    with editing(path, allow_shared=settings.master_key_file_shared) as file:
        ring = file.read()
        done = await rotate_master(database, ring, log)
        # Several keys: a rotation that was begun, which is finished and not begun again.
        if generate and not _others(ring):
            ring = file.put_first(Key.generate())
            done = await rotate_master(database, ring, log)
        if drop_old and _others(ring) and not (done.still_needed or done.unreadable):
            await note_master_removed(database, log, sorted(_others(ring)))
            ring = file.keep_first()
        return done, _others(ring)


def _log() -> RotationLog:
    from server.services.access import utc_now  # noqa: PLC0415
    from server.store.rotation_log import RotationLog  # noqa: PLC0415

    return RotationLog(utc_now, command_origin())


def _others(ring: Keyring) -> frozenset[str]:
    return ring.ids() - {ring.active.id}


def _say(text: str) -> None:
    print(text, file=sys.stderr)
