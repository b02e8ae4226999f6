"""Ways into a gateway, and the requests that go there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

import msgspec

from bench.cases import Case
from dragoman.v1 import chat_pb2

_SYSTEM: Final = "You are a helpful assistant."
_USER: Final = "Say something about the quick brown fox, please. "


class Surface(msgspec.Struct, frozen=True, kw_only=True):
    """One way into a peer. path, stream: where whole answers and streams are asked for. style: whose request it takes.
    model: what goes before the provider's name for a model."""

    name: str
    port: int
    path: str
    stream: str
    protocol: Literal["http", "grpc"] = "http"
    style: Literal["openai", "contract"] = "openai"
    headers: dict[str, str] = {}
    model: str = ""

    def write_body(self, folder: Path, case: Case) -> Path:
        """A case's request, as a file."""
        path = folder / f"{self.name}-{case.group}.body"
        path.write_bytes(self._body(case))
        return path

    def _body(self, case: Case) -> bytes:
        model = self.model + case.model
        user = _USER * max(1, case.prompt * 1000 // len(_USER))
        messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": user}]
        if self.protocol == "grpc":
            turns = [chat_pb2.Message(role=each["role"], content=each["content"]) for each in messages]
            request = chat_pb2.ChatRequest(model=model, messages=turns, temperature=0.7, max_tokens=256)
            return request.SerializeToString()
        body: dict[str, object] = {"model": model, "messages": messages, "temperature": 0.7}
        body["maxTokens" if self.style == "contract" else "max_tokens"] = 256
        if case.tokens and self.style == "openai":
            body["stream"] = True
        return json.dumps(body).encode()


def openai(name: str, port: int, headers: dict[str, str] | None = None, *, model: str = "") -> Surface:
    """The OpenAI dialect, which every peer has."""
    path = "/v1/chat/completions"
    return Surface(name=name, port=port, path=path, stream=path, headers=headers or {}, model=model)


def rest(name: str, port: int, headers: dict[str, str] | None = None) -> Surface:
    """Our contract's REST; its stream by the path that needs no Accept."""
    path = "/api/v1/ai/llm/chat"
    return Surface(
        name=name,
        port=port,
        path=path,
        stream=f"{path}:stream",
        headers=headers or {},
        model="custom/",
        style="contract",
    )


def grpc(name: str, port: int, headers: dict[str, str]) -> Surface:
    """Our contract by gRPC, past Envoy."""
    service = "/dragoman.v1.LLMService"
    return Surface(
        name=name,
        port=port,
        path=f"{service}/Complete",
        stream=f"{service}/Chat",
        protocol="grpc",
        style="contract",
        headers=headers,
        model="custom/",
    )
