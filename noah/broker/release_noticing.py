"""Which changes of pods mean that a rollout may have begun: pods are all that a gateway watches by itself."""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from noah.broker.live import Live
from noah.core.inject import is_injected
from noah.core.pods import Pod, is_there, workload_of
from noah.core.release import PATHS, mark_of
from noah.core.target import PodTarget
from noah.kube.clusters import Cluster
from noah.targets.revision import YOUNG

Mark = tuple[
    str, str | None
]  # its owner's UID, too: a workload that was deleted and made anew may have the same template


class Place(NamedTuple):
    """Where a workload is."""

    cluster: str
    namespace: str
    kind: str  # Deployment, StatefulSet or DaemonSet
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

    def watch(self, cluster: Cluster) -> None:
        for pod in cluster.informer.pods():
            self._changed(cluster, pod, "added")
        cluster.informer.subscribe(lambda pod, change: self._changed(cluster, pod, change))

    def _changed(self, cluster: Cluster, pod: Pod, change: str) -> None:
        kind, _, name = (workload_of(pod) or "").partition("/")
        if kind not in PATHS:
            return
        place = Place(cluster.name, pod["metadata"]["namespace"], kind, name)
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
        if is_injected(pod):
            return True
        where = place.cluster, place.namespace, f"{place.kind}/{place.name}"
        return any(
            isinstance(target := live.session.target, PodTarget)
            and (target.cluster, target.namespace, live.session.workload) == where
            for live in self._live()
        )


def _marked(pod: Pod) -> Mark:
    owners = (owner["uid"] for owner in pod["metadata"].get("ownerReferences") or () if owner.get("controller"))
    return next(owners, ""), mark_of(pod)
