"""One release as people watch it: numbers its events, holds them, and hands them to everybody who watches.

A SharedStream is the same at each gateway: one of them follows the release and writes down what it finds, and all,
that one too, show what is written. So nobody has seen an event whose number another gateway gives to another one.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from datetime import datetime

from noah.backoff import Backoff
from noah.core.release.journal import Journal
from noah.core.release.release import Progress, Release, Result
from noah.core.release.release_event import Numbered, ReleaseEvent, ReleaseEventKind, timestamp
from noah.errors import Unavailable
from noah.store.claims import Claim
from noah.store.releases import Chunk, ReleaseStore

log = logging.getLogger(__name__)

# What a watcher is given before the stream looks again which events it still holds.
MOST_EVENTS_AT_ONCE, MOST_BYTES_AT_ONCE = 200, 1 << 20

GATHERED_FOR_S = 0.2  # events that are written together; as much later they are shown
MOST_IN_CHUNK = 2000  # events
MOST_OUTGOING = 20_000  # events, while the database is away
MOST_CHUNKS = 600  # of a release; then what its journal holds is written as one
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0  # before a database that is away is asked again


class Stream:
    def __init__(self, release: Release, journal: Journal, *, is_over: bool = False, looks_again: bool = False) -> None:
        """*looks_again*: the end of this release is kept, and its workload is looked at again."""
        self.release = release
        self.journal = journal
        # Numbers of another run mean nothing in this one. What is kept is the same for all who read it.
        self.run = "kept" if is_over else secrets.token_hex(4)
        self.is_over = is_over
        self.is_saved = is_over  # the store has all that it will ever have of it
        self.claim: Claim | None = None  # by which this gateway follows a release that several could follow
        self.turn = asyncio.Lock()  # one watcher at a time puts into words what it was given
        self._looks_again = looks_again
        self._is_rollout = False
        self._has_news = asyncio.Event()  # replaced with each event

    def __repr__(self) -> str:
        return f"<{self.release} {self.release.id} {self.release.progress.result}, {self.journal.count} events>"

    @property
    def is_shared(self) -> bool:
        return False

    async def written(self) -> None:
        """Wait until all that was published is shown."""

    @property
    def is_to_be_kept(self) -> bool:
        return self._is_rollout and not self._looks_again

    @property
    def is_unsaved(self) -> bool:
        """Return whether the store has not all yet that it will have of it."""
        return self.is_to_be_kept and not self.is_saved

    def mark_as_rollout(self) -> None:
        """Keep it: it is a rollout, and not only a workload that somebody looks at."""
        self._is_rollout = True

    def mark_as_another_look(self) -> None:
        """Keep nothing of it: the end of this release is kept already."""
        self._looks_again = True

    async def ended(self) -> None:
        """Wait until it is over."""
        while not self.is_over:
            await self._has_news.wait()

    def publish(self, event: ReleaseEvent) -> None:
        self._show(self.journal.count + 1, event)

    def _show(self, number: int, event: ReleaseEvent) -> None:
        if event.kind is ReleaseEventKind.PROGRESS:
            progress = Progress(Result.RUNNING, event.more["online"], event.more["wanted"], event.text)
            self.release = replace(self.release, progress=progress)
        elif event.kind is ReleaseEventKind.END:
            progress = Progress(Result(event.more["result"]), event.more["online"], event.more["wanted"], event.text)
            self.release = replace(self.release, ended_at=datetime.fromisoformat(event.at), progress=progress)
            self.is_over = True
        self.journal.add_as(number, event)
        self._has_news.set()
        self._has_news = asyncio.Event()

    def begin(self, now: datetime) -> None:
        about = {
            "release": self.release.id,
            "cluster": self.release.cluster,
            "namespace": self.release.namespace,
            "workload": f"{self.release.kind}/{self.release.workload}",
            "revision": self.release.revision,
        }
        text = f"Revision {self.release.revision} of {self.release}"
        self.publish(ReleaseEvent(timestamp(now), ReleaseEventKind.RELEASE, text, about))

    def end(self, progress: Progress, now: datetime) -> None:
        self.publish(end_of(progress, now))

    async def watch(self, after: int) -> AsyncGenerator[list[Numbered], None]:
        """Yield what came after the event of that number, then what comes, until it is over.

        A watcher that is slower than the release holds nothing up: a "gap" says what it has missed.
        """
        while True:
            has_news = self._has_news
            if found := list(self.journal.after(after, limit=MOST_EVENTS_AT_ONCE, size_bytes=MOST_BYTES_AT_ONCE)):
                yield found
                after = found[-1][0]
            if after >= self.journal.count:
                if self.is_over:
                    return
                await has_news.wait()


class SharedStream(Stream):
    def __init__(self, release: Release, store: ReleaseStore, *, looks_again: bool = False) -> None:
        super().__init__(release, Journal(), looks_again=looks_again)
        self._store = store
        self._earlier_run: str | None = None  # that was over before this one began
        self._outgoing: deque[Numbered] = deque()
        self._batch: list[Numbered] = []  # that is being written
        self._has_outgoing = asyncio.Event()
        self._last = 0  # number of the newest event, written or not
        self._chunks = 0  # that were written since all that is held was written as one

    @property
    def is_shared(self) -> bool:
        return True

    async def begin_reading(self) -> None:
        """Read what there is. A run that is over is an earlier look at the same release, and not this stream's."""
        chunks = await self._store.chunks(self.release.id, after=0)
        if chunks and chunks[-1].is_over:
            self._earlier_run = chunks[-1].run
        else:
            self._take(chunks)

    async def read(self) -> None:
        """Show what another gateway has written since the last time."""
        self._take(await self._store.chunks(self.release.id, after=self.journal.count))

    async def begin_writing(self, claim: Claim) -> None:
        """Follow the release from now on, by *claim*: number on from what is written. Raises LostClaim."""
        await self.read()
        self.claim, self._last = claim, self.journal.count
        self._outgoing.clear()
        self._batch.clear()
        if not self._last:
            await self._store.forget_chunks(self.release.id, by=claim)

    async def write_for_ever(self) -> None:
        """Write what is published, then show it. Raises LostClaim once another gateway follows the release."""
        assert self.claim is not None
        backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        while True:
            await self._has_outgoing.wait()
            if not self._batch:
                await asyncio.sleep(GATHERED_FOR_S)
                self._batch = [self._outgoing.popleft() for _ in range(min(len(self._outgoing), MOST_IN_CHUNK))]
            try:
                await self._write(self.claim)
                backoff.reset()
            except Unavailable as e:
                log.debug("release %s: %d events wait for the database: %s", self.release.id, len(self._batch), e)
                await asyncio.sleep(backoff.next_s())

    async def written(self) -> None:
        while self._batch or self._outgoing:
            await self._has_news.wait()

    def publish(self, event: ReleaseEvent) -> None:
        self._last += 1
        self._outgoing.append((self._last, event))
        if len(self._outgoing) > MOST_OUTGOING:  # the database is away; a "gap" says how many are missing
            self._outgoing.popleft()
        self._has_outgoing.set()

    async def _write(self, claim: Claim) -> None:
        is_over = self._batch[-1][1].kind is ReleaseEventKind.END
        if self._chunks >= MOST_CHUNKS:
            await self._store.forget_chunks(self.release.id, by=claim)
            held, self._chunks = self.journal.held(), 0
            await self._store.append_chunk(self.release.id, self.run, held, is_over=False, by=claim)
        await self._store.append_chunk(self.release.id, self.run, self._batch, is_over=is_over, by=claim)
        self._chunks += 1
        batch, self._batch = self._batch, []
        if not self._outgoing:
            self._has_outgoing.clear()
        for number, event in batch:
            self._show(number, event)

    def _take(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            if chunk.run == self._earlier_run:
                continue
            if chunk.run != self.run:
                self.run, self.journal = chunk.run, Journal()
            for number, event in chunk.events:
                if number > self.journal.count:
                    self._show(number, event)


def end_of(progress: Progress, at: datetime) -> ReleaseEvent:
    more = {"result": progress.result, "online": progress.online, "wanted": progress.wanted}
    return ReleaseEvent(timestamp(at), ReleaseEventKind.END, progress.sentence, more)
