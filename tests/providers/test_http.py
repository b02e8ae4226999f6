"""The port's own types, and the fake that stands beside the real transport."""

import pytest

from server.core.errors import (
    LimitExceeded,
    StreamTruncated,
)
from server.providers.http import HttpRequest
from server.providers.transport.fake import FakeReply, FakeTransport
from tests.providers.transport.peer import (
    CANARY,
    PATIENT,
)


def test_a_requests_repr_hides_what_is_secret() -> None:
    """Neither repr, str nor rich's protocol show a header's value, the body or the query."""
    request = HttpRequest("POST", "https://h.test/v1?key=canary-query", (("x-api-key", CANARY),), b"canary-body")
    for text in (repr(request), str(request), f"{[request]}", repr(request.__rich_repr__())):
        assert "canary" not in text
        assert "https://h.test/v1" in text
    assert "x-api-key" in repr(request)


async def test_the_fake_answers_as_the_port_promises() -> None:
    """Chunks one by one, errors at their place, and a record of what was sent, marked and left early."""
    error = StreamTruncated("cut")
    fake = FakeTransport(
        FakeReply(headers={"X-A": "b"}, chunks=(b"a", b"", b"b")), FakeReply(chunks=(b"a", error)), LimitExceeded("no")
    )
    request = HttpRequest("GET", "http://h.test/")
    async with fake.send(request, PATIENT) as response:
        response.mark_first_token()
        assert [await response.receive() for _ in range(3)] == [b"a", b"b", b""]
        assert response.headers == {"x-a": "b"}
    assert (fake.closed_early, fake.first_tokens) == (0, 1)
    with pytest.raises(StreamTruncated):
        async with fake.send(request, PATIENT) as response:
            await response.read(10)
    assert (fake.closed_early, fake.first_tokens) == (1, 1)
    with pytest.raises(LimitExceeded):
        async with fake.send(request, PATIENT):
            pass
    assert fake.requests == [request] * 3
