"""Judges a release: from a workload, its newest revision and its pods, to a result and one sentence.

A release is over when all of its pods are online, or when something has happened that waiting does not mend. What a
pod's containers have printed last is an argument: the API tells that something crashed, the log tells why.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from noah.core.inject.hooks import SIDECAR
from noah.core.pods import Pod, has_ended, is_ready, is_there, labels_of, name_of, statuses_of
from noah.core.workload import WorkloadKind

Json = Mapping[str, Any]
Tails = Mapping[tuple[str, str], list[str]]  # (pod, container) -> its last lines

PATHS: Mapping[WorkloadKind, str] = {
    WorkloadKind.DEPLOYMENT: "deployments",
    WorkloadKind.STATEFUL_SET: "statefulsets",
    WorkloadKind.DAEMON_SET: "daemonsets",
}
# What keeps each revision of a workload, with what marks its pods.
HISTORIES: Mapping[WorkloadKind, str] = dict.fromkeys(PATHS, "controllerrevisions") | {
    WorkloadKind.DEPLOYMENT: "replicasets"
}
LONGEST_QUOTE = 300  # characters of a container's line, or of the cluster's words, in the sentence about a failure

_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_HOPELESS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
# The kubelet's word from the second crash on; the first may be a race with something that comes up at the same time.
_CRASHES = "CrashLoopBackOff"
_MARKS = ("pod-template-hash", "controller-revision-hash")
_NUMBER = "deployment.kubernetes.io/revision"


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
    environment: str
    kind: WorkloadKind  # one of PATHS
    workload: str
    revision: str
    started_at: datetime  # when the gateway saw it first
    ended_at: datetime | None = None
    progress: Progress = Progress(Result.RUNNING, 0, 0, "")

    def __str__(self) -> str:
        return f"{self.kind}/{self.workload} in namespace {self.namespace} of cluster {self.cluster}"


@dataclass(frozen=True, slots=True)
class Revision:
    """The newest template of a workload. A rollback makes a revision of its own, with a number of its own."""

    id: str  # of its release
    number: str  # as `kubectl rollout history` has it
    mark: str | None  # what a label of its pods says; None: it has no pods yet
    made_at: datetime | None  # long before its release when that is a rollback
    generation: int  # of the workload, when it was looked up
    template: Json  # the metadata of the pods that it makes


def revision_of(cluster: str, workload: Json, history: Iterable[Json]) -> Revision:
    """*history*: the ReplicaSets or ControllerRevisions that its selector finds; some may be of others."""
    meta = workload["metadata"]
    newest = max((one for one in history if _is_owned(one, meta["uid"])), key=_number, default=None)
    number = str(_number(newest)) if newest else "0"
    whole = "/".join((cluster, meta["namespace"], workload["kind"], meta["name"], str(meta["uid"]), number))
    return Revision(
        id=f"r-{hashlib.sha256(whole.encode()).hexdigest()[:12]}",
        number=number,
        mark=_mark_in(labels_of(newest), otherwise=newest["metadata"]["name"]) if newest else None,
        made_at=datetime.fromisoformat(newest["metadata"]["creationTimestamp"]) if newest else None,
        generation=meta.get("generation", 0),
        template=((workload.get("spec") or {}).get("template") or {}).get("metadata") or {},
    )


def _is_owned(one: Json, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in one["metadata"].get("ownerReferences") or ())


def _number(one: Json) -> int:
    return int(one.get("revision") or (one["metadata"].get("annotations") or {}).get(_NUMBER, 0))


def _mark_in(labels: Mapping[str, str], otherwise: str | None) -> str | None:
    """*otherwise*: a StatefulSet's pods are marked with the name of the revision."""
    return next((labels[label] for label in _MARKS if label in labels), otherwise)


def mark_of(pod: Pod) -> str | None:
    """Return the label's value that tells pods of one revision from those of another."""
    return _mark_in(labels_of(pod), otherwise=None)


def is_observed(workload: Json) -> bool:
    """True if its controller has seen what was last asked for: only then its newest revision is the one of that."""
    seen = (workload.get("status") or {}).get("observedGeneration", 0)
    return bool(seen >= workload["metadata"].get("generation", 0))


def is_of(revision: Revision, pod: Pod) -> bool:
    return is_there(pod) and mark_of(pod) == revision.mark


def judge(
    workload: Json, revision: Revision, pods: Iterable[Pod], tails: Tails, *, refused: str | None, stalled: bool
) -> Progress:
    """Return how the release of *revision* is.

    *pods* are all of the workload, *tails* the last lines of their containers. *refused* says why a pod could not be
    made. *stalled* is true if nothing moves any more; a Deployment's own deadline is in its status.
    """
    ours = [pod for pod in pods if is_of(revision, pod)]
    wanted, online = _wanted(workload, len(ours)), sum(map(is_ready, ours))
    progress = Progress(Result.RUNNING, online, wanted, f"{online} of {wanted} online")
    if not is_observed(workload):
        return progress
    if _is_done(workload, online, wanted):
        return replace(progress, result=Result.DONE)
    why = next((why for pod in ours if (why := _failure(pod, tails))), None)
    if why is None and refused and len(ours) < wanted:
        quota = "A quota forbids its pods" if "quota" in refused else "Its pods cannot be made"
        why = f"{quota}: {_short(refused)}"
    if why is None and (stalled or _is_late(workload, revision)):
        why = next((why for pod in ours if (why := _not_online(pod, tails))), "It made no progress in its time.")
    if why is not None:
        return replace(progress, result=Result.FAILED, sentence=why)
    paused = ", and the rollout is paused" if workload["spec"].get("paused") else ""
    return replace(progress, sentence=progress.sentence + paused)


def replaced_by(workload: Json, revision: Revision, pods: Iterable[Pod]) -> list[Pod]:
    """The pods of earlier revisions that the rollout deletes: not those that a partition or OnDelete leaves alone."""
    strategy = workload["spec"].get("updateStrategy") or {}
    first = 0
    if workload["kind"] == WorkloadKind.STATEFUL_SET:
        first = int((workload["spec"].get("ordinals") or {}).get("start", 0))
        first += int((strategy.get("rollingUpdate") or {}).get("partition") or 0)

    def is_replaced(pod: Pod) -> bool:
        if pod["metadata"].get("deletionTimestamp"):
            return True
        return strategy.get("type") != "OnDelete" and (first == 0 or _ordinal(pod) >= first)

    old = (pod for pod in pods if mark_of(pod) != revision.mark and not has_ended(pod))
    return [pod for pod in old if is_replaced(pod)]


def _ordinal(pod: Pod) -> int:
    """The number of a StatefulSet's pod."""
    number = str(pod["metadata"]["name"]).rpartition("-")[2]
    return int(number) if number.isascii() and number.isdigit() else 0


def _wanted(workload: Json, there: int) -> int:
    """Return how many pods the release is to bring online; *there* is the number that it has."""
    status, strategy = workload.get("status") or {}, workload["spec"].get("updateStrategy") or {}
    if workload["kind"] == WorkloadKind.DAEMON_SET:
        all_of_them = int(status.get("desiredNumberScheduled", 0))
    else:
        all_of_them = int(workload["spec"].get("replicas", 1))
    if strategy.get("type") == "OnDelete":
        return min(all_of_them, there)  # the others' time comes when somebody deletes them
    if status.get("currentRevision") == status.get("updateRevision"):
        return all_of_them
    return max(0, all_of_them - int((strategy.get("rollingUpdate") or {}).get("partition", 0)))


def _is_done(workload: Json, online: int, wanted: int) -> bool:
    status, spec = workload.get("status") or {}, workload["spec"]
    no_more = status.get("replicas", 0) <= spec.get("replicas", 1)
    # A pod that is ready is available once it has been so for minReadySeconds.
    available = status.get("numberAvailable", status.get("availableReplicas", 0)) >= wanted
    waits = bool(spec.get("minReadySeconds"))
    return _updated(workload) >= wanted and no_more and online >= wanted and (available or not waits)


def _updated(workload: Json) -> int:
    """Return how many pods of the newest revision it has."""
    status = workload.get("status") or {}
    return int(status.get("updatedNumberScheduled", status.get("updatedReplicas", 0)))


def _is_late(workload: Json, revision: Revision) -> bool:
    """The Deployment says so, and not of the revision before, of which a rollback finds it said."""
    conditions = (workload.get("status") or {}).get("conditions") or ()
    late = (one for one in conditions if one.get("reason") == "ProgressDeadlineExceeded")
    return any(f'-{revision.mark}"' in one.get("message", "") for one in late)


def _failure(pod: Pod, tails: Tails) -> str | None:
    for container in statuses_of(pod):
        name, where = container["name"], f"container {container['name']} of pod {name_of(pod)}"
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = waiting.get("reason"), _short(waiting.get("message") or "")
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
    line = next((line for line in reversed(_tail(tails, pod, SIDECAR)) if line.startswith("noah: ")), None)
    why = line.removeprefix("noah: ") if line else _unready(pod)
    return f"Pod {name_of(pod)} never came online: {why}"


def _unready(pod: Pod) -> str:
    """Say why in the cluster's words: no node for it, a container that waits for something, a probe that fails."""
    conditions = {one["type"]: one.get("message") for one in pod["status"].get("conditions") or ()}
    waits = (((one.get("state") or {}).get("waiting") or {}).get("message") for one in statuses_of(pod))
    reasons = (conditions.get("PodScheduled"), *waits, conditions.get("Initialized"), conditions.get("Ready"))
    return next((_short(message) for message in reasons if message), "it is not ready")


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
    return ": " + " | ".join(map(_short, lines)) if lines else "."


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + " …"


def _tail(tails: Tails, pod: Pod, container: str) -> list[str]:
    return tails.get((pod["metadata"]["name"], container), [])
