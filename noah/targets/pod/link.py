"""One session's way to a JVM in a pod, through a socat that is started by exec, or past it.

Two ways, chosen per cluster. `pod`: socat listens on a TCP port of the pod, for the gateway's address only.
`api-server`: socat listens on a UNIX socket in the container and each connection is an exec stream of its own. Where
there is no socat, each connection is a port-forward of the API server's; place.py has what is tried in which order.

One exec per session is held: it tells when socat ends, the gateway's words for the liveness probe go in by its stdin,
and each is answered. While it is held, nothing else is asked of the pod.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from noah.catalog.holders import Holders
from noah.core import pods
from noah.core.forwarder import (
    LAST_LINE,
    Agent,
    Answer,
    Where,
    arguments,
    read_answer,
    with_token,
    word_arguments,
    word_line,
)
from noah.core.pods import Pod
from noah.core.session.rights import KnownAs, known_as
from noah.core.session.session import Presence, Session, Word
from noah.core.session.target import PodTarget
from noah.errors import NotFound, Unavailable
from noah.inpod import script
from noah.kube.clusters import Cluster
from noah.kube.errors import MissingRight, NoProgram
from noah.kube.events import write_event
from noah.kube.exec.commands import Container
from noah.kube.exec.held import HeldExec
from noah.proxy.relay import Dial
from noah.targets import verdict
from noah.targets.base import Observation
from noah.targets.pod.address import address_towards, checked, connect
from noah.targets.pod.place import Place, first_place, leave, place_without_shell, put_beside

log = logging.getLogger(__name__)

NAME = "jvm"  # of the reports that the probe in a pod believes; a container has one app
FIRST_PORT = 25005  # of the pod, where socat tries to listen
EXEC_TAKES = 15.0  # seconds at most; the script itself needs 50 ms, a busy kubelet seconds
STOP_TAKES = 30.0  # seconds at most; TERM and KILL are given a second each
# While the forwarder's stream is held its answers say everything; a look is for what no answer foresaw.
LOOK_AGAIN_HELD = 300.0  # seconds; twelve execs per hour
LOOK_WHILE_STARTING = 1.0  # seconds; the container runs and its JVM is not up: a second of a developer's time
LOOK_AGAIN = 10.0  # seconds; a killed socat is back within 15
BEAT_S, IDLE_BEAT_S, TAKEN_BEAT_S = 1.0, 10.0, 2.0
SEEN_WITHIN = 2.0  # seconds that a debugger is kept until an answer says whose the agent's port is
SILENT_FOR = 5.0  # seconds without an answer to a word, after which its way is taken for cut
ANNOUNCE_AGAIN = timedelta(minutes=5)  # between two events on a pod: stepping stops it again and again
ANSWER_LIMIT = 64 * 1024  # bytes


class PodLink:
    beat_s = BEAT_S

    def __init__(
        self,
        cluster: Cluster,
        session: Session,
        *,
        holders: Holders,
        changed: Callable[[], None],
        step: Callable[[str], None],
        closed: Callable[["PodLink"], None],
        uid_before: str | None,
    ) -> None:
        """*uid_before*: of the pod as it was in the cluster that this one has replaced, if it has."""
        assert isinstance(session.target, PodTarget)
        self.target = session.target
        self.changed = changed
        self.session_id = session.id
        self._uid_before: str | None = uid_before
        self._owner = session.owner
        self._cluster = cluster
        self._holders = holders
        self._closed = closed
        self._step = step
        self._place: Place | None = None  # where the forwarder runs; None: nobody has tried yet
        self._way_said = ""  # the last one that a step names
        self._has_socat = True  # there
        self._held: HeldExec | None = None
        self._token = ""  # what the forwarder asks each connection for
        self._last: Observation | None = None  # by the last exec, and by what the held one answered since
        self._asked_at = 0.0  # when that exec was, by the loop's clock
        self._uid: str | None = None  # of the pod that all of this is about
        self._port: int | None = None  # of socat; None: it is not known to run. 0: it is not reached by TCP
        self._word: Word | None = None  # the last one that was written
        self._is_seen = asyncio.Event()  # the agent's port, since the last debugger: whose it is
        self._unanswered_since: float | None = None  # by the loop's clock
        self._is_full = False  # the last word could not be kept there
        self._announced_at: datetime | None = None  # when the pod's events said last that it is stopped
        self._announcing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<{self.target} {'held' if self.is_held else 'not held'}>"

    @property
    def look_again(self) -> float:
        if self.is_held:
            return LOOK_AGAIN_HELD
        return LOOK_WHILE_STARTING if self._waits else LOOK_AGAIN

    @property
    def _waits(self) -> bool:
        return self._last is not None and self._last.presence is Presence.NOT_READY

    @property
    def is_held(self) -> bool:
        if self._is_nowhere:
            return self._last is not None
        return self._held is not None and not self._held.ended.is_set()

    @property
    def _is_nowhere(self) -> bool:
        """True if nothing in the pod can write a report or a word: the bytes are all that there is."""
        return self._place is not None and self._place.container is None

    @property
    def idle_beat_s(self) -> float:
        return TAKEN_BEAT_S if self._waits or (self._last is not None and self._last.taken) else IDLE_BEAT_S

    @property
    def trouble(self) -> str | None:
        if self._is_full:
            return f"What the debugger does cannot be written down in {self._where}: its /dev/shm is full."
        if not self.is_held:
            return f"The gateway does not reach {self._where}."
        since = self._unanswered_since
        if since is not None and asyncio.get_running_loop().time() - since > SILENT_FOR:
            return f"{self._where[0].upper()}{self._where[1:]} does not answer the gateway."
        return None

    @property
    def uid(self) -> str | None:
        """The pod's, once a look has seen it."""
        return self._uid

    async def look(self, session: Session) -> Observation:
        if not self._cluster.is_configured:
            sentence = f"The configuration does not have cluster {self.target.cluster} any more."
            return Observation(presence=Presence.REMOVED, reason=sentence, forwarder_alive=self._port is not None)
        pod = self._pod()
        if pod is not None and self._uid_before not in (None, pod["metadata"]["uid"]):
            sentence = f"By the configuration, {self.target.cluster} is another cluster than before."
            return Observation(presence=Presence.REMOVED, reason=sentence)
        self._uid_before = None
        if pod is None or pods.has_ended(pod):
            return await self._gone(session, pod)
        if reason := pods.not_running(pod, self.target.container):
            if pods.is_leaving(pod):
                return await self._gone(session, pod)
            await self._forget()
            return Observation(presence=Presence.NOT_READY, reason=reason)
        if pods.is_leaving(pod):
            return self._leaving(session, pod)
        if self._uid != pod["metadata"]["uid"]:  # a StatefulSet's next pod has the name of the one before
            await self._forget()
            self._uid, self._place = pod["metadata"]["uid"], None
        if self._last is None:
            # Nobody has asked yet: start() finds out all the rest, and holds a forwarder that is there already.
            return Observation(presence=Presence.READY)
        if not self.is_held and not self._waits:
            return replace(self._last, forwarder_alive=self._port is not None)
        if self._is_nowhere or asyncio.get_running_loop().time() - self._asked_at < self.look_again:
            return self._last
        return self._observed(pod, await self._ask(pod, "look", session, on_behalf=self._on_behalf))

    async def is_taken(self, session: Session) -> bool:
        pod = self._there()
        if self._place is None:  # of another gateway's session, which may be anywhere
            self._place = first_place(pod, self.target.container)
        try:
            answer = await self._ask(pod, "look", session, on_behalf=self._on_behalf)
        except NoProgram:
            self._place = place_without_shell(pod, self.target.container)
            if self._is_nowhere:  # nothing in the pod can tell
                return False
            answer = await self._ask(pod, "look", session, on_behalf=self._on_behalf)
        return answer.agent is Agent.TAKEN

    async def start(self, session: Session, *, word: Word, now: datetime) -> Observation:
        pod = self._there()
        await self._release()
        self._owner = session.owner
        if self._uid != pod["metadata"]["uid"] or (self._place is not None and self._place.may_change):
            self._uid, self._place = pod["metadata"]["uid"], None
        try:
            return await self._start(pod, session, word, now)
        except NoProgram:
            self._place = place_without_shell(pod, self.target.container)
        if self._is_nowhere:
            self._place = await put_beside(self._cluster, pod, self.target.container)
        if not self._is_nowhere:
            return await self._start(pod, session, word, now)
        self._last, self._port = Observation(presence=Presence.READY, forwarder_alive=True), 0
        self._is_seen.set()
        self._say_way()
        return self._last

    async def _start(self, pod: Pod, session: Session, word: Word, now: datetime) -> Observation:
        token = secrets.token_hex(16)
        held = await self._cluster.exec.hold(
            self._container(pod),
            self._argv(pod, "start", session, *word_arguments(session, word, now), *await self._way(pod)),
            stdin=with_token(script("forwarder"), token),
            keep_stdin=True,
            until=LAST_LINE,
            first_line_timeout=EXEC_TAKES,
            on_end=lambda _: self.changed(),
            on_line=self._answered,
            on_behalf=self._on_behalf,
        )
        answer = read_answer([*held.lines, LAST_LINE] if held.has_come else held.lines)
        if answer.error or answer.forwarder_port is None:
            await held.close()
        else:
            self._held, self._token = held, token
            self._word, self._unanswered_since, self._is_full = word, None, False
            self._is_seen.set()  # start() looks for whose it is, too
            self._has_socat = not answer.report_only
            self._say_way()
        return self._observed(pod, answer)

    async def write(self, session: Session, word: Word, *, now: datetime) -> None:
        if not self._is_nowhere:
            self._write(session, word, now)
        if word is Word.SUSPENDED and (self._announced_at is None or now - self._announced_at > ANNOUNCE_AGAIN):
            self._announced_at = now
            self._announce(session, now)

    def _write(self, session: Session, word: Word, now: datetime) -> None:
        if self._held is None:
            raise Unavailable(f"The gateway does not reach {self._where}.")
        self._held.write(word_line(session, word, now))
        if word is not self._word:
            self._is_seen.clear()
        self._word = word
        if self._unanswered_since is None:
            self._unanswered_since = asyncio.get_running_loop().time()

    async def stop(self, session: Session) -> None:
        try:
            pod = self._pod()
            if pod is not None and pods.not_running(pod, self.target.container) is None:
                with suppress(NotFound):  # it went just now, and all that ran in it
                    await self._stop(pod, session)
        except Unavailable as e:
            if self._cluster.is_configured:
                raise
            self._step(f"{e.sentence} What runs in the pod for this session ends by its own deadline.")
        self._port = None
        await self._release()

    async def _stop(self, pod: Pod, session: Session) -> None:
        if self._place is None:  # of an earlier gateway's session, which may be anywhere
            self._place = first_place(pod, self.target.container)
        try:
            await self._stop_there(pod, session)
        except NoProgram:
            self._place = place_without_shell(pod, self.target.container)
            await self._stop_there(pod, session)

    async def _stop_there(self, pod: Pod, session: Session) -> None:
        assert self._place is not None
        if self._is_nowhere:
            return
        await self._release()  # a word must not be written when the files are gone
        verdict.check(await self._end_forwarder(pod, session), where=self._where)
        if self._place.is_ephemeral:
            await leave(self._cluster, self._container(pod), on_behalf=self._on_behalf)

    @property
    def dial(self) -> Dial:
        if self._is_nowhere or not self._has_socat:
            return self._dial_by_port_forward
        return self._dial_by_exec if self._cluster.settings.reach == "api-server" else self._dial_by_tcp

    async def close(self) -> None:
        self._closed(self)
        if self._announcing is not None:
            self._announcing.cancel()
        await self._release()

    def concerns(self, pod: Pod) -> bool:
        """Return whether a change of *pod* may show something else: it is this one, or may be its successor."""
        return bool(pod["metadata"]["name"] == self.target.pod) or (
            self._last is None or self._last.presence is not Presence.READY
        )

    # -- inside

    @property
    def _where(self) -> str:
        return f"container {self.target.container} of pod {self.target.namespace}/{self.target.pod}"

    def _pod(self) -> Pod | None:
        """Raises Unavailable if it is not known before the cluster has listed its pods."""
        pod = self._cluster.informer.get(self.target.namespace, self.target.pod)
        if pod is None:
            listed(self._cluster)
        return pod

    def _there(self) -> Pod:
        pod = self._pod()
        if pod is None:
            raise Unavailable(f"Pod {self.target.namespace}/{self.target.pod} is gone.")
        return pod

    async def _gone(self, session: Session, pod: Pod | None) -> Observation:
        await self._forget()
        reason = f"Pod {self.target.namespace}/{self.target.pod} is gone."
        if session.workload is None:
            reason = f"{reason} It belonged to no workload that would replace it."
            return Observation(presence=Presence.GONE, reason=reason)
        successor = self._successor(session, pod)
        if successor is None:
            reason = f"{reason} {session.workload} has no other running pod yet."
            return Observation(presence=Presence.GONE, reason=reason)
        return Observation(presence=Presence.MOVED, reason=reason, successor=successor)

    def _leaving(self, session: Session, pod: Pod) -> Observation:
        # Nothing is started there any more; what runs is used to its end.
        self._last = Observation(
            presence=Presence.LEAVING,
            reason=f"Pod {self.target.namespace}/{self.target.pod} is being deleted.",
            successor=self._successor(session, pod) if session.workload is not None else None,
            forwarder_alive=self._port is not None,
        )
        return self._last

    def _successor(self, session: Session, pod: Pod | None) -> PodTarget | None:
        assert session.workload is not None
        there = self._holders.targets_in(self.target.cluster, self.target.namespace)
        held = frozenset(one.pod for one in there if isinstance(one, PodTarget))
        successor = pods.successor_of(
            self._cluster.informer.in_namespace(self.target.namespace, session.workload),
            workload=session.workload,
            container=self.target.container,
            gone=self.target.pod,
            node=pod["spec"].get("nodeName") if pod else None,
            held=held - {self.target.pod},
        )
        return None if successor is None else replace(self.target, pod=successor["metadata"]["name"])

    def _observed(self, pod: Pod, answer: Answer) -> Observation:
        self._asked_at = asyncio.get_running_loop().time()
        self._last = None
        self._port = answer.forwarder_port
        if answer.clock is not None and (started := pods.started_at(pod, self.target.container)):
            answer = replace(answer, container_age=answer.clock - int(started.timestamp()))
        self._last = verdict.observed(answer, where=self._where, jdwp_port=self._jdwp(pod))
        return self._last

    def _answered(self, line: str) -> None:
        """Read what the held forwarder answers to a word: ok or full, and free or taken while nobody is attached."""
        how, _, agent = line.partition(" ")
        if how == "over":  # the JVM has ended
            self._asked_at = 0.0
            self.changed()
            return
        if how not in ("ok", "full"):
            return
        before = self.trouble, self._last
        self._unanswered_since = None
        self._is_full = how == "full"
        if self._last is not None and agent and self._word is Word.FREE:
            self._last = self._with_agent(self._last, agent)
            self._is_seen.set()
        if before != (self.trouble, self._last):
            self.changed()

    def _with_agent(self, last: Observation, agent: str) -> Observation:
        """Return *last* with what the held forwarder says of the agent's port."""
        if agent in ("free", "taken"):
            return replace(last, presence=Presence.READY, reason="", taken=agent == "taken")
        if agent == "other":
            reason = (
                f"Another process in {self._where} has the port of the JVM's debug agent, and a debugger would be its. "
                "End that process; the agent may not listen again before the container is restarted."
            )
        else:
            reason = f"The JVM in {self._where} does not listen for a debugger any more: restart the container."
        return replace(last, presence=Presence.NOT_READY, reason=reason, taken=False)

    def _announce(self, session: Session, now: datetime) -> None:
        """Write an Event on the pod, beside everything else: an API server that is slow holds nobody up."""
        pod = self._pod()
        if pod is None or (self._announcing is not None and not self._announcing.done()):
            return
        note = f"The debugger of {session.owner.name} has stopped the JVM in container {self.target.container}."
        self._announcing = _beside(
            write_event(self._cluster, pod, reason="StoppedByDebugger", action="Debugging", note=note, now=now),
            name=f"event on {self.target}",
        )

    async def _end_forwarder(self, pod: Pod, session: Session) -> Answer:
        """End the forwarder; by the gateway's own right if the person's has been taken away."""
        on_behalf = self._on_behalf
        if on_behalf is not None:
            with suppress(MissingRight):
                return await self._ask(pod, "stop", session, timeout=STOP_TAKES, on_behalf=on_behalf)
        return await self._ask(pod, "stop", session, timeout=STOP_TAKES, on_behalf=None)

    @property
    def _on_behalf(self) -> KnownAs | None:
        """Return the user of the cluster as whom commands are run; None: the gateway itself."""
        settings = self._cluster.settings
        if settings.exec_as == "gateway":
            return None
        return known_as(
            self._owner,
            cluster=self._cluster.name,
            user_prefix=settings.user_prefix,
            group_prefix=settings.group_prefix,
        )

    async def _ask(
        self,
        pod: Pod,
        verb: str,
        session: Session,
        *more: str,
        timeout: float = EXEC_TAKES,
        on_behalf: KnownAs | None,
    ) -> Answer:
        result = await self._cluster.exec.run(
            self._container(pod),
            self._argv(pod, verb, session, *more),
            stdin=script("forwarder").encode(),
            timeout=timeout,
            limit=ANSWER_LIMIT,
            on_behalf=on_behalf,
        )
        return read_answer(result.stdout.decode("utf-8", "replace").splitlines())

    def _argv(self, pod: Pod, verb: str, session: Session, *more: str) -> list[str]:
        # The script goes in by stdin: exec puts the command line into a URL, and proxies cut URLs at some kilobytes.
        where, port = self._placed(pod).where, self._jdwp(pod)
        about = arguments(
            verb,
            session.id,
            name=name_of_reports(where, port),
            jdwp_port=port,
            where=where,
            checkurl=pods.checkurl_of(pod, self.target.container),
            own_ip=pod["status"].get("podIP") or "",
        )
        return ["sh", "-s", "--", *about, *more]

    async def _way(self, pod: Pod) -> list[str]:
        if self._cluster.settings.reach == "api-server":
            return ["unix"]
        address = await self._address(pod)
        return ["tcp", self._cluster.settings.gateway_range or address_towards(address), str(FIRST_PORT)]

    async def _address(self, pod: Pod) -> str:
        networks = await self._cluster.pod_networks(str(pod["spec"].get("nodeName")))
        return checked(_ip(pod), networks=networks, cluster=self._cluster.name)

    def _jdwp(self, pod: Pod) -> int:
        return pods.jdwp_port(pod, self.target.container, self._cluster.settings.jdwp_port)

    def _container(self, pod: Pod) -> Container:
        container = self._placed(pod).container or self.target.container
        return Container(self.target.namespace, self.target.pod, container, pod["spec"].get("nodeName"))

    def _placed(self, pod: Pod) -> Place:
        if self._place is None:
            self._place = first_place(pod, self.target.container)
        return self._place

    def _say_way(self) -> None:
        """Say as a step which way the bytes go, unless it is the one that any image with a shell and socat has."""
        assert self._place is not None
        way = self._place.way(has_socat=self._has_socat, reach=self._cluster.settings.reach)
        if way != self._way_said and (self._place.why or not self._has_socat):
            self._step(f"The way to the JVM is {way}.")
        self._way_said = way

    async def _port_is_the_jvms(self) -> None:
        """Wait until it is seen whose the agent's port is since the last debugger; not where nothing is answered.

        Raises Unavailable when it is another process's.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(SEEN_WITHIN if self.is_held else 0):
                await self._is_seen.wait()
        if self._waits and self._last is not None:
            raise Unavailable(self._last.reason)

    async def _dial_by_tcp(self, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        await self._port_is_the_jvms()
        ip = await self._address(self._there())
        if not self._port:
            raise ConnectionRefusedError(f"There is no forwarder in {self._where}.")
        return await connect(factory, ip, self._port, token=self._token)

    async def _dial_by_exec(self, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        await self._port_is_the_jvms()
        marked = f"noah-{self.session_id}"
        argv = ["socat", "-lp", marked, "-t", "5", "-b", "65536", "-", f"UNIX-CONNECT:/dev/shm/.{marked}.sock"]
        return await self._cluster.exec.connect(
            self._container(self._there()), argv, factory, on_behalf=self._on_behalf
        )

    async def _dial_by_port_forward(self, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        await self._port_is_the_jvms()
        pod = self._there()
        return await self._cluster.port_forward.connect(
            self._container(pod), self._jdwp(pod), factory, on_behalf=self._on_behalf
        )

    async def _forget(self) -> None:
        """Drop what is known of the container: what ran there has ended, and with it an ephemeral one beside it."""
        self._last = self._port = None
        if self._place is not None and self._place.is_ephemeral:
            self._place = None
        await self._release()

    async def _release(self) -> None:
        held, self._held = self._held, None
        self._unanswered_since, self._is_full = None, False
        if held is not None:
            await held.close()


def _beside(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
    async def logged() -> None:
        try:
            await work
        except Exception:  # the task's outermost: nothing of the session depends on it
            log.exception("%s failed", name)

    return asyncio.get_running_loop().create_task(logged(), name=name)


def name_of_reports(where: Where, jdwp_port: int) -> str:
    """Return whose reports the probe believes: its own container's, or, from beside, those on one agent's port."""
    return f"{NAME}:{jdwp_port}" if where is Where.BESIDE else NAME


def listed(cluster: Cluster) -> Cluster:
    """Return the cluster. Raises Unavailable before it has listed its pods."""
    if not cluster.informer.synced:
        raise Unavailable(
            cluster.reason or f"Cluster {cluster.name} has not listed its pods yet: try again in a moment."
        )
    return cluster


def _ip(pod: Pod) -> str:
    ip = pod["status"].get("podIP")
    if not ip:
        raise Unavailable(f"Pod {pods.name_of(pod)} has no address yet.")
    return str(ip)
