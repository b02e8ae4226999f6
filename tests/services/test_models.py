"""What a workspace can call, and where a call goes: the rules at the top of server/core/routing.py, as tables."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.core.access import Workspace
from server.core.catalog import Catalog, parse_catalog
from server.core.errors import (
    AmbiguousModel,
    DragomanError,
    InvalidRequest,
    NotConfigured,
    NotFound,
    ProviderModelNotFound,
    Unavailable,
    UnknownModel,
)
from server.core.provider_config import ProviderConfig
from server.core.routing import Route
from server.core.snapshot import Snapshot
from server.services.models import ModelService

NOW = datetime(2026, 1, 31, tzinfo=UTC)
FACTS = {
    "capabilities": ["streaming"],
    "context_tokens": 1000,
    "output_tokens": None,
    "as_of": "2026-01-31",
    "source": "x",
}


def row(model: str, **more: object) -> dict:
    return {"model": model, "name": model.upper(), **FACTS, **more}


TABLES = {
    "openai": [
        row("gpt-4o", aliases=["gpt-4o-2024-08-06"]),
        row("gpt-4o-mini"),
        row("embed", kind="embedding", capabilities=["embeddings"]),
    ],
    "anthropic": [row("claude-x")],
    "groq": [row("groq/compound"), row("openai/gpt-oss"), row("llama")],
    "bedrock": [row("anthropic.claude-x-v1:0"), row("llama")],
    "custom": [row("deep-chat", hosts=["api.deep.example"])],
}


def catalog() -> Catalog:
    return parse_catalog(
        json.dumps(
            {"provider": slug, "name": slug, "prefixes": ["us."] if slug == "bedrock" else [], "models": rows}
        ).encode()
        for slug, rows in TABLES.items()
    )


def config(name: str, provider: str, *, active: bool = True, endpoint: str | None = None) -> ProviderConfig:
    return ProviderConfig(
        id=f"id-{name}",
        org_id="org",
        workspace_id="w",
        user_id="u",
        name=name,
        ai_type="OTHER",
        provider=provider,
        endpoint=endpoint,
        sealed_key=None,
        sealed_secret=b"sealed",
        key_mask=None,
        secret_mask="****",
        active=active,
        etag="1",
        created_at=NOW,
        updated_at=NOW,
    )


class Picture:
    """A snapshot source that shows what it was last given."""

    stale = False

    def __init__(self) -> None:
        self.revision = 0
        self.workspaces: dict[str, Workspace] = {}
        self.configs: dict[str, tuple[ProviderConfig, ...]] = {}

    def show(
        self, *configs: ProviderConfig, id: str = "w", default: str | None = None, enabled: tuple[str, ...] = ()
    ) -> None:
        self.workspaces[id] = Workspace(
            id=id, org_id="org", name=id, default_model=default, enabled_models=enabled, created_at=NOW
        )
        self.configs[id] = configs
        self.revision += 1

    def current(self) -> Snapshot:
        if not self.revision:
            raise Unavailable("No picture yet.")
        return Snapshot(self.revision, dict(self.workspaces), {}, dict(self.configs))

    async def refresh(self) -> Snapshot:
        return self.current()


def service(*configs: ProviderConfig, default: str | None = None, enabled: tuple[str, ...] = ()) -> ModelService:
    picture = Picture()
    picture.show(*configs, default=default, enabled=enabled)
    return ModelService(picture, catalog())


OPENAI = config("oa", "openai")
ANTHROPIC = config("an", "anthropic")
GROQ = config("gq", "groq")
BEDROCK = config("br", "bedrock")
LOCAL = config("local", "custom", endpoint="http://10.0.0.1:11434/v1")
DEEP = config("deep", "custom", endpoint="https://API.deep.example/v1")
ROUTER = config("router", "custom", endpoint="https://router.example/v1")
ALL = (OPENAI, ANTHROPIC, GROQ, BEDROCK, LOCAL, DEEP)


def call(models: ModelService, words: tuple[str, ...]) -> Route:
    """words: model, provider, provider_name; "" for not given."""
    model, provider, name = (*words, "", "")[:3]
    return models.resolve("w", model, provider or None, name or None)


# --- resolving ---


@pytest.mark.parametrize(
    ("words", "config_name", "own", "known"),
    [
        # provider/model
        (("openai/gpt-4o",), "oa", "gpt-4o", "openai/gpt-4o"),
        (("OpenAI/gpt-4o",), "oa", "gpt-4o", "openai/gpt-4o"),
        (("openai/gpt-4o-2024-08-06",), "oa", "gpt-4o-2024-08-06", "openai/gpt-4o"),
        (
            ("bedrock/us.anthropic.claude-x-v1:0",),
            "br",
            "us.anthropic.claude-x-v1:0",
            "bedrock/anthropic.claude-x-v1:0",
        ),
        # a provider's name for a model that looks like an id
        (("groq/groq/compound",), "gq", "groq/compound", "groq/groq/compound"),
        (("groq/compound",), "gq", "groq/compound", "groq/groq/compound"),
        (("groq/openai/gpt-oss",), "gq", "openai/gpt-oss", "groq/openai/gpt-oss"),
        (("openai/gpt-oss",), "oa", "gpt-oss", None),
        # what the catalogue does not know passes through, for every provider
        (("openai/gpt-99",), "oa", "gpt-99", None),
        (("openai/GPT-4O",), "oa", "GPT-4O", None),
        (("anthropic/claude/next",), "an", "claude/next", None),
        (("groq/new",), "gq", "new", None),
        (("bedrock/arn:aws:bedrock:us-east-1:1:model/m",), "br", "arn:aws:bedrock:us-east-1:1:model/m", None),
        (("custom/llama3",), "local", "llama3", None),
        (("custom/meta-llama/llama-3",), "local", "meta-llama/llama-3", None),
        # the provider beside the model
        (("gpt-4o", "openai"), "oa", "gpt-4o", "openai/gpt-4o"),
        (("openai/gpt-4o", "OPENAI"), "oa", "gpt-4o", "openai/gpt-4o"),
        (("openai/gpt-oss", "groq"), "gq", "openai/gpt-oss", "groq/openai/gpt-oss"),
        (("groq/compound", "groq"), "gq", "groq/compound", "groq/groq/compound"),
        (("openai/gpt-oss-next", "groq"), "gq", "openai/gpt-oss-next", None),
        (("openai/gpt-4o", "custom"), "local", "openai/gpt-4o", None),
        (("llama", "bedrock"), "br", "llama", "bedrock/llama"),
        # bare names
        (("gpt-4o-mini",), "oa", "gpt-4o-mini", "openai/gpt-4o-mini"),
        (("gpt-4o-2024-08-06",), "oa", "gpt-4o-2024-08-06", "openai/gpt-4o"),
        (("us.anthropic.claude-x-v1:0",), "br", "us.anthropic.claude-x-v1:0", "bedrock/anthropic.claude-x-v1:0"),
        # a configuration by its name
        (("anything", "", "local"), "local", "anything", None),
        (("custom/anything", "custom", "deep"), "deep", "anything", None),
        (("deep-chat", "", "deep"), "deep", "deep-chat", "custom/deep-chat"),
        (("deep-chat", "", "local"), "local", "deep-chat", None),
        (("gpt-4o", "openai", "oa"), "oa", "gpt-4o", "openai/gpt-4o"),
        # of several, the one that is known to serve the model, else the oldest
        (("custom/deep-chat",), "deep", "deep-chat", "custom/deep-chat"),
        (("deep-chat",), "deep", "deep-chat", "custom/deep-chat"),
    ],
)
def test_a_call_goes_to_the_configuration_and_model_that_its_words_mean(
    words: tuple[str, ...], config_name: str, own: str, known: str | None
) -> None:
    route = call(service(*ALL), words)
    assert (route.config.name, route.model) == (config_name, own)
    assert (route.info.id if route.info else None) == known
    assert route.id == f"{route.config.provider}/{own}"


def test_a_bare_name_with_slashes_is_one_when_its_first_segment_is_no_provider() -> None:
    models = service(*ALL, enabled=("custom/meta-llama/llama-3-70b",))
    route = call(models, ("meta-llama/llama-3-70b",))
    assert (route.config.name, route.model, route.id) == (
        "local",
        "meta-llama/llama-3-70b",
        "custom/meta-llama/llama-3-70b",
    )


def test_of_several_configurations_of_a_provider_the_oldest_active_one_is_used() -> None:
    models = service(config("first", "openai", active=False), config("second", "openai"), config("third", "openai"))
    assert call(models, ("openai/gpt-4o",)).config.name == "second"
    assert call(models, ("openai/gpt-4o", "", "third")).config.name == "third"


def test_an_ambiguous_bare_name_lists_the_ids_it_may_mean() -> None:
    with pytest.raises(AmbiguousModel) as caught:
        call(service(*ALL), ("llama",))
    assert caught.value.metadata["candidates"] == "bedrock/llama,groq/llama"
    assert "bedrock/llama, groq/llama" in caught.value.message


def test_a_bare_name_is_unambiguous_among_what_the_workspace_can_call_not_among_all_there_is() -> None:
    assert call(service(GROQ), ("llama",)).id == "groq/llama"


def test_an_enabled_model_makes_a_bare_name_known_and_may_make_it_ambiguous() -> None:
    assert call(service(LOCAL, enabled=("custom/llama3",)), ("llama3",)).id == "custom/llama3"
    with pytest.raises(AmbiguousModel, match="custom/gpt-4o, openai/gpt-4o"):
        call(service(OPENAI, LOCAL, enabled=("custom/gpt-4o",)), ("gpt-4o",))


@pytest.mark.parametrize(
    ("default", "words", "id"),
    [
        ("custom/demo", ("",), "custom/demo"),
        ("Custom/demo", ("",), "custom/demo"),
        ("gpt-4o", ("",), "openai/gpt-4o"),
        ("openai/gpt-4o", ("", "openai"), "openai/gpt-4o"),
        ("custom/demo", ("demo",), "custom/demo"),
    ],
)
def test_a_call_without_a_model_goes_to_the_default(default: str, words: tuple[str, ...], id: str) -> None:
    assert call(service(*ALL, default=default), words).id == id


@pytest.mark.parametrize(
    ("models", "words", "kind", "says"),
    [
        # the documented message
        (service(OPENAI), ("anthropic/claude-x",), NotConfigured, r"^No credential configured for ANTHROPIC$"),
        (service(OPENAI), ("claude-x", "anthropic"), NotConfigured, r"^No credential configured for ANTHROPIC$"),
        (service(OPENAI), ("claude-x",), NotConfigured, r"^No credential configured for ANTHROPIC$"),
        (service(), ("openai/gpt-99",), NotConfigured, r"^No credential configured for OPENAI$"),
        (service(config("off", "openai", active=False)), ("openai/gpt-4o",), NotConfigured, "No credential .* OPENAI$"),
        (service(OPENAI), ("llama",), NotConfigured, "BEDROCK OR GROQ"),
        (service(), ("whatever",), NotConfigured, "no active provider configuration"),
        # default
        (service(OPENAI), ("",), NotConfigured, "dragoman models default <id>"),
        (service(*ALL, default="custom/demo"), ("", "openai"), InvalidRequest, "custom/demo is not of 'openai'"),
        # configuration names
        (
            service(*ALL),
            ("x", "", "nope"),
            NotFound,
            "'nope' in this workspace. There are: oa, an, gq, br, local, deep",
        ),
        (service(*ALL), ("x", "custom", "oa"), NotFound, "'oa' for the provider 'custom'.* There are: local, deep"),
        (service(config("off", "openai", active=False)), ("x", "", "off"), NotConfigured, "'off' is not active"),
        # unknown and contradictory words
        (service(*ALL), ("gpt-4o-mni",), UnknownModel, "openai/gpt-4o-mini"),
        (service(*ALL), ("GPT-4o",), UnknownModel, "openai/gpt-4o"),
        (service(*ALL), ("opnai/gpt-4o",), UnknownModel, "openai/gpt-4o"),
        (service(*ALL), ("zzz/yyy",), UnknownModel, "No model 'zzz/yyy'"),
        (service(*ALL), ("m", "mistral"), InvalidRequest, "provider: one of anthropic, .*; got 'mistral'"),
        (service(*ALL), ("openai/",), InvalidRequest, "no model"),
        (service(*ALL), ("openai/gpt-4o", "anthropic"), InvalidRequest, "'openai', and the call asks for 'anthropic'"),
        (service(*ALL), ("openai/gpt-4o", "", "an"), InvalidRequest, "'openai', and the call asks for 'anthropic'"),
        (service(*ALL), ("openai/embed",), InvalidRequest, "kind embedding"),
    ],
)
def test_words_that_lead_nowhere_are_an_error_that_says_what_to_do(
    models: ModelService, words: tuple[str, ...], kind: type[DragomanError], says: str
) -> None:
    with pytest.raises(kind, match=says) as caught:
        call(models, words)
    assert type(caught.value) is kind
    assert caught.value.action


def test_an_unknown_model_offers_near_names_as_data() -> None:
    with pytest.raises(UnknownModel) as caught:
        call(service(*ALL), ("claude",))
    assert set(caught.value.metadata["candidates"].split(",")) == {
        "anthropic/claude-x",
        "bedrock/anthropic.claude-x-v1:0",
    }


def test_near_names_are_of_this_workspace_alone() -> None:
    with pytest.raises(UnknownModel) as caught:
        call(service(ANTHROPIC, enabled=("openai/gpt-4o-tuned",)), ("gpt-4o-mni",))
    assert "candidates" not in caught.value.metadata


def test_what_else_carries_the_name_is_told_when_the_named_provider_has_no_credential() -> None:
    with pytest.raises(NotConfigured) as caught:
        call(service(GROQ), ("openai/gpt-oss",))
    assert caught.value.message == "No credential configured for OPENAI"
    assert caught.value.metadata == {"provider": "openai", "candidates": "groq/openai/gpt-oss"}


def test_an_error_never_repeats_more_than_a_names_worth_of_what_came() -> None:
    with pytest.raises(UnknownModel) as caught:
        call(service(*ALL), ("x" * 5000,))
    assert len(caught.value.message) < 200


def test_an_aggregator_takes_another_providers_id_as_its_own_name() -> None:
    route = call(service(OPENAI, ROUTER), ("openai/gpt-4o", "", "router"))
    assert (route.config.name, route.model, route.info) == ("router", "openai/gpt-4o", None)


def test_legacy_asks_for_the_older_protocol() -> None:
    models = service(*ALL)
    assert models.resolve("w", "openai/gpt-4o", legacy=True).wire == "chat"
    assert models.resolve("w", "openai/gpt-4o").wire == ""


def test_an_embedding_model_resolves_where_one_is_wanted_and_a_chat_model_does_not() -> None:
    models = service(*ALL)
    assert models.resolve("w", "openai/embed", kind="embedding").model == "embed"
    with pytest.raises(InvalidRequest, match="kind chat"):
        models.resolve("w", "openai/gpt-4o", kind="embedding")


def test_the_providers_404_for_a_mistyped_model_gets_near_names() -> None:
    models = service(*ALL)
    error = ProviderModelNotFound("OpenAI has no such model.", provider="openai")
    explained = models.explain("w", models.resolve("w", "openai/gpt-4o-mni"), error)
    assert explained is error
    assert explained.metadata["candidates"].split(",")[0] == "openai/gpt-4o-mini"
    assert str(explained) == explained.message
    assert "openai/gpt-4o-mini" in explained.message


WORDS = st.lists(
    st.sampled_from(
        ["openai", "Groq", "custom", "bedrock", "groq", "compound", "gpt-4o", "us.llama", "llama", "", "/", "é"]
    ),
    max_size=4,
).map("/".join) | st.text(max_size=20)


@example(words="Groq/compound", provider=None, name=None)
@example(words="Custom/groq/compound", provider=None, name=None)
@example(words="compound", provider=None, name="gq")
@given(
    words=WORDS,
    provider=st.sampled_from([None, "openai", "GROQ", "custom", "nobody"]),
    name=st.sampled_from([None, "local", "gq", "nobody"]),
)
def test_any_words_give_a_route_or_an_error_of_the_tree_and_a_routes_id_leads_to_the_same_model(
    words: str, provider: str | None, name: str | None
) -> None:
    models = service(*ALL, default="custom/demo", enabled=("custom/custom/x", "custom/groq/compound"))
    try:
        route = models.resolve("w", words, provider, name)
    except DragomanError:
        return
    again = models.resolve("w", route.id, None, route.config.name)
    assert route.model
    assert (again.id, again.model, again.config) == (route.id, route.model, route.config)
    assert models.resolve("w", route.id).id == route.id


# --- the snapshot ---


def test_a_change_of_the_snapshot_is_seen_by_the_next_call() -> None:
    picture = Picture()
    models = ModelService(picture, catalog())
    picture.show(OPENAI)
    assert models.resolve("w", "openai/gpt-4o").config is OPENAI
    newer = config("newer", "openai")
    picture.show(newer, default="openai/gpt-4o")
    assert models.resolve("w", "openai/gpt-4o").config is newer
    assert models.resolve("w", "").config is newer
    picture.show()
    with pytest.raises(NotConfigured):
        models.resolve("w", "openai/gpt-4o")


def test_workspaces_do_not_see_each_other() -> None:
    picture = Picture()
    models = ModelService(picture, catalog(), max_workspaces=1)
    picture.show(OPENAI, id="a")
    picture.show(ANTHROPIC, id="b")
    for _ in range(2):  # each look-up pushes the other workspace out
        assert models.resolve("a", "gpt-4o").id == "openai/gpt-4o"
        with pytest.raises(NotConfigured):
            models.resolve("b", "gpt-4o")


def test_an_unknown_workspace_is_not_found_even_when_it_was_there_before() -> None:
    picture = Picture()
    models = ModelService(picture, catalog())
    picture.show(OPENAI)
    models.resolve("w", "gpt-4o")
    del picture.workspaces["w"]
    picture.revision += 1
    with pytest.raises(NotFound, match="No such workspace"):
        models.resolve("w", "gpt-4o")


def test_without_any_snapshot_the_models_are_unavailable() -> None:
    with pytest.raises(Unavailable):
        ModelService(Picture(), catalog()).list("w")


def test_a_flood_of_made_up_names_is_not_kept() -> None:
    models = service(OPENAI)
    for n in range(2000):
        models.resolve("w", f"openai/made-up-{n}")
    models.resolve("w", "openai/" + "x" * 10_000)
    (_, kept) = models._kept["w"]
    assert len(kept._routes) <= 512
    assert max(len(key[0]) for key in kept._routes) <= 200


# --- listing ---


def seen(models: ModelService, **query: object) -> list[str]:
    return [m.info.id for m in models.list("w", **query)]  # type: ignore[arg-type]


def test_a_workspace_sees_what_its_active_configurations_serve() -> None:
    models = service(OPENAI, config("off", "anthropic", active=False), LOCAL)
    assert seen(models) == ["openai/embed", "openai/gpt-4o", "openai/gpt-4o-mini"]
    assert seen(models, kind="chat") == ["openai/gpt-4o", "openai/gpt-4o-mini"]
    assert seen(models, kind="embedding") == ["openai/embed"]


def test_a_model_of_a_host_is_seen_with_a_configuration_on_that_host_alone() -> None:
    assert seen(service(LOCAL)) == []
    (model,) = service(LOCAL, DEEP).list("w")
    assert (model.info.id, model.configurations) == ("custom/deep-chat", ("deep",))


def test_enabled_and_default_models_are_seen_too_with_what_serves_them() -> None:
    models = service(
        LOCAL, default="custom/demo", enabled=("custom/llama3", "Custom/llama3", "openai/gpt-4o", "nonsense")
    )
    rows = {m.info.id: (m.known, m.is_default, m.configurations) for m in models.list("w")}
    assert rows == {
        "custom/demo": (False, True, ("local",)),
        "custom/llama3": (False, False, ("local",)),
        "nonsense": (False, False, ()),
        "openai/gpt-4o": (True, False, ()),
    }


def test_the_default_is_marked_and_a_pinned_alias_of_a_model_stands_for_itself() -> None:
    assert [m.info.id for m in service(OPENAI, default="gpt-4o").list("w") if m.is_default] == ["openai/gpt-4o"]
    pinned = service(OPENAI, default="openai/gpt-4o-2024-08-06")
    (model,) = (m for m in pinned.list("w") if m.is_default)
    assert (model.info.id, model.info.context_tokens, model.known) == ("openai/gpt-4o-2024-08-06", 1000, True)


def test_the_configurations_of_a_model_stand_in_the_order_of_use() -> None:
    models = service(config("b", "openai"), config("a", "openai"))
    assert models.get("w", "openai/gpt-4o").configurations == ("b", "a")


def test_pages_join_to_the_whole_list() -> None:
    models = service(*ALL)
    whole, pages, after = seen(models), [], None
    while page := models.list("w", limit=2, after=after):
        pages += [m.info.id for m in page]
        after = pages[-1]
    assert pages == whole == sorted(whole)
    assert len(whole) > 4


@pytest.mark.parametrize(
    ("words", "id"),
    [
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("OPENAI/gpt-4o", "openai/gpt-4o"),
        ("gpt-4o-2024-08-06", "openai/gpt-4o"),
        ("openai/gpt-4o-2024-08-06", "openai/gpt-4o"),
        ("groq/compound", "groq/groq/compound"),
        ("bedrock/us.llama", "bedrock/llama"),
        ("llama3", "custom/llama3"),
    ],
)
def test_one_model_is_got_by_id_alias_or_bare_name(words: str, id: str) -> None:
    assert service(*ALL, enabled=("custom/llama3",)).get("w", words).info.id == id


@pytest.mark.parametrize(
    ("words", "kind", "offers"),
    [
        ("openai/gpt-4o-mni", UnknownModel, "openai/gpt-4o-mini"),
        ("gpt-4o-mni", UnknownModel, "openai/gpt-4o-mini"),
        ("openai/", UnknownModel, None),
        ("llama", AmbiguousModel, "bedrock/llama"),
    ],
)
def test_a_model_that_is_not_there_is_an_error_with_near_names(
    words: str, kind: type[DragomanError], offers: str | None
) -> None:
    with pytest.raises(kind) as caught:
        service(*ALL).get("w", words)
    assert offers is None or offers in caught.value.metadata["candidates"].split(",")


def test_a_model_of_a_provider_without_configuration_is_not_got() -> None:
    with pytest.raises(UnknownModel):
        service(OPENAI).get("w", "anthropic/claude-x")
