"""The demo provider as a fixture: in the test's own event loop, or as a process of its own."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from server.dev.demo_provider import DEFAULT_API_KEY, DemoServer, Pace, start
from tests.support.process import RunningProcess, RunProcess

FAST = Pace(slow_token=0.01, endless_token=0.002, comment=0.02, before_reset=0.05)


@pytest_asyncio.fixture
async def demo_provider() -> AsyncIterator[DemoServer]:
    """A demo provider on a free port, at a pace fit for tests."""
    async with await start(pace=FAST) as demo:
        yield demo


@dataclass(frozen=True, slots=True)
class DemoProcess:
    """A demo provider as a process: its endpoint, its key, and the process."""

    base_url: str
    api_key: str
    process: RunningProcess


@pytest.fixture
def demo_process(run_process: RunProcess) -> DemoProcess:
    """A demo provider in a process of its own, for tests without an event loop."""
    process = run_process([sys.executable, "-m", "server.dev.demo_provider", "--port", "0"])
    base_url = process.wait_for_line(r"listening on (http://\S+)$")[1]
    return DemoProcess(base_url, DEFAULT_API_KEY, process)
