"""Where the server's time goes under load: `python -m bench.profile`, shares of its main thread by whose code ran.

py-spy (bench/.venvs/tools, `make bench-setup`) takes a sample of the server RATE times a second, C included, while
bench/load.py calls it. A sample belongs to the kernel where its innermost frame is a call of it, else to the innermost
frame that is named in OWNERS: what the interpreter and libc do counts for who asked for it. Attaching to a process
needs the right to (root, or ptrace within a container).
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from bench.bars import case_of
from bench.figures import Share, keep
from bench.machine import fresh_folder, our_python
from bench.measure import run_load, start, start_provider, stop, works
from bench.page import profile_table
from bench.peers import Place
from bench.processes import free_port
from bench.setup import VENVS

RATE: Final = 200
SECONDS: Final = 6.0

OWNERS: Final = (
    ("uvloop", "event loop (uvloop)"),
    ("/asyncio/", "asyncio's Python"),
    ("httptools", "httptools"),
    ("grpc", "gRPC"),
    ("protovalidate", "protovalidate"),
    ("celpy", "protovalidate"),
    ("google/_upb", "protobuf"),
    ("google/protobuf", "protobuf"),
    ("/dragoman/v1/", "protobuf"),
    ("msgspec", "msgspec"),
    ("cryptography", "cryptography, hashes"),
    ("_hashlib", "cryptography, hashes"),
    ("hmac", "cryptography, hashes"),
    ("/logging/", "logging"),
    ("server/rpc/log.py", "logging"),
    ("server/rpc/access_log.py", "logging"),
    ("server/rpc/edge", "server/rpc/edge"),
    ("server/rpc", "server/rpc"),
    ("server/services", "server/services"),
    ("server/providers/transport", "server/providers/transport"),
    ("server/providers", "server/providers"),
    ("server/core", "server/core"),
    ("server/", "server, else"),
)
"""Part of a frame's file, and whose it is; the first that fits. Those of the interpreter and of libc belong to none."""

_MAIN: Final = "(<frozen runpy>"
"""The main thread's stacks begin with it; others wait in C, which looks like work to a sampler."""

KERNEL: Final = frozenset(
    {
        "write",
        "writev",
        "__write",
        "read",
        "__read",
        "recv",
        "send",
        "sendmsg",
        "epoll_pwait",
        "epoll_wait",
        "epoll_ctl",
    }
    | {"accept", "accept4", "connect", "close", "__close", "shutdown", "socket", "sched_yield"}
)

LOADS: Final = (
    ("whole answers, REST", "rest", "unary-32"),
    ("whole answers, gRPC", "grpc", "unary-32"),
    ("bursts, REST", "rest", "burst-32"),
    ("paced, REST", "rest", "paced-100"),
)


def owner(stack: str) -> str:
    """Of a sample, as py-spy's raw format has it: frames from the outermost in, separated by semicolons."""
    frames = stack.split(";")
    name, _, file = frames[-1].partition(" ")
    if name in KERNEL and "libc" in file:
        return "the kernel (write, read, epoll)"
    for frame in reversed(frames):
        if found := _owner_of(frame):
            return found
    return "the interpreter"


def owner_of(file: str) -> str:
    """Of a file with Python code."""
    return _owner_of(file) or "else"


def _owner_of(frame: str) -> str:
    return next((name for part, name in OWNERS if part in frame), "")


def shares(samples: dict[str, Counter[str]]) -> list[Share]:
    """By owner, the largest first. samples: by load."""
    total: Counter[str] = Counter()
    for counted in samples.values():
        total.update({name: count / counted.total() for name, count in counted.items()})
    return [
        Share(name=name, percent={load: round(100 * each[name] / each.total(), 1) for load, each in samples.items()})
        for name, _ in total.most_common()
    ]


def main() -> int:
    """Print the table."""
    spy = VENVS / "tools" / "bin" / "py-spy"
    if not spy.exists():
        print("'make bench-setup' installs py-spy", file=sys.stderr)
        return 1
    samples: dict[str, Counter[str]] = {}
    with ExitStack() as stack:
        place = Place(fresh_folder("profile"), free_port(), our_python())
        start_provider(place, stack)
        started = start("dragoman", Place(place.folder / "dragoman", place.provider, place.python))
        stack.callback(stop, started.peer)
        surfaces = {surface.name: surface for surface in started.peer.surfaces}
        for name, surface, group in LOADS:
            if said := works(surfaces[surface], place):
                raise RuntimeError(f"{name}: {said}")
            case = msgspec.structs.replace(case_of(group), seconds=SECONDS + 2)
            load = threading.Thread(target=run_load, args=(surfaces[surface], case, place))
            load.start()
            samples[name] = _record(str(spy), started.peer.processes[0].id, place.folder / f"{surface}-{group}.raw")
            load.join()
    found = shares(samples)
    keep("profile", found)
    print(profile_table(found).markdown)
    return 0


def _record(spy: str, process: int, out: Path) -> Counter[str]:
    words = [spy, "record", "--native", "--full-filenames", "--format", "raw", "--rate", str(RATE)]
    words += ["--duration", str(int(SECONDS)), "--pid", str(process), "--output", str(out)]
    subprocess.run(words, capture_output=True, check=True)
    counted: Counter[str] = Counter()
    for line in out.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        if _MAIN in stack:
            counted[owner(stack)] += int(count)
    return counted


if __name__ == "__main__":
    sys.exit(main())
