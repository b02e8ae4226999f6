"""Where Bedrock is: the data plane that answers, the control plane that lists models, and the region of both."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from server.core.errors import InvalidRequest, NotConfigured
from server.core.ports import ProviderTarget

DEFAULT_REGION: Final = "us-east-1"
"""Without an endpoint, and for the signature where the endpoint's host names no region (a proxy, a test server)."""

_AWS_HOST: Final = re.compile(
    r"(?P<vpce>vpce-[a-z0-9-]+\.)?bedrock(?P<plane>-runtime|-mantle)?(?P<fips>-fips)?"
    r"\.(?P<region>[a-z0-9-]+)\.(?:vpce\.)?(?P<suffix>amazonaws\.com(?:\.cn)?|api\.aws)"
)
"""Public, FIPS, dual-stack and VPC hosts (docs.aws.amazon.com/general/latest/gr/bedrock.html, botocore endpoint
rules)."""


class Place(msgspec.Struct, frozen=True):
    """runtime, control: base URLs without a trailing slash. region: what signatures are made for."""

    runtime: str
    control: str
    region: str

    def model_url(self, model: str, operation: str) -> str:
        """`{runtime}/model/{model}/{operation}`, the model as one path segment: ARNs hold slashes and colons."""
        if model.strip(".") == "":
            raise InvalidRequest.field("model", "is not a model id")
        return f"{self.runtime}/model/{quote(model, safe='')}/{operation}"


def place(target: ProviderTarget) -> Place:
    """The place that a configuration's endpoint means. Raises NotConfigured for one that does not speak Converse."""
    if target.endpoint is None:
        return _public(DEFAULT_REGION, "", "amazonaws.com")
    parts = urlsplit(target.endpoint)
    found = _AWS_HOST.fullmatch((parts.hostname or "").lower())
    if found is None:
        base = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        return Place(base, base, DEFAULT_REGION)
    if found["plane"] == "-mantle":
        raise NotConfigured(
            "The endpoint of the configuration for Bedrock is bedrock-mantle, which does not speak Converse.",
            action=f"Set it to https://bedrock-runtime.{found['region']}.amazonaws.com.",
        )
    public = _public(found["region"], found["fips"] or "", found["suffix"])
    if found["vpce"] is None:
        return public
    return msgspec.structs.replace(public, runtime=f"{parts.scheme}://{parts.netloc}")


def _public(region: str, fips: str, suffix: str) -> Place:
    return Place(f"https://bedrock-runtime{fips}.{region}.{suffix}", f"https://bedrock{fips}.{region}.{suffix}", region)
