"""The feed that all gateways of a database share: the same events with the same numbers at each of them.

What is published waits until the database has given it a number, and reaches watchers, also those of this gateway, only
by being read from there. While the database is away it waits, up to MOST_WAITING events; then all who watch reload.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from itertools import islice
from typing import Any

from noah.backoff import Backoff
from noah.core.printable import storable, storable_json
from noah.core.session.event_kind import EventKind
from noah.errors import BadInput, NoahError, Unavailable
from noah.keep_running import keep_running
from noah.store.feed import BEHIND, KEPT, Event, Feed
from noah.store.feed_rows import FeedRows, Read, Unnumbered
from noah.store.hints import Channel, Hints, heard_within

log = logging.getLogger(__name__)

POLL_EVERY_S = 1.5  # what an event takes to another gateway if its hint is lost, or there are none
MOST_AT_ONCE = 500  # events in one transaction
MOST_WAITING = 5000  # events while the database is away, half an hour's of 300 busy sessions
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0  # before a database that is away is asked again
CATCH_UP_WITHIN_S = 10.0  # with a gateway that has read more, as a client's ID shows; a reload is what it costs else
LAST_APPEND_WITHIN_S = 2.0  # when the gateway stops


class SharedFeed(Feed):
    def __init__(
        self,
        rows: FeedRows,
        read: Read,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        super().__init__(epoch=read.epoch, clock=clock)
        self._rows = rows
        self._catch_up_first: Callable[[], Awaitable[object]] | None = None
        self._source = secrets.token_hex(8)
        self._published = 0
        self._waiting: deque[Unnumbered] = deque()
        self._has_waiting = asyncio.Event()
        self._is_in_doubt = False  # an append of the first ones has had no answer
        self._reading = asyncio.Lock()
        self._begin_at(read)

    def synchronize(self, catch_up: Callable[[], Awaitable[object]]) -> None:
        self._catch_up_first = catch_up

    def publish(self, kind: EventKind, subject: str, data: Mapping[str, Any]) -> None:
        if len(self._waiting) >= MOST_WAITING:
            log.warning("%d events are lost, since the database is away: all who watch will reload", MOST_WAITING)
            self._waiting.clear()
            self._wait(EventKind.RELOAD, "", {})
        self._wait(kind, subject, data)

    async def watch(self, last_id: str | None = None) -> AsyncGenerator[Event, None]:
        if last_id:
            await self._catch_up(last_id)
        async with aclosing(super().watch(last_id)) as watched:
            async for event in watched:
                yield event

    # -- to the database

    def _wait(self, kind: EventKind, subject: str, data: Mapping[str, Any]) -> None:
        self._published += 1
        source = f"{self._source}-{self._published}"
        self._waiting.append(Unnumbered(source, self._clock(), kind, storable(subject), storable_json(data)))
        self._has_waiting.set()

    async def append_for_ever(self) -> None:
        backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        while True:
            await self._has_waiting.wait()
            try:
                if self._catch_up_first is not None:
                    await self._catch_up_first()
                await self.append_waiting()
                backoff.reset()
                await self.read()
            except Unavailable as e:
                log.debug("%d events wait for the database: %s", len(self._waiting), e.sentence)
                await asyncio.sleep(backoff.next_s())

    async def append_waiting(self) -> None:
        """Append all that waits. Raises Unavailable; what has failed once is looked for before it is tried again."""
        while batch := list(islice(self._waiting, MOST_AT_ONCE)):
            is_retry, self._is_in_doubt = self._is_in_doubt, True
            try:
                await self._rows.append(batch, is_retry=is_retry)
            except BadInput as e:
                log.error("%d events are lost: %s", len(batch), e.sentence)
                self._wait(EventKind.RELOAD, "", {})
            self._is_in_doubt = False
            appended = {event.source for event in batch}
            while self._waiting and self._waiting[0].source in appended:  # else there were too many meanwhile
                self._waiting.popleft()
        self._has_waiting.clear()

    async def append_last(self) -> None:
        """Append what waits when the gateway stops, as far as the database takes it soon."""
        with suppress(NoahError, TimeoutError):
            async with asyncio.timeout(LAST_APPEND_WITHIN_S):
                await self.append_waiting()

    # -- from the database

    async def read_for_ever(self, hints: Hints) -> None:
        backoff = Backoff(first_s=POLL_EVERY_S, longest_s=LONGEST_PAUSE_S)
        async with hints.to(Channel.FEED) as heard:
            while True:
                try:
                    await self.read()
                    backoff.reset()
                    await heard_within(heard, POLL_EVERY_S)
                except Unavailable:
                    await asyncio.sleep(backoff.next_s())

    async def read(self) -> None:
        """Hand on what has come to the database since the last time."""
        async with self._reading:
            while True:
                read = await self._rows.after(self._count, epoch=self._epoch)
                if read.rows or read.epoch != self._epoch:
                    await self._hand_on(read)
                if len(read.rows) < KEPT:
                    return

    async def _hand_on(self, read: Read) -> None:
        if self._catch_up_first is not None:
            await self._catch_up_first()
        if read.epoch != self._epoch or read.rows[0].number != self._count + 1:
            self._begin_at(read)
            return
        for row in read.rows:
            self._add(row.at, row.kind, row.subject, row.data)
            if row.number % (BEHIND // 5) == 0:
                await asyncio.sleep(0)  # for those who watch to take what they have

    async def _catch_up(self, last_id: str) -> None:
        """Read on if a client has more than this gateway: the one that it comes from has read it earlier.

        Once more if that fails, so that a gateway that stood still, and finds its deadline over, loses nothing by it.
        """
        for _ in range(2):
            number = self._number_of(last_id)
            if number is not None and number <= self._count:
                return
            with suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(CATCH_UP_WITHIN_S):
                    await self.read()

    def _begin_at(self, read: Read) -> None:
        """Have the history that was read, and nothing else; all who watch reload."""
        self._epoch = read.epoch
        self._events.clear()
        self._count = read.rows[0].number - 1 if read.rows else read.last
        watchers, self._watchers = self._watchers, set()
        for row in read.rows:
            self._add(row.at, row.kind, row.subject, row.data)
        self._watchers = watchers
        for queue in watchers:
            self._have_reload(queue)


@asynccontextmanager
async def open_shared_feed(
    rows: FeedRows,
    hints: Hints,
    *,
    clock: Callable[[], datetime],
) -> AsyncIterator[SharedFeed]:
    feed = SharedFeed(rows, await rows.after(0, epoch=""), clock=clock)
    async with asyncio.TaskGroup() as group:
        works = {"append to the feed": feed.append_for_ever, "read the feed": lambda: feed.read_for_ever(hints)}
        tasks = [group.create_task(keep_running(work, name), name=name) for name, work in works.items()]
        try:
            yield feed
        finally:
            for task in tasks:
                task.cancel()
            await feed.append_last()
