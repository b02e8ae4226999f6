"""Ways into a gateway, and the requests that go there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import msgspec

from bench.answers import Form
from bench.cases import Case
from dragoman.v1 import chat_pb2

_SYSTEM: Final = "You are a helpful assistant."
_USER: Final = "Say something about the quick brown fox, please. "
_TURN_BYTES: Final = 250_000


class Surface(msgspec.Struct, frozen=True, kw_only=True):
    """One way into a peer. path, stream: where whole answers and streams are asked for. form: of requests and answers.
    model: what goes before the provider's name for a model."""

    name: str
    port: int
    path: str
    stream: str
    form: Form = "openai"
    headers: dict[str, str] = {}
    model: str = ""

    def write_body(self, folder: Path, case: Case) -> Path:
        """A case's request, as a file."""
        path = folder / f"{self.name}-{case.group}.body"
        path.write_bytes(self.body(case))
        return path

    def body(self, case: Case) -> bytes:
        """A case's request."""
        model = self.model + case.model
        messages = [{"role": "system", "content": _SYSTEM}, *prompt(case.prompt * 1000)]
        if self.form == "grpc":
            turns = [chat_pb2.Message(role=each["role"], content=each["content"]) for each in messages]
            request = chat_pb2.ChatRequest(model=model, messages=turns, temperature=0.7, max_tokens=256)
            return request.SerializeToString()
        body: dict[str, object] = {"model": model, "messages": messages, "temperature": 0.7}
        body["maxTokens" if self.form == "contract" else "max_tokens"] = 256
        if case.tokens and self.form == "openai":
            body["stream"] = True
        return json.dumps(body).encode()


def prompt(size: int) -> list[dict[str, str]]:
    """A history of about so many bytes, at least a sentence; it ends with the user's turn."""
    # An odd number of turns, each within what the contract allows for one.
    turns = size // _TURN_BYTES | 1
    content = _USER * max(1, size // turns // len(_USER))
    return [{"role": "assistant" if turn % 2 else "user", "content": content} for turn in range(turns)]


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
        form="contract",
    )


def grpc(name: str, port: int, headers: dict[str, str]) -> Surface:
    """Our contract by gRPC, past Envoy."""
    service = "/dragoman.v1.LLMService"
    return Surface(
        name=name,
        port=port,
        path=f"{service}/Complete",
        stream=f"{service}/Chat",
        form="grpc",
        headers=headers,
        model="custom/",
    )
