"""How much to think: what each kind of model is sent for each way of asking."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.catalog import ModelInfo
from server.core.errors import UnsupportedParameter
from server.core.messages import Thinking
from tests.providers.anthropic.support import ADAPTIVE, BOTH, BUDGET, PLAIN, body, build

ENABLED = Thinking("enabled")

SENT: list[tuple[ModelInfo | None, Thinking, dict[str, Any] | None, str | None, bool]] = [
    # model, asked, `thinking` sent, effort sent, whether that is an approximation
    (None, Thinking("enabled", 3_000), {"type": "enabled", "budget_tokens": 3_000}, None, False),
    (None, Thinking("enabled", effort="xhigh"), {"type": "adaptive"}, "xhigh", False),
    (None, Thinking("adaptive"), {"type": "adaptive"}, None, False),
    (None, Thinking("disabled"), {"type": "disabled"}, None, False),
    (BUDGET, Thinking("enabled", 3_000), {"type": "enabled", "budget_tokens": 3_000}, None, False),
    (BUDGET, ENABLED, {"type": "enabled", "budget_tokens": 8_192}, None, True),
    (BUDGET, Thinking("enabled", effort="high"), {"type": "enabled", "budget_tokens": 16_384}, None, True),
    (BUDGET, Thinking("adaptive"), {"type": "enabled", "budget_tokens": 8_192}, None, True),
    (BUDGET, Thinking("enabled", effort="none"), {"type": "disabled"}, None, False),
    (BOTH, Thinking("enabled", 3_000), {"type": "enabled", "budget_tokens": 3_000}, None, False),
    (BOTH, Thinking("enabled", 3_000, "low"), {"type": "enabled", "budget_tokens": 3_000}, "low", False),
    (BOTH, ENABLED, {"type": "adaptive"}, None, False),
    (BOTH, Thinking("enabled", effort="max"), {"type": "adaptive"}, "max", False),
    (BOTH, Thinking("enabled", effort="xhigh"), {"type": "adaptive"}, "high", True),
    (BOTH, Thinking("enabled", effort="minimal"), {"type": "adaptive"}, "low", True),
    (BOTH, Thinking("disabled"), {"type": "disabled"}, None, False),
    (ADAPTIVE, Thinking("enabled", 1_024), {"type": "adaptive"}, "low", True),
    (ADAPTIVE, Thinking("enabled", 8_000), {"type": "adaptive"}, "medium", True),
    (ADAPTIVE, Thinking("enabled", 100_000), {"type": "adaptive"}, "xhigh", True),
    (ADAPTIVE, Thinking("adaptive", effort="high"), {"type": "adaptive"}, "high", False),
    (ADAPTIVE, Thinking("enabled", include=True), {"type": "adaptive", "display": "summarized"}, None, False),
    (ADAPTIVE, Thinking("enabled", include=False), {"type": "adaptive", "display": "omitted"}, None, False),
    (PLAIN, Thinking("disabled"), None, None, False),
]


@pytest.mark.parametrize(("info", "asked", "config", "effort", "approximated"), SENT)
def test_each_model_is_asked_in_its_own_words(
    info: ModelInfo | None, asked: Thinking, config: dict[str, Any] | None, effort: str | None, approximated: bool
) -> None:
    """A budget, `adaptive` and a level, or `disabled`; what is sent for something else comes with a warning."""
    found = body(info=info, thinking=asked)
    assert found.get("thinking") == config
    assert found.get("output_config", {}).get("effort") == effort
    warned = [w for w in build(info=info, thinking=asked).warnings if w.code == "parameter_approximated"]
    assert [w.parameter for w in warned] == (["thinking"] if approximated else [])


def test_nothing_is_sent_for_nothing() -> None:
    """Without a word on thinking the model does as it does."""
    assert not {"thinking", "output_config"} & body(info=BOTH).keys()


@pytest.mark.parametrize(("max_tokens", "budget"), [(4_000, 2_000), (1_500, 1_024), (100_000, 8_192)])
def test_a_budget_of_ours_fits_the_caller_s_max_tokens(max_tokens: int, budget: int) -> None:
    """At most half of the answer is thought, and never less than the least that the API takes."""
    assert body(info=BUDGET, thinking=ENABLED, max_tokens=max_tokens)["thinking"]["budget_tokens"] == budget


@pytest.mark.parametrize(
    ("info", "asked", "field"),
    [
        (ADAPTIVE, Thinking("disabled"), "thinking"),
        (ADAPTIVE, Thinking("enabled", effort="none"), "thinking"),
        (BUDGET, Thinking("enabled", 1_000), "thinking.budget_tokens"),
        (BUDGET, Thinking("enabled", 0), "thinking.budget_tokens"),
    ],
)
def test_what_the_model_cannot_is_refused(info: ModelInfo, asked: Thinking, field: str) -> None:
    """Not to think at all, and a budget below the least."""
    with pytest.raises(UnsupportedParameter) as caught:
        build(info=info, thinking=asked)
    assert caught.value.violations[0].field == field
    assert info.model in caught.value.violations[0].description
