"""A gateway's lease: that it is there, who else is, and whether it may act now (core/lease.py has the rules).

PostgreSQL serves any number of gateways. SQLite serves one, which holds an flock on a file beside the database: the
kernel takes that from a killed gateway at once, and its lease has no end while it is held.
"""

import asyncio
import fcntl
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from math import inf
from typing import IO, Any

from noah.backoff import Backoff
from noah.clock import unstopped_clock
from noah.core.lease import RENEW_EVERY_S, Belief, Fence, renew_after
from noah.errors import Conflict, NoahError, Unavailable
from noah.keep_running import attempted
from noah.store.database import Database, parse_url
from noah.store.gateways import AboutGateway, GatewayStore, Peer

log = logging.getLogger(__name__)

WAIT_S = 10.0  # that an earlier gateway on SQLite may take to end
TRY_EVERY_S = 0.2
FIRST_PAUSE_S = 0.2  # after a renewal that failed
LAST_S = 2.0  # a gateway that stops does not wait longer for its database
NO_CONTACT = "The gateway has no contact with its database at this moment: try again soon."


class AnotherGateway(Conflict):
    """Another gateway serves this database: stop it, or give this one a database of its own."""


class Lease:
    """The lease of this gateway. When it is lost the gateway goes on under a new ID, and owns nothing that it had."""

    def __init__(
        self,
        store: GatewayStore,
        about: AboutGateway,
        *,
        is_alone: bool = False,
        clock: Callable[[], float] = unstopped_clock,
    ) -> None:
        """*is_alone*: no other gateway can be there, so that the lease has no end."""
        self.gateway_id = _new_id()
        self.peers: Mapping[str, Peer] = {}  # gateways that are there, this one included, by their IDs
        self._store = store
        self._about = about
        self._is_alone = is_alone
        self._clock = clock
        self._belief = Belief()
        self._is_registered = False
        self._renewing = asyncio.Lock()
        self._acting: set[asyncio.Timeout] = set()

    @property
    def is_held(self) -> bool:
        """Return whether this gateway may act; it is asked just before each act."""
        return self._belief.is_held(self._clock())

    @property
    def has_ended(self) -> bool:
        """Return whether another gateway may have its sessions."""
        return self._belief.has_ended(self._clock())

    @property
    def is_alone(self) -> bool:
        return self._is_alone

    @property
    def about(self) -> AboutGateway:
        return self._about

    def owns(self, fence: Fence | None) -> bool:
        """Return whether this gateway may act for the session that it has by that fence."""
        return fence is not None and fence.gateway == self.gateway_id and self.is_held

    def check(self) -> None:
        """Raise Unavailable unless the lease is held."""
        if not self.is_held:
            raise Unavailable(NO_CONTACT)

    @asynccontextmanager
    async def acting(self) -> AsyncIterator[None]:
        """Cancel what is done in the block when the lease ends. Raises Unavailable then, and if it is not held."""
        self.check()
        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                self._acting.add(timeout)
                self._end_with_lease(timeout)
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            raise Unavailable(NO_CONTACT) from None
        finally:
            self._acting.discard(timeout)

    def _end_with_lease(self, timeout: asyncio.Timeout) -> None:
        if not self._is_alone and not timeout.expired():
            timeout.reschedule(asyncio.get_running_loop().time() + self._belief.until - self._clock())

    @property
    def takers(self) -> int:
        """Return how many gateways take sessions over."""
        return max(1, sum(not one.about.is_draining for one in self.peers.values()))

    async def publish(self, **about: Any) -> None:
        """Let the other gateways know something else of this one; the names are AboutGateway's."""
        self._about = replace(self._about, **about)
        await self.renew()

    async def renew(self) -> None:
        """Let the lease last from now on, and see who is there. Raises Unavailable."""
        async with self._renewing:
            began = self._clock()
            if not (self._is_registered and await self._store.renew(self.gateway_id, self._about)):
                await self._register()
            self._belief = self._belief.renewed(began=inf if self._is_alone else began)
            for timeout in self._acting:
                self._end_with_lease(timeout)
            peers = await self._store.all()
            if any(one.has_expired for one in peers) and self._belief.may_declare_dead(self._clock()):
                for id in await self._store.declare_dead():
                    log.warning("gateway %s has not renewed its lease: its sessions are taken over", id)
                peers = await self._store.all()
            self.peers = {one.id: one for one in peers}

    async def keep(self) -> None:
        """Renew the lease for ever."""
        backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=RENEW_EVERY_S)
        while True:
            began = self._clock()
            if await attempted(self.renew, "renewing the lease", backoff):
                due = began + renew_after(one.left_s for one in self.peers.values())
                await asyncio.sleep(max(0.0, due - self._clock()))

    async def leave(self) -> None:
        """Give the lease back: what this gateway still owns is everybody's at once."""
        self._belief = Belief()
        try:
            async with asyncio.timeout(LAST_S):
                await self._store.leave(self.gateway_id)
        except (TimeoutError, NoahError):
            log.warning("the lease is not given back: the database does not answer")

    async def _register(self) -> None:
        if self._is_registered:
            lost, self.gateway_id = self.gateway_id, _new_id()
            self._is_registered, self._belief = False, Belief()
            for timeout in self._acting:  # acts of the one before
                if not timeout.expired():
                    timeout.reschedule(asyncio.get_running_loop().time())
            self._acting.clear()
            log.warning("gateway %s was declared dead: this process goes on as %s", lost, self.gateway_id)
        await self._store.register(self.gateway_id, self._about)
        self._is_registered = True
        log.info("this is gateway %s by its lease", self.gateway_id)


def _new_id() -> str:
    return f"g-{secrets.token_hex(4)}"


@asynccontextmanager
async def holding_lease(database: Database, about: AboutGateway) -> AsyncIterator[Lease]:
    """Keep a lease as long as the context lasts. Raises AnotherGateway if another one serves the SQLite file."""
    async with AsyncExitStack() as stack:
        if database.is_sqlite:
            await stack.enter_async_context(exclusive_lease(database.url))
        lease = Lease(GatewayStore(database), about, is_alone=database.is_sqlite)
        await lease.renew()
        group = await stack.enter_async_context(asyncio.TaskGroup())
        keeping = group.create_task(lease.keep(), name="keep the lease")
        try:
            yield lease
        finally:
            keeping.cancel()
            await lease.leave()


@asynccontextmanager
async def exclusive_lease(database: str, *, wait_s: float = WAIT_S) -> AsyncIterator[None]:
    """Return a context in which no other gateway serves the SQLite file. AnotherGateway if it does not end in time."""
    # Both calls may take as long as the file system likes: on NFS they go to the server.
    file = await asyncio.to_thread(_open, parse_url(database).database or "")
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
