"""Finds the revision that a workload asks for: the newest of its history, once its controller has seen the request."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from noah.core.release.release import HISTORIES, PATHS, Revision, is_observed, revision_of
from noah.core.workload import WorkloadKind
from noah.kube.clusters import Cluster

OBSERVED_WITHIN_S = 5.0  # by the controller, which sees within milliseconds what was asked for unless it is down
LOOK_INTERVAL_S = 0.5  # between two looks whether it has
YOUNG = timedelta(minutes=10)  # a revision that is not older may still be rolling out; a Deployment's default deadline

Json = Mapping[str, Any]


async def asked_for(cluster: Cluster, *, namespace: str, kind: WorkloadKind, name: str) -> Revision:
    """Return the workload's newest revision, once its controller has seen what was last asked for.

    After OBSERVED_WITHIN_S seconds, return the newest there is. Raises NotFound and what else the API answers.
    """
    until = asyncio.get_running_loop().time() + OBSERVED_WITHIN_S
    while True:
        workload = {"kind": kind, **await cluster.get(path_of(namespace, kind, name))}
        if is_observed(workload) or asyncio.get_running_loop().time() > until:
            return await newest_of(cluster, workload)
        await asyncio.sleep(LOOK_INTERVAL_S)


async def newest_of(cluster: Cluster, workload: Json) -> Revision:
    namespace = quote(workload["metadata"]["namespace"], safe="")
    path = f"/apis/apps/v1/namespaces/{namespace}/{HISTORIES[workload['kind']]}"
    params = {"labelSelector": _selector(workload["spec"]["selector"])}
    return revision_of(cluster.name, workload, (await cluster.get(path, params=params)).get("items") or ())


def _selector(selector: Json) -> str:
    """Write a v1.LabelSelector as a query has it."""
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
