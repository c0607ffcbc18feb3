"""The pods of a cluster as they are held in memory: trimmed, indexed, each change published to subscribers."""

import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import Any, Literal

from noah.core.agent import tells_of_agent
from noah.errors import Unavailable

log = logging.getLogger(__name__)

Pod = dict[str, Any]  # a v1.Pod as JSON, trimmed; shared, so never changed
Kind = Literal["added", "modified", "deleted"]
Callback = Callable[[Pod, Kind], None]

# What the gateway asks about; the rest is most of a pod's bytes, and some of it is nobody's business.
_POD = {"metadata", "spec", "status"}
_METADATA = {
    "name",
    "namespace",
    "uid",
    "labels",
    "annotations",
    "ownerReferences",
    "creationTimestamp",
    "deletionTimestamp",
    "resourceVersion",
}
_SPEC = {
    "containers",
    "initContainers",
    "ephemeralContainers",
    "nodeName",
    "shareProcessNamespace",
    "hostNetwork",
    "hostPID",
    "securityContext",
    "restartPolicy",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
}
_CONTAINER = {
    "name",
    "image",
    "command",
    "args",
    "env",
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "securityContext",
    "restartPolicy",  # Always: a native sidecar
}
_STATUS = {
    "phase",
    "reason",
    "message",
    "conditions",
    "containerStatuses",
    "initContainerStatuses",
    "podIP",
    "hostIP",
    "startTime",
}
_OF_A_CONTAINER = {"name", "ready", "started", "restartCount", "state", "lastState", "containerID"}
_CONDITION = {"type", "status", "reason", "message"}
# Of annotations only ours and those that name the container and its port: one may hold the whole pod once more.
_ANNOTATIONS = ("debug.", "kubectl.kubernetes.io/default-container")
# Anybody who may make a pod chooses how long these are. What is cut away is asked about by nobody: reading a pod must
# not hold up everybody else.
MOST_CONTAINERS = 50
MOST_ITEMS = 200  # of any other list or mapping
MOST_WORDS = 1000  # of a list of strings: a command
MOST_VARIABLES = 1000  # of a container, that are looked at
MOST_PODS = 200_000  # of a cluster; Kubernetes supports 150,000


class PodIndex:
    def __init__(self) -> None:
        self._by_namespace: dict[str, dict[str, Pod]] = defaultdict(dict)
        self._callbacks: dict[object, Callback] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Pod]:
        for pods in list(self._by_namespace.values()):
            yield from list(pods.values())

    def get(self, namespace: str, name: str) -> Pod | None:
        return self._by_namespace.get(namespace, {}).get(name)

    def in_namespace(self, namespace: str) -> Iterable[Pod]:
        return list(self._by_namespace.get(namespace, {}).values())

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call *callback* with every change until the function that is returned is called."""
        key = object()
        self._callbacks[key] = callback
        return lambda: self._callbacks.pop(key, None) and None

    def put(self, pod: Pod) -> None:
        """Hold a pod as a list or a watch shows it, already trimmed. Raises Unavailable if there are too many."""
        namespace, name = key_of(pod)
        before = self._by_namespace[namespace].get(name)
        if before is None and self._count >= MOST_PODS:
            raise Unavailable(f"The cluster has more than {MOST_PODS} pods: choose some by namespaces or a selector.")
        if before is not None and _version(before) == _version(pod):
            return
        if before is not None and _uid(before) != _uid(pod):
            # The watch was away while one pod was deleted and its namesake was made.
            self.remove(before)
            before = None
        self._count += before is None
        self._by_namespace[namespace][name] = pod
        self._publish(pod, "modified" if before else "added")

    def remove(self, pod: Pod) -> None:
        namespace, name = key_of(pod)
        pods = self._by_namespace.get(namespace, {})
        if pods.pop(name, None) is None:
            return
        self._count -= 1
        if not pods:
            del self._by_namespace[namespace]
        self._publish(pod, "deleted")

    def replace(self, namespace: str | None, listed: Collection[Pod]) -> Iterator[None]:
        """Publish the differences to *listed*, which is all that there is in *namespace*, or everywhere; yield between
        pods, where others may have a turn."""
        there = {key_of(pod) for pod in listed}
        held = self if namespace is None else self.in_namespace(namespace)
        for pod in [pod for pod in held if key_of(pod) not in there]:
            self.remove(pod)
            yield
        for pod in listed:
            self.put(pod)
            yield

    def _publish(self, pod: Pod, kind: Kind) -> None:
        for callback in list(self._callbacks.values()):
            try:
                callback(pod, kind)
            except Exception:  # one listener's bug must not end the watch that all live from
                log.exception("pod %s/%s %s: a listener failed", *key_of(pod), kind)


def key_of(pod: Pod) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def trimmed(pod: Pod) -> Pod:
    """Return what is kept of a pod; strings that thousands of pods have in common are stored once."""
    kept = _only(_POD, pod)
    spec, status = kept.get("spec", {}), kept.get("status", {})
    kept["metadata"] = metadata = _only(_METADATA, kept["metadata"])
    if "annotations" in metadata:
        annotations = metadata["annotations"] or {}
        metadata["annotations"] = {k: text for k, text in annotations.items() if k.startswith(_ANNOTATIONS)}
    kept["spec"] = spec = _only(_SPEC, spec)
    kept["status"] = status = _only(_STATUS, status)
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        if kind in spec:
            spec[kind] = [_container(one) for one in spec[kind][:MOST_CONTAINERS]]
    for kind in ("containerStatuses", "initContainerStatuses"):
        if kind in status:
            status[kind] = [_only(_OF_A_CONTAINER, one) for one in status[kind][:MOST_CONTAINERS]]
    if "conditions" in status:
        status["conditions"] = [_only(_CONDITION, one) for one in status["conditions"][:MOST_ITEMS]]
    shared: Pod = _shared(kept)
    return shared


def _container(container: dict[str, Any]) -> dict[str, Any]:
    kept = _only(_CONTAINER, container)
    if "env" in kept:
        # JAVA_TOOL_OPTIONS, CATALINA_OPTS and the like: where a debug agent is asked for. The others may be secrets.
        kept["env"] = [one for one in kept["env"][:MOST_VARIABLES] if tells_of_agent(one["name"])]
    return kept


def _only(keys: set[str], tree: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key in keys}


def _shared(value: Any) -> Any:
    if isinstance(value, dict):
        return {sys.intern(key): _shared(one) for key, one in islice(value.items(), MOST_ITEMS)}
    if isinstance(value, list):
        is_text = bool(value) and isinstance(value[0], str)
        return [_shared(one) for one in value[: MOST_WORDS if is_text else MOST_ITEMS]]
    return sys.intern(value) if isinstance(value, str) else value


def _version(pod: Pod) -> Any:
    return pod["metadata"].get("resourceVersion")


def _uid(pod: Pod) -> Any:
    return pod["metadata"].get("uid")
