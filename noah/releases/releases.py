"""The releases that are running: each is followed once, however many watch it, and what it published is kept.

Followed without being asked for are the rollouts of workloads that Noah was injected into or that somebody debugs;
others are followed while somebody has asked for them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from noah.backoff import Backoff
from noah.core.release.journal import JOURNAL_BYTES, Journal
from noah.core.release.published import Published
from noah.core.release.release import Progress, Release, Result, Revision
from noah.core.release.release_event import ReleaseEvent
from noah.core.workload import WorkloadKind, WorkloadRef
from noah.errors import NoahError, NotFound, Unavailable
from noah.keep_running import keep_running, repeat
from noah.kube.clusters import Cluster
from noah.releases.follow import Backlog, Follower, recovery_of
from noah.releases.notice import Noticed, Noticing
from noah.releases.persist import Persistence
from noah.releases.revision import YOUNG, asked_for
from noah.releases.stream import SharedStream, Stream
from noah.releases.warn import Warnings
from noah.sessions.live_session import LiveSession
from noah.store import Store
from noah.store.claims import Claim, LostClaim
from noah.store.feed import Feed
from noah.store.hints import Channel, Hints, heard_within
from noah.store.lease import Lease
from noah.traces import span

log = logging.getLogger(__name__)

LINGER_S = 300.0  # that all of a release stays in memory after its end, for who comes back after a cut
MEMORY_BYTES = 16 * JOURNAL_BYTES  # roughly, of all releases together
AT_ONCE = 100  # releases in a cluster that are followed without being asked for; more wait
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0  # before a cluster that is away is asked again
NO_RIGHT_PAUSE_S = 600.0  # before events are asked for again that the gateway may not read
FORGET_INTERVAL_S = 3600.0  # between two looks which noticed workloads were deleted
CLAIM = "release"
CLAIM_INTERVAL_S = 3.0  # between two attempts to follow what another gateway follows
READ_INTERVAL_S = 1.0  # of what another gateway follows, if no hint comes
RESUME_INTERVAL_S = 60.0  # between two looks for releases that nobody follows any more
RECOVERY_S = 3600.0  # that a failed release is looked at, in case that it comes online after all


class Releases:
    def __init__(
        self,
        group: asyncio.TaskGroup,
        *,
        clusters: Mapping[str, Cluster],
        store: Store,
        lease: Lease,
        hints: Hints,
        feed: Feed,
        live_in: Callable[[str, str], Iterable[LiveSession]],
        clock: Callable[[], datetime],
        at_once: int = AT_ONCE,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._group = group
        self._clusters = clusters
        self._store = store
        self._lease = lease
        self._hints = hints
        self._feed = feed
        self._live_in = live_in
        self._clock = clock
        self._memory_bytes = memory_bytes
        self._streams: dict[str, Stream] = {}  # by release, of those that are running or have just ended
        self._persistence = Persistence(store, clock)
        self._backlog = Backlog()
        self._noticed: dict[WorkloadRef, Noticed] = {}  # to be looked at
        self._following: set[WorkloadRef] = set()  # without being asked for
        self._at_once = at_once
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._resuming: set[str] = set()  # releases that an earlier gateway followed
        self._tasks: set[asyncio.Task[None]] = set()
        self._noticing: dict[str, list[asyncio.Task[None]]] = {}  # by cluster
        self._followers: dict[asyncio.Task[None], str] = {}  # of releases, with the cluster of each
        self._is_stopping = False

    # -- what people ask for

    async def current(self, cluster: str, namespace: str, kind: WorkloadKind, name: str) -> Stream:
        """Return the release that is running, or look at the last one again."""
        if cluster not in self._clusters:
            raise NotFound(f"There is no cluster {cluster[:80]!r}: it is one of {', '.join(self._clusters) or 'none'}.")
        workload = WorkloadRef(cluster, namespace, kind, name)
        revision = await self._revision_of(workload)
        if (stream := self._streams.get(revision.id)) and not stream.is_over:
            return stream
        kept = await self._kept(revision.id)
        return self._stream(workload, revision, kept, is_rollout=False)

    async def _kept(self, id: str) -> Release | None:
        """Return what is kept of a release, as it is when this returns: not without an end that is kept by then."""
        while True:
            ends = self._persistence.ends
            kept = await self._store.releases.get(id)
            if ends == self._persistence.ends:
                return kept

    async def get(self, id: str) -> Stream:
        if stream := self._streams.get(id):
            return stream
        release = await self._store.releases.get(id)
        if release is None:
            raise no_such_release(id)
        if self._store.is_shared and (stream := await self._shared(release)):
            return stream
        return Stream(release, Journal(await self._store.releases.events(id)), is_over=True)

    async def _shared(self, release: Release) -> Stream | None:
        """Return the stream of a release that another gateway follows, or has followed until just now."""
        if release.ended_at is None:
            with suppress(NoahError):  # a cluster or a workload that is gone
                stream = await self.current(release.cluster, release.namespace, release.kind, release.workload)
                return stream if stream.release.id == release.id else None
            return None
        ended = SharedStream(release, self._store.releases)
        await ended.read()
        # If it failed and came online after all, what is kept says more.
        if not ended.is_over or ended.release.progress.result is not release.progress.result:
            return None
        ended.is_saved = True
        self._streams[release.id] = ended
        self._spawn(self._forget_after_a_while(ended), f"forget release {release.id}")
        return ended

    async def find(
        self,
        *,
        cluster: str | None = None,
        namespace: str | None = None,
        environment: str | None = None,
        workload: str | None = None,
        result: Result | None = None,
    ) -> list[Release]:
        """Return them with the newest first."""
        found = await self._store.releases.find(
            cluster=cluster, namespace=namespace, environment=environment, workload=workload, result=result
        )
        newer = {id: stream.release for id, stream in self._streams.items() if stream.release.ended_at is None}
        # One that has ended is what it was, also while somebody looks at its workload again.
        found = [newer.get(one.id, one) if one.ended_at is None else one for one in found]
        return sorted(found, key=lambda release: (release.started_at, release.id), reverse=True)

    # -- which are followed without being asked for

    def _begin(self, noticed: Noticed) -> None:
        workload = noticed.workload
        self._noticed[workload] = noticed.after(self._noticed.get(workload))
        if workload not in self._following:
            self._following.add(workload)
            self._spawn(self._follow_noticed(workload), f"releases of {workload}")

    async def _follow_noticed(self, workload: WorkloadRef) -> None:
        try:
            while noticed := self._noticed.pop(workload, None):
                await keep_running(partial(self._follow_next, noticed), f"the release of {workload}")
        finally:
            self._following.discard(workload)

    async def _follow_next(self, noticed: Noticed) -> None:
        """Follow the release of a noticed workload to its end, if it is one that is not known yet."""
        workload, backoff = noticed.workload, Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        while True:
            try:
                async with self._turns.setdefault(workload.cluster, asyncio.Semaphore(self._at_once)):
                    revision = await self._revision_of(workload)
                    kept = await self._kept(revision.id)
                    is_young = revision.made_at is not None and noticed.at - revision.made_at <= YOUNG
                    if kept is None and not noticed.is_certain and not is_young:
                        return  # pods of a revision that was there before: it was scaled, or a node went
                    if kept is None or kept.ended_at is None:
                        await self._stream(workload, revision, kept, is_rollout=True).ended()
                return
            except NotFound:
                return
            except Unavailable as e:
                log.info("the release of %s has to wait: %s", workload, e.sentence)
                await asyncio.sleep(backoff.next_s())
            except NoahError as e:
                log.warning("the release of %s cannot be followed: %s", workload, e.sentence)
                return

    # -- following one

    async def _revision_of(self, workload: WorkloadRef) -> Revision:
        cluster = self._clusters.get(workload.cluster)
        if cluster is None:
            raise NotFound(_unknown(workload.cluster))
        return await asked_for(cluster, namespace=workload.namespace, kind=workload.kind, name=workload.name)

    def _stream(self, workload: WorkloadRef, revision: Revision, kept: Release | None, *, is_rollout: bool) -> Stream:
        """Return the stream that is running, or begin one.

        One that has just ended, and whose end is not kept yet, is returned too: another look that began before would
        be kept in its place.
        """
        stream = self._streams.get(revision.id)
        # An end that is kept is not written over by another look at it, which sees less.
        looks_again = kept is not None and kept.ended_at is not None
        if stream is None or (stream.is_over and (looks_again or not stream.is_unsaved)):
            release = Release(
                id=revision.id,
                cluster=workload.cluster,
                namespace=workload.namespace,
                environment=self._clusters[workload.cluster].environment_of(workload.namespace, revision.template),
                kind=workload.kind,
                workload=workload.name,
                revision=revision.number,
                started_at=kept.started_at if kept else self._clock(),
            )
            work: Coroutine[Any, Any, None]
            if self._store.is_shared:
                stream = SharedStream(release, self._store.releases, looks_again=looks_again)
                in_turn = partial(self._follow_in_turn, workload, stream, revision)
                work = keep_running(in_turn, f"release {release.id}")
            else:
                stream = Stream(release, Journal(), looks_again=looks_again)
                stream.begin(self._clock())
                work = self._follow(workload, stream, revision, kept)
            self._streams[release.id] = stream
            task = self._spawn(work, f"release {release.id}")
            self._followers[task] = release.cluster
            task.add_done_callback(self._followers.pop)
        if is_rollout:
            stream.mark_as_rollout()
        return stream

    async def _follow_in_turn(self, workload: WorkloadRef, stream: SharedStream, revision: Revision) -> None:
        """Follow a release, or read what the gateway writes that follows it, and follow it when that one is gone."""
        backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        has_begun = False
        async with self._hints.to(Channel.RELEASES) as heard:
            while not stream.is_over:
                try:
                    if not has_begun:
                        await stream.begin_reading()
                        has_begun = True
                    if claim := await self._take_claim(stream.release):
                        await self._follow_by(claim, workload, stream, revision)
                    else:
                        await self._read_for_a_while(stream, heard)
                    backoff.reset()
                except LostClaim:
                    log.warning("release %s is followed by another gateway from now on", stream.release.id)
                except Unavailable as e:
                    log.info("release %s waits for the database: %s", stream.release.id, e.sentence)
                    await asyncio.sleep(backoff.next_s())
        self._spawn(self._forget_after_a_while(stream), f"forget release {stream.release.id}")
        if stream.release.progress.result is Result.REPLACED:
            self._begin(Noticed(workload, is_certain=True, at=self._clock()))

    async def _read_for_a_while(self, stream: SharedStream, heard: asyncio.Event) -> None:
        until = asyncio.get_running_loop().time() + CLAIM_INTERVAL_S
        while not stream.is_over and asyncio.get_running_loop().time() < until:
            await stream.read()
            if not stream.is_over:
                await heard_within(heard, READ_INTERVAL_S)

    async def _follow_by(self, claim: Claim, workload: WorkloadRef, stream: SharedStream, revision: Revision) -> None:
        try:
            await stream.begin_writing(claim)
            if stream.is_over:
                return
            kept = await self._store.releases.get(claim.key)  # another gateway may have kept its end just now
            if kept is not None and kept.ended_at is not None:
                stream.mark_as_another_look()
            if not stream.journal.count:
                stream.begin(self._clock())
            elif kept is not None and kept.ended_at is None:
                stream.mark_as_rollout()  # the gateway before has seen that it is one
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(stream.write_for_ever(), name=f"write {stream.release.id}")
                await self._follow(workload, stream, revision, kept)
                writing.cancel()
        except* LostClaim:
            raise LostClaim from None
        finally:
            stream.claim = None
            with suppress(NoahError):
                await self._store.claims.release(claim)

    async def _follow(self, workload: WorkloadRef, stream: Stream, revision: Revision, kept: Release | None) -> None:
        try:
            async with self._persistence.while_running(stream):
                progress = await self._publish(stream, revision)
            stream.end(progress, self._clock())
            await stream.written()
            await self._settle(stream, revision, kept)
            if progress.result is Result.REPLACED and not stream.is_shared:
                self._begin(Noticed(workload, is_certain=True, at=self._clock()))
        finally:
            if self._is_stopping:
                if stream.is_unsaved:
                    await self._persistence.save_unfinished(stream)
            elif not stream.is_shared:
                if not stream.is_over:
                    self._give_up(stream)
                self._spawn(self._forget_after_a_while(stream), f"forget release {stream.release.id}")

    async def _publish(self, stream: Stream, revision: Revision) -> Progress:
        """Number what is found, for the watchers and the store, until the release has ended; return how it ended."""
        release = stream.release
        progress = self._lost(release)
        warnings = Warnings(release, feed=self._feed, live_in=self._live_in, clock=self._clock)
        cluster = self._clusters[release.cluster]
        follower = Follower(cluster, release, revision, backlog=self._backlog, clock=self._clock)
        before = Published(stream.journal.held())
        try:
            with cluster.used(), span("release", release=release.id):
                async with follower, aclosing(follower.found()) as found:
                    async for one in found:
                        if isinstance(one, ReleaseEvent):
                            if before.is_new(one):
                                stream.publish(one)
                            continue
                        progress = one.progress
                        if one.is_rollout:
                            stream.mark_as_rollout()
                        for warning in filter(before.is_new, warnings.publish(one.replaced)):
                            stream.publish(warning)
                        self._make_room()
        except Exception:  # a release that cannot be followed has ended all the same
            log.exception("release %s: following it failed", release.id)
            progress = self._lost(release)
        finally:
            for event in filter(before.is_new, follower.rest()):
                stream.publish(event)
        return progress

    async def _settle(self, stream: Stream, revision: Revision, kept: Release | None) -> None:
        """Keep the end of a release. If it failed, look whether it comes online after all."""
        release = stream.release
        if stream.is_to_be_kept:
            await self._persistence.save_ended(stream)
            if release.progress.result is Result.FAILED:
                self._spawn(self._watch_recovery(release, revision), f"recovery of release {release.id}")
        elif kept is not None:
            self._streams.pop(release.id, None)  # who asks for it by its ID is shown what it was
            if release.progress.result is Result.DONE:
                await self._recovered(kept.id, release.progress)

    def _give_up(self, stream: Stream) -> None:
        """End a release whose task died, for all who wait for its end."""
        stream.end(self._lost(stream.release), self._clock())
        if stream.is_to_be_kept:
            self._spawn(self._persistence.save_ended(stream), f"save release {stream.release.id}")

    def _lost(self, release: Release) -> Progress:
        known = release.cluster in self._clusters
        sentence = "The gateway failed to follow it." if known else _unknown(release.cluster)
        return replace(release.progress, result=Result.LOST, sentence=sentence)

    async def _watch_recovery(self, release: Release, revision: Revision) -> None:
        cluster = self._clusters.get(release.cluster)
        if cluster is None:
            return
        try:
            async with asyncio.timeout(RECOVERY_S):
                progress = await recovery_of(cluster, release, revision)
        except TimeoutError:
            return
        if progress is not None:
            await self._recovered(release.id, progress)
            if (stream := self._streams.get(release.id)) and stream.is_over:
                del self._streams[release.id]  # what is kept says more

    async def _recovered(self, id: str, progress: Progress) -> None:
        """End a release that failed with *progress*, which it came to after all."""
        kept = await self._store.releases.get(id)
        if kept is not None and kept.ended_at is not None and kept.progress.result is not Result.DONE:
            sentence = f"{progress.sentence}; before that: {kept.progress.sentence}"
            await self._persistence.save_end(kept, replace(progress, sentence=sentence))

    # -- memory

    async def _forget_after_a_while(self, stream: Stream) -> None:
        await asyncio.sleep(LINGER_S)
        if self._streams.get(stream.release.id) is stream:
            del self._streams[stream.release.id]
        if stream.is_shared and (claim := await self._take_claim(stream.release)):
            await self._store.releases.forget_chunks(stream.release.id, by=claim)
            await self._store.claims.forget(claim)

    def _make_room(self) -> None:
        """Keep the bound on memory: forget releases that have ended, the oldest first, then lines of the largest."""
        size = sum(stream.journal.size_bytes for stream in self._streams.values())
        for id, stream in list(self._streams.items()):
            if size > self._memory_bytes and stream.is_over and stream.is_saved:
                size -= stream.journal.size_bytes
                del self._streams[id]
        while size > self._memory_bytes:
            journal = max((stream.journal for stream in self._streams.values()), key=lambda one: one.size_bytes)
            before = journal.size_bytes
            journal.drop_older_half()
            size -= before - journal.size_bytes
            if journal.size_bytes == before:
                return  # nothing of the largest one can be left out

    # -- start and stop

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._group.create_task(_alone(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def start(self) -> None:
        """Notice releases, and resume those that an earlier gateway followed."""
        for cluster in self._clusters.values():
            self._notice(cluster)
        await self._resume_all()
        if self._store.is_shared:
            name = "resume releases that nobody follows"
            self._spawn(repeat(self._resume_all, name=name, every_s=RESUME_INTERVAL_S), name)

    async def _resume_all(self) -> None:
        for release in await self.find(result=Result.RUNNING):
            if release.id not in self._resuming and release.id not in self._streams:
                self._resuming.add(release.id)
                name = f"resume release {release.id}"
                self._spawn(keep_running(partial(self._resume, release), name), name)

    def _notice(self, cluster: Cluster) -> None:
        noticing = Noticing(cluster, live_in=self._live_in, clock=self._clock)
        works = {
            f"notice releases in {cluster.name}": partial(self._notice_by_pods, noticing),
            f"forget workloads of {cluster.name}": partial(_forget_deleted, noticing),
        }
        for namespace in cluster.settings.namespaces or (None,):
            name = f"notice refused pods in {cluster.name}" + (f"/{namespace}" if namespace else "")
            works[name] = partial(self._notice_by_refusals, noticing, namespace)
        self._noticing[cluster.name] = [self._spawn(keep_running(work, name), name) for name, work in works.items()]

    async def follow(self, before: Cluster | None, now: Cluster | None) -> None:
        """Notice releases in *now* in place of *before*; one of them may be None.

        What is followed in a cluster that was replaced is followed there to its end; in one that is gone, it is lost.
        """
        if before is not None:
            for task in self._noticing.pop(before.name):
                task.cancel()
        if now is not None:
            self._notice(now)
        elif before is not None:
            for task, cluster in self._followers.items():
                if cluster == before.name:
                    task.cancel()

    async def _notice_by_pods(self, noticing: Noticing) -> None:
        async with aclosing(noticing.by_pods()) as found:
            async for noticed in found:
                self._begin(noticed)

    async def _notice_by_refusals(self, noticing: Noticing, namespace: str | None) -> None:
        while True:
            try:
                async with aclosing(noticing.by_refusals(namespace)) as found:
                    async for noticed in found:
                        self._begin(noticed)
            except NoahError as e:
                log.warning("releases whose pods cannot be made are not noticed: %s", e.sentence)
            await asyncio.sleep(NO_RIGHT_PAUSE_S)

    async def _resume(self, release: Release) -> None:
        workload = WorkloadRef(release.cluster, release.namespace, release.kind, release.workload)
        why = await self._why_lost(workload, release)
        if why is not None and (claim := await self._take_claim(release)):
            now = await self._store.releases.get(release.id)
            if now is not None and now.ended_at is None:  # else another gateway has seen the end
                lost = replace(release.progress, result=Result.LOST, sentence=why)
                await self._persistence.save_end(release, lost)
            await self._store.claims.release(claim)
        self._resuming.discard(release.id)
        if workload.cluster in self._clusters:
            self._begin(Noticed(workload, is_certain=True, at=self._clock()))

    async def _take_claim(self, release: Release) -> Claim | None:
        return await self._store.claims.take(CLAIM, release.id, gateway=self._lease.gateway_id)

    async def _why_lost(self, workload: WorkloadRef, release: Release) -> str | None:
        """Return one sentence if nobody will see the end of *release*."""
        if workload.cluster not in self._clusters:
            return _unknown(workload.cluster)
        backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        while True:
            try:
                now = (await self._revision_of(workload)).id
            except NotFound:
                return "The workload was deleted while no gateway looked."
            except Unavailable as e:
                log.info("release %s has to wait: %s", release.id, e.sentence)
                await asyncio.sleep(backoff.next_s())
            except NoahError as e:  # a right that was taken away
                return e.sentence
            else:
                return None if now == release.id else "A newer release has taken its place while no gateway looked."

    def stop(self) -> None:
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()


def no_such_release(id: str) -> NotFound:
    return NotFound(f"There is no release {id[:40]!r}, or not any more: `noah release list` lists them.")


async def _forget_deleted(noticing: Noticing) -> None:
    while True:
        await asyncio.sleep(FORGET_INTERVAL_S)
        await noticing.forget_deleted()


async def _alone(work: Coroutine[Any, Any, None], name: str) -> None:
    """Await *work*; if it fails, it ends no other task of the group."""
    try:
        await work
    except Exception:  # each task's outermost loop
        log.exception("%s failed", name)


def _unknown(cluster: str) -> str:
    return f"The gateway does not know cluster {cluster} any more."


@asynccontextmanager
async def open_releases(
    *,
    clusters: Mapping[str, Cluster],
    store: Store,
    lease: Lease,
    hints: Hints,
    feed: Feed,
    live_in: Callable[[str, str], Iterable[LiveSession]],
    clock: Callable[[], datetime],
) -> AsyncIterator[Releases]:
    """Follow releases as long as this context lasts; the next gateway resumes them."""
    async with asyncio.TaskGroup() as group:
        releases = Releases(
            group, clusters=clusters, store=store, lease=lease, hints=hints, feed=feed, live_in=live_in, clock=clock
        )
        await releases.start()
        try:
            yield releases
        finally:
            releases.stop()
