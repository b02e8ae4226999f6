"""A request as it stands on the wire: where it goes, and its head."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from server.providers.http import HttpRequest

_URL: Final = re.compile(r"(https?)://[^\s/?#@\\]+([/?][!-~]*)?", re.ASCII | re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Target:
    """Where a request goes.

    host: lower case, without brackets; what is looked up and what the certificate is checked against. path: what stands
    in the request line, not normalised. Raises ValueError for what is no usable http(s) URL.
    """

    __slots__ = ("host", "host_header", "path", "port", "tls")

    def __init__(self, url: str) -> None:
        found = _URL.fullmatch(url)
        if found is None or not url.isascii():
            raise ValueError("not an http(s) URL")
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        if ":" not in self.host and not all(0 < len(label) < 64 for label in self.host.removesuffix(".").split(".")):
            raise ValueError("a host that cannot be looked up")
        default = _DEFAULT_PORTS[parts.scheme]
        self.port = default if parts.port is None else parts.port
        self.tls = parts.scheme == "https"
        rest = (found[2] or "").partition("#")[0]
        self.path = rest if rest.startswith("/") else f"/{rest}"
        host = f"[{self.host}]" if ":" in self.host else self.host.removesuffix(".")
        self.host_header = host if self.port == default else f"{host}:{self.port}"


def head(request: HttpRequest, target: Target, user_agent: str) -> bytes:
    """The request's head as it goes on the wire.

    Raises ValueError for a line break or another control character in any part of it, and for what is no text.
    """
    lines = [f"{request.method} {target.path} HTTP/1.1"]
    names = set()
    for name, value in request.headers:
        names.add(name.lower())
        lines.append(f"{name}: {value}")
    if "host" not in names:
        lines.insert(1, f"host: {target.host_header}")
    if "accept-encoding" not in names:
        lines.append("accept-encoding: identity")
    if "user-agent" not in names:
        lines.append(f"user-agent: {user_agent}")
    if request.body or request.method != "GET":
        lines.append(f"content-length: {len(request.body)}")
    bare = "".join(lines)
    # Most heads are printable, which is quickly seen; only a tab or a rare character makes the second look needed.
    if not bare.isprintable() and _CONTROL.search(bare) is not None:
        raise ValueError("a control character in the head")
    lines.append("\r\n")
    return "\r\n".join(lines).encode()
