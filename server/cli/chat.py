"""`chat`: a conversation in the terminal, streamed over gRPC.

The answer's text goes to stdout and nothing else does, so that a pipe gets the text alone; reasoning, tool calls,
warnings and the count of tokens go to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated, Any, TextIO

import typer

from server.cli.access import WorkspaceOption
from server.cli.client import (
    AddressOption,
    Caller,
    CallFailed,
    KeyFileOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    TlsOption,
    Way,
    calling,
    way,
)
from server.cli.context import setup_of

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def chat(  # noqa: PLR0913 - each is an option of the command
    ctx: typer.Context,
    prompt: Annotated[
        str, typer.Argument(help="What to ask. Default: stdin in a pipe, a conversation on a terminal.")
    ] = "",
    *,
    model: Annotated[str, typer.Option("--model", "-m", help="provider/model. Default: the workspace's.")] = "",
    system: Annotated[str, typer.Option("--system", "-s", help="System text.")] = "",
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature, 0 to 2.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens of the answer.")] = None,
    workspace: WorkspaceOption = "",
    address: AddressOption = "",
    key_file: KeyFileOption = None,
    tls: TlsOption = False,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
) -> None:
    """Ask a model; the answer comes as it is made. Ctrl-C cancels it."""
    settings = setup_of(ctx).settings
    if not prompt and not sys.stdin.isatty():
        prompt = sys.stdin.read()
        if not prompt.strip():
            raise typer.BadParameter("there is no prompt: give one, or pipe it in")
    from dragoman.v1 import chat_pb2  # noqa: PLC0415

    request = chat_pb2.ChatRequest(
        model=model,
        project_id=workspace or settings.workspace,
        instructions=system,
        temperature=temperature,
        max_tokens=max_tokens,
    )
    there = way(settings, address, key_file, tls=tls, ca=tls_ca, certificate=tls_cert, key=tls_key)
    with calling(settings, there) as caller:
        if prompt:
            if not _turn(caller, request, prompt, as_json=as_json):
                raise typer.Exit(INTERRUPTED)
            return
    _converse(ctx, request, there, as_json=as_json)


def _converse(ctx: typer.Context, request: Any, there: Way, *, as_json: bool) -> None:
    """Turn after turn, until end of input. A turn that fails is taken back, and the next one may be asked."""
    _aside("A conversation; Ctrl-D ends it, Ctrl-C cancels an answer. Texts alone are sent back to the model.")
    while True:
        try:
            prompt = input("> ")
        except (EOFError, KeyboardInterrupt):
            _aside("")
            return
        if not prompt.strip():
            continue
        kept = len(request.messages)
        done = False
        try:
            with calling(setup_of(ctx).settings, there) as caller:
                done = _turn(caller, request, prompt, as_json=as_json)
        except CallFailed as error:
            print(f"error: {error}", file=sys.stderr)
        if not done:
            del request.messages[kept:]


def _turn(caller: Caller, request: Any, prompt: str, *, as_json: bool) -> bool:
    """Ask, and show the answer; both are then part of the conversation in `request`. False where it was cancelled."""
    from dragoman.v1 import llm_service_pb2_grpc  # noqa: PLC0415

    request.messages.add(role="user", content=prompt)
    call = llm_service_pb2_grpc.LLMServiceStub(caller.channel).Chat(request, metadata=caller.metadata)
    screen = Screen()
    try:
        if as_json:
            _print_events(call)
        else:
            for event in call:
                screen.show(event)
    except KeyboardInterrupt:
        call.cancel()
        screen.end_line()
        _aside("cancelled")
        return False
    except BaseException:
        screen.end_line()
        raise
    if screen.text:
        request.messages.add(role="assistant", content=screen.text)
    else:  # a turn without words would be refused when it is sent back
        del request.messages[-1]
    return True


def _print_events(events: Iterable[Any]) -> None:
    from google.protobuf import json_format  # noqa: PLC0415

    for event in events:
        print(json_format.MessageToJson(event, indent=None, ensure_ascii=False), flush=True)


class Screen:
    """Shows the events of one answer. text: the visible text so far."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._open_line: TextIO | None = None

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def show(self, event: Any) -> None:
        """Show one ChatEvent."""
        kind = event.WhichOneof("event")
        body: Any = getattr(event, kind) if kind else None
        if kind == "block_start":
            self._start(body)
        elif kind == "block_delta":
            self._delta(body)
        elif kind == "block_end":
            if self._open_line is sys.stderr:
                self.end_line()
            self._sources(body)
        elif kind in {"started", "completed"}:
            if kind == "completed":
                self.end_line()
            for warning in body.warnings:
                _aside(f"warning: {warning.message}", style="33")
            if kind == "completed":
                self._completed(body)

    def end_line(self) -> None:
        """Let what follows begin on a line of its own."""
        if self._open_line is not None:
            self._write("\n", self._open_line)
            self._open_line = None

    def _start(self, block: Any) -> None:
        kind = block.WhichOneof("block")
        if kind == "tool_call":
            self._aside_of_line(f"calls {block.tool_call.name} ")
        elif kind == "server_tool":
            self._aside_of_line(f"runs {block.server_tool.name or block.server_tool.type} ")

    def _delta(self, delta: Any) -> None:
        kind = delta.WhichOneof("delta")
        piece = getattr(delta, kind) if kind else ""
        if kind == "text":
            self._parts.append(piece)
            if self._open_line is sys.stderr:
                self.end_line()
            self._write(piece, sys.stdout)
            self._open_line = None if piece.endswith("\n") else sys.stdout
        elif piece:
            self._dim(piece)

    def _aside_of_line(self, text: str) -> None:
        self.end_line()
        self._dim(text)

    def _dim(self, text: str) -> None:
        if self._open_line is sys.stdout:
            self.end_line()
        self._write(text, sys.stderr, style="2")
        self._open_line = sys.stderr

    def _sources(self, end: Any) -> None:
        for citation in end.citations:
            place = citation.url or citation.title
            if place:
                self.end_line()
                _aside(f"source: {place}")

    def _completed(self, completed: Any) -> None:
        if completed.refusal:
            _aside(f"declined: {completed.refusal}", style="33")
        usage = completed.usage
        counts = [
            f"{getattr(usage, field)} {words}"
            for field, words in (
                ("prompt_tokens", "in"),
                ("cached_tokens", "of them cached"),
                ("completion_tokens", "out"),
                ("reasoning_tokens", "of them reasoning"),
            )
            if usage.HasField(field) and (getattr(usage, field) or field in {"prompt_tokens", "completion_tokens"})
        ]
        _aside(" · ".join([completed.model, completed.finish_reason, f"tokens {', '.join(counts) or 'not reported'}"]))

    @staticmethod
    def _write(text: str, stream: TextIO, style: str = "") -> None:
        _write(text, stream, style)


def _aside(text: str, style: str = "2") -> None:
    _write(text, sys.stderr, style)
    print(file=sys.stderr, flush=True)


def _write(text: str, stream: TextIO, style: str = "") -> None:
    """Write at once. On a terminal without control characters, which an answer could use to change what one sees."""
    if stream.isatty():
        text = "".join(c for c in text if c in "\n\t" or not (c < " " or "\x7f" <= c <= "\x9f"))
        if style and text.strip():
            text = f"\x1b[{style}m{text}\x1b[0m"
    stream.write(text)
    stream.flush()
