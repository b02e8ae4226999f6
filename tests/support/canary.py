"""Is a secret or a prompt to be found where it must not be?"""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

MIN_CANARY = 12


def assert_absent(canary: str, *places: str | bytes | Path) -> None:
    """Assert that canary is in none of `places`, in clear or in another form.

    places: texts, bytes, files, or directories with everything below them. Forms: clear, base64 (standard and URL
    alphabet, at every alignment, so also as a part of a longer encoded text), hex, percent-encoded, JSON-escaped.
    The failure names the place and the form, not the text around it.
    """
    if len(canary.encode()) < MIN_CANARY:
        raise ValueError(f"a canary of fewer than {MIN_CANARY} bytes may be found by chance")
    if not places:
        raise ValueError("nowhere was named to look for the canary")
    forms = dict(_forms(canary))
    for place in places:
        for name, content in _contents(place):
            lowered = content.lower()
            for form, needle in forms.items():
                found = needle in (lowered if form.startswith("hex") else content)
                if found:
                    raise AssertionError(f"the canary stands in {name} ({form})")


def _forms(canary: str) -> Iterator[tuple[str, bytes]]:
    raw = canary.encode()
    yield "clear", raw
    yield "hex", raw.hex().encode()
    yield "percent-encoded", urllib.parse.quote(canary, safe="").encode()
    yield "JSON-escaped", json.dumps(canary)[1:-1].encode()
    for shift in range(3):
        # Only whole groups of three bytes look the same whatever stands before and after them.
        inner = raw[-shift % 3 :] if shift else raw
        inner = inner[: len(inner) // 3 * 3]
        yield f"base64, alignment {shift}", base64.b64encode(inner)
        yield f"base64url, alignment {shift}", base64.urlsafe_b64encode(inner)


def _contents(place: str | bytes | Path) -> Iterator[tuple[str, bytes]]:
    if isinstance(place, Path):
        if not place.is_dir():
            yield str(place), place.read_bytes()
            return
        seen = False
        for path in sorted(path for path in place.rglob("*") if path.is_file()):
            # A database at work removes files of its own at any time. What is gone holds nothing any more.
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            seen = True
            yield str(path), content
        if not seen:
            raise ValueError(f"{place} holds no file to look into")
    else:
        yield "a text", place if isinstance(place, bytes) else place.encode()
