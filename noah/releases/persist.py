"""Keeps releases in the store: at intervals while they run, and their end however long the store is away."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

from noah.backoff import Backoff
from noah.core.release.release import Progress, Release
from noah.core.release.release_event import ReleaseEvent, ReleaseEventKind
from noah.errors import NoahError, Unavailable
from noah.releases.stream import Stream, end_of
from noah.store import Store
from noah.store.claims import LostClaim

log = logging.getLogger(__name__)

FIRST_SAVE_AFTER_S, SAVE_INTERVAL_S = 1.0, 10.0  # what a gateway that is killed may lose of a release's lines
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 20.0  # before the end of a release is saved again in a store that is away
GIVE_UP_AFTER_S = 3600.0  # of waiting for the store at the end of a release
LAST_SAVE_TIMEOUT_S = 2.0  # when the gateway stops


class Persistence:
    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self.ends = 0  # that were kept: what was read of the store while it changed may be from before

    @asynccontextmanager
    async def while_running(self, stream: Stream) -> AsyncIterator[None]:
        """Save *stream* at intervals while the context lasts."""
        async with asyncio.TaskGroup() as group:
            saving = group.create_task(self._save_at_intervals(stream), name=f"save {stream.release.id}")
            yield
            saving.cancel()

    async def save_ended(self, stream: Stream) -> None:
        """Save all that is kept of a release that is over, however long the store is away."""
        await self._until_saved(stream.release, partial(self._save, stream))
        self.ends += 1
        stream.is_saved = True

    async def save_unfinished(self, stream: Stream) -> None:
        """Save what has come so far: the gateway stops, and the next one resumes the release."""
        try:
            async with asyncio.timeout(LAST_SAVE_TIMEOUT_S):
                await self._save(stream)
        except (NoahError, TimeoutError) as e:
            log.warning("the last of release %s is not kept: %r", stream.release.id, e)

    async def save_end(self, release: Release, progress: Progress) -> None:
        """End what is kept of *release* with *progress*, in place of another end that it may have."""
        await self._until_saved(release, partial(self._save_end, release, progress))
        self.ends += 1

    async def _save(self, stream: Stream) -> None:
        await self._store.releases.save(stream.release, stream.journal.kept(), by=stream.claim)

    async def _save_end(self, release: Release, progress: Progress) -> None:
        now, events = self._clock(), await self._store.releases.events(release.id)
        # Who watches what is kept waits for an end.
        end = (events[-1][0] + 1 if events else 1, end_of(progress, now))
        kept = [*((n, _without_end(event)) for n, event in events), end]
        await self._store.releases.save(replace(release, ended_at=now, progress=progress), kept)

    async def _save_at_intervals(self, stream: Stream) -> None:
        saved = 0
        while True:
            await asyncio.sleep(SAVE_INTERVAL_S if saved else FIRST_SAVE_AFTER_S)
            if stream.is_to_be_kept and (count := stream.journal.count) != saved:
                saved = count if await self._tried(stream.release, partial(self._save, stream)) else saved

    async def _until_saved(self, release: Release, save: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        until = asyncio.get_running_loop().time() + GIVE_UP_AFTER_S
        while not await self._tried(release, save):
            if asyncio.get_running_loop().time() > until:
                log.error("the end of release %s is not kept: the store was away for too long", release.id)
                return
            await asyncio.sleep(backoff.next_s())

    async def _tried(self, release: Release, save: Callable[[], Awaitable[None]]) -> bool:
        """Return False if it may be tried again."""
        try:
            await save()
        except Unavailable as e:
            log.warning("release %s is not kept yet: %s", release.id, e.sentence)
            return False
        except LostClaim:
            pass  # the gateway that follows it keeps it
        except Exception:  # the release has to be followed to its end all the same
            log.exception("release %s is not kept", release.id)
        return True


def _without_end(event: ReleaseEvent) -> ReleaseEvent:
    if event.kind is not ReleaseEventKind.END:
        return event
    more = {key: event.more[key] for key in ("online", "wanted")}
    return ReleaseEvent(event.at, ReleaseEventKind.PROGRESS, event.text, more)
