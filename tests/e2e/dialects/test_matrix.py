"""The table of dialect by provider by feature: docs/dialects.md, the tests, and what a run shows are one."""

from __future__ import annotations

from types import ModuleType

import pytest

from server.core.provider_config import FLAVORS, PROVIDERS
from tests.e2e.dialects import test_anthropic_matrix, test_openai_matrix, test_responses_matrix
from tests.support import matrix

MODULES: tuple[ModuleType, ...] = (test_openai_matrix, test_responses_matrix, test_anthropic_matrix)


def test_the_page_has_the_table() -> None:
    """docs/dialects.md says what the tests hold."""
    assert matrix.in_page(matrix.PAGE.read_text("utf-8")) == matrix.document(), "run python -m tests.support.matrix"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.DIALECT)
def test_every_feature_has_a_test_for_every_provider(module: ModuleType) -> None:
    """Whatever stands in the table is held by a test that is made for each row."""
    held: set[str] = set()
    for test in (found for name, found in vars(module).items() if name.startswith("test_")):
        marks = list(getattr(test, "pytestmark", ()))
        marks += [inner for mark in marks if mark.name == "parametrize" for one in mark.args[1] for inner in _of(one)]
        features = {name for mark in marks if mark.name == "feature" for name in mark.args}
        assert not features or "provider" in test.__code__.co_varnames[: test.__code__.co_argcount]
        held |= features
    assert held == set(matrix.FEATURES[module.DIALECT])


def _of(case: object) -> tuple[pytest.Mark, ...]:
    return tuple(getattr(one, "mark", one) for one in getattr(case, "marks", ()))


def test_every_provider_has_a_row() -> None:
    """Each slug, and each kind of server that a custom configuration can name (Azure by its own host)."""
    rows = matrix.PROVIDERS
    assert {row.slug for row in rows.values()} == set(PROVIDERS)
    assert {row.flavor for row in rows.values()} - {""} == set(FLAVORS) - {"azure"}
    assert "azure" in rows


def test_a_run_shows_what_failed() -> None:
    """A cell is what the table says only where each of its tests passed."""
    seen = {
        ("Messages", "create", "openai"): ["passed", "passed"],
        ("Messages", "stream", "openai"): ["passed", "failed"],
        ("Messages", "count tokens", "groq"): ["passed"],
        ("Messages", "tools", "groq"): ["skipped"],
    }
    head, features, *rows = matrix.summary(seen)
    assert head == "Messages: 2 of 240 cells as docs/dialects.md has them"
    assert features.split()[:3] == ["create", "stream", "tools"]
    by_name = {row.split()[0]: row.split()[1:] for row in rows}
    assert by_name["openai"][:3] == ["yes", "FAILED", "-"]
    assert (by_name["groq"][2], by_name["groq"][-1]) == ("skipped", "400")
