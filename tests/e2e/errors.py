"""What every REST error looks like, whoever raised it."""

from __future__ import annotations

from typing import Any

import grpc
import httpx

TYPE = "type.googleapis.com/google.rpc."
CODES = {code.value[0]: code.name for code in grpc.StatusCode}


def error_of(response: httpx.Response, http: int, status: str) -> dict[str, Any]:
    """The error object of a response, held against the shape of all errors, the HTTP status and the status' name."""
    assert response.status_code == http, response.text
    assert response.headers["content-type"] == "application/json"
    error: dict[str, Any] = response.json()
    assert set(error) == {"success", "code", "status", "message", "details"}
    assert error["success"] is False
    assert error["status"] == status == CODES[error["code"]]
    assert isinstance(error["message"], str)
    assert isinstance(error["details"], list)
    assert int(response.headers["content-length"]) == len(response.content)
    return error


def detail(error: dict[str, Any], kind: str) -> dict[str, Any]:
    """The one detail of a kind (a message name in google.rpc), without its type."""
    (found,) = [one for one in error["details"] if one["@type"] == TYPE + kind]
    return {name: value for name, value in found.items() if name != "@type"}
