"""One release as people watch it: numbers its events, holds them, and hands them to everybody who watches."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import datetime

from noah.core.release.journal import Journal
from noah.core.release.release import Progress, Release, Result
from noah.core.release.release_event import Numbered, ReleaseEvent, ReleaseEventKind, timestamp

# What a watcher is given before the stream looks again which events it still holds.
MOST_EVENTS_AT_ONCE, MOST_BYTES_AT_ONCE = 200, 1 << 20


class Stream:
    def __init__(self, release: Release, journal: Journal, *, is_over: bool = False, looks_again: bool = False) -> None:
        """*looks_again*: the end of this release is kept, and its workload is looked at again."""
        self.release = release
        self.journal = journal
        # Numbers of another run mean nothing in this one. What is kept is the same for all who read it.
        self.run = "kept" if is_over else secrets.token_hex(4)
        self.is_over = is_over
        self.is_saved = is_over  # the store has all that it will ever have of it
        self.turn = asyncio.Lock()  # one watcher at a time puts into words what it was given
        self._looks_again = looks_again
        self._is_rollout = False
        self._has_news = asyncio.Event()  # replaced with each event

    def __repr__(self) -> str:
        return f"<{self.release} {self.release.id} {self.release.progress.result}, {self.journal.count} events>"

    @property
    def is_to_be_kept(self) -> bool:
        return self._is_rollout and not self._looks_again

    def mark_as_rollout(self) -> None:
        """Keep it: it is a rollout, and not only a workload that somebody looks at."""
        self._is_rollout = True

    async def ended(self) -> None:
        """Wait until it is over."""
        while not self.is_over:
            await self._has_news.wait()

    def publish(self, event: ReleaseEvent) -> None:
        if event.kind is ReleaseEventKind.PROGRESS:
            progress = Progress(Result.RUNNING, event.more["online"], event.more["wanted"], event.text)
            self.release = replace(self.release, progress=progress)
        self.journal.add(event)
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
        self.release = replace(self.release, ended_at=now, progress=progress)
        self.is_over = True
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


def end_of(progress: Progress, at: datetime) -> ReleaseEvent:
    more = {"result": progress.result, "online": progress.online, "wanted": progress.wanted}
    return ReleaseEvent(timestamp(at), ReleaseEventKind.END, progress.sentence, more)
