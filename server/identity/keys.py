"""An issuer's public keys: read from where it publishes them (JWKS), kept in memory, read again in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import jwt
import msgspec

from server.core.errors import Unavailable
from server.core.token_issuer import SIGNATURES, TokenIssuer

log = logging.getLogger("dragoman.identity")

RETRY_SECONDS: Final = 10.0
"""At least so long between two readings, however many tokens name keys that nobody knows."""

_MOST_KEYS: Final = 100
_LEAST_RSA_BITS: Final = 2048


class Documents(Protocol):
    """Fetches what an issuer publishes."""

    async def get(self, url: str) -> bytes:
        """Raises Unavailable, which says why."""
        ...


class _Unusable(Exception):
    """What the issuer published is not what it should be."""


class _Jwk(msgspec.Struct, frozen=True):
    """One usable key. data: as it was published."""

    kid: str
    alg: str
    kty: str
    crv: str
    data: dict[str, Any]

    def serves(self, algorithm: str) -> bool:
        """Whether a signature by `algorithm` may be checked with it: its own `alg` binds it, else its type."""
        kty, curves = SIGNATURES[algorithm]
        return self.kty == kty and (not curves or self.crv in curves) and self.alg in ("", algorithm)


class IssuerKeys:
    """Read when it starts, every `refresh` seconds, and when a token names a key that is not known (a new one), but not
    more often than every RETRY_SECONDS. While the issuer cannot be reached, the keys that were read last stay."""

    def __init__(self, issuer: TokenIssuer, documents: Documents, *, now: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._documents = documents
        self._now = now
        self._keys: tuple[_Jwk, ...] = ()
        self._parsed: dict[tuple[str, str], jwt.PyJWK | None] = {}
        self._generation = 0
        self._failed = True
        self._told = False
        self._tried_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def generation(self) -> int:
        """Another number whenever the keys are others: what was verified with them no longer counts."""
        return self._generation

    def start(self) -> None:
        """Begin to read at intervals."""
        self._keeping = asyncio.create_task(self._keep(), name="read the issuer's keys")

    async def stop(self) -> None:
        """End it."""
        for task in (self._keeping, self._reading):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def known(self, kid: str, algorithm: str) -> jwt.PyJWK | None:
        """The key that a token names, for its algorithm. kid "": it names none, and the issuer must have but one."""
        place = (kid, algorithm)
        if place not in self._parsed:
            fitting = [key for key in self._keys if key.serves(algorithm) and kid in ("", key.kid)]
            if len(fitting) != 1:
                return None
            self._parsed[place] = jwt.PyJWK(fitting[0].data, algorithm)
        return self._parsed[place]

    async def find(self, kid: str, algorithm: str) -> jwt.PyJWK | None:
        """The same, of keys that are read again if it is not known. Raises Unavailable where that cannot be done."""
        found = self.known(kid, algorithm)
        if found is None and (self._is_reading() or self._now() - self._tried_at >= RETRY_SECONDS):
            await self.read()
            found = self.known(kid, algorithm)
        if found is None and self._failed:
            raise Unavailable("The issuer's keys cannot be read now.", retry_after=RETRY_SECONDS)
        return found

    async def read(self) -> None:
        """Read them now, once for all who ask meanwhile; a caller that goes away does not end it."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        await asyncio.shield(self._reading)

    def _is_reading(self) -> bool:
        return self._reading is not None and not self._reading.done()

    async def _keep(self) -> None:
        while True:
            await self.read()
            await asyncio.sleep(RETRY_SECONDS if self._failed else self._issuer.refresh)

    async def _read(self) -> None:
        self._tried_at = self._now()
        try:
            keys = _usable(await self._documents.get(self._issuer.jwks_url or await self._discovered()))
        except (Unavailable, _Unusable) as exc:
            self._failed = True
            if not self._told:
                self._told = True
                log.warning("the issuer's keys cannot be read: %s", exc, extra={"fields": {"keys": len(self._keys)}})
            return
        self._failed = self._told = False
        if keys != self._keys:
            self._keys, self._generation = keys, self._generation + 1
            self._parsed.clear()
            log.info("issuer's keys read", extra={"fields": {"keys": len(keys)}})

    async def _discovered(self) -> str:
        """OpenID Connect Discovery 1.0, sections 4.1 and 4.3."""
        url = self._issuer.name.rstrip("/") + "/.well-known/openid-configuration"
        found = _object(await self._documents.get(url))
        if found.get("issuer") != self._issuer.name:
            raise _Unusable("its discovery document is another issuer's")
        place = found.get("jwks_uri")
        if not isinstance(place, str):
            raise _Unusable("its discovery document names no jwks_uri")
        return place


def _object(text: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as exc:
        raise _Unusable("its document is no JSON object") from exc


def _usable(text: bytes) -> tuple[_Jwk, ...]:
    """The keys of a JWKS (RFC 7517) that signatures can be checked with; the others are somebody else's business."""
    found = _object(text).get("keys")
    if not isinstance(found, list):
        raise _Unusable("its JWKS has no keys member")
    keys = tuple(key for each in found[:_MOST_KEYS] if (key := _read_key(each)) is not None)
    if not keys:
        raise _Unusable("its JWKS holds no key that can be used")
    return keys


def _read_key(data: Any) -> _Jwk | None:
    if not isinstance(data, dict):
        return None
    words = {name: data.get(name, "") for name in ("kid", "alg", "kty", "crv", "use")}
    operations = data.get("key_ops", ["verify"])
    if not all(isinstance(word, str) for word in words.values()) or words["use"] not in ("", "sig"):
        return None
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    key = _Jwk(words["kid"], words["alg"], words["kty"], words["crv"], data)
    for algorithm in SIGNATURES:
        if key.serves(algorithm):
            try:
                parsed = jwt.PyJWK(data, algorithm)
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                return None
            return key if getattr(parsed.key, "key_size", _LEAST_RSA_BITS) >= _least_bits(key.kty) else None
    return None


def _least_bits(kty: str) -> int:
    return _LEAST_RSA_BITS if kty == "RSA" else 0
