"""Members of Chat Completions that nobody knows are found, however quickly it is seen that there are none."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.providers.openai_chat import native

VALUES = st.one_of(st.none(), st.text(max_size=3), st.integers(), st.lists(st.text(max_size=2), max_size=2))
NAMES = st.sampled_from(["content", "role", "index", "finish_reason", "id", "object", "obfuscation", "new", "newer"])


def objects(**named: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda some, more: some | more,
        st.dictionaries(NAMES, VALUES, max_size=4),
        st.fixed_dictionaries({}, optional=named),
    )


MESSAGES = st.one_of(st.none(), objects(tool_calls=VALUES))
CHOICES = st.one_of(VALUES, objects(delta=MESSAGES, message=MESSAGES))
CHUNKS = objects(choices=st.one_of(VALUES, st.lists(CHOICES, max_size=2)), usage=VALUES, service_tier=VALUES)


@given(CHUNKS)
def test_the_quick_look_says_what_the_close_one_says(chunk: dict[str, Any]) -> None:
    data = json.dumps(chunk).encode()
    assert native.natives(data) == native._natives(data)


def test_what_is_known_is_nobodys_news_and_what_is_not_is_told_in_its_place() -> None:
    known = {"id": "1", "object": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]}
    assert native.natives(json.dumps(known).encode()) == []
    known["choices"][0]["delta"]["new"] = 1  # type: ignore[index]  # built above
    (found,) = native.natives(json.dumps(known).encode())
    assert json.loads(found.members) == {"message": {"new": 1}}
