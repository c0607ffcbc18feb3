"""Which releases are followed, how many at once, how much of them is held, and what becomes of one that dies."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from noah.core.release.release import Release
from noah.core.workload import WorkloadKind
from noah.kube.clusters import Cluster
from noah.releases.notice import Noticed, Noticing
from noah.releases.releases import Releases
from noah.store import Store
from noah.store.feed import Feed
from noah.store.gateways import AboutGateway
from noah.store.hints import Hints
from tests.databases import make_database
from tests.unit.releases.fake_cluster import LONG_AGO, FakeCluster, fake_cluster


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def clusters() -> AsyncIterator[tuple[FakeCluster, Cluster]]:
    async with fake_cluster() as both:
        yield both


@asynccontextmanager
async def following(cluster: Cluster, folder: Path, **limits: Any) -> AsyncIterator[tuple[Releases, Store]]:
    store = Store.open(make_database(folder / "noah.db"))
    async with store.lease(AboutGateway(name="test", version="0")) as lease, asyncio.TaskGroup() as group:
        feed = Feed(epoch="e", clock=now)
        releases = Releases(
            group,
            clusters={"c": cluster},
            store=store,
            lease=lease,
            hints=Hints(),
            feed=feed,
            live_in=lambda *_: [],
            clock=now,
            **limits,
        )
        await releases.start()
        try:
            yield releases, store
        finally:
            releases.stop()
    await store.close()


async def until(releases: Releases, true: Callable[[list[Release]], bool], *, within_s: float = 60) -> list[Release]:
    """The releases, the newest first, once *true* is true of them."""
    found: list[Release] = []
    try:
        async with asyncio.timeout(within_s):
            while not true(found):
                await asyncio.sleep(0.05)
                found = await releases.find(cluster=None, namespace=None, workload=None, result=None)
    except TimeoutError:
        raise AssertionError(f"it is not so: {found}") from None
    return found


def ended(*results: str) -> Callable[[list[Release]], bool]:
    return lambda found: [str(one.progress.result) for one in found] == list(results)


async def test_a_release_whose_task_dies_is_lost_and_gives_its_place_to_the_next(
    clusters: tuple[FakeCluster, Cluster], tmp_path: Path
) -> None:
    fake, cluster = clusters
    async with following(cluster, tmp_path, at_once=1) as (releases, _):
        fake.deploy(1)
        fake.pod("shop-h1-a")
        (release,) = await until(releases, ended("running"))
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == f"release {release.id}"]
        task.cancel()
        await until(releases, ended("lost"))
        stream = await releases.get(release.id)
        assert [one.kind for _, one in stream.journal.after(0, limit=1000)][-1] == "end"
        fake.deploy(2)
        fake.pod("shop-h2-a", revision=2, ready=True)
        await fake.close_log("shop-h2-a", "app")
        fake.delete("pods", "shop-h1-a")
        newer, older = await until(releases, ended("done", "lost"))
        assert older.progress.sentence == "The gateway failed to follow it."
        assert newer.revision == "2"


async def test_a_release_that_waits_for_its_turn_is_followed_when_another_has_ended(
    clusters: tuple[FakeCluster, Cluster], tmp_path: Path
) -> None:
    fake, cluster = clusters
    async with following(cluster, tmp_path, at_once=1) as (releases, _):
        fake.deploy(1)
        fake.pod("shop-h1-a")
        await until(releases, ended("running"))
        fake.deploy(1, name="store", replicas=0)
        fake.pod("store-h1-a", workload="store")
        await asyncio.sleep(1)  # nothing happens while the only place is taken
        await until(releases, ended("running"))
        fake.pod("shop-h1-a", ready=True)
        await fake.close_log("shop-h1-a", "app")
        await until(releases, lambda found: {one.workload for one in found} == {"shop", "store"})


async def test_what_all_releases_hold_together_is_bounded(
    clusters: tuple[FakeCluster, Cluster], tmp_path: Path
) -> None:
    fake, cluster = clusters
    limit = 300_000
    async with following(cluster, tmp_path, memory_bytes=limit) as (releases, _):
        for revision in (1, 2):
            name = f"shop-h{revision}-a"
            fake.deploy(revision)
            fake.pod(name, revision=revision)
            await fake.print(name, "app", *(f"{n} {'x' * 1000}" for n in range(1000)))
            await until(releases, lambda found, n=revision: len(found) == n)  # type: ignore[misc]
            stream = await releases.get((await until(releases, bool))[0].id)
            async with asyncio.timeout(60):
                while stream.journal.count < 1000:
                    await asyncio.sleep(0.05)
            fake.pod(name, revision=revision, ready=True)
            await fake.close_log(name, "app")
            await until(releases, ended(*["done"] * revision))
            assert sum(one.journal.size_bytes for one in releases._streams.values()) <= limit
        newest, oldest = await until(releases, ended("done", "done"))
        # What is kept of the older one is shown in place of what was held.
        assert (await releases.get(oldest.id)).run == "kept"
        assert (await releases.get(newest.id)).journal.count > 1000


async def test_a_failed_release_that_comes_online_after_all_is_done(
    clusters: tuple[FakeCluster, Cluster], tmp_path: Path
) -> None:
    fake, cluster = clusters
    async with following(cluster, tmp_path) as (releases, _):
        fake.deploy(1)
        fake.pod("shop-h1-a", state={"waiting": {"reason": "ErrImagePull", "message": "not found"}})
        (failed,) = await until(releases, ended("failed"))
        fake.pod("shop-h1-a", ready=True)
        (done,) = await until(releases, ended("done"))
        assert done.progress.sentence == f"1 of 1 online; before that: {failed.progress.sentence}"
        kept = (await releases.get(done.id)).journal.after(0, limit=1000)
        assert [one.text for _, one in kept if one.kind == "end"] == [done.progress.sentence]


async def test_an_end_that_is_not_kept_yet_is_not_lost_to_another_look(
    clusters: tuple[FakeCluster, Cluster], tmp_path: Path
) -> None:
    fake, cluster = clusters
    async with following(cluster, tmp_path) as (releases, _):
        fake.deploy(1)
        fake.pod("shop-h1-a")
        (running,) = await until(releases, ended("running"))
        with closing(sqlite3.connect(tmp_path / "noah.db", isolation_level=None, timeout=30)) as database:
            database.execute("BEGIN IMMEDIATE")
            failed = await releases.get(running.id)
            fake.pod("shop-h1-a", state={"waiting": {"reason": "ErrImagePull", "message": "not found"}})
            async with asyncio.timeout(60):
                await failed.ended()
            # The workload is noticed again, somebody looks at it, and it recovers, all before its end is kept.
            fake.event("refused", "ReplicaSet/shop-h1", reason="FailedCreate", text="exceeded quota")
            fake.pod("shop-h1-a", ready=True)
            assert await releases.current("c", "n", WorkloadKind.DEPLOYMENT, "shop") is failed
        (done,) = await until(releases, ended("done"))
        assert done.progress.sentence == f"1 of 1 online; before that: {failed.release.progress.sentence}"


# -- what is noticed


async def noticed_by(noticing: Noticing, count: int) -> list[Noticed]:
    found: list[Noticed] = []
    async with asyncio.timeout(30):
        async for noticed in noticing.by_pods():
            found.append(noticed)
            if len(found) == count:
                break
    return found


async def test_workloads_that_were_deleted_are_forgotten_and_those_without_pods_are_not(
    clusters: tuple[FakeCluster, Cluster],
) -> None:
    fake, cluster = clusters
    noticing = Noticing(cluster, live_in=lambda *_: [], clock=now)
    names = [f"shop-{n}" for n in range(10)]
    for name in names:
        fake.deploy(1, name=name)
        fake.pod(f"{name}-h1-a", workload=name)
    assert {one.workload.name for one in await noticed_by(noticing, len(names))} == set(names)
    for name in names:
        fake.delete("pods", f"{name}-h1-a")
    async with asyncio.timeout(30):
        while len(cluster.informer):
            await asyncio.sleep(0.02)
    await noticing.forget_deleted()
    assert len(noticing) == len(names)
    for name in names[1:]:
        fake.delete("deployments", name)
    fake.refused["/deployments/"] = 503
    await noticing.forget_deleted()
    assert len(noticing) == len(names)  # an API that is away says nothing about what is there
    fake.refused.clear()
    await noticing.forget_deleted()
    assert len(noticing) == 1
    # Pods of the revision that is known are not a rollout.
    fake.pod(f"{names[0]}-h1-b", workload=names[0])
    fake.pod("other-h1-a", workload="other")
    assert [one.workload.name for one in await noticed_by(noticing, 1)] == ["other"]


async def test_pods_of_long_ago_are_not_a_rollout(clusters: tuple[FakeCluster, Cluster]) -> None:
    fake, cluster = clusters
    noticing = Noticing(cluster, live_in=lambda *_: [], clock=now)
    fake.pod("shop-h1-a", made_at=LONG_AGO)
    fake.pod("other-h1-a", workload="other")
    assert [one.workload for one in await noticed_by(noticing, 1)] == [
        ("c", "n", WorkloadKind.DEPLOYMENT, "other"),
    ]


async def test_refused_pods_are_noticed_without_any_pod(clusters: tuple[FakeCluster, Cluster]) -> None:
    fake, cluster = clusters
    noticing = Noticing(cluster, live_in=lambda *_: [], clock=now)
    fake.deploy(1)
    fake.event("e", "ReplicaSet/shop-h1", reason="FailedCreate", text="exceeded quota")
    async with asyncio.timeout(30):
        async for noticed in noticing.by_refusals(None):
            assert (noticed.workload.name, noticed.is_certain) == ("shop", False)
            break
