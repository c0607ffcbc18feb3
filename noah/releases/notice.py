"""What means that a rollout may have begun: pods that come and go, and pods that cannot be made."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from noah.core.inject.manifest import is_injected
from noah.core.pods import Pod, is_there, workload_of
from noah.core.release.events import of_event
from noah.core.release.release import PATHS, mark_of
from noah.core.session.target import PodTarget
from noah.core.workload import WorkloadKind
from noah.errors import NoahError
from noah.kube.clusters import Cluster
from noah.kube.event_log import Event
from noah.releases.revision import YOUNG, path_of
from noah.sessions.live_session import Live

log = logging.getLogger(__name__)

REFUSED = 1000  # workloads that wait to be looked at; others are told of again while their pods are refused

# By its owner, too: a workload that was deleted and made anew may have the same template.
Mark = tuple[str, str | None]


class Place(NamedTuple):
    """Where a workload is."""

    cluster: str
    namespace: str
    kind: WorkloadKind  # one of PATHS
    name: str

    def __str__(self) -> str:
        return "/".join(self)


class Noticing:
    """*begin*: where, and whether it is certain; else it may be pods of an old revision, of what was scaled."""

    def __init__(
        self, begin: Callable[[Place, bool], None], *, live: Callable[[], list[Live]], clock: Callable[[], datetime]
    ) -> None:
        self._begin = begin
        self._live = live
        self._clock = clock
        self._began = clock()
        self._newest: dict[Place, Mark] = {}  # what tells the pods of each workload's newest revision from others

    async def watch(self, cluster: Cluster) -> None:
        """Until it is cancelled."""
        for pod in cluster.informer.pods():
            self._changed(cluster, pod, "added")
        unsubscribe = cluster.informer.subscribe(partial(self._changed, cluster))
        try:
            async with asyncio.TaskGroup() as group:
                for namespace in cluster.settings.namespaces or (None,):
                    group.create_task(self._refusals(cluster, namespace), name=f"refused pods of {cluster.name}")
                await asyncio.Event().wait()
        finally:
            unsubscribe()

    # -- pods that come and go

    def _changed(self, cluster: Cluster, pod: Pod, change: str) -> None:
        kind, _, name = (workload_of(pod) or "").partition("/")
        if kind not in PATHS:
            return
        place = Place(cluster.name, pod["metadata"]["namespace"], WorkloadKind(kind), name)
        if not is_there(pod):
            self._goes(cluster, place, pod)
        elif change == "added" and _marked(pod) != self._newest.get(place) and self._matters(place, pod):
            self._comes(place, pod)

    def _comes(self, place: Place, pod: Pod) -> None:
        before, self._newest[place] = self._newest.get(place), _marked(pod)
        made_at = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        if self._clock() - made_at < YOUNG:
            self._begin(place, before is not None and made_at > self._began)

    def _goes(self, cluster: Cluster, place: Place, pod: Pod) -> None:
        """A rollback to what is still there makes no pods; those of the revision that is taken back go."""
        if _marked(pod) != self._newest.get(place):
            return
        for other in cluster.informer.in_namespace(place.namespace):
            if workload_of(other) == workload_of(pod) and is_there(other) and _marked(other) != _marked(pod):
                self._newest[place] = _marked(other)
                self._begin(place, True)
                return

    def _matters(self, place: Place, pod: Pod) -> bool:
        """Noah was put into it, or somebody debugs there."""
        return is_injected(pod) or self._is_debugged(place)

    def _is_debugged(self, place: Place) -> bool:
        where = place.cluster, place.namespace, f"{place.kind}/{place.name}"
        return any(
            isinstance(target := live.session.target, PodTarget)
            and (target.cluster, target.namespace, live.session.workload) == where
            for live in self._live()
        )

    # -- pods that cannot be made, of which there may be none at all

    async def _refusals(self, cluster: Cluster, namespace: str | None) -> None:
        refused: asyncio.Queue[Place] = asyncio.Queue(REFUSED)

        def take(event: Event) -> None:
            about, now = event["involvedObject"], self._clock()
            kind, name = str(about.get("kind")), str(about.get("name"))
            if kind == WorkloadKind.REPLICA_SET:
                kind, name = WorkloadKind.DEPLOYMENT, name.rpartition("-")[0]
            at = datetime.fromisoformat(of_event(event, now.isoformat()).at)
            if kind in PATHS and now - at < YOUNG and not refused.full():
                refused.put_nowait(Place(cluster.name, str(about.get("namespace")), WorkloadKind(kind), name))

        async with asyncio.TaskGroup() as group:
            following = cluster.event_log.follow(namespace, take, reason="FailedCreate")
            group.create_task(_as_long_as_it_may(following), name="events")
            while True:
                await self._look(cluster, await refused.get())

    async def _look(self, cluster: Cluster, place: Place) -> None:
        try:
            workload = await cluster.get(path_of(place.namespace, place.kind, place.name))
        except NoahError:
            return  # it is gone, or tells of itself again
        if is_injected(workload["spec"]["template"]) or self._is_debugged(place):
            self._begin(place, False)


async def _as_long_as_it_may(following: Coroutine[Any, Any, None]) -> None:
    try:
        await following
    except NoahError as e:
        log.warning("releases whose pods cannot be made are not noticed: %s", e.sentence)


def _marked(pod: Pod) -> Mark:
    owners = (owner["uid"] for owner in pod["metadata"].get("ownerReferences") or () if owner.get("controller"))
    return next(owners, ""), mark_of(pod)
