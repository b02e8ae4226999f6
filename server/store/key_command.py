"""The master key from a command: what a KMS, a vault or a sealed file gives out, by whatever program speaks to it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

from server.core.secret import Secret
from server.core.setup import SetupError

_MAX_OUTPUT_BYTES = 64 * 1024


def run_key_command(argv: Sequence[str], *, given: bytes | None, seconds: float) -> Secret:
    """What the command prints, which is to be a keyring's text. It is started without a shell.

    given: what it gets on its standard input (a wrapped key to be opened), else nothing. seconds: then it is killed,
    with what it started. What it says on stderr goes nowhere, since nobody knows what is in it. Raises SetupError,
    which says how it ended and nothing of what it printed.
    """
    name = argv[0]
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as exc:
        raise SetupError(f"The master key's command {name} cannot be started ({exc.strerror}).", mend=_MEND) from exc
    with process:
        try:
            output, _ = process.communicate(given, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise SetupError(f"The master key's command {name} did not end within {seconds:g} s.", mend=_MEND) from None
        finally:
            # The group: what it started may hold the pipe open and outlive it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0:
        raise SetupError(f"The master key's command {name} ended with status {process.returncode}.", mend=_MEND)
    if len(output) > _MAX_OUTPUT_BYTES:
        raise SetupError(f"The master key's command {name} printed too much to be a master key.", mend=_MEND)
    try:
        return Secret(output.decode("ascii"))
    except UnicodeDecodeError:
        raise SetupError(f"The master key's command {name} printed no text.", mend=_MEND) from None


_MEND = "Run DRAGOMAN_MASTER_KEY_COMMAND by hand to see what it says; it must print the key as base64 or hex."
