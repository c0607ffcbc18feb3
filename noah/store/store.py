"""One database: whether it can be served, by whom, and what is forgotten in time; its statements are in the parts."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import Self

from sqlalchemy import delete, select

from noah.store import revisions
from noah.store.claims import ClaimStore
from noah.store.database import Database, parse_url
from noah.store.edits import EditStore
from noah.store.feed import Feed
from noah.store.feed_rows import FeedRows
from noah.store.gateways import AboutGateway
from noah.store.hints import Hints, open_hints
from noah.store.lease import Lease, holding_lease
from noah.store.logins import LoginStore
from noah.store.releases import ReleaseStore
from noah.store.sessions import SessionStore
from noah.store.shared_feed import open_shared_feed
from noah.store.tables import host_edits, is_live, is_open, logins, release_chunks, sessions
from noah.store.trail import TrailStore
from noah.store.wishes import WishStore

UNFINISHED_FOR = timedelta(days=7)  # that what a release has published is there for a gateway that goes on with it


class Store:
    def __init__(self, database: Database) -> None:
        self._database = database
        self.sessions = SessionStore(database)
        self.logins = LoginStore(database)
        self.edits = EditStore(database)
        self.releases = ReleaseStore(database)
        self.trail = TrailStore(database)
        self.wishes = WishStore(database)
        self.claims = ClaimStore(database)

    @classmethod
    def open(cls, url: str) -> Self:
        """Connect nothing yet. BadSettings for a URL that cannot be served."""
        return cls(Database(url))

    async def close(self) -> None:
        await self._database.close()

    async def check(self) -> None:
        """Raise Unavailable if the database is away; BadSettings, with what to run, if it is at another revision."""
        await self._database.check_file()
        async with self._database.reading() as connection:
            await connection.run_sync(revisions.check)

    @property
    def is_shared(self) -> bool:
        """Return whether several gateways may serve the database."""
        return not self._database.is_sqlite

    def hints(self) -> AbstractAsyncContextManager[Hints]:
        return open_hints(self._database)

    @asynccontextmanager
    async def feed(self, hints: Hints, *, clock: Callable[[], datetime]) -> AsyncIterator[Feed]:
        """Yield the feed of all gateways of the database; with SQLite there is only one, and its memory is enough."""
        if self._database.is_sqlite:
            yield Feed(epoch=secrets.token_hex(4), clock=clock)
            return
        async with open_shared_feed(FeedRows(self._database), hints, clock=clock) as feed:
            yield feed

    @property
    def server_host(self) -> str:
        """Return the host of the database's server; of several, the first."""
        url = parse_url(self._database.url)
        hosts = url.host or url.query.get("host") or "127.0.0.1"
        first = (hosts if isinstance(hosts, str) else hosts[0]).split(",")[0]
        if first.count(":") == 1:  # with a port; more of them are an IPv6 address
            first = first.partition(":")[0]
        return "127.0.0.1" if first.startswith("/") else first  # a socket of this machine

    def lease(self, about: AboutGateway) -> AbstractAsyncContextManager[Lease]:
        """Return a context in which this gateway has a lease (lease.py)."""
        return holding_lease(self._database, about)

    async def now(self) -> datetime:
        async with self._database.reading() as connection:
            return await self._database.now(connection)

    async def forget_before(self, age: timedelta, *, trail: timedelta) -> int:
        """Delete sessions that ended longer than *age* ago, and host edits as old that are over and logins
        that are over; return how many.

        Rows of the trail are deleted when they are older than *trail*, and not counted.
        """
        await self.trail.forget_before(trail)
        async with self._database.writing() as connection:
            before = await self._database.now(connection) - age
            is_old = host_edits.c.created_at < before
            # Why an edit was rolled back is read as long as its session lives.
            is_read = host_edits.c.session.in_(select(sessions.c.id).where(is_live))
            edits = await connection.execute(delete(host_edits).where(is_old, ~is_open, ~is_read))
            over = await connection.execute(delete(logins).where(logins.c.expires_at <= before + age))
            await connection.execute(delete(release_chunks).where(release_chunks.c.at < before + age - UNFINISHED_FOR))
            ended = await connection.execute(delete(sessions).where(sessions.c.ended_at < before))
            return edits.rowcount + over.rowcount + ended.rowcount
