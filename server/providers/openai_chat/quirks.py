"""What a preset's row cannot say as plain data: how thinking is asked for, and ids that a server insists on."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

import msgspec

from server.core.catalog import ThinkingTraits
from server.core.events import Warning
from server.core.messages import Thinking
from server.providers.params import approximated, stripped


class ThinkingCall(msgspec.Struct, frozen=True):
    """What is asked for, and what is known of the model. traits: None for a model of which nothing is known."""

    thinking: Thinking
    traits: ThinkingTraits | None

    @property
    def off(self) -> bool:
        return self.thinking.type == "disabled" or self.thinking.effort == "none"


class Fields(msgspec.Struct, frozen=True):
    """What to put into the body, and the warnings about it."""

    body: dict[str, Any] = {}
    warnings: tuple[Warning, ...] = ()


_ORDER: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_BUDGETS: Final = ((1_024, "minimal"), (4_096, "low"), (16_384, "medium"), (65_536, "high"))
"""Thinking tokens up to which a level is taken for a budget, where a server knows levels only."""


def effort(call: ThinkingCall) -> Fields:
    """`reasoning_effort`: OpenAI, Groq, xAI, Mistral, Ollama and most others."""
    if call.off:
        return _effort_off(call.traits)
    wanted, warnings = _level(call.thinking)
    traits = call.traits
    if call.thinking.include is False:
        warnings.append(stripped("thinking", "whether the thoughts are shown is the server's to decide (include)"))
    if wanted is None:
        if traits is not None and (traits.default_on or not traits.efforts):
            return Fields({}, tuple(warnings))
        if call.thinking.type == "adaptive":
            warnings.append(approximated("thinking", "there is no adaptive mode; the model's default was left"))
            return Fields({}, tuple(warnings))
        wanted = "medium"
    if traits is None or wanted in traits.efforts:
        return Fields({"reasoning_effort": wanted}, tuple(warnings))
    if not traits.efforts:
        return Fields({}, (*warnings, stripped("thinking", "the model takes no level of effort")))
    known: list[str] = [level for level in traits.efforts if level != "none"] or [*traits.efforts]
    nearest = min(known, key=lambda level: abs(_rank(level) - _rank(wanted)))
    warnings.append(approximated("thinking", f"effort {wanted} is not one of the model's; {nearest} was sent"))
    return Fields({"reasoning_effort": nearest}, tuple(warnings))


def _rank(level: str) -> int:
    """`default` is what some models call plain "on"."""
    return _ORDER.index(level) if level in _ORDER else _ORDER.index("medium")


def _effort_off(traits: ThinkingTraits | None) -> Fields:
    if traits is None or "none" in traits.efforts:
        return Fields({"reasoning_effort": "none"})
    if not traits.default_on:
        return Fields()
    if "minimal" in traits.efforts:
        return Fields(
            {"reasoning_effort": "minimal"},
            (approximated("thinking", "the model cannot be told not to think; effort minimal was sent"),),
        )
    return Fields({}, (stripped("thinking", "the model cannot be told not to think"),))


def _level(thinking: Thinking) -> tuple[str | None, list[Warning]]:
    """The level asked for, from a budget where there is no level; None where only thinking as such is asked for."""
    if thinking.effort is not None or thinking.budget_tokens is None:
        return thinking.effort, []
    budget = thinking.budget_tokens
    level = next((level for most, level in _BUDGETS if budget <= most), "xhigh")
    return level, [approximated("thinking", f"no token budget is taken; effort {level} was sent for {budget}")]


def groq(call: ThinkingCall) -> Fields:
    """`reasoning_effort`, and `include_reasoning`: are the thoughts shown (console.groq.com/docs/reasoning)."""
    thinking = call.thinking
    fields = effort(ThinkingCall(msgspec.structs.replace(thinking, include=None), call.traits))
    if thinking.include is None or call.off:
        return fields
    return Fields({**fields.body, "include_reasoning": thinking.include}, fields.warnings)


def deepseek(call: ThinkingCall) -> Fields:
    """`thinking: {type}` with `reasoning_effort` beside it (api-docs.deepseek.com)."""
    if call.off:
        return Fields({"thinking": {"type": "disabled"}})
    level, warnings = _level(call.thinking)
    body: dict[str, Any] = {"thinking": {"type": "enabled"}}
    if level is not None:
        body["reasoning_effort"] = level
    return Fields(body, tuple(warnings))


def openrouter(call: ThinkingCall) -> Fields:
    """`reasoning: {effort | max_tokens | enabled, exclude}` (openrouter.ai/docs, reasoning tokens)."""
    thinking = call.thinking
    body: dict[str, Any] = {}
    if call.off:
        body["enabled"] = False
    elif thinking.budget_tokens is not None:
        body["max_tokens"] = thinking.budget_tokens
    elif thinking.effort is not None:
        body["effort"] = thinking.effort
    else:
        body["enabled"] = True
    if thinking.include is False:
        body["exclude"] = True
    return Fields({"reasoning": body})


def vllm(call: ThinkingCall) -> Fields:
    """`chat_template_kwargs.enable_thinking` for on and off, `reasoning_effort` for a level (docs.vllm.ai)."""
    level, warnings = _level(call.thinking)
    body: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": not call.off}}
    if level is not None and not call.off:
        body["reasoning_effort"] = level
    return Fields(body, tuple(warnings))


_NINE: Final = re.compile(r"[A-Za-z0-9]{9}")
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def nine_characters(id: str) -> str:
    """Mistral takes no other ids than nine letters and digits: others are replaced by nine that follow from them."""
    if _NINE.fullmatch(id):
        return id
    number = int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big")
    digits = []
    for _ in range(9):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(digits)
