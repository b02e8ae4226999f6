"""A language model of a few hundred kilobytes, written in a moment: it knows which token follows which, and no more.

Enough for a real inference server to answer with words, with a tool call and with JSON, always the same: where several
tokens may follow, the server's grammar for tools and schemas says which.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ANSWER: Final = "Hello from a tiny model."
"""What it says to everybody."""

WIDTH: Final = 64
"""Of the embedding: more than there are tokens with a successor."""

_UNKNOWN, _BEGIN, _END, _FIRST_BYTE = 0, 1, 2, 3
_BLANK: Final = "\u2581"
"""How SentencePiece writes a blank."""

_WORDS: Final = ("Hello", f"{_BLANK}from", f"{_BLANK}a", f"{_BLANK}tiny", f"{_BLANK}model", ".", _BLANK, "<tool_call>")

# The prompt ends with ":" where an answer is wanted and with a line end where a tool is to be called.
TEMPLATE: Final = """\
{%- if tools %}system: You may call tools:
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>
Answer with <tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>
{% endif %}
{%- for message in messages %}{{ message.role }}: {{ message.content if message.content else '' }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}
{% endfor %}
{%- if add_generation_prompt %}assistant
{%- if tools and messages[-1].role != 'tool' %}{{ '\\n' }}{% else %}:{% endif %}{% endif %}"""


def write_tiny_model(path: Path) -> None:
    """Write it as a GGUF file, version 3 (github.com/ggml-org/ggml, docs/gguf.md)."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *_WORDS]
    tensors = _tensors(len(tokens), _successors(tokens))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(_facts(tokens)))
    head += b"".join(_string(key) + value for key, value in _facts(tokens).items())
    offset, data = 0, bytearray()
    for name, (shape, values) in tensors.items():
        head += _string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", 0, offset)
        data += _padded(struct.pack(f"<{len(values)}f", *values))
        offset = len(data)
    path.write_bytes(_padded(head) + data)


def _successors(tokens: Sequence[str]) -> dict[int, dict[int, float]]:
    """Token -> the tokens that follow it, and how gladly."""

    def at(text: str) -> int:
        return tokens.index(text) if text in tokens else _FIRST_BYTE + ord(text)

    words = [at(word) for word in _WORDS[:6]]
    follow: dict[int, dict[int, float]] = {a: {b: 9} for a, b in zip(words, [*words[1:], _END], strict=True)}
    follow[at(":")] = {words[0]: 9, at('"'): 5, at("{"): 4}
    follow[at("\n")] = {at("<tool_call>"): 9, at("{"): 5}
    follow[at("<tool_call>")] = {at("\n"): 9}
    follow[at("{")] = {at('"'): 5}
    follow[at(",")] = {at('"'): 5}
    follow[at('"')] = {at(":"): 5, at(","): 4, at("}"): 3}
    follow[at(">")] = {_END: 9}
    follow[at("}")] = {at("}"): 5, at("<"): 4, _END: 3}
    return follow


def _tensors(
    size: int, follow: Mapping[int, Mapping[int, float]]
) -> dict[str, tuple[tuple[int, ...], Sequence[float]]]:
    """One layer that adds nothing: what goes in as a token comes out as the wish for the next one."""
    embedding, output = [0.0] * (size * WIDTH), [0.0] * (size * WIDTH)
    for place, (token, after) in enumerate(follow.items()):
        embedding[token * WIDTH + place] = 1.0
        for following, gladly in after.items():
            output[following * WIDTH + place] = gladly
    ones, square = [1.0] * WIDTH, [0.0] * (WIDTH * WIDTH)
    layer = {f"blk.0.attn_{name}.weight": ((WIDTH, WIDTH), square) for name in ("q", "k", "v", "output")}
    layer |= {f"blk.0.ffn_{name}.weight": ((WIDTH, WIDTH), square) for name in ("gate", "up", "down")}
    norms = dict.fromkeys(("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"), ((WIDTH,), ones))
    tables = {"token_embd.weight": ((WIDTH, size), embedding), "output.weight": ((WIDTH, size), output)}
    return {**tables, **norms, **layer}


def _facts(tokens: Sequence[str]) -> dict[str, bytes]:
    kinds = [2, 3, 3, *[6] * 256, *[1] * len(_WORDS)]  # unknown, control, byte, normal
    scores = [0.0] * (_FIRST_BYTE + 256) + [-1.0] * len(_WORDS)
    sizes = {
        "context_length": 4096, "embedding_length": WIDTH, "block_count": 1, "feed_forward_length": WIDTH,
        "attention.head_count": 1, "attention.head_count_kv": 1, "rope.dimension_count": WIDTH,
    }  # fmt: skip
    ids = {"bos_token_id": _BEGIN, "eos_token_id": _END, "unknown_token_id": _UNKNOWN}
    return {
        "general.architecture": _text("llama"),
        **{f"llama.{name}": _number(value) for name, value in sizes.items()},
        "llama.attention.layer_norm_rms_epsilon": struct.pack("<If", 6, 1e-5),
        "tokenizer.ggml.model": _text("llama"),
        "tokenizer.ggml.tokens": struct.pack("<IIQ", 9, 8, len(tokens)) + b"".join(map(_string, tokens)),
        "tokenizer.ggml.scores": struct.pack("<IIQ", 9, 6, len(scores)) + struct.pack(f"<{len(scores)}f", *scores),
        "tokenizer.ggml.token_type": struct.pack("<IIQ", 9, 5, len(kinds)) + struct.pack(f"<{len(kinds)}i", *kinds),
        **{f"tokenizer.ggml.{name}": _number(value) for name, value in ids.items()},
        "tokenizer.ggml.add_space_prefix": struct.pack("<I?", 7, False),
        "tokenizer.chat_template": _text(TEMPLATE),
    }


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _text(text: str) -> bytes:
    return struct.pack("<I", 8) + _string(text)


def _number(value: int) -> bytes:
    return struct.pack("<II", 4, value)


def _padded(data: bytes, to: int = 32) -> bytes:
    return data + bytes(-len(data) % to)
