"""The catalogue: what the index finds, what the parser refuses, and what must hold for the facts that ship."""

from __future__ import annotations

import json

import pytest

from server.core.catalog import Catalog, parse_catalog
from server.data import model_tables
from server.providers.registry import ENTRIES

ROW = {
    "model": "alpha-1",
    "name": "Alpha 1",
    "capabilities": ["streaming"],
    "context_tokens": 1000,
    "output_tokens": None,
    "as_of": "2026-01-31",
    "source": "https://example.org/models",
}


def table(provider: str = "acme", *rows: dict, prefixes: tuple[str, ...] = ()) -> bytes:
    document = {"provider": provider, "name": provider.title(), "prefixes": prefixes, "models": rows or [ROW]}
    return json.dumps(document).encode()


@pytest.fixture(scope="module")
def shipped() -> Catalog:
    return parse_catalog(model_tables())


# --- the index ---


def test_a_model_is_found_by_id_alias_and_prefixed_name_and_its_provider_in_any_case() -> None:
    catalog = parse_catalog([table("acme", {**ROW, "aliases": ["alpha-1-0131"]}, prefixes=("us.",))])
    (row,) = catalog
    for id in ("acme/alpha-1", "ACME/alpha-1", "acme/alpha-1-0131", "acme/us.alpha-1", "Acme/us.alpha-1-0131"):
        assert catalog.get(id) is row, id


@pytest.mark.parametrize(
    "id", ["acme/Alpha-1", "acme/alpha-2", "alpha-1", "acme", "", "other/alpha-1", "acme/us.us.alpha-1"]
)
def test_what_is_not_a_known_id_is_none(id: str) -> None:
    assert parse_catalog([table(prefixes=("us.",))]).get(id) is None


def test_a_model_part_may_hold_slashes() -> None:
    catalog = parse_catalog([table("acme", {**ROW, "model": "meta/llama/70b"})])
    assert catalog.get("acme/meta/llama/70b") is next(iter(catalog))


def test_a_bare_name_finds_every_provider_that_has_it() -> None:
    other = {**ROW, "model": "alpha-one", "aliases": ["alpha-1"]}
    catalog = parse_catalog([table("zeta", other), table("acme")])
    assert [info.id for info in catalog.named("alpha-1")] == ["acme/alpha-1", "zeta/alpha-one"]
    assert catalog.named("alpha-9") == ()


def test_models_are_listed_sorted_whatever_the_order_of_the_files() -> None:
    catalog = parse_catalog([table("zeta"), table("acme", {**ROW, "model": "b"}, {**ROW, "model": "a"})])
    assert [info.id for info in catalog] == ["acme/a", "acme/b", "zeta/alpha-1"]
    assert [info.id for info in catalog.of("acme")] == ["acme/a", "acme/b"]
    assert catalog.of("nobody") == ()


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("gpt-4o-mni", "openai/gpt-4o-mini"),
        ("GPT-4O-MINI", "openai/gpt-4o-mini"),
        ("opnai/gpt-4o-mini", "openai/gpt-4o-mini"),
        ("sonet-4", "anthropic/sonnet-4"),
        ("sonnet-4-latest", "anthropic/sonnet-4"),
    ],
)
def test_near_names_hold_what_was_meant_first(typo: str, meant: str) -> None:
    openai = table("openai", {**ROW, "model": "gpt-4o-mini"}, {**ROW, "model": "o3"})
    catalog = parse_catalog([openai, table("anthropic", {**ROW, "model": "sonnet-4", "aliases": ["sonnet-4-latest"]})])
    assert catalog.near(typo)[0] == meant


def test_near_names_of_a_name_like_nothing_are_none_and_never_more_than_asked() -> None:
    catalog = parse_catalog([table("acme", *({**ROW, "model": f"alpha-{n}"} for n in range(9)))])
    assert catalog.near("zzzzzzzzzzzzzzzz") == ()
    assert len(catalog.near("alpha-x", 2)) == 2
    assert catalog.near("x" * 1_000_000) == ()


# --- what the parser refuses ---


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"capabilities": ["telepathy"]}, "telepathy"),
        ({"capabilities": ["streaming", "streaming"]}, "twice"),
        ({"rejects": ["temprature"]}, "temprature"),
        ({"rejects_while_thinking": ["seed"]}, "rejects_while_thinking"),
        ({"colour": "red"}, "colour"),
        ({"context_tokens": 0}, "at least 1"),
        ({"output_tokens": "many"}, "int"),
        ({"as_of": "yesterday"}, "date"),
        ({"as_of": None}, "date"),
        ({"source": ""}, "source"),
        ({"kind": "embedding"}, "embedding"),
        ({"thinking": {}}, "thinking"),
        ({"capabilities": ["reasoning"], "thinking": {"efforts": ["high", "low"]}}, "least to most"),
        ({"capabilities": ["reasoning"], "thinking": {"efforts": ["huge"]}}, "huge"),
    ],
)
def test_a_wrong_row_is_refused_with_what_is_wrong(change: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_catalog([table("acme", {**ROW, **change})])


@pytest.mark.parametrize(
    "missing", ["model", "name", "capabilities", "context_tokens", "output_tokens", "as_of", "source"]
)
def test_a_row_without_a_due_field_is_refused(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        parse_catalog([table("acme", {k: v for k, v in ROW.items() if k != missing})])


@pytest.mark.parametrize(
    "tables",
    [
        pytest.param([table("acme"), table("acme")], id="a provider twice"),
        pytest.param([table("Acme")], id="a slug that is not lower-case"),
        pytest.param([table("")], id="no slug"),
        pytest.param([table("acme", ROW, ROW)], id="a model twice"),
        pytest.param(
            [table("acme", ROW, {**ROW, "model": "b", "aliases": ["alpha-1"]})], id="an alias that is a model"
        ),
        pytest.param([b"{"], id="broken JSON"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(tables: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_catalog(tables)


# --- the facts that ship ---


def test_every_provider_that_can_be_called_has_its_table(shipped: Catalog) -> None:
    assert set(ENTRIES) <= set(shipped.providers)
    assert len(shipped) > 100


@pytest.mark.parametrize("document", [pytest.param(t, id=json.loads(t)["provider"]) for t in model_tables()])
def test_a_table_is_sorted_so_that_a_hand_finds_its_row(document: bytes) -> None:
    table = json.loads(document)
    models = [row["model"] for row in table["models"]]
    assert models == sorted(models)


def test_every_fact_has_a_past_date_and_a_source(shipped: Catalog) -> None:
    for info in shipped:
        assert "2025-01-01" < info.as_of < "2100", info.id
        assert info.source.strip(), info.id


def test_an_embedding_has_no_answer_and_a_chat_model_streams_unless_it_is_a_slow_pro_model(shipped: Catalog) -> None:
    for info in shipped:
        if info.kind == "embedding":
            assert info.capabilities == ("embeddings",), info.id
            assert info.output_tokens is None, info.id
        else:
            assert "streaming" in info.capabilities or info.model.endswith("-pro"), info.id


def test_an_answer_fits_its_context(shipped: Catalog) -> None:
    for info in shipped:
        assert (info.output_tokens or 0) <= (info.context_tokens or 10**9), info.id


def test_how_a_model_thinks_is_consistent(shipped: Catalog) -> None:
    for info in shipped:
        thinking = info.thinking
        if thinking is None:
            continue
        assert ("none" not in thinking.efforts) or thinking.can_disable, info.id
        assert thinking.default_on or thinking.can_disable, f"{info.id}: thinks only when asked, so it can be left out"
        assert thinking.min_budget <= (thinking.max_budget or 10**9), info.id
        assert thinking.budget or not (thinking.min_budget or thinking.max_budget), info.id


def test_what_a_model_rejects_always_is_not_listed_again_for_when_it_thinks(shipped: Catalog) -> None:
    for info in shipped:
        assert not set(info.rejects) & set(info.rejects_while_thinking), info.id


def test_a_compatible_server_is_a_fact_about_its_hosts_alone(shipped: Catalog) -> None:
    assert all(info.hosts for info in shipped.of("custom"))
    assert not any(info.hosts for info in shipped if info.provider != "custom")


@pytest.mark.parametrize(
    ("id", "rejects", "while_thinking", "budget", "can_disable"),
    [
        ("openai/gpt-4o", False, False, False, None),
        ("openai/gpt-5", True, False, False, False),
        ("openai/gpt-5.1", False, True, False, True),
        ("openai/gpt-5.6", False, True, False, True),
        ("openai/o3", True, False, False, False),
        ("anthropic/claude-opus-4-8", True, False, False, True),
        ("anthropic/claude-sonnet-5-5", True, False, False, False),
        ("anthropic/claude-haiku-4-5", False, True, True, True),
        ("bedrock/eu.anthropic.claude-sonnet-4-5-20250929-v1:0", False, True, True, True),
        ("gemini/models/gemini-2.5-pro", False, False, True, False),
        ("gemini/gemini-2.5-flash", False, False, True, True),
        ("groq/openai/gpt-oss-120b", False, False, False, False),
        ("xai/grok-4.5", False, False, False, False),
    ],
)
def test_the_facts_that_change_requests_are_as_published(
    shipped: Catalog, id: str, rejects: bool, while_thinking: bool, budget: bool, can_disable: bool | None
) -> None:
    """temperature: rejected always, or while thinking; a thinking budget; whether thinking can be turned off."""
    info = shipped.get(id)
    assert info is not None
    assert ("temperature" in info.rejects) == rejects
    assert ("temperature" in info.rejects_while_thinking) == while_thinking
    assert (info.thinking.budget if info.thinking else False) == budget
    assert (info.thinking.can_disable if info.thinking else None) == can_disable
