"""Every setting: one frozen Settings, read from an environ Mapping by a pure function. No other file reads it.

The field `grpc_port` is the variable DRAGOMAN_GRPC_PORT, and so for all. An empty variable counts as one that is not
set. A DRAGOMAN_ variable that is none of these is an error: a misspelt setting must not be a silent default.
"""

from __future__ import annotations

import difflib
import ipaddress
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from server.core.access import Role
from server.core.endpoint import EndpointPolicy, IpNetwork
from server.core.proxies import TrustedProxies
from server.core.secret import Secret
from server.core.setup import SetupError
from server.core.token_issuer import PLAIN_ROLES, SIGNATURES, TokenIssuer

PREFIX = "DRAGOMAN_"

# Read by the tests alone.
_OTHERS = frozenset({"DRAGOMAN_WIRE_FIXTURES"})


class Command(msgspec.Struct, frozen=True):
    """A program and its arguments. Shows the program alone: an argument may be anything."""

    argv: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Command({self.argv[0]!r}, ...)"


Port = Annotated[int, Meta(ge=0, le=65535)]
Words = tuple[str, ...]
Seconds = Annotated[float, Meta(gt=0, le=86400)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator chose. Secrets mask themselves in its repr.

    Paths are as given, relative ones to the working directory. Seconds and bytes where a name says so.
    """

    home: Path = Path(".dragoman")
    """Where the database, the master key and dev.env lie unless they are placed elsewhere."""
    database_url: Secret | None = None
    """sqlite:///file or postgresql://user:password@host/name. None: dragoman.db in `home`."""
    master_key: Secret | None = None
    """32 random bytes as base64 or hex; several separated by commas, of which the first one seals."""
    master_key_file: Path | None = None
    """A file with the same. None: master.key in `home`, unless `master_key` is given."""
    master_key_file_shared: bool = False
    """Accept a master key file that others than its owner may read."""
    master_key_command: Command | None = None
    """A program that prints the same, with its arguments as a shell splits words; no shell runs it. It gets
    `master_key` or the content of `master_key_file`, where one is set, on its standard input: a key that it unwraps."""
    master_key_command_seconds: Annotated[float, Meta(gt=0, le=300)] = 10.0
    """How long it may take."""

    grpc_host: str = "127.0.0.1"
    grpc_port: Port = 50051
    edge_port: Port = 50052
    """Where Envoy at the edge brings calls: gRPC's messages over HTTP/1.1, on `grpc_host` and with the same
    certificates."""
    tls_cert_file: Path | None = None
    """PEM: the gRPC server's certificate and what it was signed by. None: the server speaks without TLS. This file and
    the next two are read again when they change."""
    tls_key_file: Path | None = None
    """PEM: its private key."""
    tls_client_ca_file: Path | None = None
    """PEM: authorities; who connects must have a certificate of one of them (mutual TLS). None: nobody needs one."""
    trusted_proxies: TrustedProxies = TrustedProxies()
    """Peers whose word counts for a caller's address and transport (`x-envoy-external-address`,
    `x-dragoman-transport`); from all others these are ignored. Addresses, networks (CIDR), `unix` for Unix sockets and
    `tls:NAME` for a client certificate's alternative name, separated by commas; `none` for nobody. Default: the
    loopback."""
    http_port: Port = 8080
    """Where the dev profile's Envoy serves REST."""
    demo_port: Port = 8090
    """Where the dev profile's demo provider listens."""

    api_key: Secret | None = None
    """Client commands only (`chat`, `models`, ...): the caller's key."""
    workspace: str = ""
    """Client commands only: the workspace's id, for a key that has none of its own."""
    caller_tls_ca_file: Path | None = None
    """Client commands only; PEM: authorities that the server's certificate is checked by. None: the system's."""
    caller_tls_cert_file: Path | None = None
    """These commands, `health` and `doctor` only; PEM: the certificate for a server that wants one (mutual TLS)."""
    caller_tls_key_file: Path | None = None
    """PEM: its private key."""

    oidc_issuer: str = ""
    """An OpenID Connect issuer's URL: its tokens are taken beside keys (docs/access-tokens.md). "": keys alone."""
    oidc_audience: Words = ()
    """Of which a token's `aud` must hold one, separated by commas."""
    oidc_jwks_url: str = ""
    """Where its keys are; "": as its discovery document says."""
    oidc_algorithms: Words = ("RS256", "ES256")
    """Signatures that are accepted, separated by commas; asymmetric ones alone."""
    oidc_workspace_claim: str = "workspace"
    """The claim with the workspace's id: its name, or a path with dots between."""
    oidc_role_claim: str = "role"
    """The claim with the role, or with several of which the highest counts."""
    oidc_roles: Mapping[str, Role] | None = None
    """What that claim's values mean: `value=role` pairs, separated by commas. None: viewer, member and admin."""
    oidc_organisation: str = ""
    """The organisation to whose workspaces tokens are bound; needed for the role org_admin. "": any."""
    oidc_leeway_seconds: Annotated[float, Meta(ge=0, le=300)] = 30.0
    """How much clocks may differ."""
    oidc_refresh_seconds: Annotated[float, Meta(ge=10, le=86400)] = 300.0
    """How often the issuer's keys are read again."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    allowed_endpoints: EndpointPolicy = EndpointPolicy()
    """Addresses that configurations may name beyond public https ones: `host:port`, addresses and networks (CIDR),
    separated by commas."""
    max_message_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 20 * 1024 * 1024
    max_calls_in_flight_per_key: Annotated[int, Meta(ge=0)] = 4000
    """Calls that run at once, for each server process; 0 for no limit."""
    max_calls_in_flight_per_workspace: Annotated[int, Meta(ge=0)] = 8000
    max_bytes_in_flight_per_key: Annotated[int, Meta(ge=0)] = 512 * 1024 * 1024
    """Of the messages of calls that run at once, for each server process; 0 for no limit."""
    max_bytes_in_flight_per_workspace: Annotated[int, Meta(ge=0)] = 1024 * 1024 * 1024
    max_failed_authentications: Annotated[int, Meta(ge=0)] = 30
    """How many times a network address may present a key that is not valid within the window, before it has to wait.
    Valid keys pass from there all the same. 0 for no limit."""
    failed_authentications_seconds: Seconds = 60.0
    """That window."""
    max_configs_per_workspace: Annotated[int, Meta(ge=1)] = 1000
    max_keys_per_workspace: Annotated[int, Meta(ge=1)] = 1000
    """Those that have ended do not count. An organisation's own keys have the same limit."""
    max_workspaces_per_organisation: Annotated[int, Meta(ge=1)] = 10_000
    snapshot_poll_seconds: Seconds = 0.25
    """How often other processes' changes are looked for."""
    shutdown_grace_seconds: Annotated[float, Meta(ge=0, le=86400)] = 30.0
    """How long running streams may go on after SIGTERM."""
    connect_timeout_seconds: Seconds = 10.0
    first_token_timeout_seconds: Seconds = 120.0
    idle_timeout_seconds: Seconds = 60.0
    stream_join_seconds: Annotated[float, Meta(ge=0, le=0.1)] = 0.006
    """How long a piece of a stream may wait for others while the event loop lags, so that they leave together. The
    first token never waits. 0: nothing does."""

    def database(self) -> Secret:
        """The database's address, the default one included."""
        return self.database_url or Secret(f"sqlite:///{self.home / 'dragoman.db'}")

    def token_issuer(self) -> TokenIssuer | None:
        """The issuer whose tokens are taken; None where keys alone are."""
        if not self.oidc_issuer:
            return None
        return TokenIssuer(
            name=self.oidc_issuer,
            audience=self.oidc_audience,
            jwks_url=self.oidc_jwks_url,
            algorithms=self.oidc_algorithms,
            leeway=self.oidc_leeway_seconds,
            refresh=self.oidc_refresh_seconds,
            workspace_claim=self.oidc_workspace_claim,
            role_claim=self.oidc_role_claim,
            roles=PLAIN_ROLES if self.oidc_roles is None else self.oidc_roles,
            organisation=self.oidc_organisation,
        )

    def tls_files(self) -> tuple[Path, Path, Path | None] | None:
        """The files of certificate, key and client authorities; None where the server speaks without TLS."""
        if self.tls_cert_file is None or self.tls_key_file is None:
            return None
        return self.tls_cert_file, self.tls_key_file, self.tls_client_ca_file

    def master_key_path(self) -> Path | None:
        """The file that the master key stands in; None when it comes from the environment or a command."""
        if self.master_key is not None or self.master_key_command is not None:
            return None
        return self.master_key_file or self.home / "master.key"


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from the DRAGOMAN_ variables of `environ`.

    Raises SetupError that names every variable which is unknown (with the nearest names) or has no valid value, what is
    expected of it, and never the value itself.
    """
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX) and name not in _OTHERS}
    types = {PREFIX + name.upper(): type_ for name, type_ in get_type_hints(Settings, include_extras=True).items()}
    problems = [_unknown(name, types) for name in sorted(given.keys() - types.keys())]
    values: dict[str, Any] = {}
    for name, type_ in types.items():
        text = given.get(name, "").strip()
        if text:
            try:
                values[name.removeprefix(PREFIX).lower()] = _parse(text, type_)
            except _Invalid as exc:
                problems.append(f"{name} must be {exc}.")
    problems += _contradictions(values)
    if problems:
        raise SetupError("\n".join(problems), mend="")
    return Settings(**values)


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """What does not go together, each in a sentence."""
    problems = []
    if "master_key" in values and "master_key_file" in values:
        problems.append("DRAGOMAN_MASTER_KEY and DRAGOMAN_MASTER_KEY_FILE are both set; give one of them.")
    if ("tls_cert_file" in values) != ("tls_key_file" in values):
        problems.append("DRAGOMAN_TLS_CERT_FILE and DRAGOMAN_TLS_KEY_FILE belong together; give both of them.")
    elif "tls_client_ca_file" in values and "tls_cert_file" not in values:
        problems.append("DRAGOMAN_TLS_CLIENT_CA_FILE needs DRAGOMAN_TLS_CERT_FILE and DRAGOMAN_TLS_KEY_FILE.")
    if ("caller_tls_cert_file" in values) != ("caller_tls_key_file" in values):
        problems.append("DRAGOMAN_CALLER_TLS_CERT_FILE and DRAGOMAN_CALLER_TLS_KEY_FILE belong together; give both.")
    return problems + _issuer_problems(values)


def _issuer_problems(values: Mapping[str, Any]) -> list[str]:
    if "oidc_issuer" not in values:
        others = any(name.startswith("oidc_") for name in values)
        return ["DRAGOMAN_OIDC_ settings need DRAGOMAN_OIDC_ISSUER."] if others else []
    problems = []
    if not values.get("oidc_audience"):
        problems.append("DRAGOMAN_OIDC_AUDIENCE is missing: tokens that the issuer made for others must not be taken.")
    algorithms = values.get("oidc_algorithms", tuple(SIGNATURES))
    if not algorithms or not set(algorithms) <= set(SIGNATURES):
        problems.append(f"DRAGOMAN_OIDC_ALGORITHMS must be of {', '.join(SIGNATURES)}.")
    if Role.ORG_ADMIN in values.get("oidc_roles", {}).values() and "oidc_organisation" not in values:
        problems.append("DRAGOMAN_OIDC_ROLES makes org_admin: set DRAGOMAN_OIDC_ORGANISATION to its organisation.")
    return problems


class _Invalid(ValueError):
    """Says what a value must be, never what it is."""


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.75)
    return f"{name} is no setting." + (f" Did you mean {' or '.join(near)}?" if near else "")


def _parse(text: str, type_: Any) -> Any:
    """The value of a field's type. Raises _Invalid."""
    if isinstance(type_, UnionType):
        (type_,) = (member for member in get_args(type_) if member is not NoneType)
    if type_ in _PARSERS:
        return _PARSERS[type_](text)
    if get_origin(type_) is Literal:
        if text.lower() not in get_args(type_):
            raise _Invalid("one of " + ", ".join(get_args(type_)))
        return text.lower()
    try:
        return msgspec.convert(text, type_, strict=False)
    except msgspec.ValidationError:
        raise _Invalid(_describe(type_)) from None


def _describe(type_: Any) -> str:
    kind, meta = get_args(type_)
    noun = "a whole number" if kind is int else "a number"
    limits = [f"{words} {limit}" for words, limit in _limits(meta) if limit is not None]
    return f"{noun} {' and '.join(limits)}"


def _limits(meta: Meta) -> tuple[tuple[str, int | float | None], ...]:
    return ("of at least", meta.ge), ("greater than", meta.gt), ("at most", meta.le)


def _parse_bool(text: str) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if text.lower() not in words:
        raise _Invalid("true or false")
    return words[text.lower()]


def _parse_command(text: str) -> Command:
    try:
        argv = tuple(shlex.split(text))
    except ValueError:
        raise _Invalid("a program with its arguments; a quotation mark in it is not closed") from None
    if not argv:
        raise _Invalid("a program with its arguments")
    return Command(argv)


def _parse_endpoints(text: str) -> EndpointPolicy:
    hosts: set[tuple[str, int]] = set()
    networks: list[IpNetwork] = []
    for place, word in enumerate((part.strip() for part in text.split(",") if part.strip()), start=1):
        try:
            networks.append(ipaddress.ip_network(word))
            continue
        except ValueError:
            host, colon, port = word.rpartition(":")
        if not colon or not host.strip("[]") or not port.isdecimal() or not 0 < int(port) <= 65535:
            raise _Invalid(f"host:port pairs, addresses or networks, separated by commas; number {place} is none")
        hosts.add((host.strip("[]").lower().rstrip("."), int(port)))
    return EndpointPolicy(frozenset(hosts), tuple(networks))


def _parse_proxies(text: str) -> TrustedProxies:
    networks: list[IpNetwork] = []
    certificates: set[str] = set()
    words = _parse_words(text.lower())
    for place, word in enumerate(words, start=1):
        if word.startswith("tls:") and word != "tls:":
            certificates.add(word.removeprefix("tls:"))
        elif word != "unix" and (word != "none" or len(words) > 1):
            try:
                networks.append(ipaddress.ip_network(word))
            except ValueError:
                expected = "addresses, networks, unix or tls:NAME, separated by commas, or none alone"
                raise _Invalid(f"{expected}; number {place} is none of these") from None
    return TrustedProxies(tuple(networks), "unix" in words, frozenset(certificates))


def _parse_words(text: str) -> Words:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _parse_roles(text: str) -> Mapping[str, Role]:
    names = {role.name.lower(): role for role in Role}
    roles = {}
    for word in _parse_words(text):
        value, equals, name = word.rpartition("=")
        if not equals or not value.strip() or name.strip().lower() not in names:
            raise _Invalid(f"value=role pairs, separated by commas; roles are {', '.join(names)}")
        roles[value.strip()] = names[name.strip().lower()]
    return roles


_PARSERS: dict[Any, Callable[[str], Any]] = {
    bool: _parse_bool,
    str: str,
    Words: _parse_words,
    Mapping[str, Role]: _parse_roles,
    Path: lambda text: Path(text).expanduser(),
    Secret: Secret,
    Command: _parse_command,
    EndpointPolicy: _parse_endpoints,
    TrustedProxies: _parse_proxies,
}
