"""Counts of calls: none lost while the store is down, none counted twice."""

from __future__ import annotations

import pytest

from server.core.errors import Unavailable
from server.core.events import Usage
from server.core.provider_config import ConfigStats
from server.services.usage import UsageRecorder
from tests.services.fakes import Ledger


async def test_calls_are_added_up_per_configuration_and_written_once() -> None:
    ledger = Ledger()
    recorder = UsageRecorder(ledger)
    recorder.record("a", Usage(3, 2, 5, cached_tokens=1), failed=False)
    recorder.record("a", Usage(4), failed=True)
    recorder.record("b", Usage(), failed=False)
    await recorder.flush()
    await recorder.flush()
    assert ledger.totals == {
        "a": ConfigStats(
            config_id="a", calls=2, errors=1, prompt_tokens=7, completion_tokens=2, cached_tokens=1, reasoning_tokens=0
        ),
        "b": ConfigStats(config_id="b", calls=1),
    }


async def test_what_cannot_be_written_waits_and_is_added_to() -> None:
    ledger = Ledger()
    ledger.down = Unavailable("The database cannot be reached.")
    recorder = UsageRecorder(ledger)
    recorder.record("a", Usage(1, 1), failed=False)
    with pytest.raises(Unavailable):
        await recorder.flush()
    recorder.record("a", Usage(1, 1), failed=False)
    ledger.down = None
    await recorder.stop()
    assert ledger.totals["a"].calls == 2
    assert ledger.totals["a"].prompt_tokens == 2


async def test_stopping_writes_what_was_counted_last() -> None:
    ledger = Ledger()
    recorder = UsageRecorder(ledger, interval=3600)
    recorder.start()
    recorder.record("a", Usage(1, 1), failed=False)
    await recorder.stop()
    assert ledger.totals["a"].calls == 1
