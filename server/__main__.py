"""The command line: `dragoman`, or `python -m server`."""

from __future__ import annotations

import os
import sys

from server.cli.hardening import harden_process
from server.cli.main import run


def main() -> None:
    """Run a command and exit with its status."""
    harden_process()
    sys.exit(run(sys.argv[1:], os.environ))


if __name__ == "__main__":
    main()
