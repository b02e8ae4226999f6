"""StatusService: the REST probes."""

from __future__ import annotations

from dragoman.v1 import status_service_pb2 as pb
from dragoman.v1.status_service_pb2_grpc import StatusServiceServicer
from server.core.errors import Unavailable
from server.core.snapshot import SnapshotSource
from server.rpc.health import Lifecycle


class Status(StatusServiceServicer):
    """Serves the contract's StatusService. version: of the server."""

    def __init__(self, lifecycle: Lifecycle, snapshots: SnapshotSource, version: str) -> None:
        self._lifecycle = lifecycle
        self._snapshots = snapshots
        self._version = version

    async def GetLiveness(self, request: pb.GetLivenessRequest, context: object) -> pb.GetLivenessResponse:  # noqa: ARG002, N802
        return pb.GetLivenessResponse(status="ok", version=self._version)

    async def GetReadiness(self, request: pb.GetReadinessRequest, context: object) -> pb.GetReadinessResponse:  # noqa: ARG002, N802
        phase = self._lifecycle.phase
        if phase != "serving":
            raise Unavailable(f"The gateway is {phase}.", metadata={"state": phase})
        try:
            revision = self._snapshots.current().revision
        except Unavailable as error:
            raise Unavailable(
                error.message, action=error.action, metadata={**error.metadata, "state": "no_store"}
            ) from error
        return pb.GetReadinessResponse(status="degraded" if self._snapshots.stale else "ok", revision=revision)
