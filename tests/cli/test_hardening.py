"""A process that holds keys leaves no core dump, and no other of its user reads its memory."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Served
from tests.support.process import RunProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

PR_GET_DUMPABLE = 3


def core_limits(pid: int) -> list[str]:
    found = re.search(r"Max core file size\s+(\S+)\s+(\S+)", Path(f"/proc/{pid}/limits").read_text())
    assert found is not None
    return [found[1], found[2]]


def test_a_server_has_a_core_limit_of_zero_that_it_cannot_raise(served: Served) -> None:
    assert core_limits(served.process.pid) == ["0", "0"]


def test_a_hardened_process_is_not_dumpable_and_this_one_is(run_process: RunProcess) -> None:
    """Asked of the kernel before and after; the test's own process shows that 1 is what it would be."""
    program = (
        "import ctypes, server.__main__ as program; "
        "ask = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0); "
        "before = ask(); program.run = lambda *_: print('dumpable', before, ask(), flush=True); program.main()"
    )
    process = run_process([sys.executable, "-c", program])
    assert process.wait_for_line(r"^dumpable (\d) (\d)$").groups() == ("1", "0")
    assert ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1
