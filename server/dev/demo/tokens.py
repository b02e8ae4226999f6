"""The demo's tokenizer: simple enough to count by hand, and lossless."""

from __future__ import annotations

import re

TOKENS_PER_MESSAGE = 3
TOKENS_PER_ANSWER_START = 3
TOKENS_PER_IMAGE = 85

_TOKEN = re.compile(r"\s?\w{1,4}|\s?[^\w\s]|\s")


def split_tokens(text: str) -> list[str]:
    """Cut text into tokens whose concatenation is the text.

    A token is up to four word characters or one other character, each with at most one white space before it; a white
    space that nothing follows is a token of its own.
    """
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """How many tokens `split_tokens` makes of text."""
    return len(split_tokens(text))
