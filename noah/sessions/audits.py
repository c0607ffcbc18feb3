"""What debuggers did, kept while their sessions live: a gateway that is killed forgets its last moments only."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from noah.backoff import Backoff
from noah.core.lease import Fence
from noah.errors import NoahError, Unavailable
from noah.sessions.live_session import LiveSession
from noah.store.sessions import SessionStore

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5  # after a failure
EVERY = 30.0  # seconds; so much of what an attached debugger does may be lost
SAVED_AT_ONCE = 100  # audits in one transaction: thousands would hold the event loop, and outlast its deadline
# Seconds; a gateway that stops does not wait longer for its database, except for a locked file of SQLite (BUSY).
LAST = 2.0


class Audits:
    """Saves audits in a task of its own: a database that is slow or away must not hold a session up."""

    def __init__(self, store: SessionStore, *, every: float = EVERY) -> None:
        self._store = store
        self._every = every
        self._lives: dict[str, LiveSession] = {}
        self._saved: dict[str, Mapping[str, Any] | None] = {}
        self._soon: set[str] = set()
        self._rung = asyncio.Event()

    def keep(self, live: LiveSession) -> None:
        """Save the session's audit now and then until it has ended, which saves it too."""
        self._lives[live.session.id] = live
        self._saved[live.session.id] = live.audit

    def forget(self, live: LiveSession) -> None:
        """Save nothing of it any more: another gateway does, or it has ended."""
        if self._lives.get(live.session.id) is live:
            del self._lives[live.session.id], self._saved[live.session.id]

    def save_soon(self, session_id: str) -> None:
        """Save it at once: a debugger came or went."""
        self._soon.add(session_id)
        self._rung.set()

    async def save_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._every
        backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=EVERY)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._rung.wait()
            self._rung.clear()
            wanted, self._soon = self._soon, set()
            if loop.time() >= due:
                due = loop.time() + self._every
                wanted = set(self._lives)
            try:
                await self._save(wanted)
                backoff.reset()
            except NoahError as e:
                log.warning("what debuggers did is kept later: %s", e.sentence)
                await asyncio.sleep(backoff.next_s())
            except Exception:  # the task's outermost loop: whatever it is, it is tried again
                log.exception("what debuggers did could not be kept")
                await asyncio.sleep(backoff.next_s())

    async def save_last(self) -> None:
        try:
            async with asyncio.timeout(LAST):
                await self._save(self._lives.keys())
        except (TimeoutError, Unavailable):
            log.warning("what debuggers did last is not kept: the database does not answer")

    async def _save(self, wanted: Iterable[str]) -> None:
        for ended in [id for id, live in self._lives.items() if live.session.ended_at is not None]:
            del self._lives[ended], self._saved[ended]
        changed: dict[str, tuple[Fence, Mapping[str, Any]]] = {}
        for id in self._lives.keys() & set(wanted):
            audit, fence = self._lives[id].audit, self._lives[id].fence
            if audit is not None and fence is not None and audit != self._saved[id]:
                changed[id] = fence, audit
        ids = list(changed)
        for first in range(0, len(ids), SAVED_AT_ONCE):
            some = {id: changed[id] for id in ids[first : first + SAVED_AT_ONCE]}
            await self._store.save_audits(some)
            self._saved.update({id: audit for id, (_, audit) in some.items()})


@asynccontextmanager
async def keeping_audits(store: SessionStore, *, every: float = EVERY) -> AsyncIterator[Audits]:
    """Save audits as long as the context lasts, and at its end: leave it after the sessions' ports are closed."""
    audits = Audits(store, every=every)
    async with asyncio.TaskGroup() as group:
        saving = group.create_task(audits.save_for_ever(), name="keep what debuggers did")
        try:
            yield audits
        finally:
            saving.cancel()
    await audits.save_last()
