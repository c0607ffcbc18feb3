"""Following a release: what is yielded, in which order, and how it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from noah.core.release.release import Release, Result
from noah.core.release.release_event import ReleaseEvent
from noah.core.workload import WorkloadKind
from noah.kube.clusters import Cluster
from noah.releases import follow
from noah.releases.follow import Backlog, Follower, Look
from noah.releases.revision import asked_for
from tests.unit.releases.fake_cluster import FakeCluster, fake_cluster

Found = list[ReleaseEvent | Look]


@pytest.fixture
async def clusters() -> AsyncIterator[tuple[FakeCluster, Cluster]]:
    async with fake_cluster() as both:
        yield both


@asynccontextmanager
async def following(cluster: Cluster, *, backlog: Backlog | None = None) -> AsyncIterator[Follower]:
    """Follow the newest release of Deployment shop."""
    revision = await asked_for(cluster, namespace="n", kind=WorkloadKind.DEPLOYMENT, name="shop")
    release = Release(
        id=revision.id,
        cluster="c",
        namespace="n",
        environment="n",
        kind=WorkloadKind.DEPLOYMENT,
        workload="shop",
        revision=revision.number,
        started_at=datetime.now(UTC),
    )
    backlog = backlog or Backlog()
    async with Follower(cluster, release, revision, backlog=backlog, clock=lambda: datetime.now(UTC)) as follower:
        yield follower


async def until(follower: Follower, text: str) -> Found:
    """What is found until an event has *text*."""
    found: Found = []
    async with asyncio.timeout(60), aclosing(follower.found()) as reading:
        async for one in reading:
            found.append(one)
            if isinstance(one, ReleaseEvent) and one.text == text:
                return found
    raise AssertionError(f"{text!r} has not come: {found}")


async def to_the_end(follower: Follower) -> Found:
    async with asyncio.timeout(60), aclosing(follower.found()) as found:
        return [one async for one in found]


def events(found: Found) -> list[tuple[str, str]]:
    return [(one.kind, one.text) for one in found if isinstance(one, ReleaseEvent)]


def looks(found: Found) -> list[Look]:
    return [one for one in found if isinstance(one, Look)]


async def test_a_release_is_found_from_its_pods_to_its_end(clusters: tuple[FakeCluster, Cluster]) -> None:
    fake, cluster = clusters
    fake.deploy(1)
    fake.pod("shop-h1-a")
    await fake.print("shop-h1-a", "app", "one", "two")
    async with following(cluster) as follower, asyncio.TaskGroup() as group:
        reading = group.create_task(to_the_end(follower))
        await asyncio.sleep(0.6)
        fake.pod("shop-h1-a", ready=True)
        await fake.close_log("shop-h1-a", "app")
    found = reading.result()
    assert [text for kind, text in events(found) if kind == "log"] == ["one", "two"]
    assert [text for kind, text in events(found) if kind == "condition"] == ["not Ready", "Ready"]
    assert [text for kind, text in events(found) if kind == "progress"] == ["0 of 1 online", "1 of 1 online"]
    last = found[-1]
    assert isinstance(last, Look)
    assert (last.progress.result, last.progress.sentence, last.is_rollout) == (Result.DONE, "1 of 1 online", True)
    assert [look.progress.result for look in looks(found)[:-1]] == [Result.RUNNING] * (len(looks(found)) - 1)


async def test_what_comes_within_one_window_is_put_in_the_order_of_its_times(
    clusters: tuple[FakeCluster, Cluster],
) -> None:
    fake, cluster = clusters
    fake.deploy(1, replicas=2)
    for name, at in (("a", "10:00:03"), ("b", "10:00:01")):
        fake.pod(f"shop-h1-{name}")
        await fake.print(f"shop-h1-{name}", "app", f"first of {name}", at=f"2026-01-01T{at}.000000001Z")
    await fake.print("shop-h1-b", "app", "last of all", at="2026-01-01T10:00:05.000000001Z")
    fake.event("e", "Pod/shop-h1-a", reason="Started", text="started", at=datetime(2026, 1, 1, 10, 0, 2, tzinfo=UTC))
    async with following(cluster) as follower:
        found = events(await until(follower, "last of all"))
    printed = [text for kind, text in found if kind in ("log", "event")]
    assert printed == ["first of b", "started", "first of a", "last of all"]


async def test_lines_wait_in_the_socket_while_too_many_are_pending_and_none_is_lost(
    clusters: tuple[FakeCluster, Cluster],
) -> None:
    fake, cluster = clusters
    fake.deploy(1)
    fake.pod("shop-h1-a")
    count = 3 * follow.MOST_PENDING
    await fake.print("shop-h1-a", "app", *map(str, range(count)), at="2026-01-01T10:00:00.000000001Z")
    backlog = Backlog()
    async with following(cluster, backlog=backlog) as follower:
        async with asyncio.timeout(60):
            while backlog.events < follow.MOST_PENDING:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # as long as a reader that did not wait would need for all of them
        assert backlog.events < 2 * follow.MOST_PENDING
        found = events(await until(follower, str(count - 1)))
        assert [text for kind, text in found if kind == "log"] == [*map(str, range(count))]
    follower.rest()
    assert backlog.events == 0


async def test_what_was_read_and_not_yielded_is_still_there_when_one_stops_to_follow(
    clusters: tuple[FakeCluster, Cluster],
) -> None:
    fake, cluster = clusters
    fake.deploy(1)
    fake.pod("shop-h1-a")
    backlog = Backlog()
    async with following(cluster, backlog=backlog) as follower:
        await until(follower, "0 of 1 online")
        await fake.print("shop-h1-a", "app", "last words")
        async with asyncio.timeout(30):
            while not backlog.events:
                await asyncio.sleep(0.01)
    assert "last words" in [event.text for event in follower.rest()]


async def test_a_release_without_rights_ends_with_the_reason(clusters: tuple[FakeCluster, Cluster]) -> None:
    fake, cluster = clusters
    fake.deploy(1)
    fake.pod("shop-h1-a")
    fake.refused["/events"] = 403
    async with following(cluster) as follower, aclosing(follower.found()) as found:
        async with asyncio.timeout(60):
            async for one in found:
                if isinstance(one, ReleaseEvent) and one.text.startswith("Events cannot be read: "):
                    break
        fake.refused["/deployments/"] = 403
        last = [one async for one in found][-1]
    assert isinstance(last, Look)
    assert last.progress.result is Result.LOST
    assert "get deployments" in last.progress.sentence


async def test_a_newer_revision_a_namesake_and_a_deletion_end_a_release(clusters: tuple[FakeCluster, Cluster]) -> None:
    fake, cluster = clusters

    async def ended_by(change: Any) -> tuple[Result, str]:
        fake.deploy(1)
        fake.pod("shop-h1-a")
        async with following(cluster) as follower:
            await until(follower, "0 of 1 online")
            change()
            last = looks(await to_the_end(follower))[-1]
        return last.progress.result, last.progress.sentence

    assert await ended_by(lambda: fake.deploy(2)) == (Result.REPLACED, "Revision 2 has taken its place.")
    fake.delete("replicasets", "shop-h2")
    namesake = (Result.REPLACED, "A workload of the same name has taken its place.")

    def made_again() -> None:
        fake.deploy(1, uid="another")
        fake.put("deployments", "shop", **_changed(fake, generation=2))

    assert await ended_by(made_again) == namesake
    gone = (Result.FAILED, "The workload was deleted.")
    assert await ended_by(lambda: fake.delete("deployments", "shop")) == gone


def _changed(fake: FakeCluster, *, generation: int) -> dict[str, Any]:
    shop = fake._objects["deployments", "shop"]
    status = {**shop["status"], "observedGeneration": generation}
    return {"spec": shop["spec"], "status": status, "metadata": {"uid": "another", "generation": generation}}


async def test_an_api_that_is_away_is_waited_for(clusters: tuple[FakeCluster, Cluster]) -> None:
    fake, cluster = clusters
    fake.deploy(1)
    fake.pod("shop-h1-a", ready=True)
    await fake.close_log("shop-h1-a", "app")
    async with following(cluster) as follower, asyncio.TaskGroup() as group:
        fake.refused["/deployments/"] = 503
        reading = group.create_task(to_the_end(follower))
        async with asyncio.timeout(30):
            while len([path for path in fake.asked if "/deployments/" in path]) < 3:
                await asyncio.sleep(0.05)
        del fake.refused["/deployments/"]
    assert looks(reading.result())[-1].progress.result is Result.DONE


async def test_pods_that_are_about_to_be_replaced_are_in_each_look(clusters: tuple[FakeCluster, Cluster]) -> None:
    fake, cluster = clusters
    fake.pod("shop-h1-old", ready=True)
    fake.deploy(2)
    fake.pod("shop-h2-new", revision=2)
    async with following(cluster) as follower:
        found = await until(follower, "0 of 1 online")
        found += [await anext(follower.found())]
    look = looks(found)[0]
    assert [pod["metadata"]["name"] for pod in look.replaced] == ["shop-h1-old"]
    assert look.is_rollout


async def test_a_follower_whose_looks_are_ended_by_something_unforeseen_ends_as_lost(
    clusters: tuple[FakeCluster, Cluster],
) -> None:
    fake, cluster = clusters
    fake.deploy(1)
    fake.pod("shop-h1-a")
    async with following(cluster) as follower:
        await until(follower, "0 of 1 online")
        (looking,) = [task for task in asyncio.all_tasks() if task.get_name().endswith(" looks")]
        looking.cancel()
        last = (await to_the_end(follower))[-1]
    assert isinstance(last, Look)
    assert (last.progress.result, last.progress.sentence) == (Result.LOST, "The gateway failed to follow it.")


async def test_a_release_that_lasts_forgets_the_pods_that_are_gone(clusters: tuple[FakeCluster, Cluster]) -> None:
    fake, cluster = clusters
    fake.deploy(1)
    async with following(cluster) as follower, asyncio.TaskGroup() as group:
        reading = group.create_task(to_the_end(follower))
        for n in range(4):
            fake.pod(f"shop-h1-{n}")
            await fake.close_log(f"shop-h1-{n}", "app")
            async with asyncio.timeout(30):
                while not any(run.pod == f"shop-h1-{n}" for run in follower._logs):
                    await asyncio.sleep(0.02)
            fake.delete("pods", f"shop-h1-{n}")
        async with asyncio.timeout(30):
            while len(follower._logs) > 1:
                await asyncio.sleep(0.02)
        fake.delete("deployments", "shop")
        assert len(follower._changes._phases) <= 1
    assert reading.result()
