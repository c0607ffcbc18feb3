"""The connection to the database: how each kind is opened, and the one place where its failures become a sentence."""

import asyncio
import os
import re
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from functools import cache, partial
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

import aiosqlite
from sqlalchemy import Engine, Index, create_engine, event, func, select
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from noah.clock import machine_clock
from noah.errors import BadInput, BadSettings, Unavailable
from noah.store.tables import metadata

if TYPE_CHECKING:
    import psycopg

TAKES = 10.0  # seconds at most, for a whole transaction; the longest here is a page of sessions
AT_ONCE_TAKES = 5.0  # seconds at most, for a statement that a lease depends on
# With TLS and a password connecting takes five round trips. Of several servers, one may be a machine that is gone, from
# which nothing comes at all.
CONNECTED_WITHIN_S = 10
GIVEN_BACK_WITHIN = 1.0  # seconds
BUSY = 5.0  # seconds that SQLite waits for another writer
UNIQUE_VIOLATION = "23505"  # SQLSTATE
READ_ONLY = "25006"  # SQLSTATE of a write to what has become a standby
NO_RIGHT = "42501"  # SQLSTATE
NO_PARAMETER = "unsupported startup parameter"  # what PgBouncer says of settings that a connection begins with
_EACH_CONNECTION = {
    "connect_timeout": CONNECTED_WITHIN_S,
    # Of a database that says SQL_ASCII, as one made in the locale C does, psycopg would return bytes.
    "client_encoding": "utf8",
    # A pooler may give each transaction another session of the server, which does not know the statement.
    "prepare_threshold": None,
}


def parse_url(text: str) -> URL:
    """Return the URL. BadSettings names the forms that exist; what it shows of *text* has no password."""
    scheme, separator, rest = text.partition("://")
    drivers = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
    try:
        url = make_url(drivers[scheme] + separator + _with_hosts_apart(rest))
        # SQLite's in-memory database would be another one for each connection, and for `noah db upgrade`.
        if scheme == "sqlite" and (url.host or url.database in {None, "", ":memory:"}):
            raise ArgumentError("no file")
    except (KeyError, ValueError, ArgumentError):
        shown = text.rpartition("@")[2][:60]
        raise BadSettings(
            f"database = {shown!r} is neither sqlite:///FILE nor postgresql://USER:PASSWORD@HOST/DATABASE."
        ) from None
    return url


def _with_hosts_apart(rest: str) -> str:
    """Write several servers, as in libpq's USER@HOST:PORT,HOST:PORT/DATABASE, in the way that SQLAlchemy reads."""
    found = re.fullmatch(r"((?:[^@/?]*@)?)([^@/?]*,[^@/?]*)(/[^?]*)?(?:\?(.*))?", rest)
    if found is None:
        return rest
    user, hosts, database, query = found.groups(default="")
    return f"{user}{database or '/'}?" + "&".join([*(f"host={one}" for one in hosts.split(",")), query]).rstrip("&")


def open_engine(text: str, threads: set[Thread]) -> AsyncEngine:
    """*threads*: those of connections to SQLite are added, as they begin."""
    url = parse_url(text)
    if url.drivername == "sqlite":
        _keep_private(url.database or "")
        creator = partial(_sqlite_connection, threads)
        engine = create_async_engine(
            url.set(drivername="sqlite+aiosqlite"), connect_args={"timeout": BUSY, "async_creator_fn": creator}
        )
        _set_up_sqlite(engine.sync_engine)
        return engine
    engine = create_async_engine(
        url,
        pool_pre_ping=True,
        pool_timeout=TAKES,
        connect_args=postgres_args(url),
    )
    event.listen(engine.sync_engine, "handle_error", _switched_over)
    return engine


def open_engine_at_once(text: str) -> AsyncEngine:
    """Return an engine of PostgreSQL whose statements are transactions of their own.

    It has two connections: one renews the lease while the other looks at what has changed.
    """
    url = parse_url(text)
    engine = create_async_engine(
        url,
        pool_size=2,
        max_overflow=0,
        pool_timeout=AT_ONCE_TAKES,
        isolation_level="AUTOCOMMIT",
        connect_args=postgres_args(url),
    )
    event.listen(engine.sync_engine, "handle_error", _switched_over)
    return engine


def open_plain_engine(text: str) -> Engine:
    """Return an engine for Alembic, which has no asyncio. All its transactions write, and have no deadline."""
    url = parse_url(text)
    if url.drivername == "sqlite":
        _keep_private(url.database or "")
        engine = create_engine(url, connect_args={"timeout": BUSY}, execution_options={"writes": True})
        _set_up_sqlite(engine)
        return engine
    return create_engine(url, connect_args=_EACH_CONNECTION)


def postgres_args(url: URL) -> dict[str, Any]:
    return {"async_creator_fn": _postgres_connection().connect, **_connection_args(url)}


def _connection_args(url: URL) -> dict[str, Any]:
    milliseconds, hosts = int(TAKES * 1000), url.query.get("host", "")
    return {
        **_EACH_CONNECTION,
        "connect_timeout": CONNECTED_WITHIN_S // (1 if isinstance(hosts, str) else len(hosts)),  # for each of them
        # A peer that is gone without closing: the kernel ends our side, and the server rolls back what a gateway that
        # died had begun, locks included.
        "tcp_user_timeout": milliseconds,
        "options": f"{url.query.get('options', '')} -c timezone=UTC -c statement_timeout={milliseconds}"
        f" -c idle_in_transaction_session_timeout={milliseconds}",
    }


@cache
def _postgres_connection() -> "type[psycopg.AsyncConnection[Any]]":
    import psycopg  # 8 MiB, for those who have PostgreSQL

    class Connection(psycopg.AsyncConnection[Any]):
        @classmethod
        async def connect(cls, conninfo: str = "", **args: Any) -> Self:
            try:
                return await super().connect(conninfo, **args)
            except psycopg.OperationalError as e:
                if NO_PARAMETER not in str(e) or "options" not in args:
                    raise
            # The server's own deadlines have to be set there: hints.py says so in the log.
            del args["options"]
            return await super().connect(conninfo, **args)

        async def cancel_safe(self, *, timeout: float = 0) -> None:
            """psycopg asks the server to cancel what is interrupted, and waits 10 s for a server that may be the reason
            for the interruption. SQLAlchemy throws the connection away in any case."""
            self.pgconn.finish()

    return Connection


async def connect_plainly(text: str) -> "psycopg.AsyncConnection[Any]":
    """Return a connection to PostgreSQL that is not one of an engine's, in autocommit."""
    url = parse_url(text)
    _, args = url.get_dialect()().create_connect_args(url)
    return await _postgres_connection().connect(**{**args, **_connection_args(url)}, autocommit=True)


async def is_pooled(connection: "psycopg.AsyncConnection[Any]") -> bool:
    """Return whether a pooler like PgBouncer is between: the server's process is not the one of the greeting then."""
    row = await (await connection.execute(b"SELECT pg_backend_pid()")).fetchone()
    return row is None or row[0] != connection.info.backend_pid


def _keep_private(file: str) -> None:
    """Have the file be nobody else's to read: it says who debugs what. SQLite gives its other files the same mode.

    Raises BadSettings if it belongs to another user.
    """
    with suppress(OSError):  # opening it says why
        number = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            found = os.fstat(number)
            if found.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
                raise BadSettings(f"The database {file} belongs to another user of this machine.")
            if found.st_mode & 0o007 and stat.S_ISREG(found.st_mode):
                os.fchmod(number, stat.S_IMODE(found.st_mode) & 0o770)
                for beside in (f"{file}-wal", f"{file}-shm"):
                    with suppress(FileNotFoundError):
                        os.chmod(beside, stat.S_IMODE(found.st_mode) & 0o770, follow_symlinks=False)
        finally:
            os.close(number)


class _SqliteConnection(aiosqlite.Connection):
    _is_stopped = False

    def stop(self) -> asyncio.Future[Any] | None:
        """End its thread, once.

        SQLAlchemy does so when a task is canceled while it closes the connection. The close that goes on would then ask
        the thread again, which is not there any more, and wait for its answer for ever.
        """
        if self._is_stopped:
            return None
        self._is_stopped = True
        return super().stop()


def _sqlite_connection(threads: set[Thread], file: str, **options: Any) -> _SqliteConnection:
    connection = _SqliteConnection(partial(sqlite3.connect, file, **options), iter_chunk_size=64)
    connection._thread.daemon = True  # a statement that hangs must not keep the process
    threads.difference_update([one for one in threads if one.ident is not None and not one.is_alive()])
    threads.add(connection._thread)
    return connection


def _set_up_sqlite(engine: Engine) -> None:
    event.listen(engine, "connect", _sqlite_connected)
    event.listen(engine, "begin", _sqlite_begins)


def _sqlite_connected(connection: Any, _: Any) -> None:
    # SQLAlchemy says when a transaction begins (below); the driver's own rule would begin it at the first write, and
    # never for a change of the tables.
    connection.isolation_level = None
    cursor = connection.cursor()
    # With a WAL, NORMAL loses nothing when the gateway is killed; the last moments when the power goes.
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begins(connection: Any) -> None:
    # A transaction that will write takes the lock at once: upgrading a read lock later fails instead of waiting.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _switched_over(context: ExceptionContext) -> None:
    """Replace a connection whose server has become a standby; pool_pre_ping does not see that."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True


class Database:
    def __init__(self, url: str) -> None:
        self.url = url
        self._threads: set[Thread] = set()
        self._engine = open_engine(url, self._threads)
        self._writing = self._engine.execution_options(writes=True)
        # PostgreSQL's transactions show each statement what is committed then (READ COMMITTED), so one would only add
        # two round trips to what is read.
        self._reading = self._engine.execution_options(**({} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"}))
        self._at_once = self._writing if self.is_sqlite else open_engine_at_once(url)

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    async def check_file(self) -> None:
        """Raise Unavailable if SQLite's file cannot be opened.

        aiosqlite's thread outlives such a failure, and complains in the log when the loop has ended before it.
        """
        if self.is_sqlite and (file := self._engine.url.database):
            try:
                await asyncio.to_thread(lambda: sqlite3.connect(file).close())
            except sqlite3.OperationalError as e:
                raise Unavailable(f"The database does not answer: {file}: {e}.") from None

    async def close(self) -> None:
        """Close all connections. One that a cancelled task is still giving back is waited for: dispose() forgets it.

        So are the threads of SQLite's: one that ends after the event loop has no loop to answer to.
        """
        await self._at_once.dispose()
        pool = self._engine.pool
        assert isinstance(pool, QueuePool)
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVEN_BACK_WITHIN):
                while pool.checkedout():  # noqa: ASYNC110 - a pool tells nobody
                    await asyncio.sleep(0.01)
        await self._engine.dispose()
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVEN_BACK_WITHIN):
                while any(thread.is_alive() for thread in self._threads):  # noqa: ASYNC110 - nor does a thread
                    await asyncio.sleep(0.01)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        async with self._begun(self._reading, TAKES) as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """One transaction, committed when the block ends without an error. IntegrityError passes; see violated()."""
        async with self._begun(self._writing, TAKES) as connection:
            yield connection

    @asynccontextmanager
    async def at_once(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection that is kept for short statements, each of which is a transaction of its own.

        So a statement costs one round trip, and waits for nobody else's: a gateway's lease depends on it.
        """
        async with self._begun(self._at_once, AT_ONCE_TAKES) as connection:
            yield connection

    @asynccontextmanager
    async def _begun(self, engine: AsyncEngine, takes_s: float) -> AsyncIterator[AsyncConnection]:
        with translated():
            async with asyncio.timeout(CONNECTED_WITHIN_S) as deadline, engine.begin() as connection:
                deadline.reschedule(asyncio.get_running_loop().time() + takes_s)
                yield connection

    async def now(self, connection: AsyncConnection) -> datetime:
        """Return the database's time. SQLite's machine is this one, and its own clock counts milliseconds only."""
        if self.is_sqlite:
            return machine_clock()
        now: datetime | None = await connection.scalar(select(func.clock_timestamp()))
        assert now is not None
        return now.astimezone(UTC)


def violated(error: IntegrityError) -> str | None:
    """Return the name of the unique index that refused a row; None if something else is wrong with the row."""
    refused: Any = error.orig
    if getattr(refused, "sqlstate", None) == UNIQUE_VIOLATION:
        name: str | None = refused.diag.constraint_name
        return name
    match refused:
        case sqlite3.IntegrityError() if refused.sqlite_errorname == "SQLITE_CONSTRAINT_UNIQUE":
            # SQLite names the columns: "UNIQUE constraint failed: sessions.target".
            columns = str(refused).partition(": ")[2].split(", ")
            return next((str(index.name) for index in _unique_indexes() if _columns(index) == columns), None)
    return None


def _unique_indexes() -> Iterator[Index]:
    return (index for table in metadata.tables.values() for index in table.indexes if index.unique)


def _columns(index: Index) -> list[str]:
    return [str(column) for column in index.columns]


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise Unavailable(f"The database does not answer: nothing came within {TAKES:.0f} s.") from None
    except IntegrityError:
        raise
    except (DataError, UnicodeEncodeError) as e:
        # A NUL or half a surrogate pair in what somebody looks for.
        raise BadInput(f"The database cannot hold that: {_first_line(e)}.") from e
    except ProgrammingError as e:
        # A right that is missing, a table that is not there.
        if getattr(e.orig, "sqlstate", None) == NO_RIGHT:
            what = f"{_first_line(e)}: give the gateway's user that right (GRANT)"
            raise Unavailable(f"The database refuses: {what}.") from e
        raise Unavailable(f"The database refuses: {_first_line(e)}.") from e
    except (DBAPIError, PoolTimeout, OSError) as e:
        raise Unavailable(f"The database does not answer: {_first_line(e)}.") from e


def _first_line(error: Exception) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
