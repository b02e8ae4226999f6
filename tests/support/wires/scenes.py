"""What is played, apart from any wire: from what a request says to what is answered."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

SIGNATURE = "c2lnbmVkLWJ5LXRoZS1wcm92aWRlcg=="
"""What a provider signs its thoughts and calls with; it must come back as it was."""

ANSWER_TOOL = "final_result"
"""The tool by which pydantic-ai lets a model answer in a form."""

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5f64540"
    "0000000049454e44ae426082"
)


@dataclass(frozen=True)
class Asked:
    """What a wire's request says. signatures, thoughts: those that came back with earlier turns; results: tools'
    answers; images: their bytes, or the URL of one that the provider is to fetch."""

    text: str
    stream: bool
    system: str = ""
    tools: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    images: tuple[bytes, ...] = ()
    signatures: tuple[str, ...] = ()
    thoughts: tuple[str, ...] = ()
    schema: Any = None


@dataclass(frozen=True)
class Refusal:
    """How a provider refuses: a wrong key is 400, 401 or 403."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Played:
    """What the wire answers. calls: (id, name, arguments). fail: an HTTP status instead of an answer. broken: the
    stream ends in an error. endless: it never ends. silent: it never begins.
    extra: members of the answer that nobody knows."""

    text: str = ""
    thought: str = ""
    calls: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    finish: str = "stop"
    fail: int = 0
    broken: bool = False
    endless: bool = False
    silent: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def pieces(self) -> list[str]:
        """The text as a stream brings it."""
        words = self.text.split(" ")
        return [word + " " for word in words[:-1]] + words[-1:] if self.text else []


def play(asked: Asked) -> Played:  # noqa: C901, PLR0912  one case for each scene
    """The scene for a request."""
    word = asked.text.split(" ")[0] if asked.text else ""
    if asked.results and ANSWER_TOOL in asked.tools:
        said = {"city": "Paris", "words": asked.results[0]}
        return Played(calls=(("call_answer", ANSWER_TOOL, said),), finish="tool_calls")
    if asked.results and asked.schema:
        return Played(json.dumps({"city": "Paris", "words": asked.results[0]}))
    if asked.results:
        back = "signed" if SIGNATURE in asked.signatures else "unsigned"
        return Played(f"The tools said {', '.join(asked.results)} ({back}).")
    match word:
        case "weather":
            cities = ["Paris", "Rome"] if "parallel" in asked.text else ["Paris"]
            calls = tuple((f"call_{n}", asked.tools[0], {"city": city}) for n, city in enumerate(cities))
            return Played(calls=calls, finish="tool_calls")
        case "think":
            back = "signed" if SIGNATURE in asked.signatures else "unsigned"
            return Played(f"Thought it through ({back}).", thought="Let me see.")
        case "json":
            form = "with a schema" if asked.schema else "without"
            return Played(json.dumps({"city": "Paris", "form": form}))
        case "see":
            return Played(f"I see {len(asked.images)} image of {sum(map(len, asked.images))} bytes.")
        case "long":
            return Played("It is cut", finish="length")
        case "fail":
            return Played(fail=int(asked.text.split(" ")[1]))
        case "break":
            return Played("It goes well until", broken=True)
        case "endless":
            return Played("on and on ", endless=True)
        case "beyond":
            return Played("Hello", extra={"unheard_of": {"a": 1}})
        case "silence":
            return Played(silent=True)
        case "count":
            return Played(" ".join(str(n) for n in range(50)))
        case _:
            return Played(f"You said {asked.text!r}, under {asked.system!r}.")
