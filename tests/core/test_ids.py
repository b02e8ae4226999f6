"""Ids sort by when they were made, and callers' keys tell a typing error without a look-up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.caller_key import KEY_ENTROPY_BYTES, caller_key, is_caller_key
from server.core.ids import ID_ENTROPY_BYTES, sortable_id

moments = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(3000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
entropies = st.binary(min_size=ID_ENTROPY_BYTES, max_size=ID_ENTROPY_BYTES)
key_entropies = st.binary(min_size=KEY_ENTROPY_BYTES, max_size=KEY_ENTROPY_BYTES)


@given(
    moments, st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=9999)), entropies, entropies
)
def test_the_later_id_is_the_greater_string(moment: datetime, later: timedelta, one: bytes, other: bytes) -> None:
    assert sortable_id("cfg", moment, one) < sortable_id("cfg", moment + later, other)


def test_ids_have_one_form_and_differ_by_their_entropy() -> None:
    moment = datetime(2025, 1, 2, tzinfo=UTC)
    ids = {sortable_id("cfg", moment, bytes([count]) * ID_ENTROPY_BYTES) for count in range(1, 32)}
    assert len(ids) == 31
    assert {(id[:5], len(id)) for id in ids} == {("cfg_1", 28)}


@pytest.mark.parametrize(
    ("moment", "entropy"),
    [(datetime(2025, 1, 2), bytes(9)), (datetime(2025, 1, 2, tzinfo=UTC), bytes(8))],  # noqa: DTZ001
)
def test_an_id_of_a_time_without_zone_or_of_little_entropy_is_refused(moment: datetime, entropy: bytes) -> None:
    with pytest.raises(ValueError, match="must be"):
        sortable_id("cfg", moment, entropy)


@given(key_entropies, key_entropies)
def test_every_key_is_recognised_and_holds_all_of_its_entropy(one: bytes, other: bytes) -> None:
    first, second = caller_key(one).reveal(), caller_key(other).reveal()
    assert is_caller_key(first)
    assert len(first) == 53
    assert (first == second) == (one == other)


@given(key_entropies, st.integers(0, 52), st.sampled_from("0Aaz_-é \n"))
def test_a_mistyped_cut_or_lengthened_key_is_none(entropy: bytes, place: int, letter: str) -> None:
    key = caller_key(entropy).reveal()
    changed = key[:place] + letter + key[place + 1 :]
    assert is_caller_key(changed) == (changed == key)
    assert not is_caller_key(key[:place])
    assert not is_caller_key(key + letter)


@pytest.mark.parametrize("text", ["", "dgm_", "sk-123", "dgm_" + "0" * 49, "DGM_" + "0" * 49, "é" * 53])
def test_other_texts_are_no_keys(text: str) -> None:
    assert not is_caller_key(text)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_entropy_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        caller_key(bytes(length))
