"""The recipe of docs/tls.md on real certificates: mutual TLS between callers, Envoy and the server, with reload."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import httpx
import pytest

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1.model_service_pb2 import ListModelsRequest
from tests.e2e.envoy import proxy
from tests.e2e.errors import error_of
from tests.e2e.stack import Stack, Stubs, running_stack
from tests.support.certificates import Authority, Certificate, move_in, serial_of
from tests.support.process import PROJECT
from tools.envoy_tls import with_tls

pytestmark = pytest.mark.e2e

EDGE, INSIDE, CALLER = "gateway.test", "dragoman.internal", "caller.test"
BODY = {"model": "custom/demo-chat", "messages": [{"role": "user", "content": "hi"}]}
ENDLESS = pb.ChatRequest(model="custom/demo-endless", messages=[pb.Message(role="user", content="hi")])


class Certified:
    """Authorities and what they signed, in the folder that the recipe's files name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.public, self.inside, self.callers = Authority("public"), Authority("inside"), Authority("callers")
        self.edge = self.public.certify(EDGE)
        self.edge.write(folder, "edge")
        self.inside.certify(INSIDE).write(folder, "server")
        self.inside.certify("envoy.internal").write(folder, "proxy")
        move_in(folder / "inside-ca.pem", self.inside.pem)
        move_in(folder / "callers-ca.pem", self.callers.pem)
        self.caller = self.callers.certify(CALLER)

    def template(self, *, client_certificates: bool = True) -> str:
        """The recipe, with this folder in the place of /etc/dragoman/tls."""
        recipe = self.folder / "recipe"
        recipe.mkdir(exist_ok=True)
        for source in (PROJECT / "edge/tls").glob("*.yaml"):
            recipe.joinpath(source.name).write_text(source.read_text().replace("/etc/dragoman/tls", str(self.folder)))
        listener, cluster = (
            recipe.joinpath(name).read_text().replace("edge/tls/", f"{recipe}/")
            for name in ("listener.yaml", "cluster.yaml")
        )
        envoy = (PROJECT / "envoy.yaml").read_text()
        return with_tls(envoy, listener, cluster, client_certificates=client_certificates)

    def settings(self) -> dict[str, str]:
        """The server's."""
        return {
            "tls_cert_file": str(self.folder / "server.pem"),
            "tls_key_file": str(self.folder / "server.key"),
            "tls_client_ca_file": str(self.folder / "inside-ca.pem"),
        }

    def context(self, client: Certificate | None) -> ssl.SSLContext:
        """What an HTTPS caller with that certificate has."""
        context = ssl.create_default_context(cadata=self.public.pem.decode())
        if client is not None:
            context.load_cert_chain(*client.write(self.folder, "caller"))
        return context

    async def shown(self, port: int) -> int:
        """Serial number of the certificate that Envoy shows to a new connection."""
        context = self.context(self.caller)
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=EDGE)
        serial = serial_of(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        writer.transport.abort()
        return serial


@asynccontextmanager
async def https(certified: Certified, port: int, client: Certificate | None) -> AsyncIterator[httpx.AsyncClient]:
    """A REST caller that reaches Envoy under its name."""
    async with httpx.AsyncClient(
        verify=certified.context(client), base_url=f"https://127.0.0.1:{port}", timeout=30
    ) as it:
        it.headers["host"] = EDGE
        yield it


def named() -> dict[str, str]:
    """Of each request: the name that the certificate must have."""
    return {"sni_hostname": EDGE}


@asynccontextmanager
async def grpcs(authority: Authority, target: str, name: str, client: Certificate | None) -> AsyncIterator[Stubs]:
    """A gRPC caller by TLS, on a connection of its own."""
    credentials = grpc.ssl_channel_credentials(
        authority.pem, client.key_pem() if client else None, client.pem if client else None
    )
    options = (("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.secure_channel(target, credentials, options) as channel:
        yield Stubs(channel)


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return Certified(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secured(certified: Certified, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole gateway by the recipe."""
    with running_stack(
        tmp_path_factory.mktemp("secured"), template=certified.template(), **certified.settings()
    ) as stack:
        yield stack


async def test_rest_sse_and_grpc_work_by_mutual_tls(certified: Certified, secured: Stack) -> None:
    async with https(certified, secured.envoy.rest, certified.caller) as client:
        whole = await client.post("/api/v1/ai/llm/chat", json=BODY, headers=secured.headers(), extensions=named())
        assert whole.status_code == 200
        assert whole.json()["text"]
        streamed = await client.post(
            "/api/v1/ai/llm/chat",
            json=BODY,
            headers={**secured.headers(), "accept": "text/event-stream"},
            extensions=named(),
        )
        assert '"completed"' in streamed.text
    async with grpcs(certified.public, secured.envoy.target, EDGE, certified.caller) as stubs:
        request = pb.ChatRequest(messages=[pb.Message(role="user", content="hi")])
        assert (await stubs.llm.Complete(request, metadata=secured.metadata())).text


@pytest.mark.parametrize("who", ["nobody", "a stranger", "the inner authority's"])
async def test_callers_without_a_certificate_of_their_authority_are_refused_by_envoy(
    certified: Certified, secured: Stack, who: str
) -> None:
    client = {
        "nobody": None,
        "a stranger": Authority("callers").certify(CALLER),
        "the inner authority's": certified.inside.certify(CALLER),
    }[who]
    async with https(certified, secured.envoy.rest, client) as caller:
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            await caller.get("/api/v1/ai/models", headers=secured.headers(), extensions=named())


@pytest.mark.parametrize("who", ["nobody", "a caller"])
async def test_nobody_but_envoy_reaches_the_server(certified: Certified, secured: Stack, who: str) -> None:
    """A valid key does not help: the server takes connections of its own authority's certificates alone."""
    client = None if who == "nobody" else certified.caller
    request = pb.ChatRequest(messages=[pb.Message(role="user", content="hi")])
    async with grpcs(certified.inside, f"127.0.0.1:{secured.port}", INSIDE, client) as stubs:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.llm.Complete(request, metadata=secured.metadata(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    async with secured.grpc() as stubs:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.llm.Complete(request, metadata=secured.metadata(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_renewed_certificates_are_in_use_from_the_next_connection_on_and_streams_go_on(
    certified: Certified, secured: Stack
) -> None:
    """All three certificates are renewed, the inner ones by another authority, while a stream runs through them."""
    async with grpcs(certified.public, secured.envoy.target, EDGE, certified.caller) as stubs:
        running = stubs.llm.Chat(ENDLESS, metadata=secured.metadata())
        await running.read()

        renewed = certified.public.certify(EDGE)
        renewed.write(certified.folder, "edge")
        authority = Authority("inside, the next")
        # In the order that leaves no gap: both authorities are trusted before anybody shows the new one's certificates.
        move_in(certified.folder / "inside-ca.pem", certified.inside.pem + authority.pem)
        authority.certify(INSIDE).write(certified.folder, "server")
        authority.certify("envoy.internal").write(certified.folder, "proxy")
        async with asyncio.timeout(20):
            while await certified.shown(secured.envoy.rest) != renewed.serial:
                await asyncio.sleep(0.05)
        certified.inside = authority

        # A proxy that starts now has new connections alone.
        folder = certified.folder / "second"
        folder.mkdir()
        with proxy(folder, secured.server_address, secured.edge_address, template=certified.template()) as second:
            async with https(certified, second.rest, certified.caller) as client:
                answer = await client.post(
                    "/api/v1/ai/llm/chat", json=BODY, headers=secured.headers(), extensions=named()
                )
                assert answer.status_code == 200
        async with grpcs(authority, f"127.0.0.1:{secured.port}", INSIDE, authority.certify("second")) as direct:
            found = await direct.models.ListModels(ListModelsRequest(), metadata=secured.metadata(), timeout=10)
            assert found.data

        for _ in range(5):
            await running.read()
        assert not running.done()
        running.cancel()


def ask(certified: Certified, stack: Stack) -> httpx.Response:
    """A call of somebody without a certificate."""
    with httpx.Client(verify=certified.context(None), base_url=f"https://127.0.0.1:{stack.envoy.rest}") as client:
        return client.get("/api/v1/ai/models", headers=stack.headers(), extensions=named())


def test_envoy_sends_nothing_to_a_server_of_another_name(certified: Certified, tmp_path: Path) -> None:
    """The right authority is not enough: any service inside has a certificate of it."""
    certified.inside.certify("other.internal").write(certified.folder, "impostor")
    settings = certified.settings() | {
        "tls_cert_file": str(certified.folder / "impostor.pem"),
        "tls_key_file": str(certified.folder / "impostor.key"),
    }
    with running_stack(tmp_path, template=certified.template(client_certificates=False), **settings) as stack:
        error_of(ask(certified, stack), 503, "UNAVAILABLE")


def test_callers_need_no_certificate_where_the_recipe_leaves_that_out(certified: Certified, tmp_path: Path) -> None:
    template = certified.template(client_certificates=False)
    with running_stack(tmp_path, template=template, **certified.settings()) as stack:
        assert ask(certified, stack).status_code == 200
