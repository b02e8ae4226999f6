"""The database's address, as people write it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from server.core.secret import Secret
from server.core.setup import SetupError

_MEND = "Set DRAGOMAN_DATABASE_URL to sqlite:///path/to/file.db or postgresql://user:password@host/name."


def parse_url(text: Secret) -> URL:
    """An address for `open_database`: `sqlite:///relative.db`, `sqlite:////absolute.db`, `postgres(ql)://...`.

    libpq's `sslmode` is understood. Raises SetupError, which never repeats the address (it may hold a password).
    """
    try:
        url = make_url(text.reveal())
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise SetupError("The database URL cannot be read.", mend=_MEND) from None
    if backend in {"postgres", "postgresql"}:
        query = dict(url.query)
        if "sslmode" in query:
            query["ssl"] = query.pop("sslmode")
        return url.set(drivername="postgresql+asyncpg", query=query)
    if backend == "sqlite":
        if not url.database or url.database == ":memory:" or url.query:
            raise SetupError("SQLite needs a file: the command line and the server share it.", mend=_MEND)
        # mode=rw: only `migrate` makes the file, with its own permissions; a lost file is an error, not an empty store.
        path = Path(url.database).expanduser().absolute()
        return URL.create("sqlite+aiosqlite", database=f"file:{quote(str(path))}", query={"mode": "rw", "uri": "true"})
    raise SetupError(f"Databases of kind '{backend}' are not served.", mend=_MEND)


def sqlite_path(text: Secret) -> Path | None:
    """The file of a SQLite address, absolute; None for another database. Raises SetupError."""
    if parse_url(text).get_backend_name() != "sqlite":
        return None
    return Path(make_url(text.reveal()).database or "").expanduser().absolute()
