"""One gateway per database: two would start every forwarder twice and want the same ports.

The lock is the kernel's or the server's, which take it from a gateway at once when it is killed. For SQLite it is an
flock on a file beside the database; for PostgreSQL an advisory lock of a connection that is kept for nothing else.
"""

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import IO, Any

from sqlalchemy import Select, func, select
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from noah.errors import Conflict, Unavailable
from noah.store.database import TAKES, parse_url, postgres_args, translated

log = logging.getLogger(__name__)

SERVING = 0x6E6F6168_00000003  # PostgreSQL's advisory lock for who serves; "noah" and a number
# Seconds that an earlier gateway may take to end. Longer than KEEPALIVES need: until then the server holds the lock for
# a gateway that it cannot reach any more, which may be this one itself, before its connection was cut.
WAIT_S = 10.0
KEEPALIVES = "-c tcp_keepalives_idle=4 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=2"  # the server's: 8 s
TRY_EVERY_S = 0.2
CHECK_EVERY_S = 2.0  # whether the connection is still there


class AnotherGateway(Conflict):
    """Another gateway serves this database: stop it, or give this one a database of its own."""


def exclusive_lease(database: str, *, wait_s: float = WAIT_S) -> AbstractAsyncContextManager[None]:
    """Return a context in which no other gateway serves *database*.

    Raises AnotherGateway if the other gateway does not stop in time, or, inside the block, if it took the lock while
    our connection was down.
    """
    url = parse_url(database)
    return _file_lock(url, wait_s) if url.drivername == "sqlite" else _server_lock(url, wait_s)


@asynccontextmanager
async def _file_lock(url: URL, wait_s: float) -> AsyncIterator[None]:
    # Both calls may take as long as the file system likes: on NFS they go to the server.
    file = await asyncio.to_thread(_open, url.database or "")
    try:
        await _until(lambda: asyncio.to_thread(_lock, file), wait_s)
        yield
    finally:
        file.close()


def _open(database: str) -> IO[bytes]:
    # Beside the file itself, by whatever link it is named. It stays: if it were deleted, the next gateway would lock a
    # file that the others do not see.
    name = f"{os.path.realpath(database)}-gateway"
    try:
        # Not for other users, who could hold the lock; and no link that one of them has put there.
        file = os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600), "ab")
        os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & 0o600)
        return file
    except OSError as e:
        raise Unavailable(f"The database cannot be locked: {name}: {e.strerror}.") from None


def _lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as e:
        raise Unavailable(f"The database cannot be locked: {file.name}: {e.strerror}.") from None
    return True


@asynccontextmanager
async def _server_lock(url: URL, wait_s: float) -> AsyncIterator[None]:
    args = postgres_args(url)
    args["options"] += f" {KEEPALIVES}"
    engine = create_async_engine(url, connect_args=args, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    lock = _ServerLock(engine, wait_s)
    try:
        await lock.take()
        async with asyncio.TaskGroup() as group:
            holding = group.create_task(lock.hold(), name="hold the database's lock")
            try:
                yield
            finally:
                holding.cancel()
    finally:
        await lock.release()


class _ServerLock:
    def __init__(self, engine: AsyncEngine, wait_s: float) -> None:
        self._engine = engine
        self._wait_s = wait_s
        self._connection: AsyncConnection | None = None

    async def take(self) -> None:
        with translated():
            async with asyncio.timeout(TAKES):
                self._connection = await self._engine.connect()
        await _until(self._try, self._wait_s)

    async def hold(self) -> None:
        """Take the lock again whenever it is lost. AnotherGateway if another gateway has it by then."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            was_held = self._connection is not None
            try:
                if was_held:
                    await self._ask(select(1))
                else:
                    await self.take()
                    log.info("the database is held for this gateway again")
            except Unavailable as e:
                await self.release()
                if was_held:
                    log.warning("the database is not held for this gateway until it is back: %s", e.sentence)
            except AnotherGateway:
                log.error("another gateway took over the database while it was away: this one stops")
                raise

    async def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # Without a goodbye: a server that hangs is not waited for.
            await connection.invalidate()
            await connection.close()

    async def _try(self) -> bool:
        return bool(await self._ask(select(func.pg_try_advisory_lock(SERVING))))

    async def _ask(self, question: Select[Any]) -> Any:
        assert self._connection is not None
        with translated():
            async with asyncio.timeout(TAKES):
                return await self._connection.scalar(question)


async def _until(locked: Callable[[], Awaitable[bool]], wait_s: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    if await locked():
        return
    log.info("another gateway holds the database: waiting %.0f s for its end", wait_s)
    while not await locked():
        if loop.time() >= deadline:
            raise AnotherGateway()
        await asyncio.sleep(TRY_EVERY_S)
