"""A provider's words reach the caller, unless they repeat what was sent to it."""

from __future__ import annotations

import pytest

from server.core.errors import ProviderError, ProviderInvalidRequest, ProviderUnauthenticated
from server.core.messages import ChatRequest, Message, Part, Text, ToolCall, ToolResult
from server.core.quoting import WITHHELD, quote_provider

SECRET_PLAN = "the plan is to open the shop at dawn on Monday"


def asked(*parts: Part, system: str | None = None) -> ChatRequest:
    return ChatRequest(messages=(Message("user", parts),), system=system)


def quoted(words: str, request: ChatRequest, kind: type[ProviderError] = ProviderInvalidRequest) -> ProviderError:
    error = kind("The provider refused the request.", provider_message=words)
    quote_provider(error, request)
    return error


def test_words_about_the_request_are_passed_on_in_the_message_and_as_a_field() -> None:
    error = quoted("Unsupported parameter: 'max_tokens'.", asked(Text(SECRET_PLAN)))
    assert error.message == "The provider refused the request: Unsupported parameter: 'max_tokens'."
    assert error.metadata["provider_message"] == "Unsupported parameter: 'max_tokens'."


@pytest.mark.parametrize(
    "request_",
    [
        asked(Text(SECRET_PLAN)),
        asked(Text("hi"), system=SECRET_PLAN),
        asked(ToolCall("c", "f", f'{{"plan": "{SECRET_PLAN}"}}')),
        asked(ToolResult("c", (Text(SECRET_PLAN),))),
    ],
    ids=["text", "system", "tool call", "tool result"],
)
@pytest.mark.parametrize("offset", range(8))
def test_words_that_repeat_a_stretch_of_the_request_are_withheld_wherever_it_stands(
    request_: ChatRequest, offset: int
) -> None:
    words = f"{'.' * offset}Cannot process «{SECRET_PLAN[offset : offset + 24]}»."
    error = quoted(words, request_)
    assert error.metadata["provider_message"] == WITHHELD
    assert error.message == "The provider refused the request."


def test_a_short_prompt_is_not_repeated_either() -> None:
    assert quoted("Bad input: open sesame!", asked(Text("open sesame"))).metadata["provider_message"] == WITHHELD


def test_words_about_a_refused_credential_are_left_out() -> None:
    error = quoted("Incorrect API key provided: sk-...cdef", asked(Text("hi")), ProviderUnauthenticated)
    assert "provider_message" not in error.metadata
    assert error.message == "The provider refused the request."


def test_an_error_is_quoted_once() -> None:
    error = quoted("Unsupported parameter.", asked(Text("hi")))
    quote_provider(error, asked(Text("hi")))
    assert error.message == "The provider refused the request: Unsupported parameter."
