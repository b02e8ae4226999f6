"""The one way into every RPC: authenticate, authorise, validate, run, turn errors into statuses, write one log line."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message

from server.core.access import Principal, Role
from server.core.errors import DragomanError, InternalError, InvalidRequest, PermissionDenied, Unauthenticated
from server.core.proxies import TrustedProxies
from server.rpc.access_log import AccessLine, AccessLog
from server.rpc.audit import Refusals, note_refusal, with_origin
from server.rpc.call import Call
from server.rpc.compat.errors import dialect_trailers
from server.rpc.context import MESSAGE_BYTES, CallContext
from server.rpc.errors import retry_after_header, to_status
from server.rpc.peers import Peers
from server.rpc.rules import RULES, Rule
from server.rpc.validation import RequestValidator
from server.services.limits import Slot

OWN_SERVICES = "/dragoman."
"""Methods that get a Call for their context; the others (health, reflection) were written for grpc's own."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_Behavior = Callable[[Any, Any], Any]


class Authenticator(Protocol):
    """Finds out whose key was presented."""

    async def authenticate(self, presented: str, address: str) -> Principal:
        """address: where it comes from. Raises Unauthenticated; LimitExceeded where the address has to wait;
        Unavailable when keys cannot be checked."""
        ...


class InFlight(Protocol):
    """Counts the calls that run; `server.services.limits.CallsInFlight`."""

    def enter(self, caller: Principal, size: int = 0) -> Slot:
        """size: bytes of the call's message. Raises LimitExceeded."""
        ...

    def leave(self, slot: Slot) -> None: ...


class Undecodable:
    """Stands for a request whose bytes are not its message."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each method once, when it is first called.

    in_flight: bounds the calls of a key and a workspace; None for no bounds. refusals: where attempts are noted that
    were denied. proxies: whose word counts for where a call came from; None for the loopback's. now: a clock for
    durations, in seconds.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        validator: RequestValidator,
        refusals: Refusals | None = None,
        rules: Mapping[str, Rule] = RULES,
        *,
        in_flight: InFlight | None = None,
        proxies: TrustedProxies | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._authenticator = authenticator
        self._validator = validator
        self._refusals = refusals
        self._in_flight = in_flight
        self._peers = Peers(proxies or TrustedProxies())
        self._rules = rules
        self._now = now
        self._access_log = AccessLog()
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The method's wrapped handler; what `continuation` says (None) for a method that does not exist."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self.wrap(method, handler)
        return wrapped

    # --- wrapping a method, once --------------------------------------------------------------------------------------

    def wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """A method's handler with all that comes before and after it, for any CallContext."""
        decode, encode = handler.request_deserializer, handler.response_serializer
        if handler.unary_unary:
            unary = self._runner(method, handler.unary_unary)
            return grpc.unary_unary_rpc_method_handler(unary, _lenient(decode), encode)
        if handler.unary_stream:
            stream = self._runner(method, _writing(handler.unary_stream))
            return grpc.unary_stream_rpc_method_handler(stream, _lenient(decode), encode)
        if handler.stream_stream:
            stream = self._runner(method, _writing(handler.stream_stream))
            return grpc.stream_stream_rpc_method_handler(stream, decode, encode)
        unary = self._runner(method, handler.stream_unary)
        return grpc.stream_unary_rpc_method_handler(unary, decode, encode)

    def _runner(self, method: str, behavior: _Behavior) -> Any:
        rule = self._rules.get(method)
        own = method.startswith(OWN_SERVICES)
        level = logging.DEBUG if rule == "public" else logging.INFO

        async def call_method(request: Any, context: CallContext) -> Any:
            began = self._now()
            metadata = context.invocation_metadata() or ()
            call = _new_call(method, context, metadata, self._peers)
            slot: Slot | None = None
            try:
                await self._identify(call, metadata, rule)
                if call.principal is not None and self._in_flight is not None:
                    slot = self._in_flight.enter(call.principal, MESSAGE_BYTES.get())
                self._check(request)
                result = await behavior(request, call if own else context)
                if call.trailing:
                    context.set_trailing_metadata(tuple(call.trailing))
            except grpc.aio.AbortError:
                call.code = context.code()
                raise
            except asyncio.CancelledError:
                call.code = grpc.StatusCode.CANCELLED
                raise
            except grpc.aio.InternalError as error:  # a write to a call that is over; the cancellation is on its way
                call.code = grpc.StatusCode.CANCELLED
                raise asyncio.CancelledError from error
            except Exception as error:  # the last place before the wire: nothing may pass untranslated
                failure = call.fail(error)
                if self._refusals is not None:
                    note_refusal(self._refusals, call, request, failure)
                _forget_frames(error)
                await self._abort(call, failure)
                raise  # not reached: abort raises
            finally:
                if slot is not None and self._in_flight is not None:
                    self._in_flight.leave(slot)
                self._log(level, call, self._now() - began)
                del request  # for the same reason as `_forget_frames`: this frame stays as well
            return result

        return call_method

    # --- each call ----------------------------------------------------------------------------------------------------

    async def _identify(self, call: Call, metadata: Any, rule: Rule | None) -> None:
        if rule is None:
            raise InternalError("The method has no access rule.")
        if isinstance(rule, Role):
            key = presented_key(metadata)
            call.principal = await self._authenticator.authenticate(key, call.address())
            if call.principal.role < rule:
                raise PermissionDenied(f"The key's role is {_name(call.principal.role)}; the call needs {_name(rule)}.")
            if rule >= Role.ADMIN:  # what it changes is audited
                call.principal = with_origin(call.principal, call)

    def _check(self, request: Any) -> None:
        if isinstance(request, Message):
            self._validator.check(request)
        elif isinstance(request, Undecodable):
            raise InvalidRequest("The request is not a valid message of this method.")

    @staticmethod
    async def _abort(call: Call, failure: DragomanError) -> None:
        status = to_status(failure, call.request_id)
        trailing: list[tuple[str, str | bytes]] = [] if call.transport else [_request_id_trailer(call)]
        dialect = dialect_trailers(call.method, failure, call.request_id) if call.in_band else []
        # A dialect has its own form of an error, and both would be much for one block of headers.
        trailing += dialect or [("grpc-status-details-bin", status.SerializeToString())]
        wait = retry_after_header(failure)
        if wait is not None:
            trailing.append(("retry-after", wait))
        await call.context.abort(call.code, status.message, tuple(trailing))

    def _log(self, level: int, call: Call, seconds: float) -> None:
        if not self._access_log.wants(level):
            return
        line = AccessLine(
            method=call.method,
            status="OK" if call.code is grpc.StatusCode.OK else getattr(call.code, "name", str(call.code)),
            duration_ms=round(seconds * 1000, 1),
            request_id=call.request_id,
            transport=call.transport or "direct",
            reason=call.reason,
            key_id=call.principal.key_id if call.principal else "",
            workspace_id=call.workspace_id,
            provider=call.provider,
            model=call.model,
            prompt_tokens=call.usage.prompt_tokens,
            completion_tokens=call.usage.completion_tokens,
        )
        self._access_log.write(level, line)


def _writing(behavior: _Behavior) -> _Behavior:
    """A stream's behavior as one that writes by itself: grpc.aio, which would iterate it, leaves a generator to the
    garbage collector when the caller goes away during a write. Here it is closed before the call ends."""

    def run(request: Any, context: Any) -> Awaitable[None]:
        produced = behavior(request, context)
        if inspect.isawaitable(produced):
            return produced
        return _write_all(produced, (context.context if isinstance(context, Call) else context).write)

    return run


async def _write_all(produced: AsyncGenerator[Any, None], write: Callable[[Any], Awaitable[None]]) -> None:
    async with aclosing(produced) as messages:
        async for message in messages:
            await write(message)


def presented_key(metadata: Any) -> str:
    """The one key in a call's metadata. Raises Unauthenticated for none, InvalidRequest for two different ones."""
    keys: dict[str, None] = {}
    for name, value in metadata or ():
        text = value if isinstance(value, str) else value.decode("utf-8", "replace")
        if name == "authorization":
            scheme, _, key = text.strip().partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthenticated("The authorization metadata is not of the form 'Bearer <key>'.")
            keys[key.strip()] = None
        elif name == "x-api-key":
            keys[text.strip()] = None
    keys.pop("", None)
    if not keys:
        raise Unauthenticated("The call carries no key.")
    if len(keys) > 1:
        raise InvalidRequest("authorization and x-api-key carry different keys: send one of them.")
    return next(iter(keys))


def _forget_frames(error: BaseException | None) -> None:
    """grpc.aio keeps the error that ended a call until the next call comes, an error keeps the frames that it passed,
    and they the credential that was used or was to be stored."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _new_call(method: str, context: CallContext, metadata: Any, peers: Peers) -> Call:
    said = dict(metadata)
    request_id = said.get("x-request-id", "")
    if not isinstance(request_id, str) or not _REQUEST_ID.fullmatch(request_id):
        request_id = secrets.token_hex(16)
    transport = peers.transport(context, said.get("x-dragoman-transport", ""))
    call = Call(method, request_id, transport, context, peers, said.get("x-envoy-external-address", ""))
    if not transport:
        call.trailing.append(_request_id_trailer(call))
    return call


def _request_id_trailer(call: Call) -> tuple[str, str]:
    """For direct callers; the proxy puts its own into every response."""
    return "x-request-id", call.request_id


def _lenient(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """grpc.aio answers UNKNOWN and a stack trace where decoding raises; so it does not, and `_check` refuses."""

    def decoded(data: bytes) -> Any:
        MESSAGE_BYTES.set(len(data))
        try:
            return decode(data)
        except Exception:  # noqa: BLE001 - protobuf's implementations raise different types
            return Undecodable()

    return decoded


def _name(role: Role) -> str:
    return role.name.lower()
