"""What a process that holds keys asks of the operating system before it reads them."""

from __future__ import annotations

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4  # include/uapi/linux/prctl.h


def harden_process() -> None:
    """No core dump of this process, nor of any that it starts; and on Linux no other process of the same user may read
    its memory or attach to it (root may).

    Lasts as long as the process: the limit is lowered for good, for its children as well; being dumpable again is what
    a child that runs another program starts with.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # A kernel pipes dumps to a program (core_pattern with |) in spite of the limit, but not of undumpable memory.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
