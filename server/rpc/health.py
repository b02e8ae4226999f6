"""Whether the server takes calls: one truth for grpc.health.v1 and for the REST probes of StatusService."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

Phase = Literal["starting", "serving", "draining"]


class Lifecycle:
    """The phases of a server's life, in this order. `services`: full names that the health service answers for, besides
    the server as a whole."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = ("", *services)
        self.servicer = health_aio.HealthServicer()
        self.phase: Phase = "starting"

    async def start(self) -> None:
        """Not serving yet. Before the server listens: the health servicer itself begins as serving."""
        self.phase = "starting"
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def serve(self) -> None:
        """Takes calls from now on."""
        self.phase = "serving"
        await self._set(health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Takes no further calls, for good: load balancers look elsewhere while running ones finish."""
        self.phase = "draining"
        await self.servicer.enter_graceful_shutdown()

    async def _set(self, status: Any) -> None:
        for service in self._services:
            await self.servicer.set(service, status)
