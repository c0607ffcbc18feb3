"""The releases that go on: each is followed once, whoever watches, and what it told is kept.

Followed are, by themselves, the rollouts of workloads that Noah was put into or that somebody debugs; others while
somebody has asked for them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from noah.core.release.journal import Journal
from noah.core.release.release import Progress, Release, Result, Revision
from noah.core.workload import WorkloadKind
from noah.errors import NoahError, NotFound, Unavailable
from noah.kube.clusters import Cluster
from noah.releases.follow import Backlog, Follower
from noah.releases.notice import Noticing, Place
from noah.releases.persist import Keeping
from noah.releases.revision import YOUNG, asked_for
from noah.releases.stream import Stream
from noah.releases.warn import Warnings
from noah.sessions.live_session import Live
from noah.store import Store
from noah.store.feed import Feed

log = logging.getLogger(__name__)

LINGERS = 300.0  # seconds that all of a release stays in memory after its end, for who comes back after a cut
AT_ONCE = 100  # releases in a cluster that are followed by themselves; more wait
RETRY = 10.0  # seconds after which a cluster that is away is asked again


class Releases:
    def __init__(
        self,
        group: asyncio.TaskGroup,
        *,
        clusters: Mapping[str, Cluster],
        store: Store,
        feed: Feed,
        live: Callable[[], list[Live]],
        clock: Callable[[], datetime],
    ) -> None:
        self._group = group
        self._clusters = clusters
        self._store = store
        self._feed = feed
        self._live = live
        self._clock = clock
        self._streams: dict[str, Stream] = {}  # that go on, or have just ended
        self._keeping = Keeping(store, clock)
        self._backlog = Backlog()
        self._asked: dict[Place, tuple[bool, datetime]] = {}  # to be looked at: whether it is certain, and since when
        self._following: set[Place] = set()  # by themselves
        self._turns = {name: asyncio.Semaphore(AT_ONCE) for name in clusters}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what people ask for

    async def current(self, cluster: str, namespace: str, kind: WorkloadKind, name: str) -> Stream:
        """The release that goes on, or the last one looked at anew. *kind*: Deployment, StatefulSet or DaemonSet."""
        if cluster not in self._clusters:
            raise NotFound(f"There is no cluster {cluster[:80]!r}: it is one of {', '.join(self._clusters) or 'none'}.")
        place = Place(cluster, namespace, kind, name)
        revision = await self._asked_for(place)
        if (stream := self._streams.get(revision.id)) and not stream.is_over:
            return stream
        kept = await self._store.releases.get(revision.id)
        return self._stream(place, revision, kept, is_rollout=False)

    async def get(self, id: str) -> Stream:
        if stream := self._streams.get(id):
            return stream
        release = await self._store.releases.get(id)
        if release is None:
            raise NotFound(f"There is no release {id[:40]!r}, or not any more: `noah release list` lists them.")
        return Stream(release, Journal(await self._store.releases.events(id)), is_over=True)

    async def find(
        self, *, cluster: str | None, namespace: str | None, workload: str | None, result: Result | None
    ) -> list[Release]:
        """The newest first."""
        found = await self._store.releases.find(cluster=cluster, namespace=namespace, workload=workload, result=result)
        newer = {id: stream.release for id, stream in self._streams.items() if stream.release.ended_at is None}
        # One that has ended is what it was, also while somebody looks at its workload again.
        found = [newer.get(one.id, one) if one.ended_at is None else one for one in found]
        return sorted(found, key=lambda release: (release.started_at, release.id), reverse=True)

    # -- which are followed by themselves

    def _begin(self, place: Place, certain: bool) -> None:
        """*certain*: it is a rollout even though its revision is an old one, as after a rollback."""
        before, since = self._asked.get(place, (False, self._clock()))
        self._asked[place] = before or certain, since
        if place not in self._following:
            self._following.add(place)
            self._spawn(self._follow_by_itself(place), f"releases of {place}")

    async def _follow_by_itself(self, place: Place) -> None:
        try:
            while place in self._asked:
                await self._follow_next(place, *self._asked.pop(place))
        finally:
            self._following.discard(place)

    async def _follow_next(self, place: Place, certain: bool, since: datetime) -> None:
        while True:
            try:
                async with self._turns[place.cluster]:
                    revision = await self._asked_for(place)
                    kept = await self._store.releases.get(revision.id)
                    if kept is None and not certain and (revision.made_at is None or since - revision.made_at > YOUNG):
                        return  # pods of a revision that was there before: it was scaled, or a node went
                    if kept is None or kept.ended_at is None:
                        await self._stream(place, revision, kept, is_rollout=True).ended()
                return
            except NotFound:
                return
            except Unavailable as e:
                log.info("the release of %s has to wait: %s", place, e.sentence)
                await asyncio.sleep(RETRY)
            except NoahError as e:
                log.warning("the release of %s cannot be followed: %s", place, e.sentence)
                return

    # -- following one

    async def _asked_for(self, place: Place) -> Revision:
        cluster = self._clusters[place.cluster]
        return await asked_for(cluster, namespace=place.namespace, kind=place.kind, name=place.name)

    def _stream(self, place: Place, revision: Revision, kept: Release | None, *, is_rollout: bool) -> Stream:
        """The one that goes on, or a new one."""
        stream = self._streams.get(revision.id)
        if stream is None or stream.is_over:
            release = Release(
                id=revision.id,
                cluster=place.cluster,
                namespace=place.namespace,
                kind=place.kind,
                workload=place.name,
                revision=revision.number,
                started_at=kept.started_at if kept else self._clock(),
            )
            # An end that is kept is not written over by another look at it, which sees less.
            looks_again = kept is not None and kept.ended_at is not None
            stream = self._streams[release.id] = Stream(release, Journal(), looks_again=looks_again)
            stream.begin(self._clock())
            self._spawn(self._follow(place, stream, revision, kept), f"release {release.id}")
        if is_rollout:
            stream.rolls()
        return stream

    async def _follow(self, place: Place, stream: Stream, revision: Revision, kept: Release | None) -> None:
        release = stream.release
        follower = Follower(
            self._clusters[place.cluster],
            release,
            revision,
            tell=stream.tell,
            rolls=stream.rolls,
            replaces=Warnings(stream, feed=self._feed, live=self._live, clock=self._clock).replaces,
            backlog=self._backlog,
            clock=self._clock,
        )
        try:
            async with self._keeping.now_and_then(stream):
                progress = await _followed(follower, release)
            stream.end(progress, self._clock())
            if stream.is_to_be_kept:
                await self._keeping.whole(stream)
            elif kept is not None:
                del self._streams[release.id]  # who asks for it by its ID is shown what it was
                if progress.result is Result.DONE and kept.progress.result is not Result.DONE:
                    await self._keeping.end(kept, _mended(progress, kept))
        except asyncio.CancelledError:
            if stream.is_to_be_kept:
                await self._keeping.at_last(stream)
            raise
        if progress.result is Result.REPLACED:
            self._begin(place, True)
        await asyncio.sleep(LINGERS)
        if self._streams.get(release.id) is stream:
            del self._streams[release.id]

    # -- inside

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._group.create_task(_alone(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def start(self) -> None:
        """Goes on with the releases that an earlier gateway followed."""
        noticing = Noticing(self._begin, live=self._live, clock=self._clock)
        for cluster in self._clusters.values():
            self._spawn(noticing.watch(cluster), f"notice releases in {cluster.name}")
        for release in await self.find(cluster=None, namespace=None, workload=None, result=Result.RUNNING):
            self._spawn(self._go_on(release), f"go on with release {release.id}")

    async def _go_on(self, release: Release) -> None:
        place = Place(release.cluster, release.namespace, release.kind, release.workload)
        why = await self._why_lost(place, release)
        if why is not None:
            await self._keeping.end(release, replace(release.progress, result=Result.LOST, sentence=why))
        if place.cluster in self._clusters:
            self._begin(place, True)

    async def _why_lost(self, place: Place, release: Release) -> str | None:
        if place.cluster not in self._clusters:
            return f"The gateway does not know cluster {place.cluster} any more."
        while True:
            try:
                now = (await self._asked_for(place)).id
            except NotFound:
                return "The workload was deleted while no gateway looked."
            except Unavailable as e:
                log.info("release %s has to wait: %s", release.id, e.sentence)
                await asyncio.sleep(RETRY)
            except NoahError as e:  # a right that was taken away
                return e.sentence
            else:
                return None if now == release.id else "A newer release has taken its place while no gateway looked."

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


async def _alone(work: Coroutine[Any, Any, None], name: str) -> None:
    """One that fails takes no other with it."""
    try:
        await work
    except Exception:  # each task's outermost loop
        log.exception("%s: it failed", name)


async def _followed(follower: Follower, release: Release) -> Progress:
    try:
        return await follower.run()
    except Exception:  # its outermost loop
        log.exception("release %s: following it failed", release.id)
        return replace(release.progress, result=Result.LOST, sentence="The gateway failed to follow it.")


def _mended(progress: Progress, kept: Release) -> Progress:
    return replace(progress, sentence=f"{progress.sentence}; before that: {kept.progress.sentence}")


@asynccontextmanager
async def open_releases(
    *,
    clusters: Mapping[str, Cluster],
    store: Store,
    feed: Feed,
    live: Callable[[], list[Live]],
    clock: Callable[[], datetime],
) -> AsyncIterator[Releases]:
    """Releases are followed as long as this context; the next gateway goes on with them."""
    async with asyncio.TaskGroup() as group:
        releases = Releases(group, clusters=clusters, store=store, feed=feed, live=live, clock=clock)
        await releases.start()
        try:
            yield releases
        finally:
            releases.stop()
