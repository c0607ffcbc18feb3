"""What stands in the way of debugging, in a cluster or in one pod: findings in words, each with the thing to do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from noah.core import pods
from noah.core.forwarder import Agent, Answer, arguments, read_answer
from noah.core.pods import Pod
from noah.core.session.target import WantedPod
from noah.errors import NoahError
from noah.inpod import script
from noah.kube.clusters import Cluster
from noah.kube.errors import NoProgram
from noah.kube.exec.commands import Container
from noah.targets.pod.address import address_towards, checked
from noah.targets.pod.link import name_of_reports
from noah.targets.pod.place import Place, first_place, place_without_shell
from noah.targets.pod.pods import Pods
from noah.targets.verdict import FLAG
from noah.turns import in_turns

# Nothing listens there. A pod that can be reached refuses at once; never a JDWP port, whose only slot that would take.
DISCARD_PORT = 9
REACHED_WITHIN = 2.0  # seconds
LOOK_TAKES = 10.0  # seconds at most


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    check: str  # one or two words, for the eye and for grep
    message: str


class Doctor:
    def __init__(self, known: Pods) -> None:
        self._known = known

    async def cluster(self, name: str) -> list[Finding]:
        """NotFound when there is no such cluster."""
        return [finding async for finding in _of_cluster(self._known.cluster(name))]

    async def pod(self, wanted: WantedPod) -> list[Finding]:
        cluster, pod = await self._known.choose(wanted)
        return [finding async for finding in _of_pod(cluster, pod, wanted.container)]


async def _of_cluster(cluster: Cluster) -> AsyncIterator[Finding]:
    if not cluster.reachable:
        yield Finding(Level.ERROR, "reachable", cluster.reason or f"Cluster {cluster.name} does not answer.")
        return
    yield Finding(Level.OK, "reachable", f"The API of cluster {cluster.name} answers.")
    try:
        missing = await cluster.missing_rights()
    except NoahError as e:
        yield Finding(Level.WARNING, "rights", e.sentence)
    else:
        for right in missing:
            level = Level.WARNING if right.endswith("(optional)") else Level.ERROR
            yield Finding(level, "rights", f"The gateway lacks the right to {right}.")
        if not missing:
            yield Finding(Level.OK, "rights", "The gateway has all the rights that it needs.")
    if cluster.settings.reach == "pod":
        yield await _reaches_pods(cluster)


async def _reaches_pods(cluster: Cluster) -> Finding:
    ready = None
    async for pod in in_turns(cluster.informer.pods()):
        if pods.is_ready(pod) and not _is_ours(str(pod["status"].get("podIP"))):  # a gateway in a pod is one
            ready = pod
            break
    if ready is None:
        return Finding(Level.WARNING, "pod network", "No pod is ready, so whether pods can be reached is not known.")
    try:
        networks = await cluster.pod_networks(str(ready["spec"].get("nodeName")))
        ip = checked(str(ready["status"].get("podIP")), networks=networks, cluster=cluster.name)
        async with asyncio.timeout(REACHED_WITHIN):
            _, writer = await asyncio.open_connection(ip, DISCARD_PORT)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    except ConnectionRefusedError:
        pass
    except NoahError as e:
        return Finding(Level.ERROR, "pod network", e.sentence)
    except (OSError, TimeoutError):
        return Finding(
            Level.ERROR,
            "pod network",
            f'Pods are not reached ({ip} is silent): set reach = "api-server" for cluster {cluster.name}.',
        )
    return Finding(Level.OK, "pod network", "The gateway reaches pods.")


def _is_ours(ip: str) -> bool:
    with suppress(ValueError, NoahError):
        return address_towards(ip) == ip
    return False


async def _of_pod(cluster: Cluster, pod: Pod, wanted: str | None) -> AsyncIterator[Finding]:
    try:
        container = pods.choose_container(pod, wanted)
    except NoahError as e:
        yield Finding(Level.ERROR, "container", e.sentence)
        return
    where = f"container {container} of pod {pods.name_of(pod)}"
    if reason := pods.not_running(pod, container):
        yield Finding(Level.ERROR, "running", reason)
        return
    yield Finding(Level.OK, "running", f"{where[0].upper()}{where[1:]} runs.")
    port = pods.jdwp_port(pod, container, cluster.settings.jdwp_port)
    try:
        place, answer = await _looked(cluster, pod, container, port)
    except NoahError as e:
        yield Finding(Level.ERROR, "sh", e.sentence)
    else:
        yield _of_place(place, cluster)
        if answer is None:
            yield _of_way(place.way(has_socat=False, reach=cluster.settings.reach))
        else:
            way = place.way(has_socat=not answer.report_only, reach=cluster.settings.reach)
            for finding in findings_inside(answer, where, port, way=way):
                yield finding
    for level, message in pods.probe_verdicts(pod, container):
        yield Finding(Level(level), "probe", message)


async def _looked(cluster: Cluster, pod: Pod, container: str, port: int) -> tuple[Place, Answer | None]:
    """Return what a look from where a session's forwarder would run shows; None where nothing can look."""
    place = first_place(pod, container)
    try:
        return place, await _look(cluster, pod, place, port)
    except NoProgram:
        place = place_without_shell(pod, container)
    return place, await _look(cluster, pod, place, port) if place.container else None


async def _look(cluster: Cluster, pod: Pod, place: Place, port: int) -> Answer:
    assert place.container is not None
    name = name_of_reports(place.where, port)
    result = await cluster.exec.run(
        Container(pod["metadata"]["namespace"], pod["metadata"]["name"], place.container, pod["spec"].get("nodeName")),
        ["sh", "-s", "--", *arguments("look", "doctor", name=name, jdwp_port=port, where=place.where)],
        stdin=script("forwarder").encode(),
        timeout=LOOK_TAKES,
    )
    return read_answer(result.stdout.decode("utf-8", "replace").splitlines())


def _of_place(place: Place, cluster: Cluster) -> Finding:
    if not place.why:
        return Finding(Level.OK, "sh", "Commands can be run in it.")
    if place.container is not None:
        return Finding(Level.OK, "sh", f"Its image has no shell: {place.container} stands in for it.")
    if cluster.settings.tools_image is not None:
        sentence = "Its image has no shell: a session puts an ephemeral container with tools beside it."
        return Finding(Level.OK, "sh", sentence)
    return Finding(
        Level.WARNING,
        "sh",
        "Its image has no shell, so a session does not see what its JVM does: let `noah inject` put a sidecar in "
        f"(debug.noah/probe-by: sidecar), or set tools_image for cluster {cluster.name}.",
    )


def _of_way(way: str) -> Finding:
    return Finding(Level.OK, "way", f"A debugger reaches it by {way}.")


def findings_inside(answer: Answer, where: str, port: int, *, way: str) -> list[Finding]:
    """Return what the forwarder's look at a container means for debugging in it."""

    def found(ok: bool, check: str, good: str, bad: str, level: Level = Level.ERROR) -> Finding:
        return Finding(Level.OK, check, good) if ok else Finding(level, check, bad)

    return [
        _of_way(way),
        found(
            bool(answer.tools & {"curl", "wget", "bash"}),
            "checkurl",
            f"The probe has {' and '.join(sorted(answer.tools - {'socat'}))} for checkurl.",
            f"There is neither curl nor wget in {where}, nor bash: the liveness probe cannot ask checkurl. Let "
            "`noah inject` put a sidecar in that asks (debug.noah/probe-by: sidecar).",
        ),
        found(
            answer.writable,
            "report",
            "/dev/shm can be written.",
            f"/dev/shm cannot be written in {where}: it is full, or belongs to another user.",
        ),
        found(answer.java is not None, "java", "A JVM runs.", f"No Java process runs in {where}."),
        *([_of_several(answer, where, port)] if answer.jvms > 1 else []),
        found(
            answer.agent is not Agent.NONE,
            "agent",
            f"The JDWP agent has port {port}" + (", and a debugger." if answer.agent is Agent.TAKEN else "."),
            f"Nothing listens for a debugger on port {port}: start the JVM with {FLAG.format(port=port)}.",
        ),
    ]


def _of_several(answer: Answer, where: str, port: int) -> Finding:
    sentence = (
        f"{answer.jvms} JVMs run in {where}: a session is on the one that has port {port} (process {answer.java}), "
        "and its breakpoints spare the container only if checkurl asks that one."
    )
    return Finding(Level.WARNING, "java", sentence)
