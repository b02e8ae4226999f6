"""What a command works with: the settings, and the parts that it opens for as long as it runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from server.settings import Settings, load_settings

if TYPE_CHECKING:
    from server.app import Services
    from server.core.access import Origin, Principal, Workspace

T = TypeVar("T")


class Setup:
    """The environment that a command was started in, and the settings in it, read when they are first asked for."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self._settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        """Raises SetupError."""
        if self._settings is None:
            self._settings = load_settings(self.environ)
        return self._settings


def setup_of(ctx: typer.Context) -> Setup:
    """The Setup that the command line was run with."""
    found = ctx.find_object(Setup)
    assert found is not None  # noqa: S101 - server.cli.main.run gives it
    return found


def with_services(ctx: typer.Context, work: Callable[[Services], Coroutine[Any, Any, T]]) -> T:
    """Do `work` on the store that the settings name, whether or not a server runs over it. Raises SetupError,
    DragomanError."""
    import asyncio  # noqa: PLC0415

    settings = setup_of(ctx).settings

    async def whole() -> T:
        async with _quiet_services(settings) as services:
            return await work(services)

    return asyncio.run(whole())


@contextlib.asynccontextmanager
async def _quiet_services(settings: Settings) -> AsyncIterator[Services]:
    from server import app  # noqa: PLC0415

    async with app.open_services(settings) as services:
        yield services


def pick_workspace(ctx: typer.Context, services: Services, named: str) -> Workspace:
    """The workspace that `named` or DRAGOMAN_WORKSPACE says, else the only one there is. Raises NotFound, and
    SetupError where there is none or a choice."""
    from server.core.errors import NotFound  # noqa: PLC0415
    from server.core.setup import SetupError  # noqa: PLC0415

    workspaces = services.store.snapshots.current().workspaces
    id = named or setup_of(ctx).settings.workspace
    if id:
        if id not in workspaces:
            raise NotFound(f"There is no workspace {id}.", action="See 'dragoman workspaces list'.")
        return workspaces[id]
    if len(workspaces) == 1:
        return next(iter(workspaces.values()))
    if not workspaces:
        raise SetupError("There is no workspace yet.", mend="Make one with 'dragoman workspaces create NAME'.")
    raise SetupError("There are several workspaces.", mend="Name one with --workspace or DRAGOMAN_WORKSPACE.")


def local_admin(workspace: Workspace) -> Principal:
    """Whoever has the database and the master key may do what an admin of the workspace may."""
    from server.core.access import Principal, Role  # noqa: PLC0415

    return Principal("operator", workspace.org_id, workspace.id, Role.ADMIN, "operator", origin=command_origin())


def command_origin() -> Origin:
    """Who runs this command and on which machine, for the audit log: as the system says, not the environment."""
    import os  # noqa: PLC0415
    import pwd  # noqa: PLC0415
    import socket  # noqa: PLC0415

    from server.core.access import Origin  # noqa: PLC0415

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a user without a name
        user = str(os.getuid())
    return Origin(command_by=f"{user}@{socket.gethostname()}")
