"""Settings come from DRAGOMAN_ variables alone; what is not understood is an error, and secrets do not show."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from server.core.access import Role
from server.core.proxies import TrustedProxies
from server.core.setup import SetupError
from server.core.token_issuer import TokenIssuer
from server.settings import Command, Settings, load_settings


def test_an_empty_environment_gives_the_defaults_in_the_home_directory() -> None:
    settings = load_settings({"PATH": "/bin", "HOME": "/root", "OPENAI_API_KEY": "not ours"})
    assert settings == Settings()
    assert settings.database().reveal() == "sqlite:///.dragoman/dragoman.db"
    assert settings.master_key_path() == Path(".dragoman/master.key")


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("DRAGOMAN_GRPC_PORT", "6000", "grpc_port", 6000),
        ("DRAGOMAN_GRPC_PORT", " 6000 ", "grpc_port", 6000),
        ("DRAGOMAN_GRPC_PORT", "", "grpc_port", 50051),
        ("DRAGOMAN_GRPC_HOST", "0.0.0.0", "grpc_host", "0.0.0.0"),
        ("DRAGOMAN_HOME", "/var/lib/dragoman", "home", Path("/var/lib/dragoman")),
        ("DRAGOMAN_SNAPSHOT_POLL_SECONDS", "0.5", "snapshot_poll_seconds", 0.5),
        ("DRAGOMAN_SNAPSHOT_POLL_SECONDS", "2", "snapshot_poll_seconds", 2.0),
        ("DRAGOMAN_LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("DRAGOMAN_MASTER_KEY_FILE", "/run/secrets/key", "master_key_file", Path("/run/secrets/key")),
        ("DRAGOMAN_MASTER_KEY_FILE_SHARED", "yes", "master_key_file_shared", True),
        ("DRAGOMAN_MASTER_KEY_FILE_SHARED", "0", "master_key_file_shared", False),
        ("DRAGOMAN_MASTER_KEY_COMMAND", "kms 'a b' $(c)|d", "master_key_command", Command(("kms", "a b", "$(c)|d"))),
    ],
)
def test_a_variable_sets_the_field_of_its_name(name: str, text: str, field: str, value: object) -> None:
    assert getattr(load_settings({name: text}), field) == value


def test_allowed_endpoints_are_hosts_with_ports_addresses_and_networks() -> None:
    policy = load_settings({"DRAGOMAN_ALLOWED_ENDPOINTS": "LLM.internal:8000, 10.1.0.0/16,127.0.0.1, [::1]:9"})
    assert policy.allowed_endpoints.hosts == {("llm.internal", 8000), ("::1", 9)}
    assert policy.allowed_endpoints.networks == (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("127.0.0.1"))


@pytest.mark.parametrize(
    ("text", "proxies"),
    [
        ("", TrustedProxies()),
        ("none", TrustedProxies(networks=())),
        ("unix", TrustedProxies(networks=(), unix=True)),
        (
            "10.1.0.0/16, 192.0.2.7, ::1, tls:Proxy.internal, tls:spiffe://mesh/envoy",
            TrustedProxies(
                networks=tuple(map(ipaddress.ip_network, ("10.1.0.0/16", "192.0.2.7", "::1"))),
                certificates=frozenset({"proxy.internal", "spiffe://mesh/envoy"}),
            ),
        ),
    ],
)
def test_trusted_proxies_are_addresses_networks_unix_sockets_and_certificates(
    text: str, proxies: TrustedProxies
) -> None:
    assert load_settings({"DRAGOMAN_TRUSTED_PROXIES": text}).trusted_proxies == proxies


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("DRAGOMAN_GRPC_PORT", "65536", "a whole number of at least 0 and at most 65535"),
        ("DRAGOMAN_GRPC_PORT", "http", "a whole number of at least 0 and at most 65535"),
        ("DRAGOMAN_SNAPSHOT_POLL_SECONDS", "0", "a number greater than 0 and at most 86400"),
        ("DRAGOMAN_SNAPSHOT_POLL_SECONDS", "nan", "a number greater than 0 and at most 86400"),
        ("DRAGOMAN_LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("DRAGOMAN_MASTER_KEY_FILE_SHARED", "maybe", "true or false"),
        ("DRAGOMAN_MASTER_KEY_COMMAND", "kms 'canary", "a quotation mark in it is not closed"),
        ("DRAGOMAN_MASTER_KEY_COMMAND_SECONDS", "0", "a number greater than 0 and at most 300"),
        ("DRAGOMAN_ALLOWED_ENDPOINTS", "llm:8000,llm.internal", "number 2 is none"),
        ("DRAGOMAN_ALLOWED_ENDPOINTS", "llm:0", "number 1 is none"),
        ("DRAGOMAN_TRUSTED_PROXIES", "10.0.0.1,envoy", "number 2 is none"),
        ("DRAGOMAN_TRUSTED_PROXIES", "10.0.0.1/8", "number 1 is none"),
        ("DRAGOMAN_TRUSTED_PROXIES", "none,10.0.0.1", "number 1 is none"),
        ("DRAGOMAN_TRUSTED_PROXIES", "tls:", "number 1 is none"),
    ],
)
def test_a_value_that_is_none_is_refused_with_what_it_must_be(name: str, text: str, says: str) -> None:
    with pytest.raises(SetupError, match=says) as caught:
        load_settings({name: text})
    assert name in str(caught.value)


def test_a_misspelt_setting_is_an_error_that_offers_near_names() -> None:
    with pytest.raises(SetupError, match=r"DRAGOMAN_GRPC_PROT is no setting. Did you mean DRAGOMAN_GRPC_PORT"):
        load_settings({"DRAGOMAN_GRPC_PROT": "1"})


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SetupError) as caught:
        load_settings({"DRAGOMAN_QQQ": "1", "DRAGOMAN_HTTP_PORT": "x", "DRAGOMAN_LOG_LEVEL": "x"})
    assert len(str(caught.value).splitlines()) == 3


def test_a_callers_certificate_has_its_key_beside_it() -> None:
    with pytest.raises(SetupError, match="belong together"):
        load_settings({"DRAGOMAN_CALLER_TLS_CERT_FILE": "c.pem"})


def test_a_certificate_has_its_key_beside_it_and_client_authorities_are_of_no_use_alone() -> None:
    files = {"DRAGOMAN_TLS_CERT_FILE": "c.pem", "DRAGOMAN_TLS_KEY_FILE": "k.pem", "DRAGOMAN_TLS_CLIENT_CA_FILE": "a"}
    assert load_settings(files).tls_files() == (Path("c.pem"), Path("k.pem"), Path("a"))
    for missing in ("DRAGOMAN_TLS_CERT_FILE", "DRAGOMAN_TLS_KEY_FILE"):
        with pytest.raises(SetupError, match="belong together"):
            load_settings({name: value for name, value in files.items() if name != missing})
    with pytest.raises(SetupError, match="DRAGOMAN_TLS_CLIENT_CA_FILE needs"):
        load_settings({"DRAGOMAN_TLS_CLIENT_CA_FILE": "a.pem"})
    assert load_settings({}).tls_files() is None


OIDC = {"DRAGOMAN_OIDC_ISSUER": "https://issuer.test", "DRAGOMAN_OIDC_AUDIENCE": "dragoman, llm"}


def test_an_issuer_of_tokens_is_read_with_its_defaults_and_with_all_that_can_be_said() -> None:
    plain = load_settings(OIDC).token_issuer()
    assert plain is not None
    assert plain == TokenIssuer(name="https://issuer.test", audience=("dragoman", "llm"))
    assert set(plain.roles) == {"viewer", "member", "admin"}
    more = {
        "JWKS_URL": "https://keys.test/jwks",
        "ALGORITHMS": "PS256,EdDSA",
        "LEEWAY_SECONDS": "5",
        "REFRESH_SECONDS": "60",
        "WORKSPACE_CLAIM": "tenant",
        "ROLE_CLAIM": "realm_access.roles",
        "ROLES": "llm-user=member, a=b = Admin,root=org_admin",
        "ORGANISATION": "org_1",
    }
    assert load_settings(OIDC | {f"DRAGOMAN_OIDC_{name}": value for name, value in more.items()}).token_issuer() == (
        TokenIssuer(
            name="https://issuer.test",
            audience=("dragoman", "llm"),
            jwks_url="https://keys.test/jwks",
            algorithms=("PS256", "EdDSA"),
            leeway=5.0,
            refresh=60.0,
            workspace_claim="tenant",
            role_claim="realm_access.roles",
            roles={"llm-user": Role.MEMBER, "a=b": Role.ADMIN, "root": Role.ORG_ADMIN},
            organisation="org_1",
        )
    )
    assert load_settings({}).token_issuer() is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"DRAGOMAN_OIDC_AUDIENCE": ""}, "DRAGOMAN_OIDC_AUDIENCE is missing"),
        ({"DRAGOMAN_OIDC_AUDIENCE": ","}, "DRAGOMAN_OIDC_AUDIENCE is missing"),
        ({"DRAGOMAN_OIDC_ISSUER": ""}, "need DRAGOMAN_OIDC_ISSUER"),
        ({"DRAGOMAN_OIDC_ALGORITHMS": "RS256,HS256"}, "DRAGOMAN_OIDC_ALGORITHMS must be of RS256"),
        ({"DRAGOMAN_OIDC_ALGORITHMS": "none"}, "DRAGOMAN_OIDC_ALGORITHMS must be of RS256"),
        ({"DRAGOMAN_OIDC_ALGORITHMS": ","}, "DRAGOMAN_OIDC_ALGORITHMS must be of RS256"),
        ({"DRAGOMAN_OIDC_ROLES": "boss=owner"}, "value=role pairs"),
        ({"DRAGOMAN_OIDC_ROLES": "boss"}, "value=role pairs"),
        ({"DRAGOMAN_OIDC_ROLES": "boss=org_admin"}, "set DRAGOMAN_OIDC_ORGANISATION"),
    ],
)
def test_an_issuer_that_would_be_unsafe_is_refused(changes: dict[str, str], says: str) -> None:
    with pytest.raises(SetupError, match=says):
        load_settings(OIDC | changes)


def test_two_places_for_the_master_key_are_refused() -> None:
    with pytest.raises(SetupError, match="are both set"):
        load_settings({"DRAGOMAN_MASTER_KEY": "a", "DRAGOMAN_MASTER_KEY_FILE": "b"})


def test_a_master_key_from_the_environment_means_that_no_file_is_read() -> None:
    assert load_settings({"DRAGOMAN_MASTER_KEY": "a"}).master_key_path() is None


def test_with_a_command_the_file_in_the_home_is_not_the_master_key() -> None:
    assert load_settings({"DRAGOMAN_MASTER_KEY_COMMAND": "kms"}).master_key_path() is None


def test_secrets_do_not_show_in_the_repr_nor_in_errors() -> None:
    secrets = {
        "DRAGOMAN_MASTER_KEY": "canary-master",
        "DRAGOMAN_DATABASE_URL": "postgresql://u:canary-password@h/d",
        "DRAGOMAN_API_KEY": "canary-key",
        "DRAGOMAN_MASTER_KEY_COMMAND": "kms --token canary-token",
    }
    assert "canary" not in repr(load_settings(secrets))
    with pytest.raises(SetupError) as caught:
        load_settings({**secrets, "DRAGOMAN_MASTERKEY": "canary-misplaced", "DRAGOMAN_GRPC_PORT": "canary-port"})
    assert "canary" not in str(caught.value)


def test_the_variable_of_the_tests_is_no_error() -> None:
    assert load_settings({"DRAGOMAN_WIRE_FIXTURES": "../shared/fixtures"}) == Settings()
