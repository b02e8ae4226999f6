"""`dragoman` with a count: `python -m bench.watched serve` serves as usual, and writes every COUNT_SECONDS how many
tasks its event loop has into the file that BENCH_TASKS names."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

from server import app
from server.__main__ import main

COUNT_SECONDS: Final = 0.25

_serve = app.serve


async def _counted(*given: Any, **named: Any) -> None:
    counting = asyncio.create_task(_count(Path(os.environ["BENCH_TASKS"])))
    try:
        await _serve(*given, **named)
    finally:
        counting.cancel()


async def _count(path: Path) -> None:
    while True:
        path.write_text(str(len(asyncio.all_tasks())))  # noqa: ASYNC240  a few bytes, four times a second
        await asyncio.sleep(COUNT_SECONDS)


if __name__ == "__main__":
    app.serve = _counted
    main()
