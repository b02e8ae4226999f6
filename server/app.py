"""The composition root: the only file that knows everyone. What it makes, it closes, in the opposite order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from typing import Final, NamedTuple

import grpc
import msgspec

from server.core.catalog import parse_catalog
from server.core.errors import InvalidRequest
from server.core.ports import CallTimeouts
from server.core.setup import SetupError
from server.data import model_tables
from server.providers.registry import ProviderRegistry
from server.providers.transport.client import HttpTransport
from server.providers.transport.documents import HttpDocuments, trusting
from server.providers.transport.guard import GuardedResolver
from server.rpc.edge.server import EdgeServer, MethodTable
from server.rpc.health import Lifecycle
from server.rpc.interceptors import CallInterceptor
from server.rpc.log import LineHandler
from server.rpc.register import SERVICES, register
from server.rpc.tls import CertificateFiles, ServerCertificates
from server.rpc.validation import RequestValidator
from server.services.access import Access, utc_now
from server.services.audit import AuditLog, RefusalLog
from server.services.authentication import Authentication, Credentials
from server.services.gateway import Gateway
from server.services.key_uses import KeyUseRecorder
from server.services.limits import CallsInFlight, FailedAttempts, Most
from server.services.model_settings import ModelSettings
from server.services.models import ModelService
from server.services.pacing import Pace
from server.services.provider_configs import ProviderConfigs
from server.services.targets import Targets
from server.services.usage import UsageRecorder
from server.settings import Settings
from server.store.cipher import Keyring
from server.store.master_key import MasterKeySource
from server.store.store import Store, StoreOptions
from server.store.store import open_store as open_sql_store

log = logging.getLogger("dragoman.app")

MAX_PENDING_CALLS: Final = 20_000
"""Calls that gRPC's core holds before it sheds new ones; its own limit of 1,000 cuts bursts of streams short."""

KEEPALIVE_SECONDS: Final = 30
"""How often an idle connection is probed: less than the idle timeouts of common load balancers (60 s and more)."""


class Services(msgspec.Struct, frozen=True):
    """The use cases over one open store."""

    store: Store
    access: Access
    models: ModelService
    gateway: Gateway
    configs: ProviderConfigs
    model_settings: ModelSettings
    audit: AuditLog
    refusals: RefusalLog


class RunningServer(msgspec.Struct, frozen=True):
    """A server that takes calls. port, edge_port: those that it listens on."""

    services: Services
    lifecycle: Lifecycle
    grpc: grpc.aio.Server
    edge: EdgeServer
    port: int
    edge_port: int

    async def stop(self, grace: float | None) -> None:
        """Take no further calls; running ones may finish for `grace` seconds, None for none. May be called again, with
        less."""
        await asyncio.gather(self.grpc.stop(grace), self.edge.stop(grace))


def version() -> str:
    """The installed package's version."""
    try:
        return package_version("dragoman")
    except PackageNotFoundError:
        return "0+unknown"


def configure_logging(settings: Settings) -> None:
    """JSON lines on stderr, for this process."""
    logging.basicConfig(level=settings.log_level.upper(), handlers=[LineHandler(sys.stderr)], force=True)
    # What libraries say of their own work at info is noise in a service's log.
    for name in ("aiosqlite", "alembic", "asyncio", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)


def master_key_source(settings: Settings) -> MasterKeySource:
    """Where the settings say that the master keys are."""
    command = settings.master_key_command
    return MasterKeySource(
        text=settings.master_key,
        file=settings.master_key_file if command else settings.master_key_path(),
        shared=settings.master_key_file_shared,
        command=command.argv if command else (),
        seconds=settings.master_key_command_seconds,
    )


def master_keyring(settings: Settings) -> Keyring:
    """The master keys from where the settings say. Raises SetupError."""
    return master_key_source(settings).read()


@contextlib.asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """The store that the settings name. Raises SetupError, Unavailable."""
    options = StoreOptions(
        url=settings.database(),
        poll_seconds=settings.snapshot_poll_seconds,
        max_configs_per_workspace=settings.max_configs_per_workspace,
        max_keys_per_workspace=settings.max_keys_per_workspace,
        max_workspaces_per_organisation=settings.max_workspaces_per_organisation,
    )
    source = master_key_source(settings)
    reread = source.read if source.changes else None
    async with open_sql_store(options, source.read(), clock=utc_now, reread=reread) as store:
        yield store


@contextlib.asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """The use cases, wired. Raises SetupError, Unavailable."""
    async with open_store(settings) as store:
        transport = HttpTransport(GuardedResolver(settings.allowed_endpoints), user_agent=f"dragoman/{version()}")
        behind = _Behind(UsageRecorder(store.stats), KeyUseRecorder(store.key_uses), RefusalLog(store.audit))
        for writer in behind:
            writer.start()
        try:
            yield _wire(settings, store, ProviderRegistry(transport), behind)
        finally:
            for writer in behind:
                await writer.stop()
            await transport.aclose()


class _Behind(NamedTuple):
    """What is written behind the calls."""

    usage: UsageRecorder
    key_uses: KeyUseRecorder
    refusals: RefusalLog


def _wire(settings: Settings, store: Store, providers: ProviderRegistry, behind: _Behind) -> Services:
    catalog = parse_catalog(model_tables())
    models = ModelService(store.snapshots, catalog)
    targets = Targets(store.vault, settings.allowed_endpoints)
    timeouts = CallTimeouts(
        connect=settings.connect_timeout_seconds,
        first_token=settings.first_token_timeout_seconds,
        idle=settings.idle_timeout_seconds,
    )
    return Services(
        store=store,
        access=Access(store.snapshots, store.hasher, store.access, behind.key_uses),
        models=models,
        gateway=Gateway(models, providers, targets, behind.usage, timeouts, Pace(settings.stream_join_seconds)),
        configs=ProviderConfigs(
            store.configs, store.stats, store.vault, targets, providers, settings.allowed_endpoints, catalog
        ),
        model_settings=ModelSettings(store.snapshots, store.access, catalog),
        audit=AuditLog(store.audit),
        refusals=behind.refusals,
    )


@contextlib.asynccontextmanager
async def running_server(settings: Settings) -> AsyncIterator[RunningServer]:
    """A server that takes calls until the block ends; then it drains. Raises SetupError (a taken port), Unavailable."""
    async with open_services(settings) as services, _open_tokens(settings, services) as tokens:
        lifecycle = Lifecycle(SERVICES)
        interceptor = _interceptor(services, settings, tokens)
        server = grpc.aio.server(interceptors=[interceptor], options=_channel_options(settings))
        table = MethodTable()
        await register(
            server,
            gateway=services.gateway,
            models=services.models,
            configs=services.configs,
            access=services.access,
            model_settings=services.model_settings,
            audit=services.audit,
            snapshots=services.store.snapshots,
            lifecycle=lifecycle,
            version=version(),
            edge=table,
        )
        methods = {path: interceptor.wrap(path, handler) for path, handler in table.methods.items()}
        edge = EdgeServer(methods, table.bodies, max_message_bytes=settings.max_message_bytes)
        port = _listen(server, settings)
        edge_port = await edge.start(settings.grpc_host, settings.edge_port, _tls_context(settings))
        await server.start()
        await lifecycle.serve()
        log.info("serving", extra={"fields": {"port": port, "edge_port": edge_port, "version": version()}})
        running = RunningServer(services, lifecycle, server, edge, port, edge_port)
        try:
            yield running
        finally:
            # Not serving first, so that balancers look elsewhere; then running calls may finish.
            await lifecycle.drain()
            await running.stop(settings.shutdown_grace_seconds)
            log.info("stopped")


@contextlib.asynccontextmanager
async def _open_tokens(settings: Settings, services: Services) -> AsyncIterator[Credentials | None]:
    """The issuer's tokens, where the settings name one. Raises SetupError for a URL that may not be called."""
    issuer = settings.token_issuer()
    if issuer is None:
        yield None
        return
    # Late: most servers have none.
    from server.identity.keys import IssuerKeys  # noqa: PLC0415
    from server.identity.tokens import Tokens  # noqa: PLC0415

    urls = [url for url in (issuer.name, issuer.jwks_url) if url]
    try:
        policy = trusting(settings.allowed_endpoints, *urls)
    except InvalidRequest as exc:
        mend = "Check DRAGOMAN_OIDC_ISSUER, DRAGOMAN_OIDC_JWKS_URL and DRAGOMAN_ALLOWED_ENDPOINTS."
        raise SetupError(f"The issuer of tokens cannot be called: {exc.message}.", mend=mend) from exc
    transport = HttpTransport(GuardedResolver(policy), user_agent=f"dragoman/{version()}")
    keys = IssuerKeys(issuer, HttpDocuments(transport, policy))
    keys.start()
    try:
        yield Tokens(issuer, keys, services.store.snapshots)
    finally:
        await keys.stop()
        await transport.aclose()


def _interceptor(services: Services, settings: Settings, tokens: Credentials | None) -> CallInterceptor:
    failures = FailedAttempts(settings.max_failed_authentications, settings.failed_authentications_seconds)
    return CallInterceptor(
        Authentication(services.access, failures, tokens),
        RequestValidator(),
        services.refusals,
        in_flight=CallsInFlight(
            Most(settings.max_calls_in_flight_per_key, settings.max_bytes_in_flight_per_key),
            Most(settings.max_calls_in_flight_per_workspace, settings.max_bytes_in_flight_per_workspace),
        ),
        proxies=settings.trusted_proxies,
    )


def _channel_options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        # What the server says was bounded when a provider said it: thousands of embeddings are more than a request.
        ("grpc.max_send_message_length", -1),
        # Two servers on one port would share its calls silently.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Clients may probe as often as this server does.
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_SECONDS * 1000 // 2),
        ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CALLS * 2),
    ]


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    files = settings.tls_files()
    return ServerCertificates(CertificateFiles(*files)).ssl_context() if files else None


def _listen(server: grpc.aio.Server, settings: Settings) -> int:
    place = f"{settings.grpc_host}:{settings.grpc_port}"
    files = settings.tls_files()
    credentials = ServerCertificates(CertificateFiles(*files)).credentials() if files else None
    if credentials is None and not _is_loopback(settings.grpc_host):
        log.warning("serving without TLS", extra={"fields": {"host": settings.grpc_host}})
    try:
        port = server.add_secure_port(place, credentials) if credentials else server.add_insecure_port(place)
    except RuntimeError as exc:
        raise SetupError(
            f"The gRPC server cannot listen on {place}; is the port taken?",
            mend="Stop what uses it, or set DRAGOMAN_GRPC_PORT.",
        ) from exc
    return int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


async def serve(settings: Settings, *, on_ready: Callable[[int], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the grace period. SIGHUP: read the master keys
    again. on_ready: called with the port.

    Raises SetupError, Unavailable.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_server(settings) as running:
        # What start-up made lives as long as the process. A full collection would walk all of it, with every call
        # waiting: 20 ms for its 95,000 objects on an idle machine, 136 ms on a busy one.
        gc.freeze()
        loop.add_signal_handler(signal.SIGHUP, running.services.store.vault.reread_master)
        if on_ready is not None:
            on_ready(running.port)
        await stop.wait()
        log.info("draining", extra={"fields": {"grace_seconds": settings.shutdown_grace_seconds}})
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: asyncio.ensure_future(running.stop(None)))
