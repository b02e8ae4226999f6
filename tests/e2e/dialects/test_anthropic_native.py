"""What only Anthropic's API has a word for: it reaches Anthropic as it was, and no other provider, which is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import pytest

from tests.support.matrix import Provider
from tests.support.wires import WireServer

pytestmark = pytest.mark.e2e

WORDS = [{"type": "text", "text": "The Seine is a river."}]
MARKER = {"type": "ephemeral"}
SEARCH = {"type": "search_result", "source": "https://e.org", "title": "E", "content": WORDS}
BLOCKS: list[Any] = [
    {**SEARCH, "citations": {"enabled": True}},
    {"type": "container_upload", "file_id": "file_1"},
    {"type": "document", "title": "T", "source": {"type": "content", "content": WORDS}, "cache_control": MARKER},
]
TOOLS: list[Any] = [
    {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
    {"type": "code_execution_20250825", "name": "code_execution"},
    {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 10_000},
    {"type": "computer_20250124", "name": "computer", "display_width_px": 800, "display_height_px": 600},
]


def user(*content: Any) -> Any:
    return {"role": "user", "content": [*content]}


@contextmanager
def by_anthropic_alone(provider: Provider, wires: WireServer, *places: str) -> Iterator[None]:
    """The block passes at Anthropic; at any other provider it is a BadRequestError that begins with the place, and
    nothing is sent."""
    if provider.slug == "anthropic":
        yield
        return
    before = len(wires.seen)
    with pytest.raises(anthropic.BadRequestError) as caught:
        yield
    assert caught.value.body["error"]["message"].startswith(places)  # type: ignore[index]  # a mapping
    assert caught.value.body["error"]["x_dragoman"]["reason"] == "UNSUPPORTED_PARAMETER"  # type: ignore[index]
    assert len(wires.seen) == before


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool["type"])
def test_tools(anthropic_at: anthropic.Anthropic, wires: WireServer, provider: Provider, tool: Any) -> None:
    """Its versioned tools."""
    ask: Any = {"model": provider.model, "max_tokens": 99, "messages": [user({"type": "text", "text": "hello"})]}
    # The servers without tools of their own say it by their own name for the list.
    with by_anthropic_alone(provider, wires, "tools: "):
        anthropic_at.messages.create(**ask, tools=[tool])
        assert wires.last["tools"] == [tool]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["type"])
@pytest.mark.parametrize("counted", [False, True], ids=["create", "count"])
def test_blocks(
    anthropic_at: anthropic.Anthropic, wires: WireServer, provider: Provider, block: Any, counted: bool
) -> None:
    """Blocks for which the core has no part: in a turn and in a tool's result, members and all."""
    call = {"type": "tool_use", "id": "call_1", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": [block]}
    words = {"type": "text", "text": "hello", "weight": 2}
    turns = [user(block, words), {"role": "assistant", "content": [call]}, user(result, block)]
    ask: Any = {"model": provider.model, "messages": turns}
    with by_anthropic_alone(provider, wires, "messages[0].content[0]: ", "model: "):
        if counted:
            anthropic_at.messages.count_tokens(**ask)
        else:
            anthropic_at.messages.create(**ask, max_tokens=99)
        assert wires.last["messages"] == turns
        assert ("anthropic-beta" in wires.seen[-1][1]) == (block["type"] == "container_upload")
