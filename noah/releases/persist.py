"""What is kept of releases: now and then while they go on, and their end however long the store is away."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

from noah.core.release.release import Progress, Release
from noah.core.release.release_event import ReleaseEvent, ReleaseEventKind
from noah.errors import NoahError, Unavailable
from noah.releases.stream import Stream, end_of
from noah.store import Store

log = logging.getLogger(__name__)

FIRST_SAVE, SAVE = 1.0, 10.0  # seconds; what a gateway that is killed may lose of a release's lines
LAST_SAVES = 360  # times that a store which is away is waited for, SAVE seconds each, at the end of a release
LAST_SAVE = 2.0  # seconds for it when the gateway stops


class Keeping:
    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    @asynccontextmanager
    async def now_and_then(self, stream: Stream) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            saving = group.create_task(self._save_now_and_then(stream), name=f"save {stream.release.id}")
            yield
            saving.cancel()

    async def _save_now_and_then(self, stream: Stream) -> None:
        saved = 0
        while True:
            await asyncio.sleep(SAVE if saved else FIRST_SAVE)
            if stream.is_to_be_kept and (count := stream.journal.count) != saved:
                saved = count if await self._tried(stream.release, partial(self._save, stream)) else saved

    async def _save(self, stream: Stream) -> None:
        await self._store.releases.save(stream.release, stream.journal.kept())

    async def whole(self, stream: Stream) -> None:
        """Of one that is over."""
        await self._until_kept(stream.release, partial(self._save, stream))

    async def at_last(self, stream: Stream) -> None:
        """As far as it is: the gateway stops, and the next one goes on with it."""
        try:
            async with asyncio.timeout(LAST_SAVE):
                await self._save(stream)
        except (NoahError, TimeoutError) as e:
            log.warning("the last of release %s is not kept: %r", stream.release.id, e)

    async def end(self, release: Release, progress: Progress) -> None:
        """Of what is kept of *release* this is its end, in place of another that it may have."""
        await self._until_kept(release, partial(self._end, release, progress))

    async def _end(self, release: Release, progress: Progress) -> None:
        now, events = self._clock(), await self._store.releases.events(release.id)
        # Who watches what is kept waits for an end.
        end = (events[-1][0] + 1 if events else 1, end_of(progress, now))
        kept = [*((n, _no_end(told)) for n, told in events), end]
        await self._store.releases.save(replace(release, ended_at=now, progress=progress), kept)

    async def _until_kept(self, release: Release, save: Callable[[], Awaitable[None]]) -> None:
        for _ in range(LAST_SAVES):
            if await self._tried(release, save):
                return
            await asyncio.sleep(SAVE)

    async def _tried(self, release: Release, save: Callable[[], Awaitable[None]]) -> bool:
        """False when it may be tried again."""
        try:
            await save()
        except Unavailable as e:
            log.warning("release %s is not kept yet: %s", release.id, e.sentence)
            return False
        except Exception:  # it has to be followed to its end all the same
            log.exception("release %s is not kept", release.id)
        return True


def _no_end(told: ReleaseEvent) -> ReleaseEvent:
    if told.kind != ReleaseEventKind.END:
        return told
    return ReleaseEvent(
        told.at, ReleaseEventKind.PROGRESS, told.text, {key: told.more[key] for key in ("online", "wanted")}
    )
