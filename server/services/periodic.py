"""What is written behind the calls: flushed at intervals, and once more at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from server.core.errors import DragomanError

log = logging.getLogger("dragoman.behind")


class Periodic:
    """Calls `write` every `interval` seconds and when it stops. what: the name of what is written, for the log.

    `write` keeps what it could not write, and raises DragomanError then: that is logged when it begins, and once more
    where it is so at the end, for then it is lost.
    """

    def __init__(self, what: str, write: Callable[[], Awaitable[None]], interval: float) -> None:
        self._what = what
        self._write_pending = write
        self._interval = interval
        self._writing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write at intervals."""
        self._task = asyncio.create_task(self._run(), name=f"write {self._what}")

    async def flush(self) -> None:
        """Return once what is pending is written, and what is being written right now. Raises DragomanError
        (Unavailable) when it cannot be; then nothing is lost."""
        async with self._writing:
            await self._write_pending()

    async def stop(self) -> None:
        """End the writing, after one last flush. One that runs is not broken off: whether it had committed would be
        anybody's guess, and what it wrote would be written twice."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        try:
            await self.flush()
        except DragomanError:
            log.exception("%s lost at shutdown", self._what)

    async def _run(self) -> None:
        reachable = True
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._interval)
                return
            try:
                await self.flush()
                reachable = True
            except DragomanError as error:
                if reachable:
                    log.warning("%s wait in memory", self._what, extra={"fields": {"reason": error.reason}})
                reachable = False
