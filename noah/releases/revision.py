"""Which revision a workload asks for: the newest one of its history, once its controller has seen what was asked."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from noah.core.release.release import HISTORIES, PATHS, Revision, is_observed, revision_of
from noah.core.workload import WorkloadKind
from noah.kube.clusters import Cluster

OBSERVED = 5.0  # seconds for the controller to see what was asked for
LOOK = 0.5  # seconds between two looks whether it has
YOUNG = timedelta(minutes=10)  # a revision that was made so long ago at most may still be on its way

Json = Mapping[str, Any]


async def asked_for(cluster: Cluster, *, namespace: str, kind: WorkloadKind, name: str) -> Revision:
    """The workload's, once its controller has seen what was last asked for, or after OBSERVED seconds. NotFound."""
    until = asyncio.get_running_loop().time() + OBSERVED
    while True:
        workload = {"kind": kind, **await cluster.get(path_of(namespace, kind, name))}
        if is_observed(workload) or asyncio.get_running_loop().time() > until:
            return await newest_of(cluster, workload)
        await asyncio.sleep(LOOK)


async def newest_of(cluster: Cluster, workload: Json) -> Revision:
    namespace = quote(workload["metadata"]["namespace"], safe="")
    path = f"/apis/apps/v1/namespaces/{namespace}/{HISTORIES[workload['kind']]}"
    params = {"labelSelector": _selector(workload["spec"]["selector"])}
    return revision_of(cluster.name, workload, (await cluster.get(path, params=params)).get("items") or ())


def _selector(selector: Json) -> str:
    """A v1.LabelSelector as a query has it."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or ():
        values = f"({','.join(one.get('values') or ())})"
        match one["operator"]:
            case "In":
                parts.append(f"{one['key']} in {values}")
            case "NotIn":
                parts.append(f"{one['key']} notin {values}")
            case "Exists":
                parts.append(one["key"])
            case "DoesNotExist":
                parts.append(f"!{one['key']}")
    return ",".join(parts)


def path_of(namespace: str, kind: WorkloadKind, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{quote(namespace, safe='')}/{PATHS[kind]}/{quote(name, safe='')}"
