"""Numbered events with a bounded history: a client that reconnects continues where it was, or has to reload.

An event's ID is EPOCH-N. Numbers of another epoch mean nothing here, so their watcher reloads. This feed is one
process's, and its epoch with it; the feed that several gateways share is in shared_feed.py.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from noah.core.session.event_kind import EventKind

KEPT = 2000  # events; at 200 bytes each, nothing; at one event per second, half an hour
BEHIND = 500  # events; a watcher further behind than this has to reload


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    at: datetime
    kind: str  # an EventKind, or one that only a newer gateway knows
    subject: str  # the target or the session it is about
    data: Mapping[str, Any]  # JSON


class Feed:
    def __init__(self, *, epoch: str, clock: Callable[[], datetime]) -> None:
        self._epoch = epoch
        self._clock = clock
        self._count = 0
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._watchers: set[asyncio.Queue[Event | None]] = set()
        self._closed = False

    @property
    def last_id(self) -> str:
        """Return the ID to watch from, so that everything published from now on is seen."""
        return f"{self._epoch}-{self._count}"

    def synchronize(self, catch_up: Callable[[], Awaitable[object]]) -> None:
        """Have gateways catch up before they append events and before they deliver them.

        So who looks because of an event sees what it is about, at whichever gateway. This feed is one gateway's.
        """

    def publish(self, kind: EventKind, subject: str, data: Mapping[str, Any]) -> None:
        self._add(self._clock(), kind, subject, data)

    def _add(self, at: datetime, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        """Give the event the next number, and hand it to everybody who watches."""
        self._count += 1
        event = Event(self.last_id, at, kind, subject, data)
        self._events.append(event)
        for queue in self._watchers:
            if queue.qsize() >= BEHIND:
                self._have_reload(queue)
            else:
                queue.put_nowait(event)

    async def watch(self, last_id: str | None = None) -> AsyncGenerator[Event, None]:
        """Yield the events after *last_id*, then new ones; without it, only new ones. Ends when the feed is closed.

        An event of the kind RELOAD says that some were missed and that the watcher should read everything again.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue(BEHIND + 1)  # the last place is for the None
        if self._closed:
            queue.put_nowait(None)
        else:
            self._watchers.add(queue)
        try:
            # From here to the first await nothing can be published, so nothing is missed and nothing comes twice.
            missed = self._since(last_id) if last_id else []
            for event in [self._reload()] if missed is None else missed:
                yield event
            while (next_event := await queue.get()) is not None:
                yield next_event
        finally:
            self._watchers.discard(queue)

    def close(self) -> None:
        """End every watch once it has read what there is, and every later one likewise."""
        self._closed = True
        for queue in self._watchers:
            queue.put_nowait(None)
        # What is published from now on must not reach a queue, or a slow one would lose its None in a reload.
        self._watchers.clear()

    def _since(self, last_id: str) -> list[Event] | None:
        """Return the events after *last_id*; None if that is not known."""
        seen, oldest = self._number_of(last_id), self._count - len(self._events)
        if seen is None or not oldest <= seen <= self._count:
            return None
        return list(self._events)[seen - oldest :]

    def _number_of(self, id: str) -> int | None:
        """Return the number in an ID of this epoch."""
        epoch, _, number = id.rpartition("-")
        if epoch != self._epoch or not (number.isascii() and number.isdigit() and len(number) < 20):
            return None
        return int(number)

    def _have_reload(self, queue: "asyncio.Queue[Event | None]") -> None:
        """Have a watcher reload once and continue from here: reloading shows what it had not read."""
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(self._reload())

    def _reload(self) -> Event:
        return Event(self.last_id, self._clock(), EventKind.RELOAD, "", {})
