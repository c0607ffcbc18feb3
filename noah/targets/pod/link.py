"""One session's way to a JVM in a pod, through a socat that is started by exec.

Two ways, chosen per cluster. `pod`: socat listens on a TCP port of the pod, for the gateway's address only.
`api-server`: socat listens on a UNIX socket in the container and each connection is an exec stream of its own.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from noah.catalog.holders import Holders
from noah.core import pods
from noah.core.forwarder import LAST_LINE, Answer, arguments, read_answer, report_arguments
from noah.core.pods import Pod
from noah.core.session.session import Presence, Session, Vm
from noah.core.session.target import PodTarget
from noah.errors import NotFound, Unavailable
from noah.inpod import script
from noah.kube.clusters import Cluster
from noah.kube.events import tell
from noah.kube.exec.commands import Container
from noah.kube.exec.held import HeldExec
from noah.proxy.relay import Dial
from noah.targets import verdict
from noah.targets.base import Seen

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
        holders: Holders,
        changed: Callable[[], None],
        closed: Callable[["PodLine"], None],
    ) -> None:
        assert isinstance(session.target, PodTarget)
        self.target = session.target
        self.changed = changed
        self._session_id = session.id
        self._cluster = cluster
        self._holders = holders
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
        answer = read_answer([*held.lines, LAST_LINE] if held.has_come else held.lines)
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
            await tell(self._cluster, pod, reason="StoppedByDebugger", action="Debugging", note=note, now=now)
        return seen

    async def stop(self, session: Session) -> None:
        pod = self._pod()
        if pod is not None and pods.not_running(pod, self.target.container) is None:
            with suppress(NotFound):  # it went just now, and all that ran in it
                verdict.check(await self._ask(pod, "stop", session, timeout=STOP_TAKES), where=self._where)
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
            for t in self._holders.targets
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
        self._last = verdict.seen(answer, where=self._where, jdwp_port=self._jdwp(pod), now=datetime.now(UTC))
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
        return ["sh", "-s", "--", *arguments(verb, session.id, name=NAME, jdwp_port=self._jdwp(pod)), *more]

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
