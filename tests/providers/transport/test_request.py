"""A request as it stands on the wire: the parts of its URL, and its head."""

import pytest

from server.core.errors import NotConfigured
from server.providers.http import HttpRequest
from server.providers.transport.client import HttpTransport
from server.providers.transport.request import Target, head
from tests.providers.transport.peer import PATIENT, answering, assert_clean, peer, plain

# --- where it goes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "parts"), [
    ("http://a.test", ("a.test", 80, False, "/", "a.test")),
    ("HTTPS://A.Test", ("a.test", 443, True, "/", "a.test")),
    ("http://a.test:443/", ("a.test", 443, False, "/", "a.test:443")),
    ("https://a.test.:8443/", ("a.test.", 8443, True, "/", "a.test:8443")),
    ("http://a.test?x=1", ("a.test", 80, False, "/?x=1", "a.test")),
    ("http://a.test/a%3Ab/../c//?x=%2f&y#z", ("a.test", 80, False, "/a%3Ab/../c//?x=%2f&y", "a.test")),
    ("http://[::1]/", ("::1", 80, False, "/", "[::1]")),
    ("http://[2001:DB8::1]:8080/", ("2001:db8::1", 8080, False, "/", "[2001:db8::1]:8080")),
    ("http://127.1:/", ("127.1", 80, False, "/", "127.1")),
])  # fmt: skip
def test_a_target_is_what_its_url_says(url: str, parts: tuple) -> None:
    """Host, port, TLS, the request line's path exactly as given, and the Host header without a default port."""
    target = Target(url)
    assert (target.host, target.port, target.tls, target.path, target.host_header) == parts


# --- the head -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [*map(chr, range(0x20)), "\x7f", "\r\n", "\ud800"])
@pytest.mark.parametrize("where", ["name", "value", "method"])
def test_a_control_character_anywhere_in_a_head_is_refused(bad: str, where: str) -> None:
    """Before anything is written. A tab may stand in a value, as HTTP has it, and half a character nowhere."""
    made = {"name": "x-a", "value": "some value", "method": "POST"}
    made[where] = made[where][:2] + bad + made[where][2:]
    request = HttpRequest(made["method"], "http://a.test/", ((made["name"], made["value"]),))
    if bad == "\t":
        assert b"\t" in head(request, Target(request.url), "dragoman")
        return
    with pytest.raises(ValueError):  # noqa: PT011  UnicodeEncodeError is one of its kinds
        head(request, Target(request.url), "dragoman")


@pytest.mark.parametrize("key", ["canary\r\nx: y", "canary\n", "canary\x00", "\rcanary"])
async def test_a_credential_with_a_line_break_connects_to_nothing(transport: HttpTransport, key: str) -> None:
    """It is refused before a connection is taken, and no text shows it."""
    async with peer(answering(plain(b"ok"))) as to:
        with pytest.raises(NotConfigured, match="header") as caught:
            async with transport.send(HttpRequest("GET", to.url, (("authorization", key),)), PATIENT):
                pass
        assert to.connections == 0
    assert_clean(caught.value)


@pytest.mark.parametrize(("request_", "lines"), [
    (HttpRequest("GET", "http://a.test"), ["GET / HTTP/1.1", "host: a.test"]),
    (HttpRequest("GET", "https://a.test:443/x#f"[:-2]), ["GET /x HTTP/1.1", "host: a.test"]),
    (HttpRequest("GET", "http://[::1]:8080/x?y=%2F"), ["GET /x?y=%2F HTTP/1.1", "host: [::1]:8080"]),
    (HttpRequest("POST", "http://a.test/"), ["POST / HTTP/1.1", "host: a.test", "content-length: 0"]),
    (HttpRequest("POST", "http://a.test/", (), b"abc"), ["POST / HTTP/1.1", "host: a.test", "content-length: 3"]),
    (HttpRequest("GET", "http://a.test/", (("Host", "b.test"),)), ["GET / HTTP/1.1", "Host: b.test"]),
    (HttpRequest("GET", "http://a.test/", (("x-a", "é"),)), ["GET / HTTP/1.1", "host: a.test", "x-a: é"]),
])  # fmt: skip
def test_a_head_says_what_the_request_says(request_: HttpRequest, lines: list[str]) -> None:
    """And beyond it the host, the length of a body, identity and our name."""
    made = head(request_, Target(request_.url), "dragoman")
    added = ["accept-encoding: identity", "user-agent: dragoman"]
    first, *others = made.decode().removesuffix("\r\n\r\n").split("\r\n")
    assert first == lines[0]
    assert sorted(others) == sorted([*lines[1:], *added])


def test_a_head_says_nothing_twice() -> None:
    """What the adapter gave stands, in any spelling of its name."""
    given = (("Accept-Encoding", "gzip"), ("USER-AGENT", "me"))
    made = head(HttpRequest("GET", "http://a.test/", given), Target("http://a.test/"), "dragoman").decode().lower()
    assert made.count("accept-encoding") == made.count("user-agent") == 1
