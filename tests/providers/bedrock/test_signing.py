"""Signatures: AWS's test suite, OpenAI's cases for Bedrock, and what a request of ours carries."""

from __future__ import annotations

import json
import logging
import re
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from server.core.errors import NotConfigured, ProviderError
from server.core.ports import ProviderTarget
from server.providers.bedrock.signing import AccessKey, authorization
from server.providers.http import HttpRequest
from tests.providers.bedrock.support import API_KEY, KEY_ID, NOW, SECRET_KEY, TOKEN, build, target, wire
from tests.providers.conformance import fixtures_root

VECTORS = fixtures_root() / "_vectors" / "sigv4"
SUITE = sorted((VECTORS / "aws4_testsuite").rglob("*.req"))
STAMP = "20270115T080000Z"

needs_vectors = pytest.mark.skipif(not SUITE, reason=f"no vectors at {VECTORS} (DRAGOMAN_WIRE_FIXTURES)")


def request_of(text: str) -> HttpRequest:
    """A request as it stands in a file: folded header lines are one, and the query is encoded, as in every URL of
    ours."""
    head, _, body = text.partition("\n\n")
    line, *lines = re.sub(r"\n\s+", " ", head.strip("\n")).split("\n")
    method, _, place = line.removesuffix(" HTTP/1.1").partition(" ")
    path, mark, query = place.partition("?")
    headers = tuple((name, value) for name, _, value in (line.partition(":") for line in lines))
    url = f"https://example.amazonaws.com{path}{mark}{quote(query, safe='=&%-_.~')}"
    return HttpRequest(method, url, headers, body.encode())


@needs_vectors
@pytest.mark.parametrize("file", SUITE or [Path("none")], ids=lambda path: path.stem)
def test_the_test_suite_of_aws(file: Path) -> None:
    """Each request gets the Authorization header that stands beside it; one has the token's header from its sent
    form."""
    key = AccessKey("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    form = ".sreq" if file.stem == "get-vanilla-with-session-token" else ".req"
    request = request_of(file.with_suffix(form).read_text("utf-8"))
    sent = tuple(header for header in request.headers if header[0] != "Authorization")
    request = HttpRequest(request.method, request.url, sent, request.body)
    signed = authorization(request, key, stamp="20150830T123600Z", region="us-east-1", service="service")
    assert signed == file.with_suffix(".authz").read_text().strip()


def _openai_cases() -> list[dict[str, Any]]:
    file = VECTORS / "openai-bedrock-auth-cases.json"
    cases = json.loads(file.read_text())["cases"] if file.exists() else []
    return [case for case in cases if case["kind"] == "sigv4"]


@needs_vectors
@pytest.mark.parametrize("case", _openai_cases() or [{}], ids=lambda case: str(case.get("id")))
def test_the_cases_of_openai_for_bedrock(case: dict[str, Any]) -> None:
    """With a permanent and with a temporary key."""
    given, expected = case["given"], case["expected"]["headers"]
    credentials, signing, request = given["credentials"], given["signing"], given["request"]
    named = [(name, expected[name]) for name in expected if name != "authorization"]
    signed = authorization(
        HttpRequest(
            request["method"],
            request["url"],
            (*((name, value) for name, value in request["headers"].items() if name != "host"), *named),
            b64decode(request["body_base64"]),
        ),
        AccessKey(credentials["access_key_id"], credentials["secret_access_key"], credentials.get("session_token")),
        stamp=expected["x-amz-date"],
        region=signing["region"],
        service=signing["service"],
    )
    assert signed == expected["authorization"]


@needs_vectors
def test_the_mantle_vector_of_openai() -> None:
    """The same signature through other names."""
    case = json.loads((VECTORS / "openai-bedrock-mantle-sigv4.json").read_text())
    credentials, request, expected = case["credentials"], case["request"], case["expected"]
    headers = (
        ("content-type", request["contentType"]),
        ("x-amz-date", expected["date"]),
        ("x-amz-content-sha256", expected["payloadHash"]),
        ("x-amz-security-token", credentials["sessionToken"]),
    )
    key = AccessKey(credentials["accessKeyId"], credentials["secretAccessKey"], credentials["sessionToken"])
    signed = authorization(
        HttpRequest(request["method"], request["url"], headers, request["body"].encode()),
        key,
        stamp=expected["date"],
        region=case["region"],
        service=case["service"],
    )
    assert signed == expected["authorization"]


def unsigned(request: HttpRequest) -> HttpRequest:
    """What the signature is of."""
    kept = tuple(header for header in request.headers if header[0] not in ("authorization", "accept"))
    return HttpRequest(request.method, request.url, kept, request.body)


def headers_of(to: ProviderTarget, **fields: Any) -> dict[str, str]:
    return dict(build(to=to, **fields).http.headers)


def test_an_api_key_is_a_bearer_token() -> None:
    """`secret` alone: nothing is signed."""
    headers = headers_of(target())
    assert headers["authorization"] == f"Bearer {API_KEY}"
    assert not [name for name in headers if name.startswith("x-amz-")]


def test_an_access_key_signs_by_the_given_clock() -> None:
    """Date, scope and signed headers; the same request gives the same signature, another body another."""
    to = target(secret=SECRET_KEY, key=KEY_ID, endpoint="https://bedrock-runtime.eu-central-1.amazonaws.com")
    headers = headers_of(to)
    assert headers["x-amz-date"] == STAMP
    assert headers["authorization"].startswith(
        f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20270115/eu-central-1/bedrock/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date, Signature="
    )
    assert headers_of(to) == headers
    assert headers_of(to, temperature=0.5)["authorization"] != headers["authorization"]


def test_a_temporary_key_carries_its_session_token() -> None:
    """`SECRET:TOKEN`: the token is a signed header, and the secret is what stands before the colon."""
    headers = headers_of(target(secret=f"{SECRET_KEY}:{TOKEN}", key="ASIAEXAMPLE"))
    assert headers["x-amz-security-token"] == TOKEN
    assert "x-amz-security-token" in headers["authorization"]
    request = unsigned(build(to=target(secret=f"{SECRET_KEY}:{TOKEN}", key="ASIAEXAMPLE")).http)
    key = AccessKey("ASIAEXAMPLE", SECRET_KEY, TOKEN)
    assert headers["authorization"] == authorization(request, key, stamp=STAMP, region="us-east-1")


def test_the_model_is_encoded_once_in_the_path_and_twice_in_the_signature() -> None:
    """`:` is %3A on the wire; the canonical request has %253A, as AWS computes it from the path that it gets."""
    to = target(secret=SECRET_KEY, key=KEY_ID)
    request = build(to=to, model="amazon.nova-lite-v1:0").http
    assert request.url.endswith("/model/amazon.nova-lite-v1%3A0/converse")
    draft = AWSRequest(method=request.method, url=request.url, data=request.body)
    canonical = SigV4Auth(AccessKey(KEY_ID, SECRET_KEY), "bedrock", "us-east-1").canonical_request(draft)
    assert canonical.startswith("POST\n/model/amazon.nova-lite-v1%253A0/converse\n\n")
    signed = authorization(unsigned(request), AccessKey(KEY_ID, SECRET_KEY), stamp=STAMP, region="us-east-1")
    assert dict(request.headers)["authorization"] == signed


@pytest.mark.parametrize(
    ("secret", "key", "said"),
    [
        (None, None, "no credential"),
        (None, KEY_ID, "no credential"),
        (SECRET_KEY, "ASIAEXAMPLE", "session token"),
        (f":{TOKEN}", KEY_ID, "without its secret"),
    ],
)
def test_half_a_credential_is_not_configured(secret: str | None, key: str | None, said: str) -> None:
    """Before anything is sent, and without showing what there is."""
    with pytest.raises(NotConfigured, match=said) as caught:
        build(to=target(secret=secret, key=key))
    assert "canary" not in f"{caught.value.message}{caught.value.action}"


def test_spaces_around_a_pasted_credential_do_not_matter() -> None:
    """No credential of AWS holds one."""
    assert headers_of(target(secret=f" {API_KEY}\n"))["authorization"] == f"Bearer {API_KEY}"


def test_no_part_of_a_credential_comes_back_in_an_error() -> None:
    """A refused signature repeats the canonical request, session token included."""
    to = target(secret=f"{SECRET_KEY}:{TOKEN}", key="ASIAEXAMPLE")
    echo = f"The Canonical String for this request should have been 'POST x-amz-security-token:{TOKEN} {SECRET_KEY}'"
    error = wire().map_error(to, 403, {}, json.dumps({"message": echo}).encode())
    assert isinstance(error, ProviderError)
    assert "canary" not in (error.provider_message or "")
    assert "***" in (error.provider_message or "")


def test_no_part_of_a_credential_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """botocore's own way of signing would write the canonical request to the debug log."""
    with caplog.at_level(logging.DEBUG):
        build(to=target(secret=f"{SECRET_KEY}:{TOKEN}", key="ASIAEXAMPLE"))
    assert "canary" not in caplog.text


def test_a_list_of_models_is_signed_too() -> None:
    """The control plane has the same signing name."""
    request = wire().build_list_models(target(secret=SECRET_KEY, key=KEY_ID))
    headers = dict(request.headers)
    assert (request.method, headers["x-amz-date"], NOW) == ("GET", STAMP, 1_800_000_000.0)
    assert "/us-east-1/bedrock/aws4_request" in headers["authorization"]
    assert headers["accept"] == "application/json"
