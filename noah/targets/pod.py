"""JVMs in pods: found through each cluster's informer, reached through a socat that is started by exec.

Two ways to the JVM, chosen per cluster. `pod`: socat listens on a TCP port of the pod, for the gateway's address only.
`api-server`: socat listens on a UNIX socket in the container and each connection is an exec stream of its own.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from noah.core import pods
from noah.core.forwarder import LAST_LINE, Answer, arguments, read_answer, report_arguments
from noah.core.pods import Pod
from noah.core.session import Presence, Session, Vm
from noah.core.target import PodTarget, Target, Wanted, WantedPod
from noah.errors import BadInput, CannotDebug, NotFound, Unavailable
from noah.inpod import script
from noah.kube.clusters import Cluster
from noah.kube.events import tell
from noah.kube.exec import Container
from noah.kube.held import HeldExec
from noah.proxy.relay import Dial
from noah.targets import inside
from noah.targets.base import Seen, TargetInfo

NAME = "jvm"  # of the reports that the probe in a pod believes; a container has one app
FIRST_PORT = 25005  # of the pod, where socat tries to listen
EXEC_TAKES = 15.0  # seconds at most; the script itself needs 50 ms, a busy kubelet seconds
STOP_TAKES = 30.0  # seconds at most; TERM and KILL are given a second each
# While the forwarder's stream is held, its end tells us at once; a look now and then is for what it cannot tell.
LOOK_AGAIN_HELD = 60.0  # seconds
LOOK_WHILE_STARTING = 1.0  # seconds; the container runs and its JVM is not up: a second of a developer's time
LOOK_AGAIN = 10.0  # seconds; a killed socat is back within 15
TELL_AGAIN = timedelta(minutes=5)  # between two events on a pod: stepping stops it again and again
ANSWER_LIMIT = 64 * 1024  # bytes


class PodLine:
    def __init__(
        self,
        cluster: Cluster,
        session: Session,
        *,
        held_targets: Callable[[], Iterable[Target]],
        changed: Callable[[], None],
        closed: Callable[["PodLine"], None],
    ) -> None:
        assert isinstance(session.target, PodTarget)
        self.target = session.target
        self.changed = changed
        self._session_id = session.id
        self._cluster = cluster
        self._held_targets = held_targets
        self._closed = closed
        self._held: HeldExec | None = None
        self._last: Seen | None = None  # what the last exec said
        self._asked_at = 0.0  # when that was, by the loop's clock
        self._port = 0
        self._told_at: datetime | None = None  # when the pod's events said last that it stands still

    def __repr__(self) -> str:
        return f"<{self.target} {'held' if self._held else 'not held'}>"

    @property
    def look_again(self) -> float:
        if self._last is not None and self._last.presence is Presence.NOT_READY:
            return LOOK_WHILE_STARTING
        return LOOK_AGAIN_HELD if self._holds else LOOK_AGAIN

    async def look(self, session: Session, *, ask: bool = False) -> Seen:
        pod = self._pod()
        if pod is None or not pods.is_there(pod):
            return self._gone(session, pod)
        if reason := pods.not_running(pod, self.target.container):
            await self._let_go()
            return Seen(presence=Presence.NOT_READY, reason=reason)
        if self._last is None:
            # Nobody has asked yet: start() finds out all the rest, and takes over a forwarder that is there already.
            return Seen(presence=Presence.READY)
        fresh = asyncio.get_running_loop().time() - self._asked_at < self.look_again
        if self._holds and fresh and not ask:
            return self._last
        return self._seen(pod, await self._ask(pod, "look", session))

    async def start(self, session: Session, *, vm: Vm, now: datetime) -> Seen:
        pod = self._there()
        await self._let_go()
        argv = self._argv(pod, "start", session, *report_arguments(session, vm, now), *self._way(pod))
        held = await self._cluster.exec.hold(
            self._container(pod),
            argv,
            stdin=script("forwarder").encode(),
            until=LAST_LINE,
            first_line_timeout=EXEC_TAKES,
            on_end=lambda _: self.changed(),
        )
        answer = read_answer([*held.lines, LAST_LINE] if held.how is None else held.lines)
        if answer.error or answer.forwarder_port is None:
            await held.close()
        else:
            self._held = held
        return self._seen(pod, answer)

    async def report(self, session: Session, *, vm: Vm, now: datetime) -> Seen:
        pod = self._there()
        seen = self._seen(pod, await self._ask(pod, "report", session, *report_arguments(session, vm, now)))
        if vm is Vm.SUSPENDED and (self._told_at is None or now - self._told_at > TELL_AGAIN):
            self._told_at = now
            note = f"The debugger of {session.owner} has stopped the JVM in container {self.target.container}."
            await tell(self._cluster, pod, reason="StoppedByDebugger", action="Debugging", note=note)
        return seen

    async def stop(self, session: Session) -> None:
        pod = self._pod()
        if pod is not None and pods.not_running(pod, self.target.container) is None:
            with suppress(NotFound):  # it went just now, and all that ran in it
                inside.check(await self._ask(pod, "stop", session, timeout=STOP_TAKES), where=self._where)
        await self._let_go()

    @property
    def dial(self) -> Dial:
        return self._dial_by_exec if self._cluster.settings.reach == "api-server" else self._dial_by_tcp

    async def close(self) -> None:
        self._closed(self)
        await self._let_go()

    def concerns(self, pod: Pod) -> bool:
        """A change of *pod* may show something else here: it is this one, or may be its successor."""
        return bool(pod["metadata"]["name"] == self.target.pod) or (
            self._last is None or self._last.presence is not Presence.READY
        )

    # -- inside

    @property
    def _where(self) -> str:
        return f"container {self.target.container} of pod {self.target.namespace}/{self.target.pod}"

    @property
    def _holds(self) -> bool:
        return self._held is not None and not self._held.ended.is_set()

    def _pod(self) -> Pod | None:
        """Unavailable when the cluster has never told which pods there are."""
        told(self._cluster)
        return self._cluster.informer.get(self.target.namespace, self.target.pod)

    def _there(self) -> Pod:
        pod = self._pod()
        if pod is None:
            raise Unavailable(f"Pod {self.target.namespace}/{self.target.pod} is gone.")
        return pod

    def _gone(self, session: Session, pod: Pod | None) -> Seen:
        reason = f"Pod {self.target.namespace}/{self.target.pod} is {'gone' if pod is None else 'being deleted'}."
        self._last = None
        if session.workload is None:
            return Seen(presence=Presence.GONE, reason=f"{reason} It belonged to no workload that would replace it.")
        held = frozenset(
            t.pod
            for t in self._held_targets()
            if isinstance(t, PodTarget) and (t.cluster, t.namespace) == (self.target.cluster, self.target.namespace)
        )
        successor = pods.successor_of(
            self._cluster.informer.in_namespace(self.target.namespace),
            workload=session.workload,
            container=self.target.container,
            gone=self.target.pod,
            node=pod["spec"].get("nodeName") if pod else None,
            held=held - {self.target.pod},
        )
        if successor is None:
            return Seen(presence=Presence.GONE, reason=f"{reason} {session.workload} has no other running pod yet.")
        target = replace(self.target, pod=successor["metadata"]["name"])
        return Seen(presence=Presence.MOVED, reason=reason, successor=target)

    def _seen(self, pod: Pod, answer: Answer) -> Seen:
        self._asked_at = asyncio.get_running_loop().time()
        self._port = answer.forwarder_port or 0
        self._last = None
        self._last = inside.seen(answer, where=self._where, jdwp_port=self._jdwp(pod), now=datetime.now(UTC))
        return self._last

    async def _ask(self, pod: Pod, verb: str, session: Session, *more: str, timeout: float = EXEC_TAKES) -> Answer:
        result = await self._cluster.exec.run(
            self._container(pod),
            self._argv(pod, verb, session, *more),
            stdin=script("forwarder").encode(),
            timeout=timeout,
            limit=ANSWER_LIMIT,
        )
        return read_answer(result.stdout.decode("utf-8", "replace").splitlines())

    def _argv(self, pod: Pod, verb: str, session: Session, *more: str) -> list[str]:
        # The script goes in by stdin: exec puts the command line into a URL, and proxies cut URLs at some kilobytes.
        return ["sh", "-s", "--", *arguments(verb, session, name=NAME, jdwp_port=self._jdwp(pod)), *more]

    def _way(self, pod: Pod) -> list[str]:
        if self._cluster.settings.reach == "api-server":
            return ["unix"]
        return ["tcp", self._cluster.settings.gateway_range or address_towards(_ip(pod)), str(FIRST_PORT)]

    def _jdwp(self, pod: Pod) -> int:
        return pods.jdwp_port(pod, self.target.container, self._cluster.settings.jdwp_port)

    def _container(self, pod: Pod) -> Container:
        return Container(self.target.namespace, self.target.pod, self.target.container, pod["spec"].get("nodeName"))

    async def _dial_by_tcp(self, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        ip = _ip(self._there())
        transport, _ = await asyncio.get_running_loop().create_connection(factory, ip, self._port)
        return transport

    async def _dial_by_exec(self, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        marked = f"noah-{self._session_id}"
        argv = ["socat", "-lp", marked, "-t", "5", "-b", "65536", "-", f"UNIX-CONNECT:/dev/shm/.{marked}.sock"]
        return await self._cluster.exec.connect(self._container(self._there()), argv, factory)

    async def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            await held.close()


class Pods:
    """The kind: the pods of all clusters."""

    def __init__(self, clusters: Mapping[str, Cluster], *, held_targets: Callable[[], Iterable[Target]]) -> None:
        self._clusters = clusters
        self._held_targets = held_targets
        self._lines: dict[tuple[str, str], set[PodLine]] = {}
        # What a listing shows of each pod, until it changes: 3,000 of them made anew would block the loop for 30 ms.
        self._infos: dict[tuple[str, str, str], tuple[TargetInfo, ...]] = {}
        for cluster in clusters.values():
            cluster.informer.subscribe(lambda pod, _, name=cluster.name: self._pod_changed(name, pod))  # type: ignore[misc]

    def list(self) -> Iterable[TargetInfo]:
        for cluster in self._clusters.values():
            for pod in cluster.informer.pods():
                yield from self._infos_of(cluster, pod)

    async def resolve(self, wanted: Wanted) -> TargetInfo:
        assert isinstance(wanted, WantedPod)
        cluster, pod = self.choose(wanted)
        container = pods.choose_container(pod, wanted.container)
        if not pods.is_there(pod):
            raise CannotDebug(f"Pod {pods.name_of(pod)} is {pods.phase_of(pod)}: there is nothing to debug.")
        if reason := pods.not_running(pod, container):
            raise CannotDebug(f"{reason} Enable debugging once it runs.")
        return _info(cluster, pod, container)

    def line(self, session: Session, *, changed: Callable[[], None], step: Callable[[str], None]) -> PodLine:
        target = session.target
        assert isinstance(target, PodTarget)
        key = (target.cluster, target.namespace)
        line = PodLine(
            self.cluster(target.cluster),
            session,
            held_targets=self._held_targets,
            changed=changed,
            closed=lambda line: self._lines.get(key, set()).discard(line),
        )
        self._lines.setdefault(key, set()).add(line)
        return line

    def _infos_of(self, cluster: Cluster, pod: Pod) -> tuple[TargetInfo, ...]:
        key = (cluster.name, pod["metadata"]["namespace"], pod["metadata"]["name"])
        known = self._infos.get(key)
        if known is None:
            known = self._infos[key] = tuple(_infos(cluster, pod)) if pods.is_there(pod) else ()
        return known

    def _pod_changed(self, cluster: str, pod: Pod) -> None:
        self._infos.pop((cluster, pod["metadata"]["namespace"], pod["metadata"]["name"]), None)
        for line in self._lines.get((cluster, pod["metadata"]["namespace"]), ()):
            if line.concerns(pod):
                line.changed()

    def cluster(self, name: str) -> Cluster:
        if name not in self._clusters:
            known = ", ".join(self._clusters) or "none"
            raise NotFound(f"The gateway knows no cluster {name!r}; it knows {known}.")
        return self._clusters[name]

    def choose(self, wanted: WantedPod) -> tuple[Cluster, Pod]:
        if wanted.cluster is None or wanted.namespace is None:
            return self._choose_anywhere(wanted)
        cluster = told(self.cluster(wanted.cluster))
        if wanted.pod is not None:
            pod = cluster.informer.get(wanted.namespace, wanted.pod)
            if pod is None:
                raise NotFound(_no_such_pod(cluster, wanted))
            return cluster, pod
        found = [pod for pod in cluster.informer.in_namespace(wanted.namespace) if _means(wanted, cluster, pod)]
        return cluster, _oldest(found, wanted, f" in namespace {wanted.namespace} of cluster {cluster.name}")

    def _choose_anywhere(self, wanted: WantedPod) -> tuple[Cluster, Pod]:
        found = [
            (cluster, pod)
            for cluster in self._clusters.values()
            for pod in cluster.informer.pods()
            if pods.is_there(pod) and _means(wanted, cluster, pod)
        ]
        places = sorted({f"{cluster.name}/{pod['metadata']['namespace']}" for cluster, pod in found})
        if len(places) > 1:
            first = f"pod/{places[0]}/{wanted}"
            raise BadInput(f"{wanted} is in several places ({', '.join(places[:10])}): say which, as in {first}.")
        return found[0][0] if found else self._any(), _oldest([pod for _, pod in found], wanted, "")

    def _any(self) -> Cluster:
        if not self._clusters:
            raise NotFound("The gateway knows no cluster: add [[clusters]] to its configuration.")
        return next(iter(self._clusters.values()))


def told(cluster: Cluster) -> Cluster:
    """Unavailable when it has not told yet which pods there are."""
    if not cluster.informer.synced:
        raise Unavailable(
            cluster.reason or f"Cluster {cluster.name} has not listed its pods yet: try again in a moment."
        )
    return cluster


def address_towards(ip: str) -> str:
    """The address of this machine that *ip* sees; nothing is sent to find out."""
    family = socket.AF_INET6 if ipaddress.ip_address(ip).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((ip, 9))
        except OSError as e:
            raise Unavailable(f"The gateway has no route to the pod network ({ip}: {e.strerror}).") from None
        return str(probe.getsockname()[0])


def _ip(pod: Pod) -> str:
    ip = pod["status"].get("podIP")
    if not ip:
        raise Unavailable(f"Pod {pods.name_of(pod)} has no address yet.")
    return str(ip)


def _means(wanted: WantedPod, cluster: Cluster, pod: Pod) -> bool:
    if wanted.deploy is not None:
        return pods.workload_of(pod) == f"Deployment/{wanted.deploy}"
    return pods.app_of(pod, cluster.settings.app_label) == wanted.app


def _oldest(found: Sequence[Pod], wanted: WantedPod, where: str) -> Pod:
    if not found:
        raise NotFound(f"There is no pod of {wanted}{where}: `noah targets` lists what there is.")
    pod = pods.oldest_ready(found)
    if pod is None:
        phases = ", ".join(f"{p['metadata']['name']} is {pods.phase_of(p)}" for p in found[:3])
        raise CannotDebug(f"No pod of {wanted}{where} is ready: {phases}.")
    return pod


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
    meta = pod["metadata"]
    return TargetInfo(
        target=PodTarget(cluster.name, meta["namespace"], meta["name"], container),
        app=pods.app_of(pod, cluster.settings.app_label),
        workload=pods.workload_of(pod),
        labels=pods.labels_of(pod),
        ready=pods.is_ready(pod),
        phase=pods.phase_of(pod),
        restarts=pods.restarts_of(pod),
        version=pods.version_of(pod, container),
        started_at=pods.started_at(pod, container),
        checkurl=pods.checkurl_of(pod, container),
    )
