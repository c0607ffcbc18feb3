"""JVMs in pods, found through each cluster's informer. How one is reached: link.py.

Clusters come, go and are replaced: what they have is listed, or not any more, in turns, since it may be much.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from sys import intern

from noah.catalog.catalog import Catalog, TargetFilter
from noah.catalog.holders import Holders
from noah.catalog.target_info import END, AppPlace, TargetInfo, label_text, workload_text
from noah.core import pods
from noah.core.pods import Pod
from noah.core.session.session import Session
from noah.core.session.target import PodTarget, Wanted, WantedPod
from noah.errors import BadInput, CannotDebug, NotFound
from noah.kube.clusters import Cluster
from noah.targets.base import Link
from noah.targets.pod.link import PodLink, listed
from noah.targets.unconfigured import Unconfigured
from noah.turns import in_turns

MOST_PLACES = 11  # of one app are looked for; ten are named
FIRST_LIST_TAKES = 3.0  # seconds; 500 pods a page, and a page is a tenth of a second


class Pods:
    """The kind: the pods of all clusters."""

    def __init__(
        self,
        clusters: Mapping[str, Cluster],
        *,
        catalog: Catalog,
        holders: Holders,
        is_complete: Callable[[], bool] = lambda: True,
    ) -> None:
        """*is_complete* says False as long as there may be clusters that nobody has named yet."""
        self._is_complete = is_complete
        self._clusters = clusters
        self._catalog = catalog
        self._holders = holders
        self._links: dict[tuple[str, str], dict[PodLink, ExitStack]] = {}  # with what keeps each one's cluster open
        self._unsubscribe: dict[str, Callable[[], None]] = {}
        self._uids: dict[str, str] = {}  # of pods in a cluster before it was replaced, by their sessions
        for cluster in clusters.values():
            for pod in cluster.informer.pods():
                self._list(cluster, pod, is_there=pods.is_there(pod))
            self._subscribe(cluster)

    async def follow(self, before: Cluster | None, now: Cluster | None) -> None:
        """Have the pods of *now* in place of those of *before*; one of the clusters may be None."""
        if before is not None:
            self._unsubscribe.pop(before.name)()
        if now is not None:
            self._subscribe(now)
            async for pod in in_turns(now.informer.pods()):
                if (found := now.informer.get(pod["metadata"]["namespace"], pod["metadata"]["name"])) is not None:
                    self._list(now, found, is_there=pods.is_there(found))
        if before is None:
            return
        links = [link for key, links in self._links.items() if key[0] == before.name for link in links]
        for link in links:
            if now is None:
                link.changed()
            elif link.uid is not None:
                self._uids[link.session_id] = link.uid
        async for pod in in_turns(before.informer.pods()):
            self._unlist(before, pod, now)

    def _subscribe(self, cluster: Cluster) -> None:
        from_pods = cluster.informer.subscribe(partial(self._pod_changed, cluster))
        from_namespaces = cluster.namespaces.subscribe(partial(self._namespace_changed, cluster))

        def unsubscribe() -> None:
            from_pods()
            from_namespaces()

        self._unsubscribe[cluster.name] = unsubscribe

    def _unlist(self, before: Cluster, pod: Pod, now: Cluster | None) -> None:
        """Remove the targets of a pod of *before* from the catalog, but for those that *now* has too."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        same = None if now is None else now.informer.get(namespace, name)
        there = set() if same is None else {container["name"] for container in same["spec"]["containers"]}
        for container in pod["spec"]["containers"]:
            if container["name"] not in there:
                self._catalog.remove(PodTarget(before.name, namespace, name, container["name"]))

    async def resolve(self, wanted: Wanted) -> TargetInfo:
        assert isinstance(wanted, WantedPod)
        await self._first_listed(wanted)
        cluster, pod = await self.choose(wanted)
        container = pods.choose_container(pod, wanted.container)
        if not pods.is_there(pod):
            raise CannotDebug(f"Pod {pods.name_of(pod)} is {pods.phase_of(pod)}: there is nothing to debug.")
        if reason := pods.not_running(pod, container):
            raise CannotDebug(f"{reason} Enable debugging once it runs.")
        return _info(cluster, pod, container)

    async def _first_listed(self, wanted: WantedPod) -> None:
        """A gateway that has just started is given a moment to learn which pods there are."""
        asked = [self.cluster(wanted.cluster)] if wanted.cluster else list(self._clusters.values())
        if wanted.namespace and wanted.pod and asked[0].informer.get(wanted.namespace, wanted.pod):
            return
        for cluster in asked:
            if not cluster.informer.synced and cluster.informer.trouble is None:
                await cluster.informer.wait_synced(FIRST_LIST_TAKES)

    def link(self, session: Session, *, changed: Callable[[], None], step: Callable[[str], None]) -> Link:
        target = session.target
        assert isinstance(target, PodTarget)
        cluster = self._clusters.get(target.cluster)
        if cluster is None:
            return Unconfigured(target, is_certain=self._is_complete)
        key = (target.cluster, target.namespace)
        link = PodLink(
            cluster,
            session,
            holders=self._holders,
            changed=changed,
            step=step,
            closed=lambda link: self._forget(key, link),
            uid_before=self._uids.pop(session.id, None),
        )
        used = self._links.setdefault(key, {})[link] = ExitStack()
        used.enter_context(cluster.used())
        return link

    def _forget(self, key: tuple[str, str], link: PodLink) -> None:
        links = self._links.get(key, {})
        if (used := links.pop(link, None)) is not None:
            used.close()
        if not links:
            self._links.pop(key, None)

    def _pod_changed(self, cluster: Cluster, pod: Pod, change: str) -> None:
        self._list(cluster, pod, is_there=change != "deleted" and pods.is_there(pod))
        for link in self._links.get((cluster.name, pod["metadata"]["namespace"]), ()):
            if link.concerns(pod):
                link.changed()

    def _namespace_changed(self, cluster: Cluster, namespace: str) -> Iterator[None]:
        """List its pods again: they may be in another environment now. It yields between two of them."""
        for pod in cluster.informer.in_namespace(namespace):
            if self._clusters.get(cluster.name) is not cluster:
                return  # it is gone or replaced meanwhile, and its pods are not listed any more
            # It may have changed since the first of them was listed, or have gone.
            if (now := cluster.informer.get(namespace, pod["metadata"]["name"])) is not None:
                self._list(cluster, now, is_there=pods.is_there(now))
            yield

    def cluster(self, name: str) -> Cluster:
        if name not in self._clusters:
            known = ", ".join(self._clusters) or "none"
            raise NotFound(f"The gateway knows no cluster {name!r}; it knows {known}.")
        return self._clusters[name]

    async def choose(self, wanted: WantedPod) -> tuple[Cluster, Pod]:
        if wanted.cluster is None or wanted.namespace is None:
            return await self._choose_anywhere(wanted)
        cluster = self.cluster(wanted.cluster)
        if wanted.pod is not None:
            if pod := cluster.informer.get(wanted.namespace, wanted.pod):
                return cluster, pod
            raise NotFound(_no_such_pod(listed(cluster), wanted))
        return listed(cluster), await self._in_namespace(cluster, wanted.namespace, wanted)

    async def _choose_anywhere(self, wanted: WantedPod) -> tuple[Cluster, Pod]:
        where = TargetFilter(app=wanted.app)
        places = self._catalog.places(where, workload=wanted.workload_name, most=MOST_PLACES)
        if len(places) > 1:
            raise in_several(wanted, places)
        for place in places:
            assert place.cluster is not None
            assert place.namespace is not None
            cluster = self.cluster(place.cluster)
            return cluster, await self._in_namespace(cluster, place.namespace, wanted)
        if not self._clusters:
            raise NotFound("The gateway knows no cluster: add [[clusters]] to its configuration.")
        raise _nowhere(wanted)

    async def _in_namespace(self, cluster: Cluster, namespace: str, wanted: WantedPod) -> Pod:
        workload = wanted.workload_name
        found = [
            pod
            async for pod in in_turns(cluster.informer.in_namespace(namespace, workload))
            if (workload or pods.app_of(pod, cluster.settings.app_label) == wanted.app)
            and wanted.environment in (None, cluster.environment_of(namespace, pod["metadata"]))
        ]
        where = f" in namespace {namespace} of cluster {cluster.name}"
        if wanted.environment is not None:
            where += f" and environment {wanted.environment[:80]}"
        if not found:
            raise _nowhere(wanted, where)
        pod = pods.oldest_ready(found)
        if pod is None:
            phases = ", ".join(f"{p['metadata']['name']} is {pods.phase_of(p)}" for p in found[:3])
            raise CannotDebug(f"No pod of {_name(wanted)}{where} is ready: {phases}.")
        return pod

    def _list(self, cluster: Cluster, pod: Pod, *, is_there: bool) -> None:
        infos = list(_infos(cluster, pod)) if is_there else []
        shown = {info.name.rpartition("/")[2] for info in infos}
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        for container in pod["spec"]["containers"]:
            if container["name"] not in shown:
                self._catalog.remove(PodTarget(cluster.name, namespace, name, container["name"]))
        for info in infos:
            self._catalog.put(info)


def in_several(wanted: WantedPod, places: Sequence[AppPlace]) -> BadInput:
    named = [f"{place.cluster}/{place.namespace}" for place in places]
    more = ", ..." if len(named) == MOST_PLACES else ""
    first = f"pod/{named[0]}/{wanted}"
    return BadInput(
        f"{wanted} is in several places ({', '.join(named[: MOST_PLACES - 1])}{more}): say which, as in {first}."
    )


def _name(wanted: WantedPod) -> str:
    if wanted.workload is None:
        return f"app {wanted.app}"
    kind, name = wanted.workload
    return f"{kind.lower()} {name}"


def _nowhere(wanted: WantedPod, where: str = "") -> NotFound:
    return NotFound(f"There is no pod of {_name(wanted)}{where}: `noah targets` lists what there is.")


def _no_such_pod(cluster: Cluster, wanted: WantedPod) -> str:
    assert wanted.namespace is not None
    if not any(True for _ in cluster.informer.in_namespace(wanted.namespace)):
        return f"Cluster {cluster.name} has no namespace {wanted.namespace!r} with pods that the gateway may see."
    return f"Namespace {wanted.namespace} of cluster {cluster.name} has no pod {wanted.pod!r}."


def _infos(cluster: Cluster, pod: Pod) -> Iterable[TargetInfo]:
    try:
        yield _info(cluster, pod, pods.choose_container(pod, None))
    except CannotDebug:
        for container in pod["spec"]["containers"]:
            yield _info(cluster, pod, container["name"])


def _info(cluster: Cluster, pod: Pod, container: str) -> TargetInfo:
    meta, version, checkurl = pod["metadata"], pods.version_of(pod, container), pods.checkurl_of(pod, container)
    app = intern(pods.app_of(pod, cluster.settings.app_label).replace(END, ""))
    namespace, container = intern(meta["namespace"]), intern(container)  # thousands of targets have these in common
    return TargetInfo(
        name=str(PodTarget(cluster.name, namespace, meta["name"], container)),
        app=app,
        environment=intern(cluster.environment_of(namespace, meta)),
        workload_text=workload_text(pods.workload_of(pod), app),
        label_text=label_text(pods.labels_of(pod)),
        ready=pods.is_ready(pod),
        phase=intern(pods.phase_of(pod)),
        restarts=pods.restarts_of(pod),
        version=version and intern(version),
        started_at=pods.started_at(pod, container),
        checkurl=checkurl and intern(checkurl),
    )
