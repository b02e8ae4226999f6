"""How much a model is to think, in the words that it takes: a token budget, or `adaptive` with an effort level beside
(platform.claude.com/docs, build-with-claude: extended-thinking, adaptive-thinking, effort)."""

from __future__ import annotations

from typing import Final

import msgspec

from server.core.catalog import ModelInfo, ThinkingTraits
from server.core.errors import UnsupportedParameter
from server.core.events import Warning
from server.core.messages import Thinking
from server.providers.params import JsonObject, approximated

MIN_BUDGET: Final = 1_024

_BUDGETS: Final = (("minimal", 1_024), ("low", 2_048), ("medium", 8_192), ("high", 16_384), ("xhigh", 32_768))
"""What stands for a level where a model takes budgets only, and the other way round: the first that is enough."""

_LEVELS: Final = ("minimal", "low", "medium", "high", "xhigh", "max")


class ThinkingFields(msgspec.Struct, frozen=True):
    """config: the body's `thinking`, None for nothing. effort: `output_config.effort`. budget: tokens that max_tokens
    must exceed, 0 for none."""

    config: JsonObject | None = None
    effort: str | None = None
    budget: int = 0
    warnings: tuple[Warning, ...] = ()


def map_thinking(thinking: Thinking, info: ModelInfo | None, max_tokens: int | None) -> ThinkingFields:
    """The fields for a request to think, or not to. info: None (unknown model) takes both forms, and is sent the one
    that was asked for. max_tokens: the caller's own, None where it is ours to choose.

    Raises UnsupportedParameter for a model that cannot be told not to think, and for a budget that it does not take.
    """
    traits = info.thinking if info is not None else None
    if info is not None and traits is None:
        return ThinkingFields()
    if thinking.type == "disabled" or thinking.effort == "none":
        if info is not None and traits is not None and not traits.can_disable:
            raise UnsupportedParameter.field("thinking", f"{info.model} cannot be told not to think")
        return ThinkingFields({"type": "disabled"})
    if traits is None:
        found = _unknown(thinking)
    elif traits.adaptive and (thinking.type == "adaptive" or thinking.budget_tokens is None or not traits.budget):
        found = _adaptive(thinking, traits)
    elif thinking.budget_tokens is not None and traits.budget:
        found = _budget(thinking.budget_tokens, thinking, traits, info)
    else:
        found = _derived(thinking, traits, max_tokens)
    if thinking.include is not None and found.config is not None:
        found.config["display"] = "summarized" if thinking.include else "omitted"
    return found


def _unknown(thinking: Thinking) -> ThinkingFields:
    if thinking.budget_tokens is not None:
        config: JsonObject = {"type": "enabled", "budget_tokens": thinking.budget_tokens}
        return ThinkingFields(config, thinking.effort, thinking.budget_tokens)
    return ThinkingFields({"type": "adaptive"}, thinking.effort)


def _budget(budget: int, thinking: Thinking, traits: ThinkingTraits, info: ModelInfo | None) -> ThinkingFields:
    least = traits.min_budget or MIN_BUDGET
    if budget < least or (traits.max_budget is not None and budget > traits.max_budget):
        most = f" to {traits.max_budget}" if traits.max_budget is not None else " or more"
        name = info.model if info is not None else "the model"
        raise UnsupportedParameter.field("thinking.budget_tokens", f"{name} takes {least}{most} (got {budget})")
    effort, warnings = _effort(thinking.effort, traits)
    return ThinkingFields({"type": "enabled", "budget_tokens": budget}, effort, budget, warnings)


def _adaptive(thinking: Thinking, traits: ThinkingTraits) -> ThinkingFields:
    wanted = thinking.effort
    warnings: tuple[Warning, ...] = ()
    if wanted is None and thinking.budget_tokens is not None:
        budget = thinking.budget_tokens
        wanted = _nearest(next((level for level, enough in _BUDGETS if budget <= enough), "xhigh"), traits)
        warnings = (approximated("thinking", f"no token budget is taken; effort {wanted} was sent for {budget}"),)
    effort, more = _effort(wanted, traits)
    return ThinkingFields({"type": "adaptive"}, effort, 0, warnings + more)


def _derived(thinking: Thinking, traits: ThinkingTraits, max_tokens: int | None) -> ThinkingFields:
    """A budget for a model that takes nothing else, at most half of what the caller allows for the whole answer."""
    level = thinking.effort or "medium"
    budget = dict(_BUDGETS).get(level, _BUDGETS[-1][1])
    least = traits.min_budget or MIN_BUDGET
    if max_tokens is not None:
        budget = max(least, min(budget, max_tokens // 2))
    if traits.max_budget is not None:
        budget = min(budget, traits.max_budget)
    effort, _ = _effort(thinking.effort, traits)
    said = f"effort {thinking.effort}" if thinking.effort is not None else thinking.type
    warnings = (approximated("thinking", f"the model takes a token budget; {budget} was sent for {said}"),)
    return ThinkingFields({"type": "enabled", "budget_tokens": budget}, effort, budget, warnings)


def _effort(wanted: str | None, traits: ThinkingTraits) -> tuple[str | None, tuple[Warning, ...]]:
    if wanted is None or not traits.efforts:
        return None, ()
    level = _nearest(wanted, traits)
    if level == wanted:
        return level, ()
    return level, (approximated("thinking", f"effort {wanted} is none of the model's; {level} was sent"),)


def _nearest(wanted: str, traits: ThinkingTraits) -> str:
    """The model's level that is nearest, the lower one of two; medium is as good as any where it has none."""
    known = [level for level in traits.efforts if level in _LEVELS]
    if not known or wanted not in _LEVELS:
        return wanted
    rank = _LEVELS.index(wanted)
    return min(known, key=lambda level: (abs(_LEVELS.index(level) - rank), _LEVELS.index(level)))
