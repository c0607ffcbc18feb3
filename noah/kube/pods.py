"""The pods of a cluster as they are held in memory: what the gateway asks about, indexed, each change published.

A pod is read from JSON straight into what is kept of it, and is held as bytes, which take a thirtieth of the memory.
What the pods of a workload have in common, all but the node of their spec, is held once.
"""

import logging
import sys
import zlib
from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import Any, Literal
from weakref import WeakValueDictionary

import msgspec
from typing_extensions import TypedDict

from noah.core.agent import tells_of_agent
from noah.core.pods import workload_of
from noah.errors import Unavailable

log = logging.getLogger(__name__)

Pod = dict[str, Any]  # a v1.Pod as JSON, trimmed; the subscribers to a change share it, so it is never changed
Kind = Literal["added", "modified", "deleted"]
Callback = Callable[[Pod, Kind], None]


# ruff: noqa: UP013 - as classes, their fields would pass for variables that nobody uses
# What the gateway asks about; the rest is most of a pod's bytes, and some of it is nobody's business.
_Text = str | None
_Owner = TypedDict("_Owner", {"kind": str, "name": str, "uid": _Text, "controller": Any}, total=False)
_Metadata = TypedDict(
    "_Metadata",
    {
        "name": str,
        "namespace": str,
        "uid": _Text,
        "labels": dict[str, str] | None,
        "annotations": dict[str, str] | None,
        "ownerReferences": list[_Owner] | None,
        "creationTimestamp": _Text,
        "deletionTimestamp": _Text,
        "resourceVersion": _Text,
    },
    total=False,
)
_Variable = TypedDict("_Variable", {"name": str, "value": _Text, "valueFrom": Any}, total=False)
_Container = TypedDict(
    "_Container",
    {
        "name": str,
        "image": _Text,
        "command": list[str] | None,
        "args": list[str] | None,
        "env": list[_Variable] | None,
        "ports": list[Any] | None,
        "livenessProbe": Any,
        "readinessProbe": Any,
        "startupProbe": Any,
        "securityContext": Any,
        "restartPolicy": _Text,  # Always: a native sidecar
        "targetContainerName": _Text,  # of an ephemeral container
    },
    total=False,
)
_Spec = TypedDict(
    "_Spec",
    {
        "containers": list[_Container],
        "initContainers": list[_Container] | None,
        "ephemeralContainers": list[_Container] | None,
        "nodeName": _Text,
        "shareProcessNamespace": Any,
        "hostNetwork": Any,
        "hostPID": Any,
        "securityContext": Any,
        "restartPolicy": _Text,
        "serviceAccountName": _Text,
        "terminationGracePeriodSeconds": Any,
    },
    total=False,
)
_OfAContainer = TypedDict(
    "_OfAContainer",
    {"name": str, "ready": bool, "started": Any, "restartCount": int, "state": Any, "lastState": Any},
    total=False,
)
_Condition = TypedDict("_Condition", {"type": str, "status": str, "reason": _Text, "message": _Text}, total=False)
_Status = TypedDict(
    "_Status",
    {
        "phase": _Text,
        "reason": _Text,
        "message": _Text,
        "conditions": list[_Condition] | None,
        "containerStatuses": list[_OfAContainer] | None,
        "initContainerStatuses": list[_OfAContainer] | None,
        "ephemeralContainerStatuses": list[_OfAContainer] | None,
        "podIP": _Text,
    },
    total=False,
)
_Pod = TypedDict("_Pod", {"metadata": _Metadata, "spec": _Spec, "status": _Status}, total=False)

# Of annotations only ours and those that name the container and its port: one may hold the whole pod once more.
_ANNOTATIONS = ("debug.", "kubectl.kubernetes.io/default-container")
# Anybody who may make a pod chooses how long these are. What is cut away is asked about by nobody: reading a pod must
# not hold up everybody else.
MOST_CONTAINERS = 50
MOST_ITEMS = 200  # of any other list or mapping
MOST_WORDS = 1000  # of a list of strings: a command
MOST_VARIABLES = 1000  # of a container, that are looked at
MOST_PODS = 200_000  # of a cluster; Kubernetes supports 150,000
SMALL = 32 << 10  # bytes of JSON; what is smaller is not looked through for what is too long

_DECODER = msgspec.json.Decoder(_Pod)
_pack, _unpack = msgspec.msgpack.encode, msgspec.msgpack.decode

_TIME = "2026-01-01T00:00:00Z"
# What most pods have as it is here, above all the keys, which zlib then refers to: 500 bytes become 120, and 25 more
# for each UID. It takes 7 us to compress a pod and 1 us to read it again. Nothing depends on what is in it.
_TYPICAL = msgspec.msgpack.encode(
    [
        {
            "reason": "CrashLoopBackOff",
            "message": "",
            "waiting": {},
            "started": True,
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": "", "finishedAt": _TIME}},
            "initContainerStatuses": [],
            "ephemeralContainerStatuses": [],
            "deletionTimestamp": _TIME,
            "app.kubernetes.io/name": "",
            "app.kubernetes.io/instance": "",
        },
        {
            "conditions": [{"type": kind, "status": "True"} for kind in ("Initialized", "ContainersReady")],
            "containers": [
                {
                    "name": "app",
                    "image": "",
                    "command": ["sh", "-c"],
                    "args": [],
                    "env": [
                        {
                            "name": "JAVA_TOOL_OPTIONS",
                            "value": "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:5005",
                        }
                    ],
                    "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
                    "livenessProbe": {
                        "exec": {"command": ["sh", "-c", "noah-liveness", "http://127.0.0.1:8080/"]},
                        "failureThreshold": 3,
                        "periodSeconds": 10,
                        "successThreshold": 1,
                        "timeoutSeconds": 1,
                    },
                    "readinessProbe": {"httpGet": {"path": "/", "port": 8080, "scheme": "HTTP"}},
                    "securityContext": {"allowPrivilegeEscalation": False, "runAsNonRoot": True},
                }
            ],
            "restartPolicy": "Always",
            "serviceAccountName": "default",
            "terminationGracePeriodSeconds": 30,
        },
        {
            "metadata": {
                "name": "",
                "namespace": "",
                "uid": "",
                "resourceVersion": "",
                "creationTimestamp": _TIME,
                "labels": {"app": "", "pod-template-hash": ""},
                "annotations": {},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "", "uid": "", "controller": True}],
            },
            "spec": {"nodeName": ""},
            "status": {
                "phase": "Running",
                "podIP": "10.",
                "containerStatuses": [
                    {"name": "app", "ready": True, "restartCount": 0, "state": {"running": {"startedAt": _TIME}}}
                ],
            },
        },
    ]
)
_WINDOW, _EFFORT = -12, 5  # of zlib: 4 KiB, without a header, and little memory to make ready


class _Shared:
    """Holds what several pods have in common, compressed."""

    __slots__ = ("__weakref__", "packed")

    def __init__(self, packed: bytes) -> None:
        self.packed = packed


class _Held(msgspec.Struct, frozen=True, gc=False):
    spec: _Shared  # but for the node
    conditions: _Shared
    rest: bytes  # compressed
    group: int  # of workloads; they are not held as text, which is longer than all else that is held of a small pod

    def pod(self) -> Pod:
        pod: Pod = _expanded(self.rest)
        pod["spec"] |= _expanded(self.spec.packed)
        pod["status"] |= _expanded(self.conditions.packed)
        return pod


class PodIndex:
    def __init__(self) -> None:
        self._by_namespace: dict[str, dict[str, _Held]] = {}
        self._shared: WeakValueDictionary[bytes, _Shared] = WeakValueDictionary()
        self._callbacks: dict[object, Callback] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Pod]:
        for held in list(self._by_namespace.values()):
            for one in list(held.values()):
                yield one.pod()

    def get(self, namespace: str, name: str) -> Pod | None:
        held = self._by_namespace.get(namespace, {}).get(name)
        return None if held is None else held.pod()

    def in_namespace(self, namespace: str, workload: str | None = None) -> Iterator[Pod]:
        """Yield the pods of a namespace, or those of one workload in it ("Deployment/shop")."""
        group = _group_of(workload)
        for one in list(self._by_namespace.get(namespace, {}).values()):
            if workload is None or one.group == group:
                pod = one.pod()
                if workload is None or workload_of(pod) == workload:
                    yield pod

    def keys(self, namespace: str | None) -> Iterator[tuple[str, str]]:
        """Yield the namespace and the name of each pod in *namespace*, or everywhere."""
        for space in list(self._by_namespace) if namespace is None else [namespace]:
            for name in list(self._by_namespace.get(space, {})):
                yield space, name

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call *callback* with every change until the function that is returned is called."""
        key = object()
        self._callbacks[key] = callback
        return lambda: self._callbacks.pop(key, None) and None

    def put(self, pod: Pod) -> Iterator[None]:
        """Hold a pod as a list or a watch shows it, already trimmed. Raises Unavailable if there are too many.

        It yields where others may have a turn: nothing is changed by then, and all of it afterwards.
        """
        held = self._packed(pod)
        yield
        namespace, name = key_of(pod)
        namespace = sys.intern(namespace)
        before = self._by_namespace.get(namespace, {}).get(name)
        if before is None and self._count >= MOST_PODS:
            raise Unavailable(f"The cluster has more than {MOST_PODS} pods: choose some by namespaces or a selector.")
        if before is not None:
            if before.rest == held.rest and before.spec is held.spec and before.conditions is held.conditions:
                return
            if _uid(before.pod()) != _uid(pod):
                # The watch was away while one pod was deleted and its namesake was made.
                self.remove(before.pod())
                before = None
        self._count += before is None
        self._by_namespace.setdefault(namespace, {})[name] = held
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

    def _packed(self, pod: Pod) -> _Held:
        spec, status = pod.get("spec") or {}, pod.get("status") or {}
        return _Held(
            spec=self._share({key: value for key, value in spec.items() if key != "nodeName"}),
            conditions=self._share({key: value for key, value in status.items() if key == "conditions"}),
            rest=_compressed(
                _pack(
                    {
                        "metadata": pod["metadata"],
                        "spec": {key: value for key, value in spec.items() if key == "nodeName"},
                        "status": {key: value for key, value in status.items() if key != "conditions"},
                    }
                )
            ),
            group=_group_of(workload_of(pod)),
        )

    def _share(self, tree: dict[str, Any]) -> _Shared:
        packed = _pack(tree)
        key = blake2b(packed, digest_size=16).digest()
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = _Shared(_compressed(packed))
        return shared

    def _publish(self, pod: Pod, kind: Kind) -> None:
        for callback in list(self._callbacks.values()):
            try:
                callback(pod, kind)
            except Exception:  # one listener's bug must not end the watch that all live from
                log.exception("pod %s/%s %s: a listener failed", *key_of(pod), kind)


def key_of(pod: Pod) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def read_pod(text: bytes | msgspec.Raw, *, annotation: str | None = None) -> Pod:
    """Return what is kept of a pod in JSON. Raises ValueError if it is not one.

    *annotation*: the key of one that is kept beside those of _ANNOTATIONS.
    """
    try:
        pod: Any = _DECODER.decode(text)
        metadata, spec, status = pod["metadata"], pod.setdefault("spec", {}), pod.setdefault("status", {})
        spec.setdefault("containers", [])
        if annotations := metadata.get("annotations"):
            metadata["annotations"] = {
                key: value for key, value in annotations.items() if key.startswith(_ANNOTATIONS) or key == annotation
            }
        for kind in ("containers", "initContainers", "ephemeralContainers"):
            if spec.get(kind):
                spec[kind] = spec[kind][:MOST_CONTAINERS]
                for one in spec[kind]:
                    if env := one.get("env"):
                        one["env"] = [variable for variable in env[:MOST_VARIABLES] if _is_kept(variable["name"])]
        for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
            if status.get(kind):
                status[kind] = status[kind][:MOST_CONTAINERS]
        key_of(pod)
    except (msgspec.MsgspecError, RecursionError, LookupError, AttributeError, TypeError) as e:
        raise ValueError(f"it cannot be read as a pod: {e}") from None
    kept: Pod = pod if len(memoryview(text)) <= SMALL else _bounded(pod)
    return kept


def _group_of(workload: str | None) -> int:
    """Return one of 256 numbers, which Python has as objects already."""
    return zlib.crc32((workload or "").encode()) & 0xFF


def _compressed(packed: bytes) -> bytes:
    compressor = zlib.compressobj(1, zlib.DEFLATED, _WINDOW, _EFFORT, zlib.Z_DEFAULT_STRATEGY, _TYPICAL)
    return compressor.compress(packed) + compressor.flush()


def _expanded(compressed: bytes) -> Any:
    return _unpack(zlib.decompressobj(_WINDOW, _TYPICAL).decompress(compressed))


def _is_kept(variable: str) -> bool:
    """JAVA_TOOL_OPTIONS, CATALINA_OPTS and the like, by which a debug agent is asked for; and what inject puts in.

    The others may be secrets.
    """
    return tells_of_agent(variable) or variable.startswith("NOAH_")


def _bounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _bounded(one) for key, one in islice(value.items(), MOST_ITEMS)}
    if isinstance(value, list):
        is_text = bool(value) and isinstance(value[0], str)
        return [_bounded(one) for one in value[: MOST_WORDS if is_text else MOST_ITEMS]]
    return value


def _uid(pod: Pod) -> Any:
    return pod["metadata"].get("uid")
