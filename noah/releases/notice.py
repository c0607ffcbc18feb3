"""Notices that a rollout may have begun: from pods that come and go, and from pods that cannot be made.

Noticed are workloads that Noah was injected into or that somebody debugs. What yields here does not know what becomes
of it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime

from noah.core.inject.manifest import is_injected
from noah.core.pods import Pod, is_there, workload_of
from noah.core.release.events import of_event
from noah.core.release.release import PATHS, mark_of
from noah.core.workload import WorkloadKind, WorkloadRef
from noah.errors import NoahError, Unavailable
from noah.kube.clusters import Cluster
from noah.kube.event_log import Event
from noah.releases.revision import YOUNG, path_of
from noah.sessions.live_session import LiveSession
from noah.turns import in_turns

log = logging.getLogger(__name__)

# By its owner, too: a workload that was deleted and made again may have the same template.
Mark = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Noticed:
    workload: WorkloadRef
    is_certain: bool  # else it may be pods of an old revision, of a workload that was scaled
    at: datetime

    def after(self, before: "Noticed | None") -> "Noticed":
        """Both as one: noticed when *before* was, and certain if either is."""
        return self if before is None else replace(before, is_certain=before.is_certain or self.is_certain)


class Noticing:
    """Notices rollouts in one cluster."""

    def __init__(
        self, cluster: Cluster, *, live_in: Callable[[str, str], Iterable[LiveSession]], clock: Callable[[], datetime]
    ) -> None:
        self._cluster = cluster
        self._live_in = live_in
        self._clock = clock
        self._began = clock()
        # The mark of each workload's newest revision. Of a workload that was scaled to nothing it is kept, so that its
        # next pods are not taken for a rollout; see forget_deleted().
        self._newest: dict[WorkloadRef, Mark] = {}

    def __len__(self) -> int:
        """The number of workloads that are remembered."""
        return len(self._newest)

    async def by_pods(self) -> AsyncGenerator[Noticed, None]:
        """Yield workloads whose pods come or go as in a rollout. It never ends by itself."""
        found = dict[WorkloadRef, Noticed]()
        left = set[WorkloadRef]()  # by pods of their newest revision
        has_news = asyncio.Event()

        def keep(noticed: Noticed) -> None:
            found[noticed.workload] = noticed.after(found.get(noticed.workload))

        def changed(pod: Pod, change: str) -> None:
            workload = self._workload_of(pod)
            if workload is None:
                return
            if not is_there(pod):
                if _marked(pod) == self._newest.get(workload):
                    left.add(workload)
            elif change == "added" and (noticed := self._on_coming(workload, pod)):
                keep(noticed)
            if left or found:
                has_news.set()

        unsubscribe = self._cluster.informer.subscribe(changed)
        try:
            async for pod in in_turns(self._cluster.informer.pods()):
                changed(pod, "added")
            while True:
                await has_news.wait()
                has_news.clear()
                while left:
                    if noticed := await self._on_leaving(left.pop()):
                        keep(noticed)
                while found:
                    yield found.pop(next(iter(found)))
        finally:
            unsubscribe()

    async def by_refusals(self, namespace: str | None) -> AsyncGenerator[Noticed, None]:
        """Yield workloads whose pods cannot be made, of which there may be none at all.

        Raises what the API answers to a gateway that may not read events.
        """
        async with aclosing(self._cluster.event_log.follow(namespace, reason="FailedCreate")) as events:
            async for event in events:
                workload = self._refused(event)
                if workload is not None and await self._concerns(workload):
                    yield Noticed(workload, is_certain=False, at=self._clock())

    async def forget_deleted(self) -> None:
        """Forget the workloads without pods that the cluster does not have any more."""
        there = {self._workload_of(pod) async for pod in in_turns(self._cluster.informer.pods())}
        for workload in self._newest.keys() - there:
            try:
                await self._cluster.get(path_of(workload.namespace, workload.kind, workload.name))
            except Unavailable:
                return  # it is looked at the next time
            except NoahError:  # deleted, or nothing that the gateway may follow any more
                self._newest.pop(workload, None)

    # -- pods that come and go

    def _on_coming(self, workload: WorkloadRef, pod: Pod) -> Noticed | None:
        before, mark = self._newest.get(workload), _marked(pod)
        if mark == before or not (is_injected(pod) or self._is_debugged(workload)):
            return None
        self._newest[workload] = mark
        made_at, now = datetime.fromisoformat(pod["metadata"]["creationTimestamp"]), self._clock()
        if now - made_at >= YOUNG:
            return None
        return Noticed(workload, is_certain=before is not None and made_at > self._began, at=now)

    async def _on_leaving(self, workload: WorkloadRef) -> Noticed | None:
        """A rollback to what is still there makes no pods; those of the revision that is taken back go.

        All pods of a workload may leave at once, and each may be one of thousands: they are looked at in turns.
        """
        newest, owner = self._newest.get(workload), f"{workload.kind}/{workload.name}"
        async for other in in_turns(self._cluster.informer.in_namespace(workload.namespace, owner)):
            if self._newest.get(workload) != newest:
                return None  # another rollout has begun
            if is_there(other) and _marked(other) != newest:
                self._newest[workload] = _marked(other)
                return Noticed(workload, is_certain=True, at=self._clock())
        return None

    def _workload_of(self, pod: Pod) -> WorkloadRef | None:
        kind, _, name = (workload_of(pod) or "").partition("/")
        if kind not in PATHS:
            return None
        return WorkloadRef(self._cluster.name, pod["metadata"]["namespace"], WorkloadKind(kind), name)

    def _is_debugged(self, workload: WorkloadRef) -> bool:
        # It is asked of each pod that is listed: what it costs must not grow with all sessions that there are.
        name = f"{workload.kind}/{workload.name}"
        return any(live.session.workload == name for live in self._live_in(workload.cluster, workload.namespace))

    # -- pods that cannot be made

    def _refused(self, event: Event) -> WorkloadRef | None:
        about, now = event["involvedObject"], self._clock()
        kind, name = str(about.get("kind")), str(about.get("name"))
        if kind == WorkloadKind.REPLICA_SET:
            kind, name = WorkloadKind.DEPLOYMENT, name.rpartition("-")[0]
        try:
            is_young = now - datetime.fromisoformat(of_event(event, now.isoformat()).at) < YOUNG
        except (ValueError, TypeError, OverflowError):  # not a time, or one without a zone
            return None
        if kind not in PATHS or not is_young:
            return None
        return WorkloadRef(self._cluster.name, str(about.get("namespace")), WorkloadKind(kind), name)

    async def _concerns(self, workload: WorkloadRef) -> bool:
        try:
            found = await self._cluster.get(path_of(workload.namespace, workload.kind, workload.name))
        except NoahError:
            return False  # it is gone, or its event comes again
        return is_injected(found["spec"]["template"]) or self._is_debugged(workload)


def _marked(pod: Pod) -> Mark:
    owners = (owner["uid"] for owner in pod["metadata"].get("ownerReferences") or () if owner.get("controller"))
    return next(owners, ""), mark_of(pod)
