"""Where a call goes and as whom: the Gemini API with a key, Vertex AI with a bearer token."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

from server.core.errors import InvalidRequest, NotConfigured
from server.core.ports import ProviderTarget

BASE_URL: Final = "https://generativelanguage.googleapis.com/v1beta"

_VERTEX_HOST: Final = re.compile(r"(?:.*-)?aiplatform(?:\.[a-z0-9-]+\.rep)?\.googleapis\.com")
"""Global, regional and multi-regional (`aiplatform.eu.rep.googleapis.com`) hosts; python-genai, `_api_client.py`."""

_VERTEX_VERSION: Final = "/v1beta1"


class Place(msgspec.Struct, frozen=True):
    """One endpoint. base: URL without a trailing slash. vertex: whether it is Vertex AI and not the Gemini API."""

    base: str
    vertex: bool

    def model_url(self, model: str, verb: str) -> str:
        """The URL of a model's method. model: bare, or a resource name below the base (`models/x`, `tunedModels/x`,
        Vertex `publishers/meta/models/x` or `endpoints/123`). Raises InvalidRequest for a name that leaves it."""
        resource = model if "/" in model else f"models/{model}"
        if self.vertex and resource.startswith("models/"):
            resource = f"publishers/google/{resource}"
        segments = resource.split("/")
        if any(segment in ("", ".", "..") for segment in segments):
            raise InvalidRequest.field("model", "must be a model's name or resource name")
        return f"{self.base}/{'/'.join(quote(segment, safe='') for segment in segments)}:{verb}"

    @property
    def models_url(self) -> str:
        """Vertex lists the publisher's models outside of projects, and only in v1beta1."""
        if not self.vertex:
            return f"{self.base}/models"
        parts = urlsplit(self.base)
        return f"{parts.scheme}://{parts.netloc}{_VERTEX_VERSION}/publishers/google/models"

    def file_uri(self, file_id: str) -> str:
        """What `fileData` takes for an uploaded file: its URI, or its name (`files/x` or bare)."""
        if ":" in file_id:
            return file_id
        return f"{self.base}/{file_id if file_id.startswith('files/') else f'files/{file_id}'}"


def place_of(target: ProviderTarget) -> Place:
    """The endpoint of a target: the Gemini API's own by default; one without a path gets the API's version.

    Vertex is told by its host, or by a path that names a project (a private endpoint). Raises NotConfigured for a
    Vertex endpoint without one.
    """
    if target.endpoint is None:
        return Place(BASE_URL, vertex=False)
    parts = urlsplit(target.endpoint)
    path = parts.path.rstrip("/").removesuffix("/models").removesuffix("/publishers/google")
    host = (parts.hostname or "").rstrip(".").lower()
    vertex = "/projects/" in path or _VERTEX_HOST.fullmatch(host) is not None
    if vertex and "/projects/" not in path:
        raise NotConfigured(
            "The configuration for Vertex AI needs an endpoint with project and location: "
            "https://{location}-aiplatform.googleapis.com/v1beta1/projects/{project}/locations/{location}."
        )
    if vertex and path.startswith("/projects/"):
        path = _VERTEX_VERSION + path
    if not vertex and not path:
        path = "/v1beta"
    return Place(f"{parts.scheme}://{parts.netloc}{path}", vertex)


def credentials(target: ProviderTarget, place: Place) -> tuple[tuple[str, str], ...]:
    """The header that carries the secret; never a query parameter, which would be logged on the way."""
    if target.secret is None:
        raise NotConfigured(f"The configuration for {'Vertex AI' if place.vertex else 'Gemini'} has no secret.")
    secret = target.secret.reveal()
    return (("authorization", f"Bearer {secret}"),) if place.vertex else (("x-goog-api-key", secret),)
