"""Foreign errors of the database, translated once, by type and status: an outage is Unavailable, the rest a defect."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy import exc as sa

from server.core.errors import DragomanError, InternalError, Unavailable

# Classes of SQLSTATE that mean "not now": connection, insufficient resources, operator's intervention, system error,
# transaction rollback (deadlock, serialisation), authorisation, no such database.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_OUTAGE_CLASSES = frozenset({"08", "53", "57", "58", "40", "28", "3D"})
_OUTAGE_STATES = frozenset({"55P03"})  # lock_not_available: a writer waited for too long

# Primary result codes that mean the same of SQLite: BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN,
# PROTOCOL, NOTADB. https://www.sqlite.org/rescode.html
_OUTAGE_CODES = frozenset({5, 6, 7, 8, 10, 11, 13, 14, 15, 26})


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what SQLAlchemy and the drivers raise into Unavailable or InternalError; both keep the cause for the log."""
    try:
        yield
    except DragomanError:
        raise
    except (sa.SQLAlchemyError, OSError) as exc:
        if is_outage(exc):
            raise Unavailable("The store cannot be reached.") from exc
        raise InternalError("The store failed.") from exc


@contextlib.contextmanager
def unconfirmed() -> Iterator[None]:
    """Around a commit: where it is not confirmed, say that nobody knows how it went."""
    try:
        yield
    except (sa.SQLAlchemyError, OSError) as exc:
        if not is_outage(exc):
            raise
        raise Unavailable(
            "The store did not confirm the change: it may have been made, or not.",
            action="Read it again before you repeat the change.",
        ) from exc


def is_outage(exc: BaseException) -> bool:
    """Whether the database is out of reach, or cannot serve now, rather than misused."""
    if isinstance(exc, OSError | sa.TimeoutError):
        return True
    if not isinstance(exc, sa.DBAPIError):
        return False
    if exc.connection_invalidated or isinstance(exc, sa.InterfaceError):
        return True
    state = getattr(exc.orig, "sqlstate", None)
    if state is not None:
        return state[:2] in _OUTAGE_CLASSES or state in _OUTAGE_STATES
    code = getattr(exc.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _OUTAGE_CODES
    # A driver's own word without a status: its connection is gone.
    return isinstance(exc, sa.OperationalError)
