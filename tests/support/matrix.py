"""What the SDKs' tests hold: dialect by provider by feature, as one table.

The tests in `tests/e2e/dialects` are made for every provider here; each names its feature with `@feature(...)`, and a
run ends with the table of what passed. `docs/dialects.md` holds the same table: `python -m tests.support.matrix` writes
it there, and a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pytest

Dialect = Literal["Chat Completions", "Responses", "Messages"]
DIALECTS: Final[tuple[Dialect, ...]] = ("Chat Completions", "Responses", "Messages")

PROPERTY: Final = "dialect matrix"
PAGE: Final = Path(__file__).parents[2] / "docs" / "dialects.md"


@dataclass(frozen=True)
class Provider:
    """One provider as a workspace has it configured.

    name: of the row, and of the server that the wires play. path: of the endpoint. host: where the gateway tells the
    provider by it. wires: on which one each dialect's calls go out, where that is not one for all. embeds: its model of
    embeddings, "" for a provider that the gateway knows to have none.
    """

    name: str
    ai_type: str
    slug: str
    path: str
    wires: tuple[str, str, str]
    flavor: str = ""
    host: str = "127.0.0.1"
    bare_model: str = "wire-test"
    embeds: str = "wire-embed"

    @property
    def model(self) -> str:
        """As an application names it."""
        return f"{self.slug}/{self.bare_model}"

    def wire(self, dialect: Dialect) -> str:
        """The wire that serves this dialect."""
        return self.wires[DIALECTS.index(dialect)]


def _everywhere(wire: str) -> tuple[str, str, str]:
    return (wire, wire, wire)


def _compatible(name: str) -> Provider:
    return Provider(name, "OTHER", "custom", f"/{name}/v1", _everywhere("chat"), "" if name == "custom" else name)


AZURE_HOST: Final = "canary.openai.azure.com"
_VERTEX_PATH: Final = "/vertex/v1/projects/p/locations/europe-west4"

PROVIDERS: Final[Mapping[str, Provider]] = {
    one.name: one
    for one in (
        Provider("openai", "OPENAI", "openai", "/openai/v1", ("chat", "responses", "responses")),
        Provider("azure", "OPENAI", "openai", "/azure/openai/v1", _everywhere("chat"), host=AZURE_HOST),
        Provider("anthropic", "ANTHROPIC", "anthropic", "", _everywhere("anthropic"), embeds=""),
        Provider(
            "bedrock", "AWS", "bedrock", "", _everywhere("bedrock"),
            bare_model="anthropic.wire-test-v1:0", embeds="amazon.titan-embed-text-v2:0",
        ),
        Provider("gemini", "GOOGLE", "gemini", "", _everywhere("gemini"), embeds="gemini-embedding-001"),
        Provider("vertex", "GOOGLE", "gemini", _VERTEX_PATH, _everywhere("gemini"), embeds="gemini-embedding-001"),
        Provider("groq", "OTHER", "groq", "/groq/openai/v1", _everywhere("chat")),
        Provider("xai", "OTHER", "xai", "/xai/v1", _everywhere("chat")),
        *map(_compatible, ("custom", "vllm", "ollama", "llamacpp", "lmstudio", "deepseek", "mistral", "openrouter")),
    )
}  # fmt: skip
"""Every row."""

# --- features ---------------------------------------------------------------------------------------------------------

_ALL: Final = (
    "create", "stream", "tools", "parallel tools", "structured output", "thinking", "thoughts back", "images",
    "images by URL", "token limit", "errors", "broken stream", "leaving", "models",
)  # fmt: skip

FEATURES: Final[Mapping[Dialect, tuple[str, ...]]] = {
    "Chat Completions": (*_ALL, "embeddings"),
    "Responses": _ALL[:-1],
    "Messages": (*_ALL, "count tokens"),
}
"""What each API has, in order. OpenAI's SDK lists models and embeds whichever API it is used by."""


@dataclass(frozen=True)
class Cell:
    """What a feature comes to at a provider. mark: how the table shows it, `yes` where all is as the API has it.
    note: what is otherwise. refused: the HTTP status of the SDK's typed error that the application gets instead."""

    mark: str = "yes"
    note: str = ""
    refused: int = 0


YES: Final = Cell()


def _partly(number: int, note: str) -> Cell:
    return Cell(f"yes ({number})", note)


def _refused(number: int, note: str, status: int = 400) -> Cell:
    return Cell(f"{status} ({number})", note, status)


HIDDEN: Final = _partly(1, "its Chat Completions shows no thoughts, so none go back; the effort reaches it")
NOT_BACK: Final = _partly(2, "thoughts of earlier turns have no place there and are left out, with a warning")
NO_SIGNATURE: Final = _partly(3, "the thoughts go back; Gemini's signature of a text is dropped, as it is not needed")
AS_TEXT: Final = _partly(4, "the thoughts go back as text: there are no signatures")
NO_SCHEMA: Final = _refused(5, "it takes no `json_schema`; nothing is sent")
NO_FETCHING: Final = _refused(6, "it fetches no images; nothing is sent")
NO_EMBEDDINGS: Final = _refused(7, "it has no embeddings; nothing is sent")
NONE_DOCUMENTED: Final = _refused(8, "the call is passed on; none are documented, and its own 404 comes back", 404)
NO_COUNT: Final = _refused(9, "it counts no tokens of a request; nothing is sent")

NOTES: Final = (
    HIDDEN, NOT_BACK, NO_SIGNATURE, AS_TEXT, NO_SCHEMA, NO_FETCHING, NO_EMBEDDINGS, NONE_DOCUMENTED, NO_COUNT,
)  # fmt: skip


def _each(cell: Cell, *names: str) -> dict[str, Cell]:
    return dict.fromkeys(names, cell)


_BACK: Final = {
    **_each(AS_TEXT, "groq", "vllm", "ollama", "llamacpp", "deepseek", "mistral"),
    **_each(NOT_BACK, "xai", "custom", "lmstudio"),
}
_SHARED: Final[Mapping[str, Mapping[str, Cell]]] = {
    "structured output": _each(NO_SCHEMA, "deepseek"),
    "images by URL": _each(NO_FETCHING, "bedrock", "ollama"),
}
_CELLS: Final[Mapping[Dialect, Mapping[str, Mapping[str, Cell]]]] = {
    "Chat Completions": {
        **_SHARED,
        "thinking": _each(HIDDEN, "openai", "azure"),
        "thoughts back": {
            **_BACK,
            **_each(HIDDEN, "openai", "azure"),
            **_each(NO_SIGNATURE, "gemini", "vertex"),
        },
        "embeddings": {
            **_each(NO_EMBEDDINGS, "anthropic"),
            **_each(NONE_DOCUMENTED, "groq", "xai", "deepseek"),
        },
    },
    "Responses": {
        **_SHARED,
        "thinking": _each(HIDDEN, "azure"),
        "thoughts back": {**_BACK, **_each(HIDDEN, "azure")},
    },
    "Messages": {
        **_SHARED,
        "thinking": _each(HIDDEN, "azure"),
        "thoughts back": {**_BACK, **_each(HIDDEN, "azure")},
        "count tokens": _each(
            NO_COUNT, "azure", "groq", "xai", "custom", "vllm", "ollama", "llamacpp", "lmstudio", "deepseek", "mistral",
            "openrouter",
        ),
    },
}  # fmt: skip


def cell(dialect: Dialect, feature: str, provider: str) -> Cell:
    """What is to be expected."""
    return _CELLS[dialect].get(feature, {}).get(provider, YES)


# --- the table --------------------------------------------------------------------------------------------------------

_BEGIN: Final = "<!-- the matrix: written by `python -m tests.support.matrix` -->"
_END: Final = "<!-- end of the matrix -->"


def document() -> str:
    """The table as docs/dialects.md has it."""
    lines = [_BEGIN]
    for dialect in DIALECTS:
        features = FEATURES[dialect]
        lines += ["", f"**{dialect}**", "", f"| | {' | '.join(features)} |", "|---" * (len(features) + 1) + "|"]
        for name in PROVIDERS:
            marks = (cell(dialect, feature, name).mark for feature in features)
            lines.append(f"| {name} | {' | '.join(marks)} |")
    lines += ["", *(f"{re.search(r'[(](.*)[)]', one.mark)[1]}. {one.note}" for one in NOTES), "", _END]  # type: ignore[index]
    return "\n".join(lines)


def in_page(text: str) -> str | None:
    """The table in a text, None where there is none."""
    found = re.search(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", text, re.DOTALL)
    return found[0] if found else None


# --- tests ------------------------------------------------------------------------------------------------------------

feature = pytest.mark.feature
"""`@feature("tools")`: what a test of a matrix is about. The module says of which dialect, as DIALECT."""


@dataclass
class _Seen:
    """Outcomes of a cell's tests."""

    outcomes: list[str] = field(default_factory=list)

    def mark(self, expected: Cell) -> str:
        if not self.outcomes:
            return "-"
        if any(outcome in ("failed", "error") for outcome in self.outcomes):
            return "FAILED"
        return "skipped" if "skipped" in self.outcomes else expected.mark.partition(" ")[0]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "feature(name): the feature of the SDK matrix that a test is about")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note the cell of a test of a matrix, so that it travels with its report."""
    marker = item.get_closest_marker("feature")
    callspec = getattr(item, "callspec", None)
    if marker is not None and callspec is not None and "provider" in callspec.params:
        dialect = getattr(item.module, "DIALECT")  # type: ignore[attr-defined]  # noqa: B009  a module of tests
        for name in marker.args:
            item.user_properties.append((PROPERTY, [dialect, name, callspec.params["provider"]]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found: dict[tuple[str, str, str], _Seen] = {}
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", ()):
                if name == PROPERTY:
                    found.setdefault(tuple(value), _Seen()).outcomes.append(outcome)
    if found:
        terminalreporter.section("dialect by provider by feature")
        for line in summary({key: seen.outcomes for key, seen in found.items()}):
            terminalreporter.line(line)


def summary(outcomes: Mapping[tuple[str, str, str], Sequence[str]]) -> list[str]:
    """The lines at the end of a run. outcomes: of tests, by dialect, feature and provider."""
    lines: list[str] = []
    for dialect in DIALECTS:
        features = FEATURES[dialect]
        rows: list[list[str]] = []
        for name in PROVIDERS:
            seen = [_Seen(list(outcomes.get((dialect, feature, name), ()))) for feature in features]
            rows.append([one.mark(cell(dialect, feature, name)) for one, feature in zip(seen, features, strict=True)])
        if all(mark == "-" for row in rows for mark in row):
            continue
        held = sum(mark not in ("-", "FAILED", "skipped") for row in rows for mark in row)
        lines.append(f"{dialect}: {held} of {len(rows) * len(features)} cells as docs/dialects.md has them")
        widths = [max(len(feature), *(len(row[at]) for row in rows)) for at, feature in enumerate(features)]
        for name, row in (("", list(features)), *zip(PROVIDERS, rows, strict=True)):
            cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
            lines.append(f"  {name:<10}  {'  '.join(cells)}".rstrip())
    return lines


def _write(page: Path) -> Any:
    text = page.read_text("utf-8")
    before = in_page(text)
    assert before is not None, f"{page} has no place for the matrix"
    page.write_text(text.replace(before, document()), "utf-8")


if __name__ == "__main__":
    _write(PAGE)
