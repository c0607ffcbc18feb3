"""A pod is chosen by its workload, of whatever kind, and wherever it is."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.core.session.target import parse_wanted
from noah.errors import NotFound
from noah.targets.pod.pods import Pods
from tests.unit.releases.fake_cluster import FakeCluster, fake_cluster

OWNERS = {
    "sts/shop": ("StatefulSet", "shop", {}),
    "ds/shop": ("DaemonSet", "shop", {}),
    "job/shop": ("Job", "shop", {}),
    "rollout/shop": ("ReplicaSet", "shop-6d4", {"rollouts-pod-template-hash": "6d4"}),
    "deploy/shop": ("ReplicaSet", "shop-5c9", {"pod-template-hash": "5c9"}),
}


@pytest.fixture
async def pods() -> AsyncIterator[Pods]:
    async with fake_cluster() as (fake, cluster):
        for n, (kind, name, labels) in enumerate(OWNERS.values()):
            _owned(fake, f"pod-{n}", kind=kind, name=name, labels=labels)
        async with asyncio.timeout(30):
            while len(cluster.informer) < len(OWNERS):
                await asyncio.sleep(0.02)
        yield Pods({"c": cluster}, catalog=Catalog(), holders=Holders())


def _owned(fake: FakeCluster, pod: str, *, kind: str, name: str, labels: dict[str, str]) -> None:
    owner = {"kind": kind, "name": name, "uid": name, "controller": True}
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {"name": "app", "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T10:00:00Z"}}}
        ],
    }
    meta = {"labels": labels, "ownerReferences": [owner]}
    fake.put("pods", pod, metadata=meta, spec={"containers": [{"name": "app", "image": "shop:1"}]}, status=status)


@pytest.mark.parametrize("place", ["", "pod/c/n/"])
async def test_each_kind_of_workload_means_its_own_pod(pods: Pods, place: str) -> None:
    for n, wanted in enumerate(OWNERS):
        found = await pods.resolve(parse_wanted(place + wanted))
        assert str(found.target) == f"pod/c/n/pod-{n}/app"


async def test_a_workload_without_pods_is_named_with_its_kind(pods: Pods) -> None:
    with pytest.raises(NotFound, match="There is no pod of statefulset nobody in namespace n of cluster c"):
        await pods.resolve(parse_wanted("pod/c/n/sts/nobody"))
    with pytest.raises(NotFound, match="There is no pod of job nobody: "):
        await pods.resolve(parse_wanted("job/nobody"))
