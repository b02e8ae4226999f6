"""Vectors: exact between floats and bytes, and never holding what is no number; counts add up to what is known."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.embedding import add_usage, vector, vector_bytes, vector_of_bytes
from server.core.events import Usage

FLOATS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False))


@given(FLOATS)
def test_bytes_are_little_endian_floats_and_come_back_bit_for_bit(numbers: list[float]) -> None:
    data = struct.pack(f"<{len(numbers)}f", *numbers)
    assert vector_bytes(vector(numbers)) == data
    assert vector_bytes(vector_of_bytes(data)) == data


def test_more_digits_are_rounded_to_the_nearest_float() -> None:
    assert vector([0.1]).tolist() == [struct.unpack("<f", struct.pack("<f", 0.1))[0]]


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, 1e300])
def test_what_is_no_finite_float_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        vector([1.0, number])


@pytest.mark.parametrize("data", [b"\0\0\x80\x7f", b"\0\0\xc0\x7f"])
def test_bytes_of_infinity_and_nan_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="finite"):
        vector_of_bytes(data)


def test_bytes_of_a_broken_length_are_refused() -> None:
    with pytest.raises(ValueError, match="whole number"):
        vector_of_bytes(b"\0\0\0")


@pytest.mark.parametrize(
    ("parts", "total"),
    [
        ([], Usage()),
        ([Usage(), Usage()], Usage()),
        ([Usage(3, None, 3), Usage(4, None, 4)], Usage(7, None, 7)),
        ([Usage(3), Usage()], Usage(3)),
    ],
)
def test_counts_add_up_and_an_unknown_one_is_not_zero(parts: list[Usage], total: Usage) -> None:
    assert add_usage(parts) == total
