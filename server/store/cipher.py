"""Sealed bytes: AES-256-GCM with the id of its key inside. The one place that touches `cryptography`; no I/O.

    sealed = version (1 byte, 0x01) | key id (8) | nonce (12) | ciphertext | tag (16)

Two layers have this one format. A workspace's data key is sealed by the master key (that is: wrapped), so wrapped keys
carry the master key's id; a credential is sealed by its workspace's data key, so credentials carry the data key's id.
Rotating the master key therefore touches the wrapped keys alone.

What a value is for and where it belongs is authenticated with it (associated data), every part with its length before
it, so that no two different places give the same bytes. Changed bytes, another key, another purpose and another place
all fail alike.

Nonces are 96 random bits: NIST SP 800-38D allows 2**32 values under one key for these, far beyond a workspace's
credentials or an installation's workspaces.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
_VERSION = b"\x01"
_ID_BYTES = 8
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEADER_BYTES = len(_VERSION) + _ID_BYTES + _NONCE_BYTES


class Purpose(StrEnum):
    """What sealed bytes are; part of what is authenticated, so the values never change."""

    CREDENTIAL = "credential"
    """A provider credential. Context: workspace id, configuration id, field."""
    DATA_KEY = "data-key"
    """A workspace's data key. Context: workspace id."""
    CALLER_KEY_PEPPER = "caller-key-pepper"
    """The secret of the hash that callers' keys are stored by. No context."""


class CipherError(Exception):
    """The bytes do not open. Says which key they name, nothing of what is inside."""


class UnknownKey(CipherError):
    """Sealed by a key that is not at hand; `key_id` is its id in hex."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"sealed by key {key_id}, which is not at hand")
        self.key_id = key_id


class Key:
    """256 bits that seal and open. Its id is a fingerprint that tells nothing of it: safe to print, and it commits to
    the key, so bytes that name a key were sealed by no other. Prints as its id."""

    __slots__ = ("_aead", "_header", "_material", "id")

    def __init__(self, material: bytes) -> None:
        if len(material) != KEY_BYTES:
            raise ValueError(f"a key is {KEY_BYTES} bytes")
        self._material = material
        self._aead = AESGCM(_derive(material, "aes-256-gcm", KEY_BYTES))
        fingerprint = _derive(material, "key-id", _ID_BYTES)
        self._header = _VERSION + fingerprint
        self.id = fingerprint.hex()

    @classmethod
    def generate(cls) -> Key:
        return cls(os.urandom(KEY_BYTES))

    def material(self) -> bytes:
        """The key itself: to be wrapped by another key, or for a keyed hash; never to be stored or shown."""
        return self._material

    def seal(self, value: bytes, purpose: Purpose, *context: str) -> bytes:
        """Bytes that open with this key, purpose and context alone. The same value never gives the same bytes."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._header + nonce + self._aead.encrypt(nonce, value, _associated(self._header, purpose, context))

    def open(self, sealed: bytes, purpose: Purpose, *context: str) -> bytes:
        """The value. Raises CipherError, without saying why, unless every bit and the whole context are as sealed."""
        if len(sealed) < _HEADER_BYTES + _TAG_BYTES or not sealed.startswith(self._header):
            raise UnknownKey(sealed_by(sealed))  # which itself raises for what names no key
        nonce = sealed[len(self._header) : _HEADER_BYTES]
        try:
            return self._aead.decrypt(nonce, sealed[_HEADER_BYTES:], _associated(self._header, purpose, context))
        except InvalidTag as exc:
            raise CipherError(f"{purpose} does not open with key {self.id}: changed, or not from here") from exc

    def __repr__(self) -> str:
        return f"Key({self.id})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("A Key is not serialised.")


class Keyring:
    """Several keys of one role: the active one seals, all of them open. Immutable."""

    __slots__ = ("_keys", "active")

    def __init__(self, active: Key, others: Iterable[Key] = ()) -> None:
        self.active = active
        self._keys = {key.id: key for key in (*others, active)}

    def ids(self) -> frozenset[str]:
        return frozenset(self._keys)

    def key(self, key_id: str) -> Key:
        """One of them. Raises UnknownKey."""
        found = self._keys.get(key_id)
        if found is None:
            raise UnknownKey(key_id)
        return found

    def with_key(self, key: Key, *, active: bool) -> Keyring:
        """This ring and `key`."""
        return Keyring(key if active else self.active, (*self._keys.values(), key))

    def seal(self, value: bytes, purpose: Purpose, *context: str) -> bytes:
        return self.active.seal(value, purpose, *context)

    def open(self, sealed: bytes, purpose: Purpose, *context: str) -> bytes:
        """Raises UnknownKey, CipherError."""
        key = self._keys.get(sealed[1 : 1 + _ID_BYTES].hex()) or self.key(sealed_by(sealed))
        return key.open(sealed, purpose, *context)

    def __repr__(self) -> str:
        return f"Keyring(active={self.active.id}, {len(self._keys)} keys)"


def sealed_by(sealed: bytes) -> str:
    """The id of the key that `sealed` names. Raises CipherError for bytes that are no sealed value of this version."""
    if len(sealed) < _HEADER_BYTES + _TAG_BYTES:
        raise CipherError("too short to be a sealed value")
    if sealed[:1] != _VERSION:
        raise CipherError(f"sealed in format {sealed[0]}, which this version does not know")
    return sealed[1 : 1 + _ID_BYTES].hex()


@lru_cache(maxsize=4096)
def _associated(header: bytes, purpose: Purpose, context: tuple[str, ...]) -> bytes:
    """One byte string for one place and no other: each part behind its length. Nothing in it is secret, and each call
    asks for the one of its configuration."""
    parts = [header, purpose.value.encode(), *(part.encode() for part in context)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _derive(material: bytes, label: str, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=f"dragoman/{label}/v1".encode()).derive(material)
