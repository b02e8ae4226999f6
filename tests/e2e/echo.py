"""A real server of the whole contract, by gRPC and at its edge. It does what a test tells it, and remembers what it was
asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from dragoman.v1 import llm_service_pb2, model_service_pb2, provider_config_service_pb2, status_service_pb2
from server.dev.envoy import Address
from server.rpc.edge.server import EdgeServer, MethodTable

FILES = (llm_service_pb2, model_service_pb2, provider_config_service_pb2, status_service_pb2)
HOST = "127.0.0.1"
NOWHERE = Address(HOST, 1)
"""Nothing listens there: port 1 is tcpmux, which nobody runs."""
LIMIT = 20 * 1024 * 1024
Context = Any
# A coroutine function for unary methods, an async generator function for streaming ones.
Handler = Callable[[Any, Context], Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One call as the server saw it."""

    method: str
    request: Any
    metadata: dict[str, str]


@dataclass
class Echo:
    """What the server does by method name (default: an empty answer, an empty stream), and what came."""

    grpc: Address = NOWHERE
    edge: Address = NOWHERE
    handlers: dict[str, Handler] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    called: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def last(self) -> Call:
        return self.calls[-1]

    def reset(self) -> None:
        """Forget handlers and calls."""
        self.handlers.clear()
        self.calls.clear()
        self.called.clear()
        self.cancelled.clear()


def fails(code: grpc.StatusCode, message: str, *details: Message, **trailing: str) -> Handler:
    """A unary handler that fails. details: google.rpc messages; trailing: more trailing metadata (a_b is a-b)."""

    async def fail(_request: object, context: Context) -> None:
        metadata: list[tuple[str, str | bytes]] = [(key.replace("_", "-"), value) for key, value in trailing.items()]
        if details:
            packed = []
            for one in details:
                packed.append(AnyMessage())
                packed[-1].Pack(one)
            status = status_pb2.Status(code=code.value[0], message=message, details=packed)
            metadata += rpc_status.to_status(status).trailing_metadata
        await context.abort(code, message, tuple(metadata))

    return fail


def fails_streaming(*arguments: Any, **options: Any) -> Handler:
    """`fails` for a streaming method: before its first message."""
    fail = fails(*arguments, **options)

    async def stream(request: object, context: Context) -> AsyncIterator[object]:
        yield await fail(request, context)  # never yields: abort raises

    return stream


@contextmanager
def echo_server() -> Iterator[Echo]:
    """Run the server on a free port, in a thread and event loop of its own."""
    echo = Echo()
    started = threading.Event()
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        server, edge = await _start(echo)
        started.set()
        await done.wait()
        await server.stop(None)
        await edge.stop(None)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(10), "the echo server did not start"
    try:
        yield echo
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()


async def _start(echo: Echo) -> tuple[grpc.aio.Server, EdgeServer]:
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", LIMIT), ("grpc.max_send_message_length", LIMIT)]
    )
    names = []
    table = MethodTable()
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            handlers = {method.name: _handler(echo, method) for method in service.methods}
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service.full_name, handlers)])
            table.add_registered_method_handlers(service.full_name, handlers)
            names.append(service.full_name)
    servicer = health.aio.HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
    echo.grpc = Address(HOST, server.add_insecure_port(f"{HOST}:0"))
    await server.start()
    edge = EdgeServer(table.methods, max_message_bytes=LIMIT)
    echo.edge = Address(HOST, await edge.start(HOST, 0))
    return server, edge


def _handler(echo: Echo, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
    request_class = message_factory.GetMessageClass(method.input_type)
    answer_class = message_factory.GetMessageClass(method.output_type)

    def note(request: Any, context: Context) -> None:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        echo.calls.append(Call(method.name, request, metadata))
        echo.called.set()

    async def unary(request: Any, context: Context) -> Any:
        note(request, context)
        handler: Callable[..., Awaitable[Any]] | None = echo.handlers.get(method.name)
        try:
            return await handler(request, context) if handler else answer_class()
        except asyncio.CancelledError:
            echo.cancelled.set()
            raise

    async def stream(request: Any, context: Context) -> None:
        note(request, context)
        handler = echo.handlers.get(method.name)
        try:
            if handler:
                async for message in handler(request, context):
                    await context.write(message)
        except asyncio.CancelledError:
            echo.cancelled.set()
            raise

    make = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
    return make(
        stream if method.server_streaming else unary,
        request_deserializer=request_class.FromString,
        response_serializer=answer_class.SerializeToString,
    )
