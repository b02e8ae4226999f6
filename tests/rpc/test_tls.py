"""TLS of a real gRPC server: certificates from files, read again when they change; callers' certificates; bad files."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import llm_service_pb2_grpc
from server.core.setup import SetupError
from server.rpc.interceptors import CallInterceptor
from server.rpc.register import register
from server.rpc.tls import CertificateFiles, ServerCertificates
from server.rpc.validation import RequestValidator
from tests.rpc.house import STARTED, House, key
from tests.support.certificates import Authority, Certificate, move_in, serial_of

HOST = "dragoman.test"
HELLO = pb.ChatRequest(messages=[pb.Message(role="user", content="hi")])
TARGET_NAME = (("grpc.ssl_target_name_override", HOST),)


class Secure:
    """A server with certificates in a folder, which a test may replace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority("inside")
        self.first = self.authority.certify(HOST)
        self.house = House()
        self.port = 0

    def files(self, *, mutual: bool) -> CertificateFiles:
        certificate, private = self.first.write(self.folder, "server")
        callers = move_in(self.folder / "callers.pem", self.authority.pem) if mutual else None
        return CertificateFiles(certificate, private, callers)

    def channel(self, client: Certificate | None = None) -> grpc.aio.Channel:
        """A connection of its own: grpc shares one between channels that are alike."""
        credentials = grpc.ssl_channel_credentials(
            self.authority.pem, client.key_pem() if client else None, client.pem if client else None
        )
        options = (*TARGET_NAME, ("grpc.use_local_subchannel_pool", 1))
        return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options)

    async def shown(self, client: Certificate) -> int:
        """Serial number of the certificate that a new connection sees."""
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        context.load_cert_chain(*client.write(self.folder, "client"))
        context.set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=HOST)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return serial_of(found)


async def call(channel: grpc.aio.Channel) -> str:
    async with channel:
        answer = await llm_service_pb2_grpc.LLMServiceStub(channel).Complete(HELLO, metadata=key(), timeout=10)
    return answer.text


async def refused(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.fixture(params=[False, True], ids=["tls", "mutual tls"])
async def secure(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Secure]:
    made = Secure(tmp_path)
    house = made.house
    server = grpc.aio.server(interceptors=[CallInterceptor(house.access, RequestValidator())])
    await register(
        server,
        gateway=house.gateway,
        access=house.access,  # type: ignore[arg-type]
        models=house.models,
        configs=house.configs,
        model_settings=None,  # type: ignore[arg-type]
        audit=None,  # type: ignore[arg-type]
        snapshots=house.snapshots,
        lifecycle=house.lifecycle,
        version="1.2.3",
    )
    certificates = ServerCertificates(made.files(mutual=request.param))
    made.port = server.add_secure_port("127.0.0.1:0", certificates.credentials())
    await server.start()
    yield made
    await server.stop(None)


mutual = pytest.mark.parametrize("secure", [True], ids=["mutual tls"], indirect=True)
plain_tls = pytest.mark.parametrize("secure", [False], ids=["tls"], indirect=True)


async def test_a_caller_with_the_right_certificate_is_answered_over_tls(secure: Secure) -> None:
    assert await call(secure.channel(secure.authority.certify("caller.test"))) == "Hello"


@plain_tls
async def test_without_client_authorities_callers_need_no_certificate(secure: Secure) -> None:
    assert await call(secure.channel()) == "Hello"


async def test_a_plain_connection_is_refused(secure: Secure) -> None:
    await refused(grpc.aio.insecure_channel(f"127.0.0.1:{secure.port}"))


@mutual
@pytest.mark.parametrize("who", ["none", "another authority's", "same name, another authority's"])
async def test_a_caller_without_a_certificate_of_the_authority_is_refused(secure: Secure, who: str) -> None:
    stranger = Authority("inside" if who.startswith("same") else "elsewhere").certify("caller.test")
    await refused(secure.channel(None if who == "none" else stranger))
    assert secure.house.gateway.calls == []


async def test_a_renewed_certificate_is_shown_from_the_next_connection_on_and_streams_go_on(secure: Secure) -> None:
    house, caller = secure.house, secure.authority.certify("caller.test")
    house.gateway.batches, house.gateway.stall = ([STARTED],), True
    async with secure.channel(caller) as channel:
        running = llm_service_pb2_grpc.LLMServiceStub(channel).Chat(HELLO, metadata=key())
        assert (await running.read()) is not grpc.aio.EOF
        renewed = secure.authority.certify(HOST)
        renewed.write(secure.folder, "server")
        assert await secure.shown(caller) == renewed.serial
        assert not running.done()
        running.cancel()


@plain_tls
async def test_files_that_do_not_belong_together_leave_the_old_ones_in_use(
    secure: Secure, caplog: pytest.LogCaptureFixture
) -> None:
    """A renewal writes two files, and a connection may come between them."""
    renewed, caller = secure.authority.certify(HOST), secure.authority.certify("caller.test")
    with caplog.at_level(logging.INFO, "dragoman.tls"):
        move_in(secure.folder / "server.pem", renewed.pem)
        assert [await secure.shown(caller) for _ in range(3)] == [secure.first.serial] * 3
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        (secure.folder / "server.key").unlink()
        assert await secure.shown(caller) == secure.first.serial
        move_in(secure.folder / "server.key", renewed.key_pem())
        assert await secure.shown(caller) == renewed.serial
    assert caplog.records[-1].message == "TLS certificates read again"


@mutual
async def test_another_client_authority_decides_from_the_next_connection_on(secure: Secure) -> None:
    old, new = secure.authority.certify("caller.test"), Authority("new")
    assert await call(secure.channel(old)) == "Hello"
    move_in(secure.folder / "callers.pem", new.pem)
    await refused(secure.channel(old))
    assert await call(secure.channel(new.certify("caller.test"))) == "Hello"


@pytest.mark.parametrize(
    "broken",
    ["no certificate", "no key", "another's key", "encrypted key", "garbage", "no authorities", "bad authority"],
)
def test_files_that_cannot_be_used_stop_the_start_and_nothing_of_them_is_told(tmp_path: Path, broken: str) -> None:
    authority = Authority("inside")
    ours, other = authority.certify(HOST), authority.certify(HOST)
    certificate, private = ours.write(tmp_path, "server")
    callers = move_in(tmp_path / "callers.pem", authority.pem)
    match broken:
        case "no certificate":
            certificate.unlink()
        case "no key":
            private.unlink()
        case "another's key":
            private.write_bytes(other.key_pem())
        case "encrypted key":
            private.write_bytes(ours.key_pem(b"canary"))
        case "garbage":
            certificate.write_bytes(b"canary")
        case "no authorities":
            callers.unlink()
        case _:
            callers.write_bytes(b"-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n")
    with pytest.raises(SetupError, match="DRAGOMAN_TLS_CERT_FILE") as caught:
        ServerCertificates(CertificateFiles(certificate, private, callers))
    assert str(tmp_path) in str(caught.value)
    assert "canary" not in str(caught.value)
