"""How thinking is asked for: a token budget up to Gemini 2.5, a level from Gemini 3 on. The model's row says which.

Facts: ai.google.dev/gemini-api/docs/thinking. Both at once are refused by the API; a budget is only tolerated by level
models, so one is never sent to a model that is known to take levels.
"""

from __future__ import annotations

from typing import Any, Final

from server.core.catalog import ModelInfo, ThinkingTraits
from server.core.events import Warning
from server.core.messages import Thinking
from server.providers.params import approximated, stripped

DYNAMIC: Final = -1
"""The budget that leaves it to the model."""

_LEVELS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_BUDGETS: Final = {"minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576}
"""What Google itself takes an effort for on budget models (ai.google.dev/gemini-api/docs/openai, reasoning_effort)."""

Config = dict[str, Any]


def takes_levels(info: ModelInfo | None) -> bool:
    """Whether the model is known to be of the generation that takes levels, Gemini 3 and later."""
    return info is not None and info.thinking is not None and bool(info.thinking.efforts)


def thinking_config(thinking: Thinking, info: ModelInfo | None) -> tuple[Config, list[Warning]]:
    """`generationConfig.thinkingConfig`, {} for none, and what was approximated for it."""
    off = thinking.type == "disabled" or thinking.effort == "none"
    if info is None:
        config, warnings = _unknown(thinking, off=off)
    elif info.thinking is None:
        return {}, []  # there is nothing to turn off, and `applicable` took away what asks for more
    elif info.thinking.budget:
        config, warnings = _budget(thinking, info.thinking, off=off)
    else:
        config, warnings = _level(thinking, info.thinking, off=off)
    if not off and thinking.include is not False:
        config["includeThoughts"] = True
    return config, warnings


def _unknown(thinking: Thinking, *, off: bool) -> tuple[Config, list[Warning]]:
    """Nothing is known of the model: what is asked for goes out in its own field."""
    if off:
        return {"thinkingBudget": 0}, []
    if thinking.effort is not None:
        lost = [stripped("thinking.budget_tokens", "the API takes a budget or a level, not both")]
        return {"thinkingLevel": thinking.effort.upper()}, lost if thinking.budget_tokens is not None else []
    return ({"thinkingBudget": thinking.budget_tokens} if thinking.budget_tokens is not None else {}), []


def _budget(thinking: Thinking, traits: ThinkingTraits, *, off: bool) -> tuple[Config, list[Warning]]:
    if off:
        if traits.can_disable:
            return {"thinkingBudget": 0}, []
        least = approximated("thinking", f"the model always thinks; its smallest budget, {traits.min_budget}, was sent")
        return {"thinkingBudget": traits.min_budget}, [least]
    wanted, why = thinking.budget_tokens, ""
    if wanted is None and thinking.effort is not None:
        wanted = _BUDGETS.get(thinking.effort, traits.max_budget or _BUDGETS["high"])
        why = f"the model takes token budgets; {wanted} was sent for effort {thinking.effort}"
    if wanted is None:
        dynamic = thinking.type == "adaptive" or not traits.default_on
        return ({"thinkingBudget": DYNAMIC} if dynamic else {}), []
    fitting = max(traits.min_budget, min(wanted, traits.max_budget or wanted)) if wanted > 0 else wanted
    if fitting != wanted:
        why = f"a budget of {wanted} is out of the model's bounds; {fitting} was sent"
    return {"thinkingBudget": fitting}, [approximated("thinking", why)] if why else []


def _level(thinking: Thinking, traits: ThinkingTraits, *, off: bool) -> tuple[Config, list[Warning]]:
    levels = [level for level in traits.efforts if level in _LEVELS and level != "none"]
    if not levels:
        return {}, [stripped("thinking", "the model takes neither a budget nor a level")]
    if off:
        lowest = approximated("thinking", f"the model always thinks; its lowest level, {levels[0]}, was sent")
        return {"thinkingLevel": levels[0].upper()}, [lowest]
    wanted, why = thinking.effort, ""
    if wanted is None and thinking.budget_tokens is not None and thinking.budget_tokens >= 0:
        wanted = next((level for level, most in _BUDGETS.items() if thinking.budget_tokens <= most), "high")
    if wanted is None:
        return {}, []  # the model decides by itself
    nearest = min(levels, key=lambda level: abs(_rank(level) - _rank(wanted)))
    if thinking.effort is None:
        why = f"the model takes levels; {nearest} was sent for a budget of {thinking.budget_tokens}"
    elif nearest != wanted:
        why = f"effort {wanted} is not one of the model's; {nearest} was sent"
    return {"thinkingLevel": nearest.upper()}, [approximated("thinking", why)] if why else []


def _rank(level: str) -> int:
    return _LEVELS.index(level) if level in _LEVELS else _LEVELS.index("medium")
