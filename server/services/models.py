"""The models of a workspace: list them, get one, and find out where a call of one goes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

from server.core.access import permits
from server.core.catalog import Catalog, ModelKind
from server.core.errors import NotFound, PermissionDenied, ProviderModelNotFound
from server.core.routing import Route, WorkspaceModel, WorkspaceModels, with_candidates
from server.core.snapshot import SnapshotSource


def require_allowed(allowed: Sequence[str], *ids: str) -> None:
    """Raises PermissionDenied unless a key with this list of models may call the one with these ids."""
    if allowed and not permits(allowed, *ids):
        raise PermissionDenied(
            f"The key may not call the model {ids[0]}.",
            action="Call one of the models that the key is for, or use another key.",
            metadata={"model": ids[0], "allowed_models": ",".join(allowed)},
        )


class ModelService:
    """Use cases on models. No I/O: everything is answered from the snapshot and the catalogue.

    What a workspace can call is worked out once and kept until its configurations or settings change, for the
    `max_workspaces` that were used last.
    """

    def __init__(self, snapshot: SnapshotSource, catalog: Catalog, *, max_workspaces: int = 1024) -> None:
        self._snapshot = snapshot
        self._catalog = catalog
        self._max_workspaces = max_workspaces
        self._kept: OrderedDict[str, tuple[int, WorkspaceModels]] = OrderedDict()

    def list(
        self,
        workspace_id: str,
        kind: ModelKind | None = None,
        *,
        limit: int | None = None,
        after: str | None = None,
        allowed: Sequence[str] = (),
    ) -> Sequence[WorkspaceModel]:
        """The workspace's models sorted by id, at most `limit`, from the id that follows `after`.

        allowed: patterns of the only models to list, () for all. Raises NotFound for an unknown workspace, Unavailable
        while there is no snapshot.
        """
        models = self._of(workspace_id).models
        wanted = (
            model
            for id, model in models.items()
            if kind in (None, model.info.kind)
            and (after is None or id > after)
            and (not allowed or permits(allowed, *model.ids()))
        )
        return tuple(islice(wanted, limit))

    def get(self, workspace_id: str, id: str, *, allowed: Sequence[str] = ()) -> WorkspaceModel:
        """One model by id, alias or unambiguous bare name.

        Raises UnknownModel (near names in `metadata["candidates"]`), AmbiguousModel, PermissionDenied where `allowed`
        does not have it, and as `list` does.
        """
        model = self._of(workspace_id).get(id)
        require_allowed(allowed, *model.ids())
        return model

    def resolve(
        self,
        workspace_id: str,
        model: str = "",
        provider: str | None = None,
        provider_name: str | None = None,
        *,
        legacy: bool = False,
        kind: ModelKind = "chat",
    ) -> Route:
        """Where a call goes that names its model so; the rules and errors are those of `server.core.routing`.

        A microsecond for words that were seen before. Raises as `WorkspaceModels.resolve` and `list` do.
        """
        return self._of(workspace_id).resolve(model, provider, provider_name, legacy=legacy, kind=kind)

    def near(self, workspace_id: str, name: str, n: int = 3) -> Sequence[str]:
        """Ids of the workspace's models with near names, nearest first. Milliseconds: for errors only."""
        return self._of(workspace_id).near(name, n)

    def explain(self, workspace_id: str, route: Route, error: ProviderModelNotFound) -> ProviderModelNotFound:
        """The provider's "no such model", with near names added.

        A model that the catalogue does not know is sent to its provider as it is, so a typo is found out there.
        """
        near = [id for id in self.near(workspace_id, route.id) if id != route.id]
        return with_candidates(error, near)

    def _of(self, workspace_id: str) -> WorkspaceModels:
        snapshot = self._snapshot.current()
        kept = self._kept.get(workspace_id)
        if kept is not None and kept[0] == snapshot.revision:
            self._kept.move_to_end(workspace_id)
            return kept[1]
        workspace = snapshot.workspaces.get(workspace_id)
        if workspace is None:
            self._kept.pop(workspace_id, None)
            raise NotFound("No such workspace.")
        configs = snapshot.configs.get(workspace_id, ())
        models = kept[1] if kept else None
        # Most revisions are about other workspaces: what did not change stays, with its memo.
        if models is None or models.workspace != workspace or models.configs != configs:
            models = WorkspaceModels(workspace, configs, self._catalog)
        self._kept[workspace_id] = (snapshot.revision, models)
        self._kept.move_to_end(workspace_id)
        if len(self._kept) > self._max_workspaces:
            self._kept.popitem(last=False)
        return models
