"""One release as people watch it: what it is, what it has told, and what it goes on to tell."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import datetime

from noah.core.release.journal import Journal
from noah.core.release.release import Progress, Release, Result
from noah.core.release.release_event import Numbered, ReleaseEvent, ReleaseEventKind, timestamp

AT_ONCE, AT_ONCE_SIZE = 200, 1 << 20  # events, and bytes, that a watcher is given before it is looked what is held


class Stream:
    def __init__(self, release: Release, journal: Journal, *, is_over: bool = False, looks_again: bool = False) -> None:
        """*looks_again*: at the workload of a release whose end is kept."""
        self.release = release
        self.journal = journal
        # Numbers of another run mean nothing in this one. What is kept is the same for all who read it.
        self.run = "kept" if is_over else secrets.token_hex(4)
        self.is_over = is_over
        self._looks_again = looks_again
        self._rolls = False
        self.turn = asyncio.Lock()  # of the watchers, to put into words what they are given
        self._bell = asyncio.Event()

    def __repr__(self) -> str:
        return f"<{self.release} {self.release.id} {self.release.progress.result}, {self.journal.count} events>"

    @property
    def is_to_be_kept(self) -> bool:
        return self._rolls and not self._looks_again

    def rolls(self) -> None:
        """It is a rollout, and not only a workload that somebody looks at."""
        self._rolls = True

    async def ended(self) -> None:
        while not self.is_over:
            await self._bell.wait()

    def tell(self, told: ReleaseEvent) -> None:
        if told.kind == ReleaseEventKind.PROGRESS:
            progress = Progress(Result.RUNNING, told.more["online"], told.more["wanted"], told.text)
            self.release = replace(self.release, progress=progress)
        self.journal.add(told)
        self._ring()

    def begin(self, now: datetime) -> None:
        about = {
            "release": self.release.id,
            "cluster": self.release.cluster,
            "namespace": self.release.namespace,
            "workload": f"{self.release.kind}/{self.release.workload}",
            "revision": self.release.revision,
        }
        self.tell(
            ReleaseEvent(
                timestamp(now), ReleaseEventKind.RELEASE, f"Revision {self.release.revision} of {self.release}", about
            )
        )

    def end(self, progress: Progress, now: datetime) -> None:
        self.release = replace(self.release, ended_at=now, progress=progress)
        self.is_over = True
        self.tell(end_of(progress, now))

    async def watch(self, after: int) -> AsyncGenerator[list[Numbered], None]:
        """What came after the event of that number, then what comes, until it is over; as much at once as there is.

        A watcher that is slower than the release holds nothing up: a "gap" tells it what it has missed.
        """
        while True:
            bell = self._bell
            if found := list(self.journal.after(after, limit=AT_ONCE, size=AT_ONCE_SIZE)):
                yield found
                after = found[-1][0]
            if after >= self.journal.count:
                if self.is_over:
                    return
                await bell.wait()

    def _ring(self) -> None:
        self._bell.set()
        self._bell = asyncio.Event()


def end_of(progress: Progress, at: datetime) -> ReleaseEvent:
    more = {"result": progress.result, "online": progress.online, "wanted": progress.wanted}
    return ReleaseEvent(timestamp(at), ReleaseEventKind.END, progress.sentence, more)
