"""Which tokens of an issuer are taken, and as whom: real signatures, keys over real HTTP."""

from __future__ import annotations

import base64
import json
import logging
import time
import warnings
from typing import Any, NamedTuple

import jwt
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.core.access import Principal, Role
from server.core.errors import PermissionDenied, Unauthenticated
from server.core.snapshot import Snapshot
from server.identity import tokens as module
from tests.identity.taker import Taker
from tests.support.issuer import AUDIENCE, Issuer, SigningKey

ALICE = Principal("jwt:alice", "org_1", "ws_1", Role.MEMBER, "jwt:alice")


class In(NamedTuple):
    """So many seconds from when the test runs."""

    seconds: int


def at_once(changes: dict[str, Any]) -> dict[str, Any]:
    """The claims, with moments in the place of In."""
    now = int(time.time())
    return {name: now + value.seconds if isinstance(value, In) else value for name, value in changes.items()}


async def refused(taker: Taker, token: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await taker.tokens.authenticate(token)
    assert caught.value.message == "The token is not valid."
    assert caught.value.metadata == {}
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"])
async def test_a_good_token_is_its_subject_in_its_workspace_with_its_role(
    taker: Taker, rsa_key: SigningKey, algorithm: str
) -> None:
    key = SigningKey("key", algorithm)
    taker.issuer.publish(key, SigningKey("another", "ES256"))
    assert await taker.tokens.authenticate(taker.issuer.token(key)) == ALICE


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"iss": "https://elsewhere.test"}, id="another issuer"),
        pytest.param({"iss": None}, id="no issuer"),
        pytest.param({"iss": ["http://x"]}, id="issuer is a list"),
        pytest.param({"aud": "another-service"}, id="another audience"),
        pytest.param({"aud": ["another-service", "dragoman2"]}, id="other audiences"),
        pytest.param({"aud": None}, id="no audience"),
        pytest.param({"aud": []}, id="audience of nobody"),
        pytest.param({"exp": In(-60)}, id="expired"),
        pytest.param({"exp": None}, id="never expires"),
        pytest.param({"exp": "soon"}, id="expiry is a word"),
        pytest.param({"exp": float("inf")}, id="expiry is infinite"),
        pytest.param({"exp": 10**400}, id="expiry is beyond all numbers"),
        pytest.param({"nbf": In(600)}, id="not valid yet"),
        pytest.param({"iat": In(600)}, id="issued in the future"),
        pytest.param({"sub": None}, id="no subject"),
        pytest.param({"sub": 7}, id="subject is a number"),
    ],
)
@pytest.mark.parametrize("kind", ["rsa", "ec"])
async def test_a_token_for_another_use_or_time_is_refused(
    taker: Taker, rsa_key: SigningKey, ec_key: SigningKey, kind: str, changes: dict[str, Any]
) -> None:
    key = rsa_key if kind == "rsa" else ec_key
    claims = taker.issuer.claims(**at_once(changes))
    # By hand: PyJWT signs no issuer that is a list.
    token = signed(key, {"alg": key.algorithm, "kid": key.kid}, claims)
    await refused(taker, token)


@pytest.mark.parametrize(
    ("changes", "leeway", "taken"),
    [
        ({"exp": In(-20)}, 120.0, True),
        ({"exp": In(-20)}, 0.0, False),
        ({"nbf": In(20)}, 120.0, True),
        ({"nbf": In(20)}, 0.0, False),
        ({"aud": ["another", AUDIENCE]}, 0.0, True),
    ],
)
async def test_clocks_may_differ_by_the_leeway_and_audiences_may_be_several(
    taker: Taker, ec_key: SigningKey, changes: dict[str, Any], leeway: float, taken: bool
) -> None:
    taker.configure(leeway=leeway)
    token = taker.issuer.token(ec_key, **at_once(changes))
    if taken:
        assert await taker.tokens.authenticate(token) == ALICE
    else:
        await refused(taker, token)


def encoded(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(key: SigningKey, header: dict[str, Any], claims: Any) -> str:
    """Whatever these are, under a true signature."""
    text = f"{encoded(header)}.{encoded(claims)}"
    algorithm = jwt.get_algorithm_by_name(key.algorithm)
    return f"{text}.{encoded(algorithm.sign(text.encode(), key.private))}"


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
async def test_no_signature_is_no_token(taker: Taker, ec_key: SigningKey, name: str) -> None:
    header, claims = {"alg": name, "kid": ec_key.kid}, taker.issuer.claims()
    for signature in ("", encoded(b"x"), taker.issuer.token(ec_key).rpartition(".")[2]):
        await refused(taker, f"{encoded(header)}.{encoded(claims)}.{signature}")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("secret", ["pem", "jwk", "der", "modulus"])
async def test_a_public_key_is_no_shared_secret(taker: Taker, rsa_key: SigningKey, algorithm: str, secret: str) -> None:
    """RFC 8725 section 2.1: a token signed by HMAC, with what everybody knows of the issuer's key as the secret."""
    public = rsa_key.jwk()
    spelled = {
        "pem": rsa_key.public_pem(),
        "jwk": json.dumps(public).encode(),
        "der": base64.b64decode(b"".join(rsa_key.public_pem().splitlines()[1:-1])),
        "modulus": base64.urlsafe_b64decode(public["n"] + "=="),
    }[secret]
    text = f"{encoded({'alg': algorithm, 'kid': rsa_key.kid})}.{encoded(taker.issuer.claims())}"
    hmac = jwt.get_algorithm_by_name(algorithm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        token = f"{text}.{encoded(hmac.sign(text.encode(), spelled))}"
    await refused(taker, token)


async def test_an_issuer_that_publishes_a_shared_secret_makes_no_tokens_with_it(
    taker: Taker, ec_key: SigningKey
) -> None:
    secret = b"s" * 64
    taker.issuer.jwks = {"keys": [ec_key.jwk(), {"kty": "oct", "k": encoded(secret), "kid": "oct", "alg": "HS256"}]}
    for name in ("HS256", "ES256"):
        token = jwt.encode(taker.issuer.claims(), secret, algorithm="HS256", headers={"kid": "oct"})
        head = encoded({"alg": name, "kid": "oct"})
        await refused(taker, f"{head}.{token.partition('.')[2]}")


@pytest.mark.parametrize(
    ("published", "header"),
    [
        pytest.param({"alg": "PS256"}, {}, id="a key of another algorithm"),
        pytest.param({"use": "enc"}, {}, id="a key for encryption"),
        pytest.param({"key_ops": ["sign"]}, {}, id="a key for other operations"),
        pytest.param({}, {"alg": "RS384"}, id="an algorithm that is not accepted"),
        pytest.param({}, {"kid": "nobody's"}, id="a key that is not published"),
        pytest.param({}, {"kid": 7}, id="a key id that is a number"),
        pytest.param({}, {"typ": "logout+jwt"}, id="a token for another end"),
        pytest.param({}, {"crit": ["b64"]}, id="a critical header"),
        pytest.param({}, {"crit": ["b64"], "b64": False}, id="an unencoded payload"),
    ],
)
async def test_key_and_header_must_be_for_this_use(
    taker: Taker, rsa_key: SigningKey, ec_key: SigningKey, published: dict[str, Any], header: dict[str, Any]
) -> None:
    taker.issuer.jwks = {"keys": [rsa_key.jwk(**published), ec_key.jwk()]}
    await refused(taker, signed(rsa_key, {"alg": "RS256", "kid": rsa_key.kid} | header, taker.issuer.claims()))


async def test_keys_that_the_token_brings_along_are_not_looked_at(taker: Taker, ec_key: SigningKey) -> None:
    own = SigningKey(ec_key.kid)
    for header in ({"jwk": own.jwk()}, {"jku": f"{taker.issuer.url}/mine"}, {"x5u": f"{taker.issuer.url}/mine"}):
        await refused(taker, taker.issuer.token(own, header))
    assert "/mine" not in taker.issuer.asked


async def test_a_short_rsa_key_is_not_used(taker: Taker, ec_key: SigningKey) -> None:
    short = SigningKey("short", "RS256", bits=1024)
    taker.issuer.publish(short, ec_key)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        token = taker.issuer.token(short)
    await refused(taker, token)


async def test_a_token_without_a_key_id_is_taken_where_one_key_alone_fits(
    taker: Taker, rsa_key: SigningKey, ec_key: SigningKey
) -> None:
    token = signed(ec_key, {"alg": "ES256"}, taker.issuer.claims())
    assert await taker.tokens.authenticate(token) == ALICE
    taker.issuer.publish(ec_key, SigningKey("ec-2"))
    taker.configure()
    await refused(taker, token)


async def test_changed_and_swapped_parts_do_not_verify(taker: Taker, rsa_key: SigningKey, ec_key: SigningKey) -> None:
    token = taker.issuer.token(ec_key)
    head, body, signature = token.split(".")
    other = taker.issuer.token(ec_key, sub="mallory", role="admin").split(".")
    wider = encoded(taker.issuer.claims(role="admin"))
    for parts in ((head, wider, signature), (head, other[1], signature), (head, body, other[2]), (head, body, "")):
        await refused(taker, ".".join(parts))
    await refused(taker, ".".join((head, body, signature[:-4] + "AAAA")))


@pytest.mark.parametrize(
    "text", ["", ".", "..", "...", "a.b.c", "dgm_x", "é.é.é", "\ud800.a.b", "x" * 20_000, "a." * 9000, "[" * 300 + ".."]
)
async def test_what_is_no_token_is_refused(taker: Taker, text: str) -> None:
    await refused(taker, text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(
    header=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.sampled_from(["ES256", "ec-1", "JWT"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["alg", "kid", "typ"]), inner),
    ),
    body=st.binary(max_size=40),
    tail=st.text(max_size=8),
)
async def test_no_garbage_is_anything_but_unauthenticated(taker: Taker, header: Any, body: bytes, tail: str) -> None:
    await taker.keys.read()
    with pytest.raises(Unauthenticated):
        await taker.tokens.authenticate(f"{encoded(header)}.{encoded(body)}.{tail}", from_memory=True)


# --- as whom ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings_", "claims", "expected"),
    [
        pytest.param({}, {"role": "admin"}, ("ws_1", Role.ADMIN), id="role by its name"),
        pytest.param({}, {"role": ["viewer", "member", "x"]}, ("ws_1", Role.MEMBER), id="the highest of several"),
        pytest.param({}, {"workspace": ["ws_1"]}, ("ws_1", Role.MEMBER), id="a list of one workspace"),
        pytest.param(
            {"role_claim": "realm_access.roles", "roles": {"llm": Role.VIEWER}},
            {"realm_access": {"roles": ["other", "llm"]}},
            ("ws_1", Role.VIEWER),
            id="a path",
        ),
        pytest.param(
            {"role_claim": "https://example.com/role"},
            {"https://example.com/role": "viewer", "role": "admin"},
            ("ws_1", Role.VIEWER),
            id="a claim with dots in its name",
        ),
        pytest.param({"organisation": "org_1"}, {}, ("ws_1", Role.MEMBER), id="a workspace of the organisation"),
        pytest.param(
            {"organisation": "org_1", "roles": {"root": Role.ORG_ADMIN}},
            {"role": "root", "workspace": None},
            (None, Role.ORG_ADMIN),
            id="an organisation's admin",
        ),
    ],
)
async def test_claims_become_workspace_and_role(
    taker: Taker, ec_key: SigningKey, settings_: dict[str, Any], claims: dict[str, Any], expected: tuple[Any, Role]
) -> None:
    taker.configure(**settings_)
    found = await taker.tokens.authenticate(taker.issuer.token(ec_key, **claims))
    assert (found.workspace_id, found.role) == expected
    assert (found.org_id, found.key_id, found.user_id) == ("org_1", "jwt:alice", "jwt:alice")


@pytest.mark.parametrize(
    ("settings_", "claims"),
    [
        pytest.param({}, {"role": None}, id="no role"),
        pytest.param({}, {"role": "owner"}, id="a role that means nothing"),
        pytest.param({}, {"role": "org_admin"}, id="an organisation's admin by itself"),
        pytest.param({}, {"role": "ADMIN"}, id="a role in another case"),
        pytest.param({}, {"role": {"admin": True}}, id="a role that is an object"),
        pytest.param({"roles": {"boss": Role.ADMIN}}, {"role": "admin"}, id="a role that was given another name"),
        pytest.param({}, {"workspace": None}, id="no workspace"),
        pytest.param({}, {"workspace": ["ws_1", "ws_2"]}, id="several workspaces"),
        pytest.param({}, {"workspace": 1}, id="a workspace that is a number"),
        pytest.param({}, {"workspace": "ws_9"}, id="a workspace that does not exist"),
        pytest.param({"organisation": "org_1"}, {"workspace": "ws_2"}, id="a workspace of another organisation"),
        pytest.param({"role_claim": "a.b"}, {"a": "admin"}, id="a path that ends early"),
        pytest.param({}, {"sub": "x" * 121}, id="a subject that is too long"),
        pytest.param({}, {"sub": "a\nb"}, id="a subject with a line break"),
        pytest.param({}, {"sub": ""}, id="an empty subject"),
    ],
)
async def test_a_good_token_that_says_nothing_of_use_is_denied_and_its_values_are_not_told(
    taker: Taker, ec_key: SigningKey, settings_: dict[str, Any], claims: dict[str, Any]
) -> None:
    taker.configure(**settings_)
    with pytest.raises(PermissionDenied) as caught:
        await taker.tokens.authenticate(taker.issuer.token(ec_key, canary="value-canary", **claims))
    assert "owner" not in caught.value.message
    assert "canary" not in caught.value.message


# --- remembered ------------------------------------------------------------------------------------------------------


async def test_a_token_is_verified_once_and_known_until_it_expires(
    taker: Taker, ec_key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = 0
    real = jwt.decode

    def counted(*args: Any, **named: Any) -> Any:
        nonlocal verified
        verified += 1
        return real(*args, **named)

    monkeypatch.setattr(jwt, "decode", counted)
    expires = int(time.time()) + 300
    token = taker.issuer.token(ec_key, exp=expires)
    for _ in range(5):
        assert await taker.tokens.authenticate(token) == ALICE
    assert verified == 1
    taker.tokens._now = lambda: expires + 31.0
    await taker.tokens.authenticate(token)
    assert verified == 2, "the remembered one is over; PyJWT's own clock still takes it"


async def test_what_is_remembered_is_no_token_and_bounded(
    taker: Taker, ec_key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_VERIFIED", 10)
    tokens = [taker.issuer.token(ec_key, sub=f"u{number}") for number in range(30)]
    for token in tokens:
        await taker.tokens.authenticate(token)
    assert len(taker.tokens._verified) == 10
    assert {len(digest) for digest in taker.tokens._verified} == {32}


async def test_refused_tokens_are_not_remembered(taker: Taker, ec_key: SigningKey) -> None:
    for _ in range(5):
        await refused(taker, taker.issuer.token(ec_key, aud="another"))
    assert len(taker.tokens._verified) == 0


async def test_a_workspace_that_is_gone_is_gone_for_remembered_tokens_too(taker: Taker, ec_key: SigningKey) -> None:
    token = taker.issuer.token(ec_key)
    assert await taker.tokens.authenticate(token) == ALICE
    taker.snapshot.snapshot = msgspec.structs.replace(taker.snapshot.snapshot, workspaces={})
    with pytest.raises(PermissionDenied):
        await taker.tokens.authenticate(token)


async def test_the_log_says_why_and_never_what(
    taker: Taker, ec_key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    token = taker.issuer.token(ec_key, aud="another", sub="subject-canary")
    with caplog.at_level(logging.DEBUG, "dragoman.identity"):
        await refused(taker, token)
    assert "token refused: InvalidAudienceError" in caplog.text
    assert not any(part in caplog.text for part in (*token.split("."), "canary"))


def test_the_snapshot_of_these_tests_has_both_organisations(issuer: Issuer, taker: Taker) -> None:
    current: Snapshot = taker.snapshot.current()
    assert {workspace.org_id for workspace in current.workspaces.values()} == {"org_1", "org_2"}
