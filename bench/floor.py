"""The least that a Python gateway with this contract can do: grpc.aio in, aiohttp out, msgspec between. Nobody is
authenticated, nothing is checked, counted or logged. `python -m bench.floor PORT PROVIDER_URL`, behind conf/floor.yaml.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import msgspec
import uvloop

from dragoman.v1 import chat_pb2 as pb
from dragoman.v1 import llm_service_pb2_grpc as rpc
from dragoman.v1 import usage_pb2


class Delta(msgspec.Struct):
    """A piece of an answer, or all of it."""

    content: str | None = None


class Choice(msgspec.Struct):
    """The one answer."""

    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    """Counts."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Reply(msgspec.Struct):
    """An answer or a chunk."""

    id: str = ""
    model: str = ""
    choices: list[Choice] = []
    usage: Usage | None = None


_decode = msgspec.json.Decoder(Reply).decode
_DONE = b"data: [DONE]"


class Floor(rpc.LLMServiceServicer):
    """Complete and Chat; the others stay unimplemented."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def Complete(self, request: pb.ChatRequest, context: Any) -> pb.ChatResponse:  # noqa: ARG002, N802
        async with self._session.post(self._url, data=_body(request, stream=False)) as response:
            reply = _decode(await response.read())
        choice, usage = reply.choices[0], reply.usage or Usage()
        return pb.ChatResponse(
            text=choice.message.content or "" if choice.message else "",
            finish_reason=choice.finish_reason or "",
            usage=usage_pb2.Usage(
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                total_tokens=usage.prompt_tokens + usage.completion_tokens,
            ),
            model=reply.model,
        )

    async def Chat(self, request: pb.ChatRequest, context: Any) -> AsyncIterator[pb.ChatEvent]:  # noqa: N802
        held, sequence = b"", 0
        async with self._session.post(self._url, data=_body(request, stream=True)) as response:
            async for data in response.content.iter_any():
                *events, held = (held + data).split(b"\n\n")
                for event in events:
                    if event == _DONE:
                        yield pb.ChatEvent(sequence=sequence, completed=pb.Completed(finish_reason="stop"))
                        return
                    reply = _decode(event[6:])
                    delta = reply.choices[0].delta if reply.choices else None
                    text = delta.content if delta else None
                    if text:
                        await context.write(
                            pb.ChatEvent(sequence=sequence, block_delta=pb.BlockDelta(index=0, text=text))
                        )
                        sequence += 1


def _body(request: pb.ChatRequest, *, stream: bool) -> bytes:
    return msgspec.json.encode(
        {
            "model": request.model.rpartition("/")[2],
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
            "stream": stream,
        }
    )


async def serve(port: int, url: str) -> None:
    """Serve for ever."""
    headers = {"content-type": "application/json", "authorization": "Bearer sk-mock"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
        server = grpc.aio.server()
        rpc.add_LLMServiceServicer_to_server(Floor(session, url), server)  # type: ignore[abstract]  # two methods
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
