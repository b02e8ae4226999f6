"""`serve`, `dev`, `migrate`: running the gateway."""

from __future__ import annotations

import typer

from server.cli.context import setup_of


def serve(ctx: typer.Context) -> None:
    """Serve gRPC until SIGTERM.

    Running streams then finish within the grace period (DRAGOMAN_SHUTDOWN_GRACE_SECONDS).
    """
    settings = setup_of(ctx).settings
    import uvloop  # noqa: PLC0415

    from server import app  # noqa: PLC0415

    app.configure_logging(settings)
    uvloop.run(app.serve(settings))


def dev(ctx: typer.Context) -> None:
    """Run all of it on loopback (make run).

    Server, Envoy and a demo provider, with keys and data of their own under DRAGOMAN_HOME.
    """
    setup = setup_of(ctx)
    from server.dev.profile import run  # noqa: PLC0415

    run(setup.settings, setup.environ)


def migrate(ctx: typer.Context) -> None:
    """Bring the database's schema up to date.

    Makes a SQLite file that is not there yet.
    """
    settings = setup_of(ctx).settings
    import asyncio  # noqa: PLC0415

    from server.store.schema import HEAD  # noqa: PLC0415
    from server.store.schema import migrate as bring_up  # noqa: PLC0415

    asyncio.run(bring_up(settings.database()))
    typer.echo(f"The schema is at version {HEAD}.", err=True)
