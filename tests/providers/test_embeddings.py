"""Embeddings on every wire: what goes out, what is made of the answers, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.core.catalog import ModelInfo
from server.core.embedding import OPENAI_WIRE, EmbedRequest, Tokens, vector, vector_bytes
from server.core.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    ProviderProtocolError,
    ProviderRateLimited,
    ProviderUnauthenticated,
    UnsupportedParameter,
)
from server.core.events import Usage
from server.core.messages import Passthrough
from server.core.ports import CallTimeouts, EmbedBatch, EmbedCall, ProviderTarget
from server.core.secret import Secret
from server.providers.http import HttpRequest, HttpResponse
from server.providers.registry import ProviderRegistry
from server.providers.runner import EMBED_CONCURRENCY, HttpChatProvider
from server.providers.transport.client import HttpTransport
from server.providers.transport.fake import FakeReply, FakeTransport
from tests.support.aimock import StartAimock
from tests.support.scripted import Reply, ScriptedProvider

KEY = "sk-canary-embeddings-0123456789"
VERTEX = "https://europe-west4-aiplatform.googleapis.com/v1beta1/projects/p/locations/europe-west4"
COHERE_4, COHERE_3 = "cohere.embed-v4:0", "cohere.embed-english-v3"
NOVA, TITAN, TITAN_1 = (
    "amazon.nova-2-multimodal-embeddings-v1:0",
    "amazon.titan-embed-text-v2:0",
    "amazon.titan-embed-text-v1",
)


def call(
    slug: str,
    model: str,
    *texts: str | Tokens,
    endpoint: str | None = None,
    info: ModelInfo | None = None,
    timeouts: CallTimeouts = CallTimeouts(),  # noqa: B008  immutable
    **fields: Any,
) -> EmbedCall:
    target = ProviderTarget(provider=slug, config_id="c", endpoint=endpoint, secret=Secret(KEY))
    request = EmbedRequest(input=texts or ("one", "two"), model=f"{slug}/{model}", **fields)
    return EmbedCall(target=target, request=request, model=model, info=info, timeouts=timeouts)


async def run(wanted: EmbedCall, *answers: object, status: int = 200, **headers: str) -> tuple[list[EmbedBatch], Any]:
    """The batches, and the transport with what was sent; each request is answered by the next of `answers`."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    replies = [FakeReply(status=status, headers=given, chunks=[json.dumps(answer).encode()]) for answer in answers]
    transport = FakeTransport(*replies)
    adapter = ProviderRegistry(transport).get(wanted.target.provider)
    return [batch async for batch in adapter.embed(wanted)], transport


def openai(*vectors: object, **more: object) -> dict[str, object]:
    data = [{"object": "embedding", "index": at, "embedding": one} for at, one in enumerate(vectors)]
    return {"object": "list", "data": data, "model": "m-1", "usage": {"prompt_tokens": 2, "total_tokens": 2}, **more}


def gemini(*vectors: list[float], **more: object) -> dict[str, object]:
    return {"embeddings": [{"values": one} for one in vectors], **more}


ONE, TWO = [0.5, -1.0], [0.25, 2.0]
HTTPS = "https://bedrock-runtime.us-east-1.amazonaws.com/model"

# slug, model, fields of the call, answers; url, bodies
ROWS: Sequence[tuple[str, str, dict[str, Any], Sequence[object], str, Sequence[Mapping[str, Any]]]] = [
    (
        "openai", "text-embedding-3-small", {"dimensions": 2, "user": "u"}, [openai(ONE, TWO)],
        "https://api.openai.com/v1/embeddings",
        [{"model": "text-embedding-3-small", "input": ["one", "two"], "encoding_format": "base64", "dimensions": 2,
          "user": "u"}],
    ),
    (
        "openai", "my-deployment", {"endpoint": "https://r.openai.azure.com"}, [openai(ONE, TWO)],
        "https://r.openai.azure.com/openai/v1/embeddings",
        [{"model": "my-deployment", "input": ["one", "two"], "encoding_format": "base64"}],
    ),
    (
        "custom", "m", {"endpoint": "https://llm.example/v1", "dimensions": 2}, [openai(ONE, TWO)],
        "https://llm.example/v1/embeddings", [{"model": "m", "input": ["one", "two"], "dimensions": 2}],
    ),
    (
        "custom", "codestral-embed", {"endpoint": "https://api.mistral.ai", "dimensions": 2}, [openai(ONE, TWO)],
        "https://api.mistral.ai/v1/embeddings",
        [{"model": "codestral-embed", "input": ["one", "two"], "output_dimension": 2}],
    ),
    (
        "gemini", "gemini-embedding-001", {"dimensions": 2, "provider_options": '{"taskType":"RETRIEVAL_QUERY"}'},
        [gemini(ONE, TWO)],
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001:batchEmbedContents",
        [{"requests": [
            {"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]}, "outputDimensionality": 2,
             "taskType": "RETRIEVAL_QUERY"}
            for text in ("one", "two")
        ]}],
    ),
    (
        "gemini", "gemini-embedding-2", {"endpoint": VERTEX, "dimensions": 2},
        [{"embedding": {"values": ONE}}, {"embedding": {"values": TWO}}],
        f"{VERTEX}/publishers/google/models/gemini-embedding-2:embedContent",
        [{"content": {"role": "user", "parts": [{"text": text}]},
          "embedContentConfig": {"autoTruncate": False, "outputDimensionality": 2}} for text in ("one", "two")],
    ),
    (
        "gemini", "text-embedding-005",
        {"endpoint": VERTEX, "dimensions": 2,
         "provider_options": '{"task_type":"X","parameters":{"autoTruncate":true}}'},
        [{"predictions": [{"embeddings": {"values": one}}]} for one in (ONE, TWO)],
        f"{VERTEX}/publishers/google/models/text-embedding-005:predict",
        [{"instances": [{"content": text, "task_type": "X"}],
          "parameters": {"autoTruncate": True, "outputDimensionality": 2}} for text in ("one", "two")],
    ),
    (
        "bedrock", TITAN, {"dimensions": 2, "provider_options": '{"normalize":false}'},
        [{"embedding": one, "inputTextTokenCount": 1, "embeddingsByType": {"float": one}} for one in (ONE, TWO)],
        f"{HTTPS}/amazon.titan-embed-text-v2%3A0/invoke",
        [{"inputText": text, "dimensions": 2, "normalize": False} for text in ("one", "two")],
    ),
    (
        "bedrock", TITAN_1, {}, [{"embedding": one, "inputTextTokenCount": 1} for one in (ONE, TWO)],
        f"{HTTPS}/amazon.titan-embed-text-v1/invoke", [{"inputText": "one"}, {"inputText": "two"}],
    ),
    (
        "bedrock", f"us.{COHERE_4}", {"dimensions": 2, "provider_options": '{"input_type":"search_query"}'},
        [{"id": "x", "response_type": "embeddings_by_type", "embeddings": {"float": [ONE, TWO]}, "texts": ["one"]}],
        f"{HTTPS}/us.cohere.embed-v4%3A0/invoke",
        [{"texts": ["one", "two"], "input_type": "search_query", "truncate": "NONE", "embedding_types": ["float"],
          "output_dimension": 2}],
    ),
    (
        "bedrock", COHERE_3, {"provider_options": '{"input_type":"clustering","embedding_types":null}'},
        [{"id": "x", "response_type": "embeddings_floats", "embeddings": [ONE, TWO]}],
        f"{HTTPS}/cohere.embed-english-v3/invoke",
        [{"texts": ["one", "two"], "input_type": "clustering", "truncate": "NONE"}],
    ),
    (
        "bedrock", NOVA, {"dimensions": 2, "provider_options": '{"embeddingPurpose":"TEXT_RETRIEVAL"}'},
        [{"embeddings": [{"embeddingType": "TEXT", "embedding": one}]} for one in (ONE, TWO)],
        f"{HTTPS}/amazon.nova-2-multimodal-embeddings-v1%3A0/invoke",
        [{"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": {
            "embeddingPurpose": "TEXT_RETRIEVAL", "embeddingDimension": 2,
            "text": {"truncationMode": "NONE", "value": text}}} for text in ("one", "two")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("slug", "model", "fields", "answers", "url", "bodies"), ROWS, ids=[r[1] for r in ROWS])
async def test_what_is_sent_and_what_comes_of_it(
    slug: str,
    model: str,
    fields: dict[str, Any],
    answers: Sequence[object],
    url: str,
    bodies: Sequence[Mapping[str, Any]],
) -> None:
    """Each wire's requests, field for field, and every input's vector in its place, with nothing to warn of."""
    batches, transport = await run(call(slug, model, **fields), *answers)
    assert [request.url for request in transport.requests] == [url] * len(bodies)
    assert [json.loads(request.body) for request in transport.requests] == list(bodies)
    assert [values.tolist() for batch in batches for values in batch.vectors] == [ONE, TWO]
    assert [batch.start for batch in batches] == list(range(len(batches)))
    assert all(batch.warnings == () for batch in batches)
    assert transport.closed_early == 0


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_base64_is_little_endian_floats_bit_for_bit() -> None:
    exact = vector([0.1, -1 / 3, 1e-30])
    batches, _ = await run(call("openai", "m", "one"), openai(b64encode(vector_bytes(exact)).decode()))
    assert batches[0].vectors == [exact]


async def test_vectors_go_by_their_index_where_the_server_sends_them_out_of_order() -> None:
    answer = openai(ONE, TWO)
    assert isinstance(answer["data"], list)
    answer["data"].reverse()
    batches, _ = await run(call("custom", "m", endpoint="https://llm.example"), answer)
    assert [values.tolist() for values in batches[0].vectors] == [ONE, TWO]


@pytest.mark.parametrize(
    ("slug", "model", "answer", "headers", "usage"),
    [
        ("openai", "m", openai(ONE), {}, Usage(2, None, 2)),
        ("openai", "m", {"data": [{"embedding": ONE}]}, {}, Usage()),
        (
            "gemini",
            "m",
            gemini(ONE, usageMetadata={"promptTokenCount": 3, "totalTokenCount": 3}),
            {},
            Usage(3, None, 3),
        ),
        ("gemini", "m", gemini(ONE), {}, Usage()),
        ("bedrock", TITAN, {"embedding": ONE, "inputTextTokenCount": 4}, {}, Usage(4, None, 4)),
        ("bedrock", COHERE_3, {"embeddings": [ONE]}, {"x_amzn_bedrock_input_token_count": "5"}, Usage(5, None, 5)),
        ("bedrock", COHERE_3, {"embeddings": [ONE]}, {}, Usage()),
    ],
)
async def test_tokens_are_counted_where_the_provider_says_them(
    slug: str, model: str, answer: object, headers: dict[str, Any], usage: Usage
) -> None:
    batches, _ = await run(call(slug, model, "one", provider_options='{"input_type":"x"}'), answer, **headers)
    assert batches[0].usage == usage


async def test_vertex_counts_tokens_beside_each_vector() -> None:
    answer = {"predictions": [{"embeddings": {"values": ONE, "statistics": {"token_count": 6, "truncated": False}}}]}
    batches, _ = await run(call("gemini", "text-embedding-005", "one", endpoint=VERTEX), answer)
    assert batches[0].usage == Usage(6, None, 6)


NO_PROTOCOL: Sequence[tuple[str, str, object]] = [
    ("openai", "m", []),
    ("openai", "m", {"data": []}),
    ("openai", "m", openai(ONE)),
    ("openai", "m", openai(ONE, TWO, ONE)),
    ("openai", "m", openai(ONE, [])),
    ("openai", "m", openai(ONE, None)),
    ("openai", "m", openai(ONE, "no base64!")),
    ("openai", "m", openai(ONE, "AAA=")),
    ("openai", "m", openai(ONE, b64encode(b"\0\0\xc0\x7f").decode())),
    ("openai", "m", openai(ONE, [1e300])),
    ("openai", "m", {"data": [{"index": 0, "embedding": ONE}, {"index": 0, "embedding": TWO}]}),
    ("gemini", "m", {}),
    ("gemini", "m", gemini(ONE)),
    ("gemini", "m", gemini(ONE, [])),
    ("bedrock", COHERE_3, {}),
    ("bedrock", COHERE_3, {"embeddings": [ONE]}),
    ("bedrock", COHERE_3, {"embeddings": {"int8": [[1], [2]]}}),
    ("bedrock", COHERE_3, {"embeddings": "?"}),
]


@pytest.mark.parametrize(("slug", "model", "answer"), NO_PROTOCOL)
async def test_a_missing_or_broken_vector_is_never_made_up_for(slug: str, model: str, answer: object) -> None:
    with pytest.raises(ProviderProtocolError):
        await run(call(slug, model), answer)


async def test_an_error_in_a_200_is_that_error() -> None:
    with pytest.raises(ProviderUnauthenticated):
        await run(call("openai", "m"), {"error": {"message": "no", "code": "invalid_api_key"}})


TOO_LONG = "This model's maximum context length is 8192 tokens, however you requested 9000 tokens."


@pytest.mark.parametrize(
    ("slug", "model", "status", "body", "headers", "error"),
    [
        ("openai", "m", 401, {"error": {"message": "no", "code": "invalid_api_key"}}, {}, ProviderUnauthenticated),
        (
            "openai",
            "m",
            400,
            {"error": {"message": TOO_LONG, "code": "context_length_exceeded"}},
            {},
            ContextLengthExceeded,
        ),
        ("gemini", "m", 429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}, {}, ProviderRateLimited),
        ("bedrock", TITAN, 429, {}, {"x_amzn_errortype": "ThrottlingException"}, ProviderRateLimited),
    ],
)
async def test_a_refusal_is_the_wires_own_error(
    slug: str, model: str, status: int, body: object, headers: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await run(call(slug, model, "one"), body, status=status, **headers)


# --- before anything is sent ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (call("anthropic", "claude"), "model"),
        (call("bedrock", "anthropic.claude-haiku-4-5-v1:0"), "model"),
        (call("bedrock", "amazon.titan-embed-image-v1"), "model"),
        (call("bedrock", TITAN_1, dimensions=256), "dimensions"),
        (call("bedrock", COHERE_3, dimensions=256), "dimensions"),
        (call("gemini", "m", (1, 2)), "input"),
        (call("bedrock", TITAN, (1, 2)), "input"),
        (call("openai", "m", provider_options='{"input":"x"}'), "provider_options.input"),
        (call("gemini", "m", provider_options='{"content":{}}'), "provider_options.content"),
        (call("bedrock", TITAN, provider_options='{"inputText":"x"}'), "provider_options.inputText"),
        (call("bedrock", COHERE_4, provider_options='{"images":[]}'), "provider_options.images"),
    ],
)
async def test_what_a_wire_cannot_say_is_refused_and_nothing_is_sent(wanted: EmbedCall, field: str) -> None:
    transport = FakeTransport()
    with pytest.raises(InvalidRequest) as caught:
        _ = [batch async for batch in ProviderRegistry(transport).get(wanted.target.provider).embed(wanted)]
    assert [violation.field for violation in caught.value.violations] == [field]
    assert isinstance(caught.value, UnsupportedParameter) or field.startswith("provider_options")
    assert transport.requests == []


@pytest.mark.parametrize(
    ("wanted", "answer", "parameter"),
    [
        (call("gemini", "m", "one", user="u"), gemini(ONE), "user"),
        (call("bedrock", TITAN, "one", user="u"), {"embedding": ONE}, "user"),
        (call("custom", "m", "one", user="u", endpoint="https://api.mistral.ai"), openai(ONE), "user"),
        (call("bedrock", COHERE_3, "one"), {"embeddings": [ONE]}, "provider_options.input_type"),
        (call("bedrock", NOVA, "one"), {"embeddings": [{"embedding": ONE}]}, "provider_options.embeddingPurpose"),
        (call("openai", "m", "one", dimensions=7), openai(ONE), "dimensions"),
        (call("gemini", "m", "one", passthrough=Passthrough(OPENAI_WIRE, {"": '{"x":1}'})), gemini(ONE), "x"),
    ],
)
async def test_what_is_left_out_or_decided_is_told(wanted: EmbedCall, answer: object, parameter: str) -> None:
    batches, _ = await run(wanted, answer)
    assert [warning.parameter for warning in batches[0].warnings] == [parameter]


async def test_tokens_and_unknown_members_go_on_by_openais_own_wire() -> None:
    wanted = call(
        "openai", "m", (1, 2), (3,), passthrough=Passthrough(OPENAI_WIRE, {"": '{"new":{"a":1},"input":"x"}'})
    )
    batches, transport = await run(wanted, openai(ONE, TWO))
    assert json.loads(transport.requests[0].body) == {
        "model": "m", "input": [[1, 2], [3]], "encoding_format": "base64", "new": {"a": 1},
    }  # fmt: skip
    assert batches[0].warnings == ()


# --- many inputs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slug", "model", "count", "sizes"),
    [
        ("openai", "m", 2048, [2048]),
        ("custom", "m", 1025, [512, 512, 1]),
        ("gemini", "m", 250, [100, 100, 50]),
        ("bedrock", COHERE_4, 100, [96, 4]),
        ("bedrock", TITAN, 11, [1] * 11),
    ],
)
async def test_inputs_are_split_as_the_provider_takes_them(slug: str, model: str, count: int, sizes: list[int]) -> None:
    """Batches of any order cover every input once; each request is answered with vectors that name their place."""

    def answer(start: int, size: int) -> object:
        vectors = [[float(at), 1.0] for at in range(start, start + size)]
        if slug in ("openai", "custom"):
            return openai(*vectors)
        if slug == "gemini":
            return gemini(*vectors)
        return {"embedding": vectors[0]} if model == TITAN else {"embeddings": {"float": vectors}}

    starts = [sum(sizes[:at]) for at in range(len(sizes))]
    texts = [f"t{at}" for at in range(count)]
    answers = [answer(start, size) for start, size in zip(starts, sizes, strict=True)]
    endpoint = "https://llm.example" if slug == "custom" else None
    batches, _ = await run(call(slug, model, *texts, endpoint=endpoint), *answers)
    assert [(batch.start, len(batch.vectors)) for batch in batches] == list(zip(starts, sizes, strict=True))
    found = [values[0] for batch in batches for values in batch.vectors]
    assert found == [float(at) for at in range(count)]


class Counting(FakeTransport):
    """Notes how many sends are under way at once; each lets whoever else is ready go first."""

    def __init__(self, *replies: FakeReply) -> None:
        super().__init__(*replies)
        self.open = self.most = 0

    @asynccontextmanager
    async def send(self, request: HttpRequest, timeouts: CallTimeouts) -> AsyncIterator[HttpResponse]:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await asyncio.sleep(0)
            async with super().send(request, timeouts) as response:
                yield response
        finally:
            self.open -= 1


async def test_requests_of_one_call_are_under_way_together_and_not_without_bound() -> None:
    texts = [str(at) for at in range(EMBED_CONCURRENCY * 2 + 1)]
    replies = [FakeReply(chunks=[b'{"embedding":[1]}']) for _ in texts]
    transport = Counting(*replies)
    adapter = ProviderRegistry(transport).get("bedrock")
    batches = [batch async for batch in adapter.embed(call("bedrock", TITAN, *texts))]
    assert len(batches) == len(texts)
    assert transport.open == 0
    assert transport.most == EMBED_CONCURRENCY


async def test_a_failed_request_fails_the_call_and_what_was_answered_beside_it_counts() -> None:
    good = FakeReply(chunks=[b'{"embedding":[1],"inputTextTokenCount":4}'])
    bad = FakeReply(status=429, headers={"x-amzn-errortype": "ThrottlingException"}, chunks=[b"{}"])
    transport = FakeTransport(good, bad, good)
    batches = ProviderRegistry(transport).get("bedrock").embed(call("bedrock", TITAN, "a", "b", "c"))
    seen = [await anext(batches), await anext(batches)]
    with pytest.raises(ProviderRateLimited) as caught:
        await anext(batches)
    assert caught.value.provider == "bedrock"
    assert [(batch.start, batch.usage.prompt_tokens) for batch in seen] == [(0, 4), (2, 4)]


async def test_a_caller_who_goes_away_ends_every_request_that_is_under_way() -> None:
    never = asyncio.Event()
    transport = Counting(*(FakeReply(chunks=[never]) for _ in range(EMBED_CONCURRENCY)))
    batches = ProviderRegistry(transport).get("bedrock").embed(call("bedrock", TITAN, *map(str, range(20))))
    waiting = asyncio.ensure_future(anext(batches))
    while len(transport.requests) < EMBED_CONCURRENCY:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (transport.open, transport.closed_early) == (0, EMBED_CONCURRENCY)


async def test_the_callers_deadline_covers_all_requests_together() -> None:
    texts = [str(at) for at in range(EMBED_CONCURRENCY + 1)]
    transport = FakeTransport(*(FakeReply(chunks=[b'{"embedding":[1]}']) for _ in texts))
    wanted = call("bedrock", TITAN, *texts, timeouts=CallTimeouts(total=30.0))
    _ = [batch async for batch in ProviderRegistry(transport).get("bedrock").embed(wanted)]
    totals = [timeouts.total for timeouts in transport.timeouts]
    assert all(total is not None and 0 < total <= 30.0 for total in totals)
    assert totals[-1] is not None
    assert totals[0] is not None
    assert totals[-1] < totals[0]


# --- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slug", "model", "path", "answer", "wanted_path"),
    [
        ("custom", "m", "/v1", openai(ONE, TWO), "/v1/embeddings"),
        ("gemini", "m", "", gemini(ONE, TWO), "/v1beta/models/m:batchEmbedContents"),
        ("bedrock", COHERE_3, "", {"embeddings": [ONE, TWO]}, f"/model/{COHERE_3}/invoke"),
    ],
)
async def test_the_whole_way_over_http(
    scripted_provider: ScriptedProvider, slug: str, model: str, path: str, answer: object, wanted_path: str
) -> None:
    """Registry, runner and real transport, to a real server."""
    scripted_provider.reply(Reply([json.dumps(answer).encode()]))
    transport = HttpTransport()
    try:
        adapter = ProviderRegistry(transport).get(slug)
        assert isinstance(adapter, HttpChatProvider)
        wanted = call(slug, model, endpoint=scripted_provider.origin + path)
        batches = [batch async for batch in adapter.embed(wanted)]
    finally:
        await transport.aclose()
    assert [values.tolist() for values in batches[0].vectors] == [ONE, TWO]
    (exchange,) = scripted_provider.exchanges
    assert (exchange.method, exchange.path, exchange.outcome) == ("POST", wanted_path, "answered")
    assert KEY in json.dumps(dict(exchange.headers))


@pytest.mark.parametrize("slug", ["openai", "custom"])
async def test_a_server_that_was_not_written_here(aimock: StartAimock, slug: str) -> None:
    """aimock answers in numbers whatever is asked for, each text by vectors of its own."""
    transport = HttpTransport()
    try:
        adapter = ProviderRegistry(transport).get(slug)
        wanted = call(slug, "text-embedding-3-small", "one", "two", "one", endpoint=aimock([]) + "/v1", dimensions=16)
        (batch,) = [batch async for batch in adapter.embed(wanted)]
    finally:
        await transport.aclose()
    one, two, again = (values.tolist() for values in batch.vectors)
    assert one == again != two
    assert (len(one), batch.warnings, batch.model) == (16, (), "text-embedding-3-small")
