"""Where in a pod the forwarder runs, and which way a debugger's bytes go: what is there already, else what needs
nothing, else a helper.

| in the app's image | the forwarder and the report | the bytes |
| --- | --- | --- |
| a shell and socat | in the app's container | socat |
| a shell, no socat | in the app's container | port-forward |
| no shell; `noah inject` has put the sidecar noah-tools in | in the sidecar | its socat |
| no shell; the cluster has a tools_image | in an ephemeral container, which stays listed in the pod | its socat |
| no shell, nothing else | nowhere: what the JVM does is not seen in the pod | port-forward |
"""

import asyncio
import secrets
from dataclasses import dataclass

from noah.core import pods
from noah.core.forwarder import Where
from noah.core.pods import TOOLS, Pod
from noah.core.session.rights import KnownAs
from noah.errors import BadInput, CannotDebug, Unavailable
from noah.kube.clusters import Cluster
from noah.kube.exec.commands import Container

LASTS_S = 12 * 3600  # of an ephemeral container: the longest session
COMES_WITHIN_S = 60.0  # an image may have to be pulled
LOOK_S = 0.2  # between two looks whether it has come
NO_SHELL = "its image has no shell"

# Its mark in the command line is how `leave` finds it: with the target's processes, process 1 is the app.
_STAY = 'trap \'kill "$!"; exit 0\' TERM; sleep "$1" & wait'
_LEAVE = """\
for p in /proc/[0-9]*; do
  case $(tr '\\0' ' ' 2>/dev/null < "$p/cmdline") in "sh -c "*" $1 "[0-9]*) kill "${p#/proc/}" ;; esac
done
exit 0
"""


@dataclass(frozen=True, slots=True)
class Place:
    container: str | None  # None: nowhere
    where: Where
    why: str = ""  # why it is not the app's container

    @property
    def is_ephemeral(self) -> bool:
        return self.container is not None and self.container.startswith(f"{TOOLS}-")

    @property
    def may_change(self) -> bool:
        """True if another one may be there by the next start: an ephemeral container has ended, or has come."""
        return self.container is None or self.is_ephemeral

    def way(self, *, has_socat: bool, reach: str) -> str:
        """Return how a debugger's bytes get to the JVM, and why so."""
        because = f": {self.why}" if self.why else ""
        if self.container is None:
            return f"a port-forward through the API server{because}"
        if not has_socat:
            return "a port-forward through the API server: its image has no socat"
        kind = "the ephemeral container" if self.is_ephemeral else "the sidecar"
        socat = f"socat in {kind} {self.container}" if self.where is Where.BESIDE else "socat in its container"
        return f"{socat}, {'by exec' if reach == 'api-server' else 'by TCP'}{because}"


def first_place(pod: Pod, container: str) -> Place:
    """Return where to try first."""
    if pods.is_probed_beside(pod, container):
        return Place(TOOLS, Where.BESIDE, NO_SHELL)
    return Place(container, Where.POD)


def place_without_shell(pod: Pod, container: str) -> Place:
    """Return what is there for a container that has no shell."""
    if beside := pods.running_tools(pod, container):
        return Place(beside, Where.BESIDE, NO_SHELL)
    return Place(None, Where.BESIDE, f"{NO_SHELL}, and no tools of Noah's are in its pod")


async def put_beside(cluster: Cluster, pod: Pod, container: str) -> Place:
    """Put an ephemeral container with tools beside *container*. Where that cannot be, the place is nowhere."""
    image = cluster.settings.tools_image
    if image is None:
        return Place(None, Where.BESIDE, f"{NO_SHELL}, and cluster {cluster.name} has no tools_image to put beside it")
    if pods.tools_wait(pod, container):
        # It cannot be taken out again, and one more would wait as well.
        return Place(None, Where.BESIDE, f"{NO_SHELL}, and the ephemeral container that was put beside it does not run")
    name = f"{TOOLS}-{secrets.token_hex(3)}"
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
    ephemeral = {
        "name": name,
        "image": image,
        "targetContainerName": container,
        "command": ["sh", "-c", _STAY, TOOLS, str(LASTS_S)],
        "securityContext": pods.restricted_like(pods.container_of(pod, container)),
    }
    patch = {"spec": {"ephemeralContainers": [ephemeral]}}
    kind = "application/strategic-merge-patch+json"
    try:
        await cluster.patch(f"{path}/ephemeralcontainers", patch, content_type=kind)
        await _until_it_runs(cluster, path, name)
    except (CannotDebug, BadInput, Unavailable) as e:
        return Place(None, Where.BESIDE, f"{NO_SHELL}, and none can be put beside it ({e.sentence.rstrip('.')})")
    return Place(name, Where.BESIDE, f"{NO_SHELL}, and no sidecar was injected")


async def leave(cluster: Cluster, container: Container, *, on_behalf: KnownAs | None) -> None:
    """End an ephemeral container; it stays listed in its pod."""
    argv = ["sh", "-c", _LEAVE, "noah-leave", TOOLS]
    await cluster.exec.run(container, argv, timeout=COMES_WITHIN_S, on_behalf=on_behalf)


async def _until_it_runs(cluster: Cluster, path: str, name: str) -> None:
    try:
        async with asyncio.timeout(COMES_WITHIN_S):
            while True:
                pod = await cluster.get(path)
                statuses = pod["status"].get("ephemeralContainerStatuses") or ()
                state = next((s.get("state") or {} for s in statuses if s["name"] == name), {})
                if "running" in state:
                    return
                waiting = state.get("waiting") or state.get("terminated") or {}
                if waiting.get("reason", "ContainerCreating") not in ("ContainerCreating", "PodInitializing"):
                    raise CannotDebug(f"{waiting['reason']} of its image")
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise Unavailable(f"it did not run within {COMES_WITHIN_S:g} s") from None
