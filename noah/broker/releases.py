"""The releases that go on: each is followed once, whoever watches, and what it told is kept.

Followed are, by themselves, the rollouts of workloads that Noah was put into or that somebody debugs; others while
somebody has asked for them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from noah.broker.live import Live, Step
from noah.broker.release import Stream
from noah.core.inject import is_injected
from noah.core.journal import Journal, Told, timestamp
from noah.core.pods import Pod, is_ready, is_there, workload_of
from noah.core.release import PATHS, Progress, Release, Result, identity_of, template_of
from noah.core.session import Status
from noah.core.target import PodTarget
from noah.errors import NoahError, NotFound
from noah.feed import Feed
from noah.kube.clusters import Cluster
from noah.store import Store
from noah.targets.release import Follower, asked_for

log = logging.getLogger(__name__)

SAVE = 10.0  # seconds; what a gateway that is killed may lose of a release's lines
LINGERS = 300.0  # seconds that all of a release stays in memory after its end, for who comes back after a cut
AT_ONCE = 100  # releases that are followed by themselves; more wait
RETRY = 10.0  # seconds after which a release that could not be looked at is tried again
TRIES = 30


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
        self._templates: dict[tuple[str, str, str], str | None] = {}  # of each workload's newest pods
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what people ask for

    async def current(self, cluster: str, namespace: str, kind: str, name: str) -> Stream:
        """The release that goes on, or the last one looked at anew. *kind*: Deployment, StatefulSet or DaemonSet."""
        known = self._clusters.get(cluster)
        if known is None:
            raise NotFound(f"There is no cluster {cluster[:80]!r}: it is one of {', '.join(self._clusters) or 'none'}.")
        workload = await asked_for(known, namespace=namespace, kind=kind, name=name)
        id, revision = identity_of(cluster, workload)
        stream = self._streams.get(id)
        if stream is not None and not stream.is_over:
            return stream
        kept = await self._store.releases.get(id)
        stream = self._streams.get(id)
        if stream is not None and not stream.is_over:
            return stream  # somebody was faster
        release = Release(
            id=id,
            cluster=cluster,
            namespace=namespace,
            kind=kind,
            workload=name,
            revision=revision,
            started_at=kept.started_at if kept else self._clock(),
        )
        return self._follow(known, release, kept)

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
        found = [newer.get(release.id, release) for release in found]
        return sorted(found, key=lambda release: (release.started_at, release.id), reverse=True)

    # -- which are followed

    def _pod_changed(self, cluster: Cluster, pod: Pod, change: str) -> None:
        kind, _, name = (workload_of(pod) or "").partition("/")
        if change != "added" or kind not in PATHS or not is_there(pod) or not self._matters(cluster, pod):
            return
        namespace, template = pod["metadata"]["namespace"], template_of(pod)
        key = (cluster.name, namespace, f"{kind}/{name}")
        if self._templates.get(key) == template:
            return
        self._templates[key] = template
        if not is_ready(pod):
            self._begin(cluster.name, namespace, kind, name)

    def _matters(self, cluster: Cluster, pod: Pod) -> bool:
        if is_injected(pod):
            return True
        workload, namespace = workload_of(pod), pod["metadata"]["namespace"]
        return any(
            isinstance(target := live.session.target, PodTarget)
            and (target.cluster, target.namespace, live.session.workload) == (cluster.name, namespace, workload)
            for live in self._live()
        )

    def _begin(self, cluster: str, namespace: str, kind: str, name: str) -> None:
        self._spawn(self._begin_in_turn(cluster, namespace, kind, name), f"release of {namespace}/{name}")

    async def _begin_in_turn(self, cluster: str, namespace: str, kind: str, name: str) -> None:
        async with self._places:
            for _ in range(TRIES):
                try:
                    if not await self._was_seen(cluster, namespace, kind, name):
                        stream = await self.current(cluster, namespace, kind, name)
                        async for _ in stream.watch(stream.journal.count):
                            pass
                except NotFound:
                    return
                except NoahError as e:
                    log.info("the release of %s %s/%s cannot be followed: %s", cluster, namespace, name, e.sentence)
                    await asyncio.sleep(RETRY)
                    continue
                return

    async def _was_seen(self, cluster: str, namespace: str, kind: str, name: str) -> bool:
        workload = await asked_for(self._clusters[cluster], namespace=namespace, kind=kind, name=name)
        kept = await self._store.releases.get(identity_of(cluster, workload)[0])
        return kept is not None and kept.ended_at is not None

    # -- following one

    def _follow(self, cluster: Cluster, release: Release, kept: Release | None) -> Stream:
        stream = self._streams[release.id] = Stream(release, Journal())
        about = {
            "release": release.id,
            "cluster": release.cluster,
            "namespace": release.namespace,
            "workload": f"{release.kind}/{release.workload}",
            "revision": release.revision,
        }
        stream.tell(Told(timestamp(self._clock()), "release", f"Revision {release.revision} of {release}", about))
        self._spawn(self._follow_to_the_end(cluster, stream, kept), f"release {release.id}")
        return stream

    async def _follow_to_the_end(self, cluster: Cluster, stream: Stream, kept: Release | None) -> None:
        release = stream.release
        warned: set[tuple[str, datetime]] = set()  # session, and since when it stands
        follower = Follower(
            cluster,
            release,
            tell=stream.tell,
            replaces=lambda pods: self._warn(stream, pods, warned),
            watched=lambda: stream.watchers > 0,
            clock=self._clock,
        )
        first = kept is None or kept.ended_at is None  # an end that is kept is not written over by another look at it
        try:
            async with asyncio.TaskGroup() as group:
                saving = group.create_task(self._save_now_and_then(stream, lambda: first and follower.rolls))
                progress = await follower.run()
                saving.cancel()
        except asyncio.CancelledError:
            if first and follower.rolls:
                await self._save(stream)  # the gateway stops; the next one goes on with it
            raise
        except Exception:  # the task's outermost loop
            log.exception("release %s: following it failed", release.id)
            progress = replace(release.progress, result=Result.LOST, sentence="The gateway failed to follow it.")
        self._end(stream, progress)
        failed = progress.result is not Result.DONE
        mended = kept is not None and kept.progress.result is not Result.DONE and not failed
        if (first or mended) and (follower.rolls or failed):
            await self._save(stream)
        elif kept is not None:
            del self._streams[release.id]  # who asks for it by its ID is shown what it was
        if progress.result is Result.REPLACED:
            self._begin(release.cluster, release.namespace, release.kind, release.workload)
        await asyncio.sleep(LINGERS)
        if self._streams.get(release.id) is stream:
            del self._streams[release.id]

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

    async def _save_now_and_then(self, stream: Stream, worth_it: Callable[[], bool]) -> None:
        saved = 0
        while True:
            await asyncio.sleep(SAVE if saved else 1.0)
            if worth_it() and stream.journal.count != saved:
                saved = stream.journal.count
                await self._save(stream)

    async def _save(self, stream: Stream) -> None:
        try:
            await self._store.releases.save(stream.release, stream.journal.kept())
        except NoahError as e:
            log.warning("release %s is not kept: %s", stream.release.id, e.sentence)

    # -- inside

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._group.create_task(work, name=name)
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
        cluster = self._clusters.get(release.cluster)
        if cluster is None:
            await self._lose(release, f"The gateway does not know cluster {release.cluster} any more.")
            return
        where = {"namespace": release.namespace, "kind": release.kind, "name": release.workload}
        while True:
            try:
                now = identity_of(cluster.name, await asked_for(cluster, **where))[0]
            except NotFound:
                await self._lose(release, "The workload was deleted while no gateway looked.")
            except NoahError as e:
                log.info("release %s has to wait: %s", release.id, e.sentence)
                await asyncio.sleep(RETRY)
                continue
            else:
                if now != release.id:
                    await self._lose(release, "A newer release has taken its place while no gateway looked.")
                self._begin(release.cluster, release.namespace, release.kind, release.workload)
            return

    async def _lose(self, release: Release, sentence: str) -> None:
        lost = replace(release.progress, result=Result.LOST, sentence=sentence)
        try:
            now, events = self._clock(), await self._store.releases.events(release.id)
            last = events[-1][0] if events else 0
            ended = [*events, (last + 1, _end_of(lost, now))]  # who watches what is kept waits for an end, too
            await self._store.releases.save(replace(release, ended_at=now, progress=lost), ended)
        except NoahError as e:
            log.warning("the end of release %s is not kept: %s", release.id, e.sentence)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


def _end_of(progress: Progress, now: datetime) -> Told:
    more = {"result": progress.result, "online": progress.online, "wanted": progress.wanted}
    return Told(timestamp(now), "end", progress.sentence, more)


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
