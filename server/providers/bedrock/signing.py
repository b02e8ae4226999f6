"""As whom Bedrock is called: an API key as a bearer token, or an AWS access key that signs each request (SigV4).

botocore makes the signature. Its `add_auth` is passed by: that one reads the machine's clock and writes the canonical
request, session token included, to the debug log.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from server.core.errors import NotConfigured
from server.core.ports import ProviderTarget
from server.providers.http import HttpRequest

SERVICE: Final = "bedrock"
"""The signing name of both planes (botocore bedrock/2023-04-20 and bedrock-runtime/2023-09-30 service-2.json)."""

TEMPORARY_PREFIX: Final = "ASIA"
"""How the id of a temporary access key begins (IAM user guide, "Unique identifiers")."""

_COLON: Final = ":"


class AccessKey:
    """An AWS access key in the form that botocore's signer takes. No repr of its own, so that none shows it.

    token: of a temporary key, else None.
    """

    __slots__ = ("access_key", "secret_key", "token")

    def __init__(self, access_key: str, secret_key: str, token: str | None = None) -> None:
        self.access_key = access_key
        self.secret_key = secret_key
        self.token = token


def access_key(target: ProviderTarget) -> AccessKey | None:
    """The access key of a configuration that has `key` and `secret`; None for an API key, which is `secret` alone.

    A temporary key has its session token behind the secret, `SECRET:TOKEN`: a colon is in neither of the two. Raises
    NotConfigured where a part is missing.
    """
    if target.secret is None:
        raise NotConfigured("The configuration for Bedrock has no credential.")
    if target.key is None:
        return None
    key = target.key.reveal().strip()
    secret, _, token = target.secret.reveal().strip().partition(_COLON)
    if not key or not secret:
        raise NotConfigured("The configuration for Bedrock has an access key id without its secret access key.")
    if key.startswith(TEMPORARY_PREFIX) and not token:
        raise NotConfigured(
            "The configuration for Bedrock has a temporary access key (ASIA...) without its session token.",
            action="Store the secret as SECRET_ACCESS_KEY:SESSION_TOKEN, or use a permanent key or a Bedrock API key.",
        )
    return AccessKey(key, secret, token or None)


def authorized(request: HttpRequest, target: ProviderTarget, *, region: str, now: float) -> HttpRequest:
    """The request with its credential. Headers that it has already are signed, so a proxy must leave them alone.

    now: seconds since the epoch; AWS refuses a signature that is more than five minutes off.
    """
    key = access_key(target)
    if key is None:
        secret = target.secret.reveal().strip() if target.secret is not None else ""
        return _with(request, ("authorization", f"Bearer {secret}"))
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    request = _with(request, ("x-amz-date", stamp), ("x-amz-content-sha256", sha256(request.body).hexdigest()))
    if key.token is not None:
        request = _with(request, ("x-amz-security-token", key.token))
    return _with(request, ("authorization", authorization(request, key, stamp=stamp, region=region)))


def authorization(request: HttpRequest, key: AccessKey, *, stamp: str, region: str, service: str = SERVICE) -> str:
    """The Authorization header for exactly this request: its method, URL, headers and body.

    stamp: its x-amz-date. The canonical path is the URL's own, encoded once more ("Create a signed AWS API request",
    step 1: every service but S3 encodes twice).
    """
    draft = AWSRequest(method=request.method, url=request.url, data=request.body)
    draft.context["timestamp"] = stamp
    for name, value in request.headers:
        draft.headers[name] = value
    signer = SigV4Auth(key, service, region)
    canonical = signer.canonical_request(draft)
    signature = signer.signature(signer.string_to_sign(draft, canonical), draft)
    names = signer.signed_headers(signer.headers_to_sign(draft))
    return f"AWS4-HMAC-SHA256 Credential={signer.scope(draft)}, SignedHeaders={names}, Signature={signature}"


def hide(text: str, target: ProviderTarget) -> str:
    """The text without any part of the credential: a refused signature comes back with the canonical request, session
    token included. What is stored is known to the frame only as a whole."""
    for stored in (target.secret, target.key):
        for part in stored.reveal().split(_COLON) if stored is not None else ():
            if len(part.strip()) >= 4:
                text = text.replace(part.strip(), "***")
    return text


def _with(request: HttpRequest, *headers: tuple[str, str]) -> HttpRequest:
    return msgspec.structs.replace(request, headers=(*request.headers, *headers))
