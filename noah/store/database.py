"""The connection to the database: how each kind is opened, and the one place where its failures become a sentence."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from noah.errors import BadSettings, Unavailable

TAKES = 10.0  # seconds at most, for a whole transaction; the longest here is a page of sessions
BUSY = 5.0  # seconds that SQLite waits for another writer
READ_ONLY = "25006"  # SQLSTATE of a write to what has become a standby


def plain_url(url: str) -> str:
    """The URL with its driver, for Alembic: the same drivers serve it and the gateway."""
    if url.startswith("sqlite:///"):
        return url
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    shown = url.rpartition("@")[2][:60]
    raise BadSettings(f"database = {shown!r} is neither sqlite:///FILE nor postgresql://USER:PASSWORD@HOST/DATABASE.")


def open_engine(url: str) -> AsyncEngine:
    plain = plain_url(url)
    if plain.startswith("sqlite"):
        engine = create_async_engine(
            plain.replace("sqlite://", "sqlite+aiosqlite://", 1), connect_args={"timeout": BUSY}
        )
        event.listen(engine.sync_engine, "connect", _sqlite_connected)
        event.listen(engine.sync_engine, "begin", _sqlite_begins)
        return engine
    engine = create_async_engine(
        plain,
        pool_pre_ping=True,
        pool_timeout=TAKES,
        connect_args={"connect_timeout": 5, "options": f"-c statement_timeout={int(TAKES * 1000)} -c timezone=UTC"},
    )
    event.listen(engine.sync_engine, "handle_error", _switched_over)
    return engine


def _sqlite_connected(connection: Any, _: Any) -> None:
    # SQLAlchemy says when a transaction begins (below); the driver's own rule would begin it at the first write.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begins(connection: Any) -> None:
    # A transaction that will write takes the lock at once: upgrading a read lock later fails instead of waiting.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _switched_over(context: ExceptionContext) -> None:
    """pool_pre_ping does not see that the server has become a standby: the connection must be made anew."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True


class Database:
    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = open_engine(url)
        self._writing = self._engine.execution_options(writes=True)

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        async with _translated(), self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """One transaction; committed when the block ends well. IntegrityError passes: it is an answer."""
        async with _translated(), self._writing.begin() as connection:
            yield connection


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(TAKES):
            yield
    except TimeoutError:
        raise Unavailable(f"The database does not answer: nothing came within {TAKES:.0f} s.") from None
    except (OperationalError, InterfaceError, InternalError, PoolTimeout) as e:
        reason = str(getattr(e, "orig", None) or e).strip().splitlines() or ["no reason given"]
        raise Unavailable(f"The database does not answer: {reason[0].rstrip('.')}.") from e
    except OSError as e:
        raise Unavailable(f"The database does not answer: {e.strerror or e}.") from e
