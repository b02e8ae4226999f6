"""How much to think, in the words of each maker's models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.catalog import ModelInfo
from server.core.errors import InvalidRequest, UnsupportedParameter
from server.core.messages import Thinking, Tool, ToolChoice
from tests.providers.bedrock.support import CLAUDE, CLAUDE_ADAPTIVE, CLAUDE_BOTH, GPT, LLAMA, NOVA, R1, body, build

ON = Thinking("enabled")
OFF = Thinking("disabled")


def budget(tokens: int) -> dict[str, Any]:
    return {"thinking": {"type": "enabled", "budget_tokens": tokens}}


ADAPTIVE = {"thinking": {"type": "adaptive"}}


@pytest.mark.parametrize(
    ("thinking", "info", "model", "fields", "effort", "warned"),
    [
        # Claude by budget, by itself, and both
        (Thinking("enabled", 2_000), CLAUDE, None, budget(2_000), None, False),
        (ON, CLAUDE, None, budget(8_192), None, True),
        (Thinking("enabled", effort="low"), CLAUDE, None, budget(2_048), None, True),
        (Thinking("enabled", effort="max"), CLAUDE, None, budget(32_768), None, True),
        (OFF, CLAUDE, None, {"thinking": {"type": "disabled"}}, None, False),
        (Thinking("enabled", effort="none"), CLAUDE, None, {"thinking": {"type": "disabled"}}, None, False),
        (Thinking("enabled", 2_000), CLAUDE_BOTH, None, budget(2_000), None, False),
        (Thinking("enabled", 2_000, "high"), CLAUDE_BOTH, None, budget(2_000), "high", False),
        (ON, CLAUDE_BOTH, None, ADAPTIVE, None, False),
        (Thinking("adaptive", effort="max"), CLAUDE_BOTH, None, ADAPTIVE, "max", False),
        (Thinking("adaptive", effort="xhigh"), CLAUDE_BOTH, None, ADAPTIVE, "high", True),
        (Thinking("enabled", 20_000), CLAUDE_ADAPTIVE, None, ADAPTIVE, "xhigh", True),
        (
            Thinking("adaptive", include=True), CLAUDE_BOTH, None,
            {"thinking": {"type": "adaptive", "display": "summarized"}}, None, False,
        ),
        (
            Thinking("adaptive", include=False), CLAUDE_BOTH, None,
            {"thinking": {"type": "adaptive", "display": "omitted"}}, None, False,
        ),
        # Nova, gpt-oss
        (Thinking("enabled", effort="high"), NOVA, None,
         {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}, None, False),
        (Thinking("enabled", 9_000), NOVA, None,
         {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}, None, True),
        (Thinking("enabled", effort="minimal"), NOVA, None,
         {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}, None, True),
        (OFF, NOVA, None, {}, None, False),
        (Thinking("enabled", effort="low"), GPT, None, {"reasoning_effort": "low"}, None, False),
        (ON, GPT, None, {"reasoning_effort": "medium"}, None, False),
        # those that think and take no word about it
        (ON, R1, None, {}, None, False),
        (Thinking("enabled", effort="high"), R1, None, {}, None, True),
        # unknown models: what was asked for, in the words of their maker
        (Thinking("enabled", 100), None, "anthropic.claude-9", budget(100), None, False),
        (Thinking("enabled", effort="high"), None, "us.anthropic.claude-9", ADAPTIVE, "high", False),
        (Thinking("enabled", effort="high"), None, "amazon.nova-3-v1:0",
         {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}, None, False),
        (Thinking("enabled", effort="xhigh"), None, "openai.gpt-9", {"reasoning_effort": "xhigh"}, None, False),
        (OFF, None, "openai.gpt-9", {"reasoning_effort": "none"}, None, False),
        (Thinking("enabled", 4_000), None, "arn:aws:bedrock:us-east-1:1:application-inference-profile/x",
         budget(4_000), None, False),
    ],
)  # fmt: skip
def test_thinking(  # the table's columns
    thinking: Thinking,
    info: ModelInfo | None,
    model: str | None,
    fields: dict[str, Any],
    effort: str | None,
    warned: bool,
) -> None:
    """What is sent, and that every exchange of one word for another is told."""
    built = build(info=info, model=model, thinking=thinking)
    sent = json.loads(built.http.body)
    assert sent.get("additionalModelRequestFields", {}) == fields
    assert sent.get("outputConfig", {}).get("effort") == effort
    assert [warning.code for warning in built.warnings] == ["parameter_approximated"] * warned


@pytest.mark.parametrize(
    ("thinking", "info", "model", "field"),
    [
        (OFF, CLAUDE_ADAPTIVE, None, "thinking"),
        (OFF, R1, None, "thinking"),
        (OFF, GPT, None, "thinking"),
        (Thinking("enabled", 100), CLAUDE, None, "thinking.budget_tokens"),
        (ON, None, "qwen.qwen9-v1:0", "thinking"),
    ],
)
def test_what_cannot_be_said_is_an_error(
    thinking: Thinking, info: ModelInfo | None, model: str | None, field: str
) -> None:
    """A model that always thinks, a budget below its least, and a maker that documents no way."""
    with pytest.raises(UnsupportedParameter) as caught:
        build(info=info, model=model, thinking=thinking)
    assert caught.value.violations[0].field == field


def test_a_model_that_does_not_think_is_not_told_to() -> None:
    """Left out with a warning; telling it not to is nothing at all."""
    built = build(info=LLAMA, thinking=ON)
    assert [(w.code, w.parameter) for w in built.warnings] == [("parameter_stripped", "thinking")]
    assert build(info=LLAMA, thinking=OFF).warnings == ()
    assert "additionalModelRequestFields" not in body(info=LLAMA, thinking=OFF)


def test_a_budget_must_leave_room_for_the_answer() -> None:
    """The caller's own limit decides; the gateway's default gives way; a budget of ours takes half."""
    with pytest.raises(InvalidRequest, match="below max_tokens"):
        build(info=CLAUDE, thinking=Thinking("enabled", 2_000), max_tokens=2_000)
    given = {"max_tokens": 2_000, "defaults": frozenset({"max_tokens"})}
    assert "inferenceConfig" not in body(info=CLAUDE, thinking=Thinking("enabled", 2_000), **given)
    halved = body(info=CLAUDE, thinking=Thinking("enabled", effort="high"), max_tokens=4_000)
    assert halved["additionalModelRequestFields"] == budget(2_000)


def test_a_tool_cannot_be_forced_on_a_model_that_thinks_by_a_budget() -> None:
    """It would be a 400."""
    with pytest.raises(UnsupportedParameter, match="tool_choice"):
        build(info=CLAUDE, thinking=Thinking("enabled", 2_000), tools=(Tool("t"),), tool_choice=ToolChoice("required"))


def test_sampling_that_a_thinking_model_rejects_is_left_out() -> None:
    """With a warning; without thinking it is sent."""
    built = build(info=CLAUDE, thinking=Thinking("enabled", 2_000), temperature=0.5)
    assert [w.parameter for w in built.warnings] == ["temperature"]
    assert body(info=CLAUDE, temperature=0.5)["inferenceConfig"] == {"temperature": 0.5}
