"""What the table of `tests/support/matrix.py` says, as a test asks it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import openai
import pytest

from tests.support.matrix import AS_TEXT, HIDDEN, NO_SIGNATURE, NOT_BACK, YES, Cell, feature
from tests.support.wires import WireServer
from tests.support.wires.chat import SERVERS
from tests.support.wires.scenes import PNG

THOUGHT = "Let me see."
"""What the wires think before they answer."""

each_image_url = pytest.mark.parametrize(
    ("url", "size"),
    [
        pytest.param(
            f"data:image/png;base64,{base64.b64encode(PNG).decode()}", len(PNG), marks=feature("images"), id="data"
        ),
        pytest.param("https://pictures.example/1.png", 30, marks=feature("images by URL"), id="URL"),
    ],
)
"""Images as OpenAI's APIs take them, and how many bytes the provider is to get."""


@contextmanager
def as_documented(expected: Cell, wires: WireServer) -> Iterator[None]:
    """The block passes; where the table says that it is refused, it ends in the SDK's error of that status, and the
    provider heard nothing unless the refusal is its own."""
    if not expected.refused:
        yield
        return
    before = len(wires.seen)
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as caught:
        yield
    assert type(caught.value).__name__ == {400: "BadRequestError", 404: "NotFoundError"}[expected.refused]
    assert len(wires.seen) - before == (0 if expected.refused == 400 else 1)


def check_thoughts_that_went_back(expected: Cell, wires: WireServer, text: str, answer: Any) -> None:
    """What of the first turn's thoughts the provider got in the second. text: what it said then."""
    back = wires.asked[-1].thoughts
    signed = expected == YES
    assert text == f"Thought it through ({'signed' if signed else 'unsigned'})."
    assert back == (() if expected in (HIDDEN, NOT_BACK) else (THOUGHT,))
    assert expected in (YES, AS_TEXT, HIDDEN, NOT_BACK, NO_SIGNATURE)
    told = [one["parameter"] for one in answer.x_dragoman.get("warnings", ())]
    assert ("messages" in told) == (expected == NOT_BACK)


def signs_calls(provider: str, wire: str) -> bool:
    """Whether the provider's calls come with something that must go back."""
    return wire != "chat" or SERVERS[provider].signs


def forget_hangups(wires: WireServer) -> None:
    """Those of other tests."""
    while wires.hangups.acquire(blocking=False):
        pass
