"""The kinds of workload that the gateway knows, with the names that people type for them.

A pod may belong to a kind that is not among them (a custom resource's); what only compares owners works with those too.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class WorkloadKind(StrEnum):
    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    DAEMON_SET = "DaemonSet"
    REPLICA_SET = "ReplicaSet"
    REPLICATION_CONTROLLER = "ReplicationController"
    JOB = "Job"
    CRON_JOB = "CronJob"
    ROLLOUT = "Rollout"  # argoproj.io


# kubectl's short names, which are what this project prints.
SHORT_NAMES: Mapping[WorkloadKind, str] = {
    WorkloadKind.DEPLOYMENT: "deploy",
    WorkloadKind.STATEFUL_SET: "sts",
    WorkloadKind.DAEMON_SET: "ds",
    WorkloadKind.JOB: "job",
    WorkloadKind.ROLLOUT: "rollout",
}
KINDS_BY_SHORT_NAME: Mapping[str, WorkloadKind] = {short: kind for kind, short in SHORT_NAMES.items()}
_KINDS = {name: kind for kind, short in SHORT_NAMES.items() for name in (short, kind.lower(), f"{kind.lower()}s")}


def workload_kind_of(typed: str) -> WorkloadKind | None:
    """Return the kind that *typed* names in kubectl's way (sts, StatefulSet, statefulsets.apps), or None."""
    return _KINDS.get(typed.partition(".")[0].lower())


def in_pod_name(workload: str) -> str:
    """Return as much of a workload's name as the names of its pods have (Kubernetes: storage/names/generate.go)."""
    return workload[:58]


class WorkloadRef(NamedTuple):
    """The full name of one workload."""

    cluster: str
    namespace: str
    kind: WorkloadKind
    name: str

    def __str__(self) -> str:
        return "/".join(self)
