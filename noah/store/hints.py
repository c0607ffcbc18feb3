"""Hints that something in the database has changed, by LISTEN and NOTIFY: with them it is read at once.

Nothing depends on them. A hint may be lost, late or without reason, and with SQLite or behind a pooler there are none:
who waits for one looks at intervals as well.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from noah.backoff import Backoff
from noah.keep_running import keep_running
from noah.store.database import TAKES, Database, connect_plainly, is_pooled

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

CHECK_EVERY_S = 5.0  # whether the connection is still there; its server may be gone without a word
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 10.0  # before it is connected again


class Channel(StrEnum):
    FEED = "noah_feed"
    SESSIONS = "noah_sessions"
    RELEASES = "noah_releases"


def hint(channel: Channel) -> Select[Any]:
    """Return the statement that sends a hint, once its transaction is committed."""
    return select(func.pg_notify(channel.value, ""))


async def send(connection: AsyncConnection, channel: Channel) -> None:
    """Send a hint when the transaction of *connection* is committed."""
    if connection.dialect.name == "postgresql":
        await connection.execute(hint(channel))


class Hints:
    def __init__(self) -> None:
        self._waiting: defaultdict[Channel, set[asyncio.Event]] = defaultdict(set)

    @asynccontextmanager
    async def to(self, channel: Channel) -> AsyncIterator[asyncio.Event]:
        """Yield what is set by each hint on *channel*, and by each connection that may have missed some."""
        heard = asyncio.Event()
        self._waiting[channel].add(heard)
        try:
            yield heard
        finally:
            self._waiting[channel].discard(heard)

    async def listen(self, database: Database) -> None:
        """Pass hints on for ever; return at once where there are none."""
        if database.is_sqlite:
            return
        import psycopg

        backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        while True:
            try:
                async with asyncio.timeout(TAKES):
                    connection = await connect_plainly(database.url)
                try:
                    if await is_pooled(connection):
                        await _say_what_a_pooler_lacks(connection)
                        return
                    backoff.reset()
                    await self._pass_on(connection)
                finally:
                    connection.pgconn.finish()  # without a goodbye: a server that hangs is not waited for
            except (psycopg.Error, OSError, TimeoutError) as e:
                log.debug("no hints from the database: %r", e)
            await asyncio.sleep(backoff.next_s())

    async def _pass_on(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        for channel in Channel:
            await connection.execute(f"LISTEN {channel}".encode())
            self._hear(channel)
        while True:
            async for notified in connection.notifies(timeout=CHECK_EVERY_S):
                self._hear(Channel(notified.channel))
            async with asyncio.timeout(TAKES):
                await connection.execute(b"SELECT 1")

    def _hear(self, channel: Channel) -> None:
        for event in self._waiting[channel]:
            event.set()


async def _say_what_a_pooler_lacks(connection: "psycopg.AsyncConnection[Any]") -> None:
    log.info("the database is behind a pooler, which passes no hints on: it is read every other second")
    # What a gateway that is frozen in the middle of a transaction has locked, the server gives to the others.
    name, seconds = "idle_in_transaction_session_timeout", f"{TAKES:.0f}s"
    row = await (await connection.execute(f"SELECT current_setting('{name}'), current_user".encode())).fetchone()
    if row is not None and row[0] == "0":
        log.warning("the pooler leaves out what the gateway sets: ALTER ROLE %s SET %s = '%s'", row[1], name, seconds)


@asynccontextmanager
async def open_hints(database: Database) -> AsyncIterator[Hints]:
    hints = Hints()
    async with asyncio.TaskGroup() as group:
        name = "listen to the database's hints"
        task = group.create_task(keep_running(lambda: hints.listen(database), name), name=name)
        yield hints
        task.cancel()


async def heard_within(heard: asyncio.Event, seconds: float) -> None:
    """Wait for a hint, at most *seconds*."""
    try:
        async with asyncio.timeout(seconds):
            await heard.wait()
    except TimeoutError:
        pass
    heard.clear()
