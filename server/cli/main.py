"""The program: its commands, its options, and how a failure ends it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from server.cli import access, audit, chat, doctor, health, models, providers, rotation, service
from server.cli.client import CallFailed
from server.cli.context import Setup
from server.core.errors import DragomanError
from server.core.setup import SetupError

FAILED = 1
"""Exit status of a command that could not do what it was asked for."""

NOT_SET_UP = 2
"""Exit status where the settings, or how things are installed, do not let a command work; click's for a wrong option
too."""

app = typer.Typer(
    name="dragoman",
    help="An LLM gateway with one typed contract. Settings are DRAGOMAN_ variables; see docs/command-line.md.",
    no_args_is_help=True,
    add_completion=False,
    # Its tracebacks are for who wrote a program, and show what may be a secret.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(service.serve)
app.command()(service.dev)
app.command()(service.migrate)
access.keys.command("rotate-master")(rotation.rotate_master)
access.keys.command("rotate-data")(rotation.rotate_data)
app.add_typer(access.keys, name="keys")
app.add_typer(access.workspaces, name="workspaces")
app.add_typer(providers.providers, name="providers")
app.add_typer(models.models, name="models")
app.add_typer(audit.audit, name="audit")
app.command()(chat.chat)
app.command()(doctor.doctor)
app.command()(health.health)


def _print_version(wanted: bool) -> None:
    if wanted:
        from server.app import version  # noqa: PLC0415

        typer.echo(f"dragoman {version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command line; its exit status. Says on stderr what went wrong and how to mend it."""
    try:
        app(args=list(arguments), prog_name="dragoman", obj=Setup(environ))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_SET_UP
    except CallFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except DragomanError as error:
        near = error.metadata.get("candidates", "").replace(",", ", ")
        lines = [error.message, f"near    {near}" if near else "", f"do      {error.action}" if error.action else ""]
        print("error:", "\n  ".join(line for line in lines if line), file=sys.stderr)
        return FAILED
    return 0
