"""The tasks of the live sessions: every row that has not ended has one here.

A session gets its task when it is enabled. Any other row is adopted: one that an earlier gateway left, and one whose
writer never learned that its commit had been done. Adopting is safe at any time: an ID without a task when a read
begins belongs to a row that has no task, or has ended.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from noah.access.permissions import Permissions
from noah.access.trail import Trail
from noah.catalog.holders import Holders
from noah.core.session.audit import left_behind
from noah.core.session.target import Target
from noah.sessions.audits import Audits
from noah.sessions.live_session import LiveSession, Traffic
from noah.sessions.task import SessionTask
from noah.settings import GatewaySettings
from noah.store.feed import Feed
from noah.store.sessions import SessionStore
from noah.targets.base import Kind

ADOPT_EVERY_S = 10.0  # one read of the live sessions; so long a target may be held by a row that nothing works on


class Ownership:
    def __init__(
        self,
        group: asyncio.TaskGroup,
        *,
        kinds: Mapping[str, Kind],
        holders: Holders,
        store: SessionStore,
        audits: Audits,
        feed: Feed,
        gateway: GatewaySettings,
        clock: Callable[[], datetime],
        took: Callable[[Target, float], None],
        permissions: Permissions,
        trail: Trail,
    ) -> None:
        self._group = group
        self._kinds = kinds
        self._holders = holders
        self._store = store
        self._audits = audits
        self._feed = feed
        self._gateway = gateway
        self._clock = clock
        self._took = took
        self._permissions = permissions
        self._trail = trail
        self._tasks: dict[str, SessionTask] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._past_traffic = Traffic()

    def live(self) -> list[LiveSession]:
        return [task.live for task in self._tasks.values()]

    def task_of(self, session_id: str) -> SessionTask | None:
        return self._tasks.get(session_id)

    def traffic(self) -> Traffic:
        """Return what all sessions carried since the gateway's start: none of its figures ever falls."""
        return sum((live.traffic for live in self.live()), self._past_traffic)

    def start(self, live: LiveSession) -> SessionTask:
        """Give the session a task; one that has been adopted meanwhile keeps its own."""
        session = live.session
        if session.id in self._tasks:
            return self._tasks[session.id]
        task = SessionTask(
            live,
            kinds=self._kinds,
            holders=self._holders,
            store=self._store,
            audits=self._audits,
            feed=self._feed,
            gateway=self._gateway,
            clock=self._clock,
            took=self._took,
            permissions=self._permissions,
            trail=self._trail,
        )
        self._tasks[session.id] = task
        self._holders.put(session.id, session.target, session.owner)
        self._audits.keep(live)
        running = self._group.create_task(task.run(), name=f"session {session.id} {session.target}")
        self._running[session.id] = running
        running.add_done_callback(lambda _: self._running.pop(session.id))
        running.add_done_callback(lambda _: self.forget(session.id))
        return task

    async def adopt(self, session_id: str) -> SessionTask | None:
        """Return the task of a session that may have none yet; None if it has ended."""
        if session_id in self._tasks:
            return self._tasks[session_id]
        audit = (await self._store.audits([session_id])).get(session_id)
        if session_id in self._tasks:
            return self._tasks[session_id]
        session = await self._store.get(session_id)
        if session is None or session.ended_at is not None:
            return None
        return self.start(LiveSession(session, audit=audit and left_behind(audit)))

    async def adopt_all(self) -> None:
        for session in await self._store.live():
            if session.id not in self._tasks:
                await self.adopt(session.id)

    def reconfigure(self, targets: Collection[Target]) -> None:
        for task in self._tasks.values():
            if task.live.session.target in targets:
                task.reconfigure()

    def forget(self, session_id: str) -> None:
        if task := self._tasks.pop(session_id, None):
            self._holders.remove(session_id)
            self._past_traffic += task.live.traffic

    def stop(self) -> None:
        for running in self._running.values():
            running.cancel()
