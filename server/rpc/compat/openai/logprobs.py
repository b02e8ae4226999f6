"""Log probabilities, in whichever of three forms a provider gave them, as OpenAI's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec


def logprobs_object(given: Iterable[str]) -> dict[str, Any] | None:
    """`choices[].logprobs` for JSON texts as adapters hand them on; None where none of them can be read.

    Forms: OpenAI's chat (`{"content": [...]}`), its Responses API's (a list), Gemini's (`chosenCandidates` and
    `topCandidates`, ai.google.dev/api/generate-content#LogprobsResult).
    """
    content: list[Any] = []
    for text in given:
        found = msgspec.json.decode(text)
        if isinstance(found, list):
            content += found
        elif isinstance(found, dict) and isinstance(found.get("content"), list):
            content += found["content"]
        elif isinstance(found, dict) and isinstance(found.get("chosenCandidates"), list):
            content += _of_gemini(found["chosenCandidates"], found.get("topCandidates") or [])
    return {"content": content, "refusal": None} if content else None


def _of_gemini(chosen: Sequence[Any], top: Sequence[Any]) -> list[dict[str, Any]]:
    tokens = []
    for index, one in enumerate(chosen):
        others = top[index].get("candidates") or [] if index < len(top) else []
        tokens.append({**_token(one), "top_logprobs": [_token(other) for other in others]})
    return tokens


def _token(candidate: dict[str, Any]) -> dict[str, Any]:
    token = str(candidate.get("token", ""))
    return {"token": token, "bytes": list(token.encode()), "logprob": candidate.get("logProbability", 0.0)}
