"""Every adapter against every recording of its provider's traffic; see `conformance.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise

import pytest

from server.core.errors import ProviderError
from server.core.events import BlockStart, Completed, Failed
from tests.providers import conformance
from tests.providers.conformance import Case, Driver
from tests.support.recorded import DISAGREES, NOT_SPOKEN

ROOT = conformance.fixtures_root()
CASES = conformance.load_cases(ROOT) if ROOT.is_dir() else []
FACTORIES = conformance.driver_factories()

MAX_CUT_BYTES = 60_000_000
"""How much is parsed for the cuts of one stream; beyond it the cuts are thinned out evenly."""

pytestmark = pytest.mark.skipif(not CASES, reason=f"no recordings at {ROOT} (DRAGOMAN_WIRE_FIXTURES)")


def _params(*, streams: bool | None = None) -> list[object]:
    chosen = [case for case in CASES if streams is None or case.streams == streams]
    none = pytest.param(None, id="none", marks=pytest.mark.skip(reason="there are no such recordings"))
    return [pytest.param(case, id=case.name) for case in chosen] or [none]


Note = Callable[[str], None]


@pytest.fixture
def note(case: Case, record_property: Callable[[str, object], None]) -> Note:
    """Says why the recording cannot pass, "" where it can; `tests.support.recorded` adds it up."""
    return lambda why: record_property("recording", (case.provider, case.name, why))


@pytest.fixture
def driver(case: Case, note: Note) -> Driver:
    found = conformance.driver_for(case, FACTORIES)
    if found is None:
        note(NOT_SPOKEN)
        pytest.skip(f"{case.api}: {conformance.NOT_SPOKEN.get(case.api, 'no adapter speaks it')}")
    note("")
    return found


def _check(case: Case, note: Note, lines: list[str]) -> None:
    if case.name in conformance.KNOWN_DISAGREEMENTS:
        assert lines, f"{case.name} agrees now: take it out of the table of known disagreements"
        note(DISAGREES)
        pytest.skip(f"known disagreement: {conformance.KNOWN_DISAGREEMENTS[case.name]}")
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize("case", _params())
def test_recording_gives_the_expected_neutral_result(case: Case, driver: Driver, note: Note) -> None:
    """A recorded answer, list or error becomes what its expected.json states."""
    if case.api == "models-list":
        listed = list(conformance.model_ids(driver, case))
        assert listed == [driver.listed(id) for id in case.expected["model_ids"]]
        return
    if not 200 <= case.status < 300:
        error = driver.wire.map_error(driver.target, case.status, case.headers, case.body)
        _check(case, note, conformance.error_differences(case.expected["error"], error))
        return
    try:
        events = conformance.whole(driver, case)
    except ProviderError as error:
        _check(case, note, conformance.failure_differences(case.expected, error))
        return
    _check(case, note, conformance.differences(driver.amended(case), events))


@pytest.mark.parametrize("case", _params(streams=True))
def test_stream_does_not_depend_on_how_it_was_cut_into_reads(case: Case, driver: Driver) -> None:
    """Fed one byte at a time, a stream gives the same events as fed whole."""
    at_once = conformance.whole(driver, case)
    bytewise = conformance.stream(driver, case, [case.body[i : i + 1] for i in range(len(case.body))])
    assert conformance.neutral(bytewise).keys() == conformance.neutral(at_once).keys()
    assert [_comparable(event) for event in bytewise] == [_comparable(event) for event in at_once]


@pytest.mark.parametrize("case", _params(streams=True))
def test_stream_that_is_cut_short_never_passes_for_a_whole_one(case: Case, driver: Driver) -> None:
    """Cut after any event, a stream fails, unless the provider had already said all of the answer."""
    full = conformance.neutral(conformance.whole(driver, case))
    cuts = conformance.event_boundaries(case)
    stride = 1 + sum(cuts) // MAX_CUT_BYTES
    for cut in [*cuts[::stride], *cuts[-5:]]:
        events = conformance.stream(driver, case, [case.body[:cut]])
        if isinstance(events[-1], Failed):
            continue
        assert isinstance(events[-1], Completed)
        early = conformance.neutral(events)
        for key in ("text", "reasoning_text", "tool_calls", "server_items", "finish_reason"):
            if "error" not in full:
                assert early[key] == full[key], f"cut at byte {cut}: {key}"


@pytest.mark.parametrize("case", _params())
def test_recorded_request_is_built_again_from_its_neutral_form(case: Case, driver: Driver) -> None:
    """The neutral request that a recorded body stands for builds an equal body."""
    if case.request is None or not isinstance(case.request.get("body"), dict):
        pytest.skip("no request was recorded")
    if (found := driver.reverse(case)) is None:
        pytest.skip("the recorded request says what a neutral one does not")
    request, model = found
    stream = bool(case.request["body"].get("stream")) or case.streams
    built = driver.wire.build_request(driver.call(stream=stream, request=request, model=model))
    assert driver.normalise(json.loads(built.http.body)) == driver.normalise(case.request["body"])


@pytest.mark.parametrize("case", _params(streams=True))
def test_block_numbers_follow_one_another(case: Case, driver: Driver) -> None:
    """Blocks are numbered from 0 without a gap."""
    starts = [event.index for event in conformance.whole(driver, case) if isinstance(event, BlockStart)]
    assert starts[:1] in ([], [0])
    assert all(later == earlier + 1 for earlier, later in pairwise(starts))


def _comparable(event: object) -> object:
    """Events with an error compare by what it says; ids that we made differ from run to run."""
    if isinstance(event, Failed):
        return ("failed", type(event.error), event.error.message, event.usage)
    return event
