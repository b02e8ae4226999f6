"""Earlier turns on Gemini's wire: what goes back unchanged, and what another provider's history becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.errors import InvalidRequest
from server.core.messages import (
    Image,
    Inline,
    Message,
    Opaque,
    Reasoning,
    ServerTool,
    Text,
    ToolCall,
    ToolResult,
)
from server.providers.gemini.history import NO_SIGNATURE
from tests.providers.gemini.support import (
    BUDGETS,
    HI,
    LEVELS,
    again,
    answer,
    body,
    build,
    chunk,
    function,
    opaque,
    text,
    warned,
)

PNG = Image(Inline("image/png", b"x"))


def result(id: str, *content: str, **fields: Any) -> ToolResult:
    return ToolResult(id, tuple(Text(words) for words in content), **fields)


# --- own answers ------------------------------------------------------------------------------------------------------

TURNS: list[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]] = [
    (
        "a signature on the first text part stays there, and text after it is a part without",
        [text("a", thoughtSignature="s1"), text("b"), text("c")],
        [text("a", thoughtSignature="s1"), text("bc")],
    ),
    (
        "a signature that comes last in an empty part stays in an empty part",
        [text("a"), text("b"), text("", thoughtSignature="s")],
        [text("ab"), text("", thoughtSignature="s")],
    ),
    (
        "two signed parts are never joined",
        [text("a", thoughtSignature="1"), text("b", thoughtSignature="2")],
        [text("a", thoughtSignature="1"), text("b", thoughtSignature="2")],
    ),
    (
        "thoughts go back marked as thoughts",
        [text("Hm", thought=True), text("m", thought=True, thoughtSignature="s"), text("x")],
        [text("Hm", thought=True), text("m", thought=True, thoughtSignature="s"), text("x")],
    ),
    (
        "of parallel calls the first one is signed",
        [function("f", {"a": 1}, "sig", id="7"), function("f", {"a": 2}), function("g", {})],
        [function("f", {"a": 1}, "sig", id="7"), function("f", {"a": 2}), function("g", {})],
    ),
    (
        "a signature alone behind a call goes back alone",
        [function("f", {}, "1"), text("", thoughtSignature="2")],
        [function("f", {}, "1"), text("", thoughtSignature="2")],
    ),
    (
        "steps of the provider's tools go back as they came",
        [
            {"executableCode": {"language": "PYTHON", "code": "1", "id": "7"}, "thoughtSignature": "s"},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
            {"toolCall": {"toolType": "X", "id": "t", "extra": {"new": [1]}}, "thoughtSignature": "s2"},
            {"toolResponse": {"toolType": "X", "id": "t", "response": {"n": 1.50}}},
        ],
        [
            {"executableCode": {"language": "PYTHON", "code": "1", "id": "7"}, "thoughtSignature": "s"},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
            {"toolCall": {"toolType": "X", "id": "t", "extra": {"new": [1]}}, "thoughtSignature": "s2"},
            {"toolResponse": {"toolType": "X", "id": "t", "response": {"n": 1.50}}},
        ],
    ),
    (
        "characters outside the basic plane do not move a signature",
        [text("😀é", thoughtSignature="1"), text("😀")],
        [text("😀é", thoughtSignature="1"), text("😀")],
    ),
]


@pytest.mark.parametrize(("came", "goes"), [turn[1:] for turn in TURNS], ids=[turn[0] for turn in TURNS])
def test_an_answer_goes_back_as_it_came(came: list[dict[str, Any]], goes: list[dict[str, Any]]) -> None:
    """In one event or in one event a part: the next turn holds the same parts, signatures in their places."""
    for chunks in ([chunk(*came)], [chunk(part) for part in came]):
        message = answer(*chunks, chunk(finish="STOP")).message
        assert again(message) == [{"role": "model", "parts": goes}]
        assert again(message, model_info=LEVELS) == [{"role": "model", "parts": goes}]


def test_a_text_that_the_caller_changed_goes_without_its_signatures() -> None:
    """A signature belongs to its words: with other words it is left out, which is said."""
    (part,) = answer(chunk(text("abc", thoughtSignature="s"), finish="STOP")).message.parts
    assert isinstance(part, Text)
    built = build(messages=(*HI, Message("assistant", (Text("changed", opaque=part.opaque),))))
    assert json.loads(built.http.body)["contents"][1]["parts"] == [text("changed")]
    assert warned(built) == [("part_dropped", "messages")]


@pytest.mark.parametrize(
    "data", [b"", b"junk", b"[]", b'{"pieces":[[-1],[4]]}', b'{"pieces":"x"}', b'{"id":5}', b"\xff"]
)
def test_opaque_data_that_is_not_from_here_is_no_crash(data: bytes) -> None:
    """Callers hold it, so it may be anything."""
    parts = (
        Text("abc", opaque=opaque(data)),
        Reasoning("t", opaque=opaque(data)),
        ToolCall("1", "f", "{}", opaque=opaque(data)),
        ServerTool("x", opaque=opaque(b"[]" if data == b"" else b'"' + data)),
    )
    sent = again(Message("assistant", parts))
    assert sent == [{"role": "model", "parts": [text("abc"), function("f", {})]}]


# --- the history of another -------------------------------------------------------------------------------------------

FOREIGN = Message(
    "assistant",
    (
        Reasoning("thought", opaque=Opaque("anthropic", "claude", b"sig")),
        Text("words", opaque=Opaque("openai", "gpt", b"x")),
        ServerTool("web_search_call", "w", "web_search", "{}", opaque=Opaque("openai", "gpt", b"{}")),
        ToolCall("toolu_1", "f", '{"a":1}', opaque=Opaque("xai", "grok", b"y")),
        ToolCall("toolu_2", "g", ""),
    ),
)


def test_what_only_another_provider_can_read_is_left_out_and_told_of() -> None:
    """Text and calls stay; thoughts, signatures and steps of its tools go, each kind with a warning."""
    built = build(messages=(*HI, FOREIGN))
    assert json.loads(built.http.body)["contents"][1]["parts"] == [
        text("words"),
        function("f", {"a": 1}),
        function("g", {}),
    ]
    assert [warning.code for warning in built.warnings] == ["part_dropped"] * 3


def test_calls_of_another_model_are_marked_for_gemini_3_only() -> None:
    """It refuses a step whose first call is unsigned; Google names a word for history that it did not make."""
    first, second = again(FOREIGN, model_info=LEVELS)[0]["parts"][1:]
    assert (first["thoughtSignature"], "thoughtSignature" in second) == (NO_SIGNATURE, False)
    for model in (None, BUDGETS):
        assert all("thoughtSignature" not in part for part in again(FOREIGN, model_info=model)[0]["parts"])


def test_signatures_of_another_gemini_model_are_foreign() -> None:
    """They belong to provider and model."""
    data = b'{"signature":"s","id":"7"}'
    turn = Message("assistant", (ToolCall("7", "f", "{}", opaque=opaque(data, model="other")),))
    assert again(turn) == [{"role": "model", "parts": [function("f", {})]}]
    assert again(turn, model_info=LEVELS)[0]["parts"][0]["thoughtSignature"] == NO_SIGNATURE


def test_a_turn_of_which_nothing_is_left_is_left_out() -> None:
    """Empty contents are refused by the API."""
    assert again(Message("assistant", (Text(""), Reasoning("t")))) == []


# --- results ----------------------------------------------------------------------------------------------------------


def calls(*names: str, ids: tuple[str, ...] = ("1", "2", "3")) -> Message:
    return Message("assistant", tuple(ToolCall(id, name, "{}") for id, name in zip(ids, names, strict=False)))


def responses(content: dict[str, Any]) -> list[tuple[str, Any]]:
    found = [part["functionResponse"] for part in content["parts"]]
    return [(response["name"], response["response"]) for response in found]


def test_results_of_parallel_calls_go_in_one_content_in_the_order_of_the_calls() -> None:
    """However they came: one message each, in another order, or together."""
    turn = calls("f", "f", "g")
    wanted = [("f", {"output": "a"}), ("f", {"output": "b"}), ("g", {"output": "c"})]
    a, b, c = result("1", "a"), result("2", "b"), result("3", "c")
    for order in ((a, b, c), (c, b, a), (b, c, a)):
        for messages in ([Message("tool", order)], [Message("tool", (one,)) for one in order]):
            (content,) = again(turn, *messages)[1:]
            assert (content["role"], responses(content)) == ("user", wanted)


def test_ids_of_the_provider_go_back_with_call_and_result_and_ours_do_not() -> None:
    """What Gemini did not number is matched by name and order."""
    message = answer(chunk(function("f", {}, id="7"), function("f", {}), finish="STOP")).message
    ids = [part.id for part in message.parts if isinstance(part, ToolCall)]
    made, told = again(message, Message("tool", tuple(result(id, "x") for id in ids)))
    assert [part["functionCall"].get("id") for part in made["parts"]] == ["7", None]
    assert [part["functionResponse"].get("id") for part in told["parts"]] == ["7", None]


def test_an_id_that_comes_again_in_a_later_turn_means_the_later_call() -> None:
    """Some providers number their calls anew in each turn."""
    sent = again(
        calls("f", ids=("0",)), Message("tool", (result("0", "a"),)), calls("g", ids=("0",)),
        Message("tool", (result("0", "b"),)),
    )  # fmt: skip
    assert [responses(sent[1]), responses(sent[3])] == [[("f", {"output": "a"})], [("g", {"output": "b"})]]


@pytest.mark.parametrize(
    ("given", "response"),
    [
        (result("1", "plain"), {"output": "plain"}),
        (result("1", '{"a": 1.50}'), {"a": 1.5}),
        (result("1", "[1]"), {"output": "[1]"}),
        (result("1", "a", "b"), {"output": ["a", "b"]}),
        (result("1"), {"output": ""}),
        (result("1", "boom", is_error=True), {"error": "boom"}),
        (result("1", '{"why": 1}', is_error=True), {"error": {"why": 1}}),
    ],
)
def test_a_response_is_always_an_object(given: ToolResult, response: dict[str, Any]) -> None:
    """A result that is one goes as it is, anything else under the API's own keys."""
    assert responses(again(calls("f"), Message("tool", (given,)))[1]) == [("f", response)]


def test_media_in_a_result() -> None:
    """Inside the response from Gemini 3 on, behind it for the models before."""
    turns = (calls("f"), Message("tool", (ToolResult("1", (Text("a"), PNG)),)))
    data = {"inlineData": {"mimeType": "image/png", "data": "eA=="}}
    inside = again(*turns, model_info=LEVELS)[1:]
    assert [part["functionResponse"]["parts"] for part in inside[0]["parts"]] == [[data]]
    told, aside = again(*turns, model_info=BUDGETS)[1:]
    assert responses(told) == [("f", {"output": "a"})]
    assert aside == {"role": "user", "parts": [text("Result of the call of f:"), data]}


def test_what_cannot_be_matched_or_read_is_the_callers_mistake() -> None:
    """A result without call and name; arguments that are no object."""
    with pytest.raises(InvalidRequest, match="tool_call_id"):
        again(Message("tool", (result("x", "a"),)))
    with pytest.raises(InvalidRequest, match=r"messages\[1\]\.tool_calls\[0\]\.arguments"):
        again(Message("assistant", (ToolCall("1", "f", '{"a":'),)))


def test_a_user_turn_after_results_is_a_content_of_its_own() -> None:
    """Roles keep their order."""
    messages = (*HI, calls("f"), Message("tool", (result("1", "a"),)), Message("user", (Text("and?"),)))
    sent = body(messages=messages)["contents"]
    assert [content["role"] for content in sent] == ["user", "model", "user", "user"]
    assert sent[-1]["parts"] == [text("and?")]


def test_results_and_words_of_one_message_stay_one_content() -> None:
    """Also when results came before it."""
    both = Message("user", (result("2", "b"), Text("and?")))
    told = again(calls("f", "g"), Message("tool", (result("1", "a"),)), both)[1:]
    names = [part.get("functionResponse", {}).get("name") for content in told for part in content["parts"]]
    assert (len(told), names) == (1, ["f", "g", None])
