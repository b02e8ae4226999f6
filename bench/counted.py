"""`dragoman` with a count: `python -m bench.counted serve` serves as usual. From one SIGUSR1 to the next it counts the
Python frames that its main thread enters (a function that is called, a coroutine that goes on), and writes how many of
each file into the file that BENCH_FRAMES names. Counting makes it several times slower: nothing is timed beside it."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import msgspec

from server.__main__ import main


class Count:
    """Frames by their code, while it runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entered: Counter[CodeType] = Counter()
        self._runs = False

    def turn(self, _number: int, _frame: FrameType | None) -> None:
        """Begin, or end and write."""
        self._runs = not self._runs
        sys.setprofile(self._note if self._runs else None)
        if not self._runs:
            files: Counter[str] = Counter()
            for code, count in self._entered.items():
                files[code.co_filename] += count
            self._entered.clear()
            whole = self._path.with_suffix(".part")
            whole.write_bytes(msgspec.json.encode(files))
            whole.rename(self._path)

    def _note(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            self._entered[frame.f_code] += 1


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, Count(Path(os.environ["BENCH_FRAMES"])).turn)
    main()
