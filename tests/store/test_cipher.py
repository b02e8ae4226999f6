"""What is sealed opens whole, in its own place, with its own key; anything else fails alike."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from server.store.cipher import CipherError, Key, Keyring, Purpose, UnknownKey, sealed_by

KEY = Key(bytes(range(32)))
SEALED_BY_THE_FIRST_RELEASE = (
    "0124bfa177734a4e48fccb3befdc7b4a7bdc9808c358023f9f6d1aba4348ffd2aef7d95a00847d1bf6ae9a1319627ef811"
)
values = st.binary(max_size=300)
words = st.text(max_size=20)
contexts = st.lists(words, max_size=4).map(tuple)
purposes = st.sampled_from(list(Purpose))


@given(values, purposes, contexts)
def test_what_is_sealed_opens(value: bytes, purpose: Purpose, context: tuple[str, ...]) -> None:
    assert KEY.open(KEY.seal(value, purpose, *context), purpose, *context) == value


@given(values, st.data())
def test_any_changed_bit_fails(value: bytes, data: st.DataObject) -> None:
    sealed = bytearray(KEY.seal(value, Purpose.CREDENTIAL, "ws", "cfg", "key"))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CipherError):
        KEY.open(bytes(sealed), Purpose.CREDENTIAL, "ws", "cfg", "key")


@given(values, st.data())
def test_cut_or_lengthened_bytes_fail(value: bytes, data: st.DataObject) -> None:
    sealed = KEY.seal(value, Purpose.CREDENTIAL, "ws")
    cut = data.draw(st.integers(0, len(sealed) - 1))
    tail = data.draw(st.binary(min_size=1, max_size=20))
    for changed in (sealed[:cut], sealed + tail, tail + sealed):
        with pytest.raises(CipherError):
            KEY.open(changed, Purpose.CREDENTIAL, "ws")


@given(st.binary(max_size=200))
def test_garbage_fails(garbage: bytes) -> None:
    with pytest.raises(CipherError):
        KEY.open(garbage, Purpose.CREDENTIAL, "ws")


@given(contexts, contexts, purposes, purposes)
def test_another_place_or_purpose_fails(
    sealed_in: tuple[str, ...], opened_in: tuple[str, ...], sealed_for: Purpose, opened_for: Purpose
) -> None:
    assume((sealed_in, sealed_for) != (opened_in, opened_for))
    sealed = KEY.seal(b"value", sealed_for, *sealed_in)
    with pytest.raises(CipherError):
        KEY.open(sealed, opened_for, *opened_in)


@pytest.mark.parametrize(
    "other",
    [("a", "bc", ""), ("abc",), ("", "ab", "c"), ("ab", "c", ""), ("ab", "c\x00"), ("c", "ab"), ("ab",), ()],
)
def test_parts_of_the_place_cannot_flow_into_each_other(other: tuple[str, ...]) -> None:
    sealed = KEY.seal(b"value", Purpose.CREDENTIAL, "ab", "c")
    with pytest.raises(CipherError):
        KEY.open(sealed, Purpose.CREDENTIAL, *other)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), values)
def test_another_key_fails_and_says_which_is_missing(one: bytes, other: bytes, value: bytes) -> None:
    assume(one != other)
    sealed = Key(one).seal(value, Purpose.CREDENTIAL)
    with pytest.raises(UnknownKey) as caught:
        Key(other).open(sealed, Purpose.CREDENTIAL)
    assert caught.value.key_id == Key(one).id == sealed_by(sealed)


def test_bytes_relabelled_with_another_keys_id_fail() -> None:
    other = Key.generate()
    sealed = KEY.seal(b"value", Purpose.CREDENTIAL)
    with pytest.raises(CipherError):
        other.open(sealed[:1] + bytes.fromhex(other.id) + sealed[9:], Purpose.CREDENTIAL)


@given(values)
def test_the_same_value_never_gives_the_same_bytes(value: bytes) -> None:
    assert KEY.seal(value, Purpose.CREDENTIAL) != KEY.seal(value, Purpose.CREDENTIAL)


def test_bytes_sealed_by_the_first_release_still_open() -> None:
    """Holds the format, the derivations and the associated data: stored credentials outlive releases."""
    sealed = bytes.fromhex(SEALED_BY_THE_FIRST_RELEASE)
    assert KEY.open(sealed, Purpose.CREDENTIAL, "ws_1", "cfg_1", "secret") == "sk-pässword".encode()


def test_a_ring_seals_with_the_active_key_and_opens_with_every_one() -> None:
    old, new = Key.generate(), Key.generate()
    before = Keyring(old)
    sealed_before = before.seal(b"value", Purpose.DATA_KEY, "ws")
    after = before.with_key(new, active=True)
    sealed_after = after.seal(b"value", Purpose.DATA_KEY, "ws")
    assert (sealed_by(sealed_before), sealed_by(sealed_after)) == (old.id, new.id)
    assert after.open(sealed_before, Purpose.DATA_KEY, "ws") == after.open(sealed_after, Purpose.DATA_KEY, "ws")
    with pytest.raises(UnknownKey):
        before.open(sealed_after, Purpose.DATA_KEY, "ws")
    assert after.with_key(Key.generate(), active=False).active is new


def test_a_key_shows_its_fingerprint_alone() -> None:
    key = Key(bytes(range(100, 132)))
    for shown in (repr(key), str(key), f"{key}", repr(Keyring(key)), repr([key])):
        assert key.id in shown
        assert key.material().hex()[:8] not in shown
        assert repr(key.material())[2:10] not in shown
    with pytest.raises(TypeError):
        pickle.dumps(key)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Key(bytes(length))


keys = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=6, unique=True).map(
    lambda materials: [Key(material) for material in materials]
)


@given(keys, values, purposes, contexts)
def test_through_any_line_of_rotations_a_value_stays_what_it_is(
    line: list[Key], value: bytes, purpose: Purpose, context: tuple[str, ...]
) -> None:
    """Each step seals anew by the next key, and both open meanwhile; at the end the last key alone does."""
    ring = Keyring(line[0])
    sealed = ring.seal(value, purpose, *context)
    for key in line[1:]:
        before, ring = ring, ring.with_key(key, active=True)
        opened = ring.open(sealed, purpose, *context)
        assert opened == value == before.open(sealed, purpose, *context)
        sealed = ring.seal(opened, purpose, *context)
        assert sealed_by(sealed) == key.id
        with pytest.raises(UnknownKey):
            before.open(sealed, purpose, *context)
    assert Keyring(line[-1]).open(sealed, purpose, *context) == value
    assert ring.ids() == {key.id for key in line}


@given(keys, values, st.data())
def test_a_ring_opens_what_any_of_its_keys_sealed_and_nothing_of_a_key_that_left(
    line: list[Key], value: bytes, data: st.DataObject
) -> None:
    sealed = [key.seal(value, Purpose.DATA_KEY, "ws") for key in line]
    kept = data.draw(st.lists(st.sampled_from(line), min_size=1, unique_by=lambda key: key.id))
    ring = Keyring(kept[0], kept[1:])
    for key, each in zip(line, sealed, strict=True):
        if key.id in ring.ids():
            assert ring.open(each, Purpose.DATA_KEY, "ws") == value
        else:
            with pytest.raises(UnknownKey) as caught:
                ring.open(each, Purpose.DATA_KEY, "ws")
            assert caught.value.key_id == key.id


@given(keys, values, st.data())
def test_under_a_ring_any_changed_bit_fails_also_one_of_the_keys_id(
    line: list[Key], value: bytes, data: st.DataObject
) -> None:
    """Where the change names another key of the ring, too."""
    ring = Keyring(line[0], line[1:])
    sealed = bytearray(ring.seal(value, Purpose.CREDENTIAL, "ws"))
    if data.draw(st.booleans()) and len(line) > 1:
        sealed[1:9] = bytes.fromhex(line[1].id)
    else:
        bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
        sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CipherError):
        ring.open(bytes(sealed), Purpose.CREDENTIAL, "ws")
