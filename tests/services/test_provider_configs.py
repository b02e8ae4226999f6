"""What an admin may do with configurations, and that credentials go in and never come out."""

from __future__ import annotations

import pytest

from server.core.access import Principal, Role
from server.core.catalog import Catalog
from server.core.endpoint import EndpointPolicy
from server.core.errors import (
    AlreadyExists,
    Conflict,
    InternalError,
    InvalidRequest,
    NotFound,
    ProviderUnauthenticated,
    Unavailable,
)
from server.core.provider_config import PROVIDERS, AiType, ProviderConfig
from server.core.secret import Secret
from server.services.provider_configs import ConfigChange, ConfigDraft, ProviderConfigs
from server.services.targets import Targets
from tests.services.fakes import (
    NOW,
    Ledger,
    MarkingVault,
    MemoryConfigs,
    OneProvider,
    ScriptedProvider,
    provider_config,
)

ADMIN = Principal("key_1", "org_1", "ws_1", Role.ADMIN, "key_1")
FOREIGN = Principal("key_2", "org_1", "ws_2", Role.ADMIN, "key_2")
ORGANISATION = Principal("key_3", "org_1", None, Role.ORG_ADMIN, "key_3")
OTHER_ORGANISATION = Principal("key_4", "org_2", None, Role.ORG_ADMIN, "key_4")


def service(*stored: ProviderConfig, provider: ScriptedProvider | None = None) -> ProviderConfigs:
    vault, policy = MarkingVault(), EndpointPolicy()
    providers = OneProvider(provider or ScriptedProvider())
    store = MemoryConfigs(*stored)
    catalog = Catalog((), providers=dict.fromkeys(PROVIDERS, ()))
    return ProviderConfigs(store, Ledger(), vault, Targets(vault, policy), providers, policy, catalog, now=lambda: NOW)


async def test_a_created_configuration_holds_its_credential_sealed_for_itself_and_shows_a_mask() -> None:
    draft = ConfigDraft(name=" main ", ai_type="OPENAI", secret=Secret("sk-canary-1234567"))
    config = await service().create(ADMIN, "ws_1", draft)
    assert config.sealed_secret == f"ws_1|{config.id}|secret|sk-canary-1234567".encode()
    assert (config.name, config.provider, config.secret_mask, config.key_mask) == ("main", "openai", "****4567", None)
    assert (config.user_id, config.org_id, config.active, config.valid) == ("key_1", "org_1", True, None)


@pytest.mark.parametrize(
    ("ai_type", "named", "provider"),
    [
        ("OPENAI", None, "openai"),
        ("GOOGLE", None, "gemini"),
        ("ANTHROPIC", None, "anthropic"),
        ("AWS", None, "bedrock"),
        ("OTHER", None, "custom"),
        ("OTHER", "Groq", "groq"),
        ("OTHER", "XAI", "xai"),
        ("GOOGLE", "GEMINI", "gemini"),
    ],
)
async def test_the_provider_follows_the_type_unless_a_fitting_one_is_named(
    ai_type: AiType, named: str | None, provider: str
) -> None:
    config = await service().create(ADMIN, "ws_1", ConfigDraft(name="n", ai_type=ai_type, provider=named))
    assert config.provider == provider


@pytest.mark.parametrize(("ai_type", "named"), [("OPENAI", "groq"), ("OTHER", "openai"), ("AWS", "anthropic")])
async def test_a_provider_that_contradicts_the_type_is_refused(ai_type: AiType, named: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await service().create(ADMIN, "ws_1", ConfigDraft(name="n", ai_type=ai_type, provider=named))
    assert caught.value.violations[0].field == "provider"


@pytest.mark.parametrize(
    "draft",
    [ConfigDraft(name=" ", ai_type="OPENAI"), ConfigDraft(name="n", ai_type="OTHER", endpoint="http://127.0.0.1")],
)
async def test_a_blank_name_and_an_inner_endpoint_are_refused(draft: ConfigDraft) -> None:
    with pytest.raises(InvalidRequest):
        await service().create(ADMIN, "ws_1", draft)


async def test_a_configuration_of_another_workspace_is_not_found_whatever_is_done_with_it() -> None:
    configs = service(provider_config())
    for caller in (FOREIGN, OTHER_ORGANISATION):
        with pytest.raises(NotFound):
            await configs.get(caller, "cfg_1")
        with pytest.raises(NotFound):
            await configs.update(caller, "cfg_1", ConfigChange(name="mine"))
        with pytest.raises(NotFound):
            await configs.delete(caller, "cfg_1")
        with pytest.raises(NotFound):
            await configs.validate(caller, "cfg_1")
        with pytest.raises(NotFound):
            await configs.stats(caller, "ws_2", "cfg_1")
    assert (await configs.get(ORGANISATION, "cfg_1")).id == "cfg_1"


async def test_an_update_changes_what_is_given_and_keeps_the_credential() -> None:
    before = provider_config(valid=True, validated_at=NOW)
    after = await service(before).update(ADMIN, "cfg_1", ConfigChange(name="new", active=False))
    assert (after.name, after.active, after.sealed_secret) == ("new", False, before.sealed_secret)
    assert (after.valid, after.etag != before.etag) == (True, True)


@pytest.mark.parametrize(
    "change",
    [
        ConfigChange(endpoint="https://elsewhere.example.com"),
        ConfigChange(endpoint=""),
        ConfigChange(provider="groq"),
        ConfigChange(ai_type="OPENAI"),
        ConfigChange(endpoint="https://elsewhere.example.com", key=Secret("only-the-key")),
    ],
)
async def test_a_stored_credential_never_follows_to_another_host(change: ConfigChange) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await service(provider_config()).update(ADMIN, "cfg_1", change)
    assert caught.value.violations[0].field == "secret"


async def test_a_new_endpoint_with_a_new_credential_is_stored_and_must_be_validated_anew() -> None:
    change = ConfigChange(endpoint="https://elsewhere.example.com/", secret=Secret("sk-new"))
    after = await service(provider_config(valid=True, validated_at=NOW)).update(ADMIN, "cfg_1", change)
    assert (after.endpoint, after.sealed_secret) == ("https://elsewhere.example.com", b"ws_1|cfg_1|secret|sk-new")
    assert (after.valid, after.validated_at) == (None, None)


async def test_repeating_the_type_of_a_refined_provider_does_not_change_the_provider() -> None:
    config = provider_config(provider="groq", endpoint=None)
    after = await service(config).update(ADMIN, "cfg_1", ConfigChange(ai_type="OTHER", name="n"))
    assert after.provider == "groq"


async def test_an_empty_credential_removes_it() -> None:
    after = await service(provider_config()).update(ADMIN, "cfg_1", ConfigChange(secret=Secret("")))
    assert (after.sealed_secret, after.secret_mask) == (None, None)


async def test_a_stale_etag_and_a_taken_name_are_refused() -> None:
    configs = service(provider_config(), provider_config(id="cfg_2", name="other"))
    with pytest.raises(Conflict):
        await configs.update(ADMIN, "cfg_1", ConfigChange(name="new", etag="older"))
    with pytest.raises(AlreadyExists):
        await configs.update(ADMIN, "cfg_1", ConfigChange(name="other"))


async def test_pages_hold_every_configuration_once_newest_first() -> None:
    configs = service(*(provider_config(id=f"cfg_{i}", name=f"n{i}") for i in range(5)))
    seen, token = [], ""
    for _ in range(3):
        page = await configs.list("ws_1", page_size=2, page_token=token)
        seen += [config.id for config in page.configs]
        token = page.next_page_token
    assert (seen, token) == (["cfg_4", "cfg_3", "cfg_2", "cfg_1", "cfg_0"], "")
    with pytest.raises(InvalidRequest):
        await configs.list("ws_1", page_size=2, page_token="\x00nonsense")


async def test_a_validation_asks_the_provider_and_its_refusal_is_an_outcome_that_is_kept() -> None:
    refusing = ScriptedProvider(error=ProviderUnauthenticated("The provider does not accept the credential."))
    configs = service(provider_config(), provider=refusing)
    outcome = await configs.validate(ADMIN, "cfg_1")
    assert (outcome.ok, outcome.message) == (False, "The provider does not accept the credential.")
    kept = await configs.get(ADMIN, "cfg_1")
    assert (kept.valid, kept.validation_message, kept.etag) == (False, outcome.message, "e1")
    assert refusing.targets[0].secret is not None
    assert refusing.targets[0].secret.reveal() == "sk-demo"


@pytest.mark.parametrize("ours", [InternalError("A stored credential cannot be opened."), Unavailable("Draining.")])
async def test_a_failure_of_the_gateway_is_raised_and_no_fact_about_the_configuration(
    ours: InternalError | Unavailable,
) -> None:
    """What the last validation said stays, so it is offered as before."""
    before = provider_config(valid=True, validated_at=NOW, validation_message="well")
    configs = service(before, provider=ScriptedProvider(error=ours))
    with pytest.raises(type(ours)):
        await configs.validate(ADMIN, "cfg_1")
    assert await configs.get(ADMIN, "cfg_1") == before
    assert (await configs.list("ws_1", available_only=True)).configs == [before]


async def test_only_active_configurations_whose_validation_held_are_available() -> None:
    configs = service(provider_config(), provider_config(id="cfg_2", name="off", active=False, sealed_secret=None))
    assert (await configs.validate(ADMIN, "cfg_1")).ok
    assert (await configs.validate(ADMIN, "cfg_2")).ok
    page = await configs.list("ws_1", available_only=True)
    assert [config.id for config in page.configs] == ["cfg_1"]


async def test_a_custom_configuration_says_which_compatible_server_it_calls_and_no_other_may() -> None:
    provider = ScriptedProvider()
    configs = service(provider=provider)
    draft = ConfigDraft(name="mine", ai_type="OTHER", endpoint="https://llm.example.com/v1", flavor="vllm")
    config = await configs.create(ADMIN, "ws_1", draft)
    await configs.validate(ADMIN, config.id)
    assert provider.targets[0].wire == "vllm"
    assert (await configs.update(ADMIN, config.id, ConfigChange(flavor=""))).flavor == ""
    for wrong in (
        ConfigDraft(name="a", ai_type="OPENAI", flavor="vllm"),
        ConfigDraft(name="b", ai_type="OTHER", endpoint="https://llm.example.com/v1", flavor="abacus"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await configs.create(ADMIN, "ws_1", wrong)
        assert caught.value.violations[0].field == "flavor"
