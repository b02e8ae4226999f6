"""How much a model is to think, in the words of its maker (docs.aws.amazon.com/bedrock/latest/userguide:
inference-reasoning, claude-messages-extended-thinking, claude-messages-adaptive-thinking; Nova 2 user guide:
extended-thinking)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from server.core.catalog import ThinkingTraits
from server.core.errors import UnsupportedParameter
from server.core.events import Warning
from server.core.messages import Thinking
from server.core.ports import ProviderCall
from server.providers.bedrock.families import Dialect, family_of
from server.providers.params import JsonObject, approximated

MIN_BUDGET: Final = 1_024

_BUDGETS: Final = (("minimal", 1_024), ("low", 2_048), ("medium", 8_192), ("high", 16_384), ("xhigh", 32_768))
"""What stands for a level where a model takes budgets only, and the other way round: the first that is enough."""

_LEVELS: Final = ("minimal", "low", "medium", "high", "xhigh", "max")

_NOVA: Final = ThinkingTraits(efforts=("low", "medium", "high"))
"""What Nova 2 takes, where the catalogue does not say."""


class ThinkingFields(msgspec.Struct, frozen=True):
    """fields: for additionalModelRequestFields. effort: `outputConfig.effort`. budget: tokens that maxTokens must
    exceed, 0 for none."""

    fields: JsonObject = {}
    effort: str | None = None
    budget: int = 0
    warnings: tuple[Warning, ...] = ()


def map_thinking(thinking: Thinking, call: ProviderCall, max_tokens: int | None) -> ThinkingFields:
    """The fields for a request to think, or not to. max_tokens: the caller's own, None where it gave none.

    Raises UnsupportedParameter for a model that cannot be told not to think, for a budget that it does not take, and
    for an unknown model of a maker that documents no way.
    """
    info, dialect = call.info, family_of(call).thinking
    traits = info.thinking if info is not None else None
    if info is not None and traits is None:
        return ThinkingFields()
    if thinking.type == "disabled" or thinking.effort == "none":
        return _off(traits, dialect, call)
    if traits is not None and not (traits.efforts or traits.budget or traits.adaptive):
        return ThinkingFields(warnings=_unheard(thinking))
    match dialect:
        case "claude":
            return _claude(thinking, traits, call, max_tokens)
        case "nova":
            level, warnings = _level(thinking, traits or _NOVA)
            config = {"type": "enabled", "maxReasoningEffort": level}
            return ThinkingFields({"reasoningConfig": config}, warnings=warnings)
        case "effort":
            level, warnings = _level(thinking, traits)
            return ThinkingFields({"reasoning_effort": level}, warnings=warnings)
        case None:
            why = f"{call.model}: no way to say it is documented; provider_options.additionalModelRequestFields may"
            raise UnsupportedParameter.field("thinking", why)


def _off(traits: ThinkingTraits | None, dialect: Dialect | None, call: ProviderCall) -> ThinkingFields:
    if traits is not None and traits.default_on and not traits.can_disable:
        raise UnsupportedParameter.field("thinking", f"{call.model} cannot be told not to think")
    match dialect:
        case "claude":
            return ThinkingFields({"thinking": {"type": "disabled"}})
        case "effort" if traits is None or traits.default_on:
            return ThinkingFields({"reasoning_effort": "none"})
        case _:
            # Nova and the others think only where they are asked to.
            return ThinkingFields()


def _claude(
    thinking: Thinking, traits: ThinkingTraits | None, call: ProviderCall, max_tokens: int | None
) -> ThinkingFields:
    if traits is None:
        found = _claude_unknown(thinking)
    elif traits.adaptive and (thinking.type == "adaptive" or thinking.budget_tokens is None or not traits.budget):
        found = _claude_adaptive(thinking, traits)
    else:
        found = _claude_budget(thinking, traits, call, max_tokens)
    if thinking.include is not None:
        found.fields["thinking"]["display"] = "summarized" if thinking.include else "omitted"
    return found


def _claude_unknown(thinking: Thinking) -> ThinkingFields:
    if thinking.budget_tokens is None:
        return ThinkingFields({"thinking": {"type": "adaptive"}}, thinking.effort)
    config = {"type": "enabled", "budget_tokens": thinking.budget_tokens}
    return ThinkingFields({"thinking": config}, thinking.effort, thinking.budget_tokens)


def _claude_adaptive(thinking: Thinking, traits: ThinkingTraits) -> ThinkingFields:
    fields: JsonObject = {"thinking": {"type": "adaptive"}}
    if thinking.effort is None and thinking.budget_tokens is None:
        return ThinkingFields(fields)
    level, warnings = _level(thinking, traits)
    return ThinkingFields(fields, level if traits.efforts else None, warnings=warnings)


def _claude_budget(
    thinking: Thinking, traits: ThinkingTraits, call: ProviderCall, max_tokens: int | None
) -> ThinkingFields:
    """A budget as it was asked for; else one that stands for the effort, at most half of what the caller allows for
    the whole answer."""
    least, budget = traits.min_budget or MIN_BUDGET, thinking.budget_tokens
    warnings: tuple[Warning, ...] = ()
    if budget is None:
        level = thinking.effort or "medium"
        budget = dict(_BUDGETS).get(level, _BUDGETS[-1][1])
        if max_tokens is not None:
            budget = max(least, min(budget, max_tokens // 2))
        if traits.max_budget is not None:
            budget = min(budget, traits.max_budget)
        said = f"effort {thinking.effort}" if thinking.effort is not None else thinking.type
        warnings = (approximated("thinking", f"the model takes a token budget; {budget} was sent for {said}"),)
    elif budget < least or (traits.max_budget is not None and budget > traits.max_budget):
        most = f" to {traits.max_budget}" if traits.max_budget is not None else " or more"
        raise UnsupportedParameter.field("thinking.budget_tokens", f"{call.model} takes {least}{most} (got {budget})")
    effort = None
    if thinking.effort is not None and traits.efforts:
        effort, more = _level(thinking, traits)
        warnings = warnings or more
    return ThinkingFields({"thinking": {"type": "enabled", "budget_tokens": budget}}, effort, budget, warnings)


def _level(thinking: Thinking, traits: ThinkingTraits | None) -> tuple[str, tuple[Warning, ...]]:
    """The effort level for a model that takes levels: what was asked for, or the nearest, with a warning.

    Without level and budget: medium, the makers' own default.
    """
    known = [level for level in (traits.efforts if traits is not None else ()) if level in _LEVELS]
    wanted, budget = thinking.effort, thinking.budget_tokens
    if wanted is None and budget is not None:
        wanted = _nearest(next((level for level, enough in _BUDGETS if budget <= enough), "xhigh"), known)
        return wanted, (approximated("thinking", f"no token budget is taken; effort {wanted} was sent for {budget}"),)
    if wanted is None:
        return _nearest("medium", known), ()
    level = _nearest(wanted, known)
    if level == wanted:
        return level, ()
    return level, (approximated("thinking", f"effort {wanted} is none of the model's; {level} was sent"),)


def _nearest(wanted: str, known: Sequence[str]) -> str:
    """The model's level that is nearest, the lower one of two; as it is where its levels are not known."""
    if not known or wanted not in _LEVELS:
        return wanted
    rank = _LEVELS.index(wanted)
    return min(known, key=lambda level: (abs(_LEVELS.index(level) - rank), _LEVELS.index(level)))


def _unheard(thinking: Thinking) -> tuple[Warning, ...]:
    """The model thinks by itself, and takes no word about how much."""
    if thinking.effort is None and thinking.budget_tokens is None:
        return ()
    return (approximated("thinking", "the model decides by itself how much it thinks; nothing was sent"),)
