"""How a release goes: from a workload and its pods, to a phase and one sentence.

A release is over when all of its pods are online, or when something has happened that waiting does not mend. What a
pod's containers have printed last is an argument: the API tells that something crashed, the log tells why.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from noah.core.hooks import SIDECAR
from noah.core.pods import Pod, is_ready, is_there, labels_of, name_of

Json = Mapping[str, Any]
Tails = Mapping[tuple[str, str], list[str]]  # (pod, container) -> its last lines

PATHS: Mapping[str, str] = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}
_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_HOPELESS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
# The kubelet's word from the second crash on; the first may be a race with something that comes up at the same time.
_CRASHES = "CrashLoopBackOff"
_REVISIONS = ("pod-template-hash", "controller-revision-hash")


class Result(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REPLACED = "replaced"  # by a newer release of the same workload
    LOST = "lost"  # nobody saw its end


@dataclass(frozen=True, slots=True)
class Progress:
    result: Result
    online: int
    wanted: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One rollout of a workload: what is kept of it."""

    id: str  # the same for all who look at this rollout, now and after a restart
    cluster: str
    namespace: str
    kind: str  # Deployment, StatefulSet, DaemonSet
    workload: str
    revision: str
    started_at: datetime  # when the gateway saw it first
    ended_at: datetime | None = None
    progress: Progress = Progress(Result.RUNNING, 0, 0, "")

    def __str__(self) -> str:
        return f"{self.kind}/{self.workload} in namespace {self.namespace} of cluster {self.cluster}"


def identity_of(cluster: str, workload: Json) -> tuple[str, str]:
    """The ID and the revision of the rollout that *workload* asks for now."""
    meta = workload["metadata"]
    revision = _revision_of(workload)
    whole = "/".join((cluster, meta["namespace"], workload["kind"], meta["name"], str(meta["uid"]), revision))
    return f"r-{hashlib.sha256(whole.encode()).hexdigest()[:12]}", revision


def is_observed(workload: Json) -> bool:
    """Its controller has seen what was last asked for; only then its revision is that one's."""
    seen = (workload.get("status") or {}).get("observedGeneration", 0)
    return bool(seen >= workload["metadata"].get("generation", 0))


def _revision_of(workload: Json) -> str:
    """What changes with each rollout: a Deployment's number, also after a rollback; else what its controller names."""
    annotations = workload["metadata"].get("annotations") or {}
    numbered = annotations.get("deployment.kubernetes.io/revision") or annotations.get(
        "deprecated.daemonset.template.generation"
    )
    told = numbered or str((workload.get("status") or {}).get("updateRevision") or "")
    return told.removeprefix(f"{workload['metadata']['name']}-") or str(workload["metadata"].get("generation", 0))


def pods_of_release(pods: Iterable[Pod]) -> list[Pod]:
    """Of all pods of a workload, those of its newest revision."""
    there = sorted((pod for pod in pods if is_there(pod)), key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    return [pod for pod in there if template_of(pod) == template_of(there[-1])]


def template_of(pod: Pod) -> str | None:
    """What tells pods of one rollout from those of another."""
    return next((labels_of(pod)[label] for label in _REVISIONS if label in labels_of(pod)), None)


def judge(workload: Json, pods: Iterable[Pod], tails: Tails) -> Progress:
    """*pods*: all of the workload."""
    ours = pods_of_release(pods)
    wanted, online = _wanted(workload), sum(map(is_ready, ours))
    why = _refused(workload)
    # Until there are new ones they are the old ones, whose faults this release may mend.
    if why is None and is_observed(workload) and _updated(workload):
        why = next((why for pod in ours if (why := _failure(pod, tails))), None)
    if why is None and _is_late(workload):
        why = next((why for pod in ours if (why := _not_online(pod, tails))), "It made no progress in its time.")
    if why is not None:
        return Progress(Result.FAILED, online, wanted, why)
    told = f"{online} of {wanted} online"
    done = _is_done(workload, online, wanted)
    return Progress(Result.DONE if done else Result.RUNNING, online, wanted, told)


def _wanted(workload: Json) -> int:
    if workload["kind"] == "DaemonSet":
        return int((workload.get("status") or {}).get("desiredNumberScheduled", 0))
    return int(workload["spec"].get("replicas", 1))


def _is_done(workload: Json, online: int, wanted: int) -> bool:
    status = workload.get("status") or {}
    all_new = _updated(workload) >= wanted and status.get("replicas", wanted) <= wanted
    # A pod that is ready is available once it has been so for minReadySeconds.
    available = status.get("numberAvailable", status.get("availableReplicas", 0)) >= wanted
    waits = bool(workload["spec"].get("minReadySeconds"))
    return is_observed(workload) and all_new and online >= wanted and (available or not waits)


def _updated(workload: Json) -> int:
    """How many pods it has that are of this release."""
    status = workload.get("status") or {}
    return int(status.get("updatedNumberScheduled", status.get("updatedReplicas", 0)))


def _refused(workload: Json) -> str | None:
    """No pod at all: a quota, an admission webhook, a missing service account."""
    for condition in (workload.get("status") or {}).get("conditions") or ():
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            message = str(condition.get("message") or condition.get("reason"))
            quota = "A quota forbids its pods" if "quota" in message else "Its pods cannot be made"
            return f"{quota}: {message}"
    return None


def _is_late(workload: Json) -> bool:
    conditions = (workload.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Progressing" and c.get("reason") == "ProgressDeadlineExceeded" for c in conditions)


def _failure(pod: Pod, tails: Tails) -> str | None:
    status = pod["status"]
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        name, where = container["name"], f"container {container['name']} of pod {name_of(pod)}"
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = waiting.get("reason"), waiting.get("message") or ""
        if reason in _PULL:
            return f"The image of {where} cannot be pulled: {message or reason}"
        if reason in _HOPELESS:
            return f"{where[0].upper()}{where[1:]} cannot be started: {message or reason}"
        ended = _ended(container)
        if ended and str(ended.get("message") or "").startswith("noah: preStart"):
            return f"preStart failed in {where}: {ended['message'].strip()}"
        if ended and reason == _CRASHES:
            return f"{where[0].upper()}{where[1:]} crashes again and again ({_how(ended)}){_last(tails, pod, name)}"
    failed = next((line for line in reversed(_tail(tails, pod, SIDECAR)) if "preOnline failed for good" in line), None)
    return f"Pod {name_of(pod)}: {failed.removeprefix('noah: ')}" if failed else None


def _not_online(pod: Pod, tails: Tails) -> str | None:
    if is_ready(pod):
        return None
    told = next((line for line in reversed(_tail(tails, pod, SIDECAR)) if line.startswith("noah: ")), None)
    why = told.removeprefix("noah: ") if told else "it is not ready"
    return f"Pod {name_of(pod)} never came online: {why}"


def _ended(container: Json) -> Json | None:
    for state in (container.get("state") or {}, container.get("lastState") or {}):
        if "terminated" in state:
            ended: Json = state["terminated"]
            return ended
    return None


def _how(ended: Json) -> str:
    return f"exit code {ended.get('exitCode')}" + (", out of memory" if ended.get("reason") == "OOMKilled" else "")


def _last(tails: Tails, pod: Pod, container: str) -> str:
    lines = _tail(tails, pod, container)[-5:]
    return ": " + " | ".join(lines) if lines else "."


def _tail(tails: Tails, pod: Pod, container: str) -> list[str]:
    return tails.get((pod["metadata"]["name"], container), [])
