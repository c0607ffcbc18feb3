"""Pods of real clusters, as they come and go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from noah.kube.clusters import Cluster
from noah.kube.informer import PAGE
from noah.settings import ClusterSettings
from tests.cluster.conftest import Kubectl, java_app

pytestmark = pytest.mark.cluster


async def test_a_pod_is_followed_from_its_first_breath_to_its_last(kubeconfig: Path, kubectl: Kubectl) -> None:
    async with watched(kubeconfig) as cluster:
        changes: list[tuple[str, str | None, str]] = []
        cluster.informer.subscribe(
            lambda pod, kind: (
                changes.append((kind, pod["metadata"]["namespace"], pod["status"]["phase"]))
                if pod["metadata"]["namespace"] == kubectl.namespace
                else None
            )
        )
        await asyncio.to_thread(kubectl.run, "orders")
        await until(lambda: is_ready(cluster.informer.get(kubectl.namespace, "orders")))
        kept = cluster.informer.get(kubectl.namespace, "orders")
        assert kept is not None
        assert kept["spec"]["nodeName"]
        assert kept["spec"]["containers"][0]["env"][0]["name"] == "JAVA_TOOL_OPTIONS"
        assert kept["status"]["podIP"]
        assert "volumes" not in kept["spec"]
        assert "managedFields" not in kept["metadata"]
        await asyncio.to_thread(kubectl, "delete", "pod", "orders")
        await until(lambda: cluster.informer.get(kubectl.namespace, "orders") is None)
        assert list(cluster.informer.in_namespace(kubectl.namespace)) == []
    kinds = [kind for kind, _, _ in changes]
    assert (kinds[0], kinds[-1], kinds.count("added"), kinds.count("deleted")) == ("added", "deleted", 1, 1)
    assert changes[0][2] == "Pending"


async def test_a_selector_leaves_out_what_it_does_not_name(kubeconfig: Path, kubectl: Kubectl) -> None:
    kubectl.apply(unscheduled("chosen", team="blue"), unscheduled("other", team="red"))
    async with watched(kubeconfig, selector="team=blue") as cluster:
        assert [pod["metadata"]["name"] for pod in cluster.informer.pods()] == ["chosen"]
        # A pod whose labels change so that it is not selected any more is gone; and the other way round.
        await asyncio.to_thread(kubectl, "label", "pod", "--overwrite", "chosen", "team=red")
        await asyncio.to_thread(kubectl, "label", "pod", "--overwrite", "other", "team=blue")
        await until(lambda: [pod["metadata"]["name"] for pod in cluster.informer.pods()] == ["other"])


async def test_more_pods_than_a_page_has_are_all_listed(kubeconfig: Path, kubectl: Kubectl) -> None:
    many = PAGE + 10
    async with watched(kubeconfig) as cluster:
        path = f"/api/v1/namespaces/{kubectl.namespace}/pods"
        for at in range(0, many, 20):
            async with asyncio.TaskGroup() as group:
                for number in range(at, min(at + 20, many)):
                    group.create_task(cluster.post(path, unscheduled(f"many-{number}", many="yes")))
    async with watched(kubeconfig, namespaces=(kubectl.namespace,), selector="many") as cluster:
        assert len(cluster.informer) == many
        await cluster.delete(path, params={"labelSelector": "many"})
        await until(lambda: len(cluster.informer) == 0)


async def test_clusters_stand_side_by_side_and_one_may_be_away(
    kubeconfig: Path,
    second_kubeconfig: Path,
    kubectl: Kubectl,
    make_namespace: Callable[[Path], Kubectl],
) -> None:
    other = make_namespace(second_kubeconfig)
    kubectl.apply(unscheduled("here"))
    other.apply(unscheduled("there"))
    away = ClusterSettings(name="away", url="https://192.0.2.1:6443")  # TEST-NET-1: nothing is there, nothing answers
    async with Cluster(away) as nowhere, watched(kubeconfig) as one, watched(second_kubeconfig) as two:
        assert one.informer.get(kubectl.namespace, "here") is not None
        assert two.informer.get(kubectl.namespace, "here") is None
        assert two.informer.get(other.namespace, "there") is not None
        assert (one.reachable, two.reachable, nowhere.reachable) == (True, True, False)
        assert not nowhere.informer.synced


@asynccontextmanager
async def watched(kubeconfig: Path, **more: Any) -> AsyncIterator[Cluster]:
    async with Cluster(ClusterSettings(name=f"of-{kubeconfig.parent.name}", kubeconfig=kubeconfig, **more)) as cluster:
        assert await cluster.informer.wait_synced(20)
        await until(lambda: cluster.reachable)
        yield cluster


def unscheduled(name: str, **labels: str) -> dict[str, Any]:
    """A pod that no kubelet ever sees: cheap."""
    pod = java_app(name)
    pod["metadata"]["labels"].update(labels)
    pod["spec"]["schedulerName"] = "nobody"
    return {"apiVersion": "v1", "kind": "Pod", **pod}


def is_ready(pod: dict[str, Any] | None) -> bool:
    return pod is not None and any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in pod["status"]["conditions"]
    )


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)
