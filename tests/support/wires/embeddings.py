"""Embeddings as each provider has them: a vector of a text is its number of words, and its number of characters."""

from __future__ import annotations

import base64
import struct
from typing import Any


def vector(text: str, dimensions: int | None = None) -> list[float]:
    """Of a text; filled up with zeros to `dimensions`, cut to no less than two."""
    return [float(len(text.split())), float(len(text)), *([0.0] * ((dimensions or 2) - 2))]


def answer(path: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """The answer of a path that is one of embeddings, else None."""
    if path.endswith("/embeddings"):
        return _openai(body)
    if path.endswith(":batchEmbedContents"):
        return {"embeddings": [{"values": _gemini(row, row)} for row in body["requests"]]}
    if path.endswith(":embedContent"):
        return {"embedding": {"values": _gemini(body, body.get("embedContentConfig") or {})}}
    if path.endswith(":predict"):
        size = (body.get("parameters") or {}).get("outputDimensionality")
        return {"predictions": [_prediction(row["content"], size) for row in body["instances"]]}
    if path.endswith("/invoke"):
        text = body["inputText"]
        return {"embedding": vector(text, body.get("dimensions")), "inputTextTokenCount": len(text.split())}
    return None


def _openai(body: dict[str, Any]) -> dict[str, Any]:
    """In base64 where that is asked for; the length by OpenAI's name for it, or Mistral's."""
    size = body.get("dimensions") or body.get("output_dimension")
    found: list[Any] = [vector(text, size) for text in body["input"]]
    if body.get("encoding_format") == "base64":
        found = [base64.b64encode(struct.pack(f"<{len(one)}f", *one)).decode() for one in found]
    words = sum(len(text.split()) for text in body["input"])
    return {
        "object": "list",
        "model": body["model"],
        "data": [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(found)],
        "usage": {"prompt_tokens": words, "total_tokens": words},
    }


def _gemini(row: dict[str, Any], options: dict[str, Any]) -> list[float]:
    return vector("".join(part["text"] for part in row["content"]["parts"]), options.get("outputDimensionality"))


def _prediction(text: str, size: int | None) -> dict[str, Any]:
    return {"embeddings": {"values": vector(text, size), "statistics": {"token_count": len(text.split())}}}
