"""Models in Anthropic's form (platform.claude.com/docs/en/api/models-list)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from server.core.errors import InvalidRequest
from server.core.routing import WorkspaceModel

DEFAULT_LIMIT: Final = 20
"""Models on a page that was asked for without a limit, as the API has it."""

UNKNOWN_TIME: Final = "1970-01-01T00:00:00Z"
"""Its own word for a release date that is unknown: "may be set to an epoch value"."""


def model(listed: WorkspaceModel) -> dict[str, Any]:
    """One model. The limits: null where unpublished."""
    info = listed.info
    return {
        "type": "model",
        "id": info.id,
        "display_name": info.name,
        "created_at": UNKNOWN_TIME,
        "max_input_tokens": info.context_tokens,
        "max_tokens": info.output_tokens,
    }


def page(models: Sequence[WorkspaceModel], *, limit: int, after: str, before: str) -> dict[str, Any]:
    """A page of the models, which are sorted by id. after, before: ids that it follows or precedes, "" for none.

    Raises InvalidRequest for both at once.
    """
    if after and before:
        raise InvalidRequest.field("before_id", "cannot be given together with after_id")
    found = [one for one in models if (not after or one.info.id > after) and (not before or one.info.id < before)]
    shown = found[-limit:] if before else found[:limit]
    return {
        "data": [model(one) for one in shown],
        "has_more": len(found) > len(shown),
        "first_id": shown[0].info.id if shown else None,
        "last_id": shown[-1].info.id if shown else None,
    }
