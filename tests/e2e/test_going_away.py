"""Callers that go away, servers that are told to stop, and servers that are killed."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import provider_config_service_pb2 as config_pb
from dragoman.v1 import status_service_pb2 as status_pb
from dragoman.v1.llm_service_pb2_grpc import LLMServiceStub
from dragoman.v1.provider_config_service_pb2_grpc import ProviderConfigServiceStub
from dragoman.v1.status_service_pb2_grpc import StatusServiceStub
from tests.e2e.stack import OWN, Stack, running_stack, start_server
from tests.support.process import RunningProcess

pytestmark = pytest.mark.e2e


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """A gateway that a test may stop."""
    with running_stack(tmp_path, shutdown_grace_seconds="10") as stack:
        yield stack


async def hung_up(stack: Stack, before: int) -> float:
    """Seconds until the provider has seen one more caller go away. Raises TimeoutError after ten."""
    start = time.monotonic()
    async with asyncio.timeout(10):
        while (await asyncio.to_thread(stack.demo_stats))["clientWentAway"] <= before:
            await asyncio.sleep(0.005)
    return time.monotonic() - start


@pytest.mark.parametrize("model", ["demo-timeout", "demo-endless"], ids=["before the first token", "within the stream"])
async def test_a_grpc_caller_that_cancels_closes_the_providers_connection(stack: Stack, model: str) -> None:
    before = stack.demo_stats()
    request = pb.ChatRequest(model=f"custom/{model}", messages=[pb.Message(role="user", content="hi")])
    async with stack.grpc() as stubs:
        call = stubs.llm.Chat(request, metadata=stack.metadata())
        if model == "demo-endless":
            await call.read()
        else:
            async with asyncio.timeout(10):
                while (await asyncio.to_thread(stack.demo_stats))["requests"] <= before["requests"] + 1:
                    await asyncio.sleep(0.01)
        call.cancel()
        print(f"closed after {await hung_up(stack, before['clientWentAway']) * 1000:.0f} ms")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_rest_caller_that_hangs_up_closes_the_providers_connection(stack: Stack, streamed: bool) -> None:
    before = stack.demo_stats()["clientWentAway"]
    body = {"model": "custom/demo-endless", "messages": [{"role": "user", "content": "hi"}]}
    headers = {**stack.headers(), "accept": "text/event-stream" if streamed else "application/json"}
    async with httpx.AsyncClient(base_url=stack.envoy.url, timeout=10) as client:
        if streamed:
            async with client.stream("POST", "/api/v1/ai/llm/chat", json=body, headers=headers) as response:
                async for _ in response.aiter_bytes():
                    break
        else:
            with pytest.raises(httpx.ReadTimeout):
                await client.post("/api/v1/ai/llm/chat", json=body, headers=headers, timeout=0.3)
    print(f"closed after {await hung_up(stack, before) * 1000:.0f} ms")


async def takes_calls(stack: Stack) -> bool:
    """Whether a new caller is served."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stack.port}") as channel:
        try:
            await StatusServiceStub(channel).GetLiveness(status_pb.GetLivenessRequest(), timeout=5)
        except grpc.aio.AioRpcError as error:
            return error.code() is not grpc.StatusCode.UNAVAILABLE
        return True


async def test_sigterm_lets_a_running_stream_finish_and_takes_no_new_call(own_stack: Stack) -> None:
    request = pb.ChatRequest(model="custom/demo-slow", messages=[pb.Message(role="user", content="count to 20")])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{own_stack.port}") as channel:
        stub = LLMServiceStub(channel)
        call = stub.Chat(request, metadata=own_stack.metadata())
        events = [await call.read(), await call.read(), await call.read()]
        own_stack.server.send_signal(signal.SIGTERM)
        await own_stack.server.wait_for_line_async('"draining"')
        async with asyncio.timeout(10):
            while await takes_calls(own_stack):
                await asyncio.sleep(0.01)
        while (event := await call.read()) is not grpc.aio.EOF:
            events.append(event)
    last = events[-1]
    assert isinstance(last, pb.ChatEvent)
    assert last.WhichOneof("event") == "completed"
    assert await asyncio.to_thread(own_stack.server.wait) == 0


def test_a_server_on_a_schema_that_is_behind_refuses_to_start_and_says_what_to_run(tmp_path: Path) -> None:
    from server.store.master_key import create_master_key_file  # noqa: PLC0415
    from tests.e2e.stack import server_environ  # noqa: PLC0415
    from tests.support.ports import free_port  # noqa: PLC0415

    create_master_key_file(tmp_path / "master.key")
    environ = server_environ(tmp_path, grpc_port=str(free_port()), edge_port="0")
    with RunningProcess([sys.executable, "-m", "server", "serve"], env=environ) as process:
        assert process.wait() != 0
        assert "dragoman migrate" in process.output
        assert "Traceback" not in process.output


@pytest.mark.slow
async def test_sigkill_during_writes_loses_no_acknowledged_configuration(own_stack: Stack) -> None:
    """Twenty times: write as fast as possible, kill the server somewhere, start it again, and look."""
    acknowledged: list[str] = []
    server, dice = own_stack.server, random.Random(20)
    metadata = own_stack.metadata("admin")
    for round_ in range(20):
        writers = [asyncio.create_task(write(own_stack, round_, lane, acknowledged)) for lane in range(4)]
        target = len(acknowledged) + dice.randint(1, 25)
        async with asyncio.timeout(30):
            while len(acknowledged) < target:
                await asyncio.sleep(0.001)
        await asyncio.to_thread(server.kill)
        await asyncio.gather(*writers)
        server = await asyncio.to_thread(start_server, own_stack.environ)
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{own_stack.port}") as channel:
                listed = await ProviderConfigServiceStub(channel).ListProviderConfigs(
                    config_pb.ListProviderConfigsRequest(workspace_id=OWN), metadata=metadata, wait_for_ready=True
                )
            assert set(acknowledged) <= {config.id for config in listed.ai_llms}
        except BaseException:
            server.stop()
            raise
    try:
        request = pb.ChatRequest(
            provider_name="demo", messages=[pb.Message(role="user", content="Repeat after me: ok")]
        )
        async with grpc.aio.insecure_channel(f"127.0.0.1:{own_stack.port}") as channel:
            answer = await LLMServiceStub(channel).Complete(request, metadata=metadata)
        assert answer.text == "ok"
    finally:
        server.stop()


async def write(stack: Stack, round_: int, lane: int, acknowledged: list[str]) -> None:
    """Create configurations one after the other until the server is gone, noting each that was acknowledged."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stack.port}") as channel:
        stub = ProviderConfigServiceStub(channel)
        for number in range(1000):
            request = config_pb.CreateProviderConfigRequest(
                name=f"kill-{round_}-{lane}-{number}", ai_type="OPENAI", workspace_id=OWN, secret="sk-some-secret-value"
            )
            try:
                created = await stub.CreateProviderConfig(request, metadata=stack.metadata("admin"), timeout=20)
            except grpc.RpcError:
                return
            acknowledged.append(created.ai_llm_id)
