"""Is a secret or a prompt to be found where it must not be?"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

MIN_CANARY = 12


def assert_absent(canary: str | Sequence[str], *places: str | bytes | Path) -> None:
    """Assert that canary, or each of several, is in none of `places`, in clear or in another form.

    places: texts, bytes, files, or directories with everything below them. Forms: clear, base64 (standard and URL
    alphabet, at every alignment, so also as a part of a longer encoded text), hex, percent-encoded, JSON-escaped.
    The failure names the place and the form, not the text around it.
    """
    canaries = [canary] if isinstance(canary, str) else canary
    if not canaries or min(len(each.encode()) for each in canaries) < MIN_CANARY:
        raise ValueError(f"a canary of fewer than {MIN_CANARY} bytes may be found by chance")
    if not places:
        raise ValueError("nowhere was named to look for the canary")
    # Where two forms are the same, the first one names it.
    forms = {needle: form for each in canaries for form, needle in reversed(list(_forms(each)))}
    hexes = {each.encode().hex().encode(): "hex" for each in canaries}
    # All at once, since a database's files are large; and no pattern without case, which is ten times slower.
    searches: list[tuple[re.Pattern[bytes], Mapping[bytes, str], Callable[[bytes], bytes]]] = [
        (_any_of(forms), forms, bytes),
        (_any_of(hexes), hexes, bytes.lower),
    ]
    for place in places:
        for name, content in _contents(place):
            for pattern, names, prepared in searches:
                if found := pattern.search(prepared(content)):
                    raise AssertionError(f"the canary stands in {name} ({names[found[0]]})")


def _any_of(needles: Iterable[bytes]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(map(re.escape, needles)))


def _forms(canary: str) -> Iterator[tuple[str, bytes]]:
    raw = canary.encode()
    yield "clear", raw
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
