"""What the RPC layer asks of a call's context: gRPC's own has it, and so has that of a call which the proxy brings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, NoReturn, Protocol

import grpc

Metadata = Sequence[tuple[str, str | bytes]]

MESSAGE_BYTES: Final[ContextVar[int]] = ContextVar("message_bytes", default=0)
"""Of the message of the call that runs, from where it is decoded, in the call's own task, to where it is counted: the
message itself would have to be encoded again to know them."""


class CallContext(Protocol):
    """The part of `grpc.aio.ServicerContext` that this project uses, as it is documented there."""

    def invocation_metadata(self) -> Any:
        """Pairs of lower-case names and values; None for none."""
        ...

    def time_remaining(self) -> float | None: ...

    def peer(self) -> str: ...

    def auth_context(self) -> Mapping[str, Iterable[bytes]] | None: ...

    def code(self) -> Any: ...

    async def send_initial_metadata(self, initial_metadata: Metadata) -> None: ...

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None: ...

    async def write(self, message: Any) -> None: ...

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn: ...
