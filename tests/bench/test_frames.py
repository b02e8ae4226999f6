"""How much Python a call runs through: counted in the real server behind the real Envoy, and bounded.

What is timed on a busy machine says nothing; what is counted does. A change that makes the path longer is seen here,
and `make bench-frames` says in whose code.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.frames import LOADS, counted
from bench.measure import start_provider
from bench.peers import Place
from bench.processes import free_port

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes by /proc, and Envoy's package is for Linux"),
]

MOST = {
    "whole answers, REST": 215,
    "whole answers, OpenAI": 265,
    "bursts, REST": 8,
    "paced, REST": 50,
    "paced, OpenAI": 55,
}
"""A tenth above what it is now; of paced streams more, beside which the background's work counts. Before it was looked
at: 495 a call, 105 an event."""


def test_a_call_and_an_event_pass_no_more_python_than_they_did(tmp_path: Path) -> None:
    with ExitStack() as stack:
        place = Place(tmp_path, free_port(), sys.executable)
        start_provider(place, stack)
        found = counted(place, stack)
    sums = {load: sum(one.each[load] for one in found) for load, _, _ in LOADS}
    assert {load: passed for load, passed in sums.items() if passed > MOST[load]} == {}
    # What is counted is the server: it would be near nothing if the count had not run.
    assert all(passed > MOST[load] / 3 for load, passed in sums.items())
