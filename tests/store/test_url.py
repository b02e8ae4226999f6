"""Database addresses are taken as people write them, and refused without being repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.core.secret import Secret
from server.core.setup import SetupError
from server.store.url import parse_url, sqlite_path


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2"])
def test_every_spelling_of_postgres_means_the_one_driver(scheme: str) -> None:
    url = parse_url(Secret(f"{scheme}://user:pass%40word@host:5433/name?sslmode=require"))
    assert url.drivername == "postgresql+asyncpg"
    assert (url.username, url.password, url.host, url.port, url.database) == ("user", "pass@word", "host", 5433, "name")
    assert dict(url.query) == {"ssl": "require"}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite:////var/lib/dragoman.db", Path("/var/lib/dragoman.db")),
        ("sqlite:///dragoman.db", Path.cwd() / "dragoman.db"),
        ("sqlite+aiosqlite:////var/a b%.db", Path("/var/a b%.db")),
    ],
)
def test_a_sqlite_file_is_found_and_never_made_by_connecting(text: str, path: Path) -> None:
    assert sqlite_path(Secret(text)) == path
    assert parse_url(Secret(text)).query == {"mode": "rw", "uri": "true"}


@pytest.mark.parametrize(
    "text", ["", "canary", "canary://h/d", "mysql://u:canary@h/d", "sqlite://", "sqlite:///:memory:", "sqlite:///a?b=c"]
)
def test_an_address_that_cannot_be_served_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SetupError, match=r"sqlite:///path/to/file\.db") as caught:
        parse_url(Secret(text))
    assert "u:canary" not in str(caught.value)


def test_postgres_has_no_file() -> None:
    assert sqlite_path(Secret("postgresql://h/d")) is None
