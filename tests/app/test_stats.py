"""Counts of configurations are exact: with two servers on one database, calls at once, and restarts in between."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from dragoman.v1 import chat_pb2 as chat
from dragoman.v1 import provider_config_service_pb2 as configs
from server.app import running_server
from tests.app.world import MODEL, World

CALLS = 60


async def test_two_servers_and_a_restart_lose_no_count_and_count_none_twice(world: World) -> None:
    """The second server stops right after its calls, so its last counts are written as it drains."""
    metadata = world.as_("member")
    request = chat.ChatRequest(model=MODEL, messages=[chat.Message(role="user", content="Repeat after me: one two")])
    wrong = chat.ChatRequest(model="custom/demo-missing", messages=request.messages)

    async def traffic(channel: grpc.aio.Channel) -> tuple[int, int]:
        ask = channel.unary_unary(
            "/dragoman.v1.LLMService/Complete", chat.ChatRequest.SerializeToString, chat.ChatResponse.FromString
        )
        answers = await asyncio.gather(*(ask(request, metadata=metadata) for _ in range(CALLS)))
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(wrong, metadata=metadata)
        return sum(a.usage.prompt_tokens for a in answers), sum(a.usage.completion_tokens for a in answers)

    sums: list[tuple[int, int]] = []
    for _ in range(2):
        async with (
            running_server(world.settings) as second,
            grpc.aio.insecure_channel(f"127.0.0.1:{second.port}") as channel,
        ):
            sums += await asyncio.gather(traffic(channel), traffic(world.channel))
    expected = (4 * (CALLS + 3), 4 * 3, sum(s[0] for s in sums), sum(s[1] for s in sums))
    found = (0, 0, 0, 0)
    for _ in range(200):
        answer = await world.configs.GetProviderConfigStats(configs.GetProviderConfigStatsRequest(), metadata=metadata)
        (row,) = answer.stats
        found = (row.total_api_calls, row.total_errors, row.total_tokens_in, row.total_tokens_out)
        if found >= expected:
            break
        await asyncio.sleep(0.05)
    assert found == expected
