"""The releases that go on: each is followed once, whoever watches, and what it told is kept.

Followed are, by themselves, the rollouts of workloads that Noah was put into or that somebody debugs; others while
somebody has asked for them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from noah.broker.live import Live, Step
from noah.broker.release import Stream
from noah.core.inject import is_injected
from noah.core.journal import Journal, Told, timestamp
from noah.core.pods import Pod, is_there, workload_of
from noah.core.release import PATHS, Progress, Release, Result, Revision, mark_of
from noah.core.session import Status
from noah.core.target import PodTarget
from noah.errors import NoahError, NotFound, Unavailable
from noah.feed import Feed
from noah.kube.clusters import Cluster
from noah.store import Store
from noah.targets.release import YOUNG, Backlog, Follower, asked_for

log = logging.getLogger(__name__)

SAVE = 10.0  # seconds; what a gateway that is killed may lose of a release's lines
LAST_SAVES = 360  # times that a store which is away is waited for, SAVE seconds each, at the end of a release
LAST_SAVE = 2.0  # seconds for it when the gateway stops
LINGERS = 300.0  # seconds that all of a release stays in memory after its end, for who comes back after a cut
AT_ONCE = 100  # releases in a cluster that are followed by themselves; more wait
RETRY = 10.0  # seconds after which a cluster that is away is asked again


class Place(NamedTuple):
    """Where a workload is."""

    cluster: str
    namespace: str
    kind: str  # Deployment, StatefulSet or DaemonSet
    name: str


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
        self._began = clock()
        self._streams: dict[str, Stream] = {}  # that go on, or have just ended
        self._backlog = Backlog()
        self._newest: dict[Place, tuple[str, str | None]] = {}  # what tells the newest revision's pods from others
        self._asked: dict[Place, tuple[bool, datetime]] = {}  # to be looked at: whether it is certain, and since when
        self._following: set[Place] = set()  # by themselves
        self._turns = {name: asyncio.Semaphore(AT_ONCE) for name in clusters}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what people ask for

    async def current(self, cluster: str, namespace: str, kind: str, name: str) -> Stream:
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

    def _pod_changed(self, cluster: Cluster, pod: Pod, change: str) -> None:
        kind, _, name = (workload_of(pod) or "").partition("/")
        if kind not in PATHS:
            return
        place = Place(cluster.name, pod["metadata"]["namespace"], kind, name)
        newest, marked = self._newest.get(place), _marked(pod)
        if is_there(pod):
            if change == "added" and marked != newest and self._matters(place, pod):
                self._newest[place] = marked
                made_at = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
                if self._clock() - made_at < YOUNG:
                    self._begin(place, certain=newest is not None and made_at > self._began)
        elif marked == newest and (others := self._others(cluster, place, marked)):
            # A rollback to what is there makes no pods; those of the revision that is taken back go.
            self._newest[place] = others[-1]
            self._begin(place, certain=True)

    def _others(self, cluster: Cluster, place: Place, but: object) -> list[tuple[str, str | None]]:
        workload = f"{place.kind}/{place.name}"
        pods = (pod for pod in cluster.informer.in_namespace(place.namespace) if workload_of(pod) == workload)
        return [_marked(pod) for pod in pods if is_there(pod) and _marked(pod) != but]

    def _matters(self, place: Place, pod: Pod) -> bool:
        if is_injected(pod):
            return True
        where = place.cluster, place.namespace, f"{place.kind}/{place.name}"
        return any(
            isinstance(target := live.session.target, PodTarget)
            and (target.cluster, target.namespace, live.session.workload) == where
            for live in self._live()
        )

    def _begin(self, place: Place, *, certain: bool) -> None:
        """*certain*: it is a rollout even though its revision is an old one, as after a rollback."""
        before, since = self._asked.get(place, (False, self._clock()))
        self._asked[place] = before or certain, since
        if place not in self._following:
            self._following.add(place)
            self._spawn(self._follow_by_itself(place), f"releases of {place.namespace}/{place.name}")

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
                log.info("the release of %s has to wait: %s", "/".join(place), e.sentence)
                await asyncio.sleep(RETRY)
            except NoahError as e:
                log.warning("the release of %s cannot be followed: %s", "/".join(place), e.sentence)
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
            stream = self._streams[release.id] = Stream(release, Journal())
            about = {
                "release": release.id,
                "cluster": release.cluster,
                "namespace": release.namespace,
                "workload": f"{release.kind}/{release.workload}",
                "revision": release.revision,
            }
            stream.tell(Told(timestamp(self._clock()), "release", f"Revision {release.revision} of {release}", about))
            self._spawn(self._follow(place, stream, revision, kept), f"release {release.id}")
        stream.is_rollout |= is_rollout
        return stream

    async def _follow(self, place: Place, stream: Stream, revision: Revision, kept: Release | None) -> None:
        release = stream.release
        warned: set[tuple[str, datetime]] = set()  # session, and since when it stands
        follower = Follower(
            self._clusters[place.cluster],
            release,
            revision,
            tell=stream.tell,
            replaces=lambda pods: self._warn(stream, pods, warned),
            backlog=self._backlog,
            clock=self._clock,
        )

        def is_worth_it() -> bool:
            # An end that is kept is not written over by another look at it, which sees less.
            return (kept is None or kept.ended_at is None) and (stream.is_rollout or follower.rolls)

        try:
            progress = await self._followed(follower, stream, is_worth_it)
            self._end(stream, progress)
            if is_worth_it():
                await self._until_kept(release.id, partial(self._save, stream))
            elif kept is not None:
                del self._streams[release.id]  # who asks for it by its ID is shown what it was
                if progress.result is Result.DONE and kept.progress.result is not Result.DONE:
                    await self._until_kept(release.id, partial(self._end_anew, kept, _mended(progress, kept)))
        except asyncio.CancelledError:
            if is_worth_it():
                await self._save_at_last(stream)  # the gateway stops; the next one goes on with it
            raise
        if progress.result is Result.REPLACED:
            self._begin(place, certain=True)
        await asyncio.sleep(LINGERS)
        if self._streams.get(release.id) is stream:
            del self._streams[release.id]

    async def _followed(self, follower: Follower, stream: Stream, is_worth_it: Callable[[], bool]) -> Progress:
        try:
            async with asyncio.TaskGroup() as group:
                saving = group.create_task(self._save_now_and_then(stream, is_worth_it))
                progress = await follower.run()
                saving.cancel()
        except Exception:  # its outermost loop
            log.exception("release %s: following it failed", stream.release.id)
            return replace(stream.release.progress, result=Result.LOST, sentence="The gateway failed to follow it.")
        return progress

    def _end(self, stream: Stream, progress: Progress) -> None:
        now = self._clock()
        stream.release = replace(stream.release, ended_at=now, progress=progress)
        stream.tell(_end_of(progress, now))
        stream.end()

    def _warn(self, stream: Stream, pods: Iterable[Pod], warned: set[tuple[str, datetime]]) -> None:
        """Whoever is paused in one of *pods*, which the release is about to replace."""
        names = {pod["metadata"]["name"] for pod in pods}
        for live in self._live():
            session, vm, target = live.session, live.facts.vm, live.session.target
            if not isinstance(target, PodTarget) or live.status is not Status.SUSPENDED or vm is None:
                continue
            here = (target.cluster, target.namespace) == (stream.release.cluster, stream.release.namespace)
            if not here or target.pod not in names or (session.id, vm.since) in warned:
                continue
            warned.add((session.id, vm.since))
            where = f" at {vm.location}" if vm.location else ""
            text = f"{session.owner} is paused in pod {target.pod}{where}, which this release is about to replace."
            about = {"pod": target.pod, "session": session.id, "owner": session.owner}
            stream.tell(Told(timestamp(self._clock()), "paused", text, about))
            told = (
                f"A release of {session.workload} is about to replace this pod; the session follows to its successor."
            )
            live.steps.append(Step(self._clock(), told))
            live.changed()
            self._feed.publish("warning", str(target), {"session": session.id, "owner": session.owner, "text": told})

    # -- keeping what was told

    async def _save_now_and_then(self, stream: Stream, is_worth_it: Callable[[], bool]) -> None:
        saved = 0
        while True:
            await asyncio.sleep(SAVE if saved else 1.0)
            if is_worth_it() and (count := stream.journal.count) != saved:
                try:
                    await self._save(stream)
                    saved = count
                except NoahError as e:
                    log.warning("release %s is not kept: %s", stream.release.id, e.sentence)

    async def _save(self, stream: Stream) -> None:
        await self._store.releases.save(stream.release, stream.journal.kept())

    async def _save_at_last(self, stream: Stream) -> None:
        try:
            async with asyncio.timeout(LAST_SAVE):
                await self._save(stream)
        except (NoahError, TimeoutError) as e:
            log.warning("the last of release %s is not kept: %r", stream.release.id, e)

    async def _end_anew(self, release: Release, progress: Progress) -> None:
        """Of what is kept of *release*: this is its end now."""
        now, events = self._clock(), await self._store.releases.events(release.id)
        end = (events[-1][0] + 1 if events else 1, _end_of(progress, now))
        kept = [*((n, _no_end(told)) for n, told in events), end]
        await self._store.releases.save(replace(release, ended_at=now, progress=progress), kept)

    async def _until_kept(self, id: str, save: Callable[[], Awaitable[None]]) -> None:
        for _ in range(LAST_SAVES):
            try:
                await save()
            except Unavailable as e:
                log.warning("release %s is not kept yet: %s", id, e.sentence)
                await asyncio.sleep(SAVE)
            except NoahError as e:
                log.warning("release %s is not kept: %s", id, e.sentence)
                return
            else:
                return

    # -- inside

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._group.create_task(_alone(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def start(self) -> None:
        """Goes on with the releases that an earlier gateway followed."""
        for cluster in self._clusters.values():
            cluster.informer.subscribe(partial(self._pod_changed, cluster))
            for pod in cluster.informer.pods():
                self._pod_changed(cluster, pod, "added")
        for release in await self.find(cluster=None, namespace=None, workload=None, result=Result.RUNNING):
            self._spawn(self._go_on(release), f"go on with release {release.id}")

    async def _go_on(self, release: Release) -> None:
        place = Place(release.cluster, release.namespace, release.kind, release.workload)
        why = await self._why_lost(place, release)
        if why is not None:
            lost = replace(release.progress, result=Result.LOST, sentence=why)
            await self._until_kept(release.id, partial(self._end_anew, release, lost))
        if place.cluster in self._clusters:
            self._begin(place, certain=True)

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


def _marked(pod: Pod) -> tuple[str, str | None]:
    """By its owner, too: the same template in a workload that was deleted and made anew is another rollout."""
    owners = (owner["uid"] for owner in pod["metadata"].get("ownerReferences") or () if owner.get("controller"))
    return next(owners, ""), mark_of(pod)


def _end_of(progress: Progress, now: datetime) -> Told:
    more = {"result": progress.result, "online": progress.online, "wanted": progress.wanted}
    return Told(timestamp(now), "end", progress.sentence, more)


def _no_end(told: Told) -> Told:
    """What was taken for the end of a release that has another one."""
    if told.kind != "end":
        return told
    return Told(told.at, "progress", told.text, {key: told.more[key] for key in ("online", "wanted")})


def _mended(progress: Progress, kept: Release) -> Progress:
    return replace(progress, sentence=f"{progress.sentence}, after it had failed: {kept.progress.sentence}")


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
