"""A release is followed by one gateway and is the same at each; when that one is gone, another goes on where it was."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing

import psycopg
import pytest

from noah.clock import machine_clock
from noah.core.release.release import Result
from noah.core.release.release_event import Numbered
from noah.core.workload import WorkloadKind
from noah.kube.clusters import Cluster
from noah.releases.releases import Releases, open_releases
from noah.releases.stream import Stream
from noah.store import Store, upgrade
from noah.store.feed import Feed
from noah.store.gateways import AboutGateway
from noah.store.lease import Lease
from tests.postgres import Postgres
from tests.unit.releases.fake_cluster import FakeCluster, fake_cluster

pytestmark = pytest.mark.postgres
WITHIN_S = 60  # on a busy machine
WRITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO release_chunks%'"


class Gateway:
    def __init__(self, releases: Releases, lease: Lease) -> None:
        self.releases = releases
        self.lease = lease

    async def stream(self) -> Stream:
        return await self.releases.current("c", "n", WorkloadKind.DEPLOYMENT, "shop")


@pytest.fixture
async def clusters() -> AsyncIterator[tuple[FakeCluster, Cluster]]:
    async with fake_cluster() as both:
        yield both


@asynccontextmanager
async def gateway(url: str, cluster: Cluster) -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        store = Store.open(url)
        stack.push_async_callback(store.close)
        lease = await stack.enter_async_context(store.lease(AboutGateway(name="test", version="1")))
        hints = await stack.enter_async_context(store.hints())
        feed = Feed(epoch="e", clock=machine_clock)
        releases = await stack.enter_async_context(
            open_releases(
                clusters={"c": cluster},
                store=store,
                lease=lease,
                hints=hints,
                feed=feed,
                live_in=lambda *_: [],
                clock=machine_clock,
            )
        )
        yield Gateway(releases, lease)


async def seen(stream: Stream, until: Callable[[list[Numbered]], bool]) -> list[Numbered]:
    """What somebody who watches from the beginning sees, until *until* is true of it."""
    found: list[Numbered] = []
    async with asyncio.timeout(WITHIN_S), aclosing(stream.watch(0)) as watched:
        async for events in watched:
            found += events
            if until(found):
                break
    return found


def has_line(text: str) -> Callable[[list[Numbered]], bool]:
    return lambda found: any(event.text == text for _, event in found)


def lines(found: list[Numbered]) -> Iterator[str]:
    return (event.text for _, event in found if event.kind == "log")


def follower_of(postgres: Postgres, url: str) -> str | None:
    found = postgres.ask("SELECT gateway FROM claims WHERE kind = 'release'", url=url)
    return str(found[0][0]) if found and found[0][0] else None


async def test_a_release_is_the_same_at_each_gateway_and_survives_its_follower(
    clusters: tuple[FakeCluster, Cluster], postgres: Postgres, postgres_url: str
) -> None:
    fake, cluster = clusters
    await asyncio.to_thread(upgrade, postgres_url)
    async with gateway(postgres_url, cluster) as one, gateway(postgres_url, cluster) as other:
        fake.deploy(1)
        fake.pod("shop-h1-a")
        await fake.print("shop-h1-a", "app", *(f"line {n}" for n in range(300)))
        streams = [await one.stream(), await other.stream()]
        first = await seen(streams[0], has_line("line 299"))
        assert first == await seen(streams[1], has_line("line 299"))
        run = streams[0].run
        assert run == streams[1].run

        # The gateway that follows it is declared dead, while it runs on: another goes on, and that one is refused.
        before = follower_of(postgres, postgres_url)
        postgres.ask(f"DELETE FROM gateways WHERE id = '{before}'", url=postgres_url)
        await fake.print("shop-h1-a", "app", *(f"line {n}" for n in range(300, 400)))
        second = await seen(streams[1], has_line("line 399"))
        async with asyncio.timeout(WITHIN_S):
            while follower_of(postgres, postgres_url) == before:
                await asyncio.sleep(0.1)
        await fake.print("shop-h1-a", "app", *(f"line {n}" for n in range(400, 500)))
        fake.pod("shop-h1-a", ready=True)
        await fake.close_log("shop-h1-a", "app")
        whole = await seen(streams[0], lambda found: found[-1][1].kind == "end")
        assert whole == await seen(streams[1], lambda found: found[-1][1].kind == "end")

        assert whole[: len(second)] == second
        assert [n for n, _ in whole] == list(range(1, len(whole) + 1))
        assert list(lines(whole)) == [f"line {n}" for n in range(500)]
        assert [stream.run for stream in streams] == [run, run]
        async with asyncio.timeout(WITHIN_S):  # the end is kept just after it was shown
            while not await one.releases.find(cluster=None, namespace=None, workload=None, result=Result.DONE):
                await asyncio.sleep(0.1)


async def test_a_restart_of_the_database_in_the_middle_of_a_write_loses_no_line_and_doubles_none(
    clusters: tuple[FakeCluster, Cluster], postgres: Postgres, postgres_url: str
) -> None:
    fake, cluster = clusters
    await asyncio.to_thread(upgrade, postgres_url)
    async with gateway(postgres_url, cluster) as one, gateway(postgres_url, cluster) as other:
        fake.deploy(1)
        fake.pod("shop-h1-a")
        await fake.print("shop-h1-a", "app", *(f"line {n}" for n in range(100)))
        streams = [await one.stream(), await other.stream()]
        await seen(streams[1], has_line("line 99"))
        with closing(psycopg.connect(postgres_url)) as locked:
            locked.execute("LOCK TABLE release_chunks IN SHARE ROW EXCLUSIVE MODE")
            await fake.print("shop-h1-a", "app", *(f"line {n}" for n in range(100, 200)))
            async with asyncio.timeout(WITHIN_S):
                while not postgres.ask(WRITING, url=postgres_url):
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(postgres.kill)
        await asyncio.to_thread(postgres.start)
        await fake.print("shop-h1-a", "app", *(f"line {n}" for n in range(200, 300)))
        for stream in streams:
            whole = await seen(stream, has_line("line 299"))
            assert [n for n, _ in whole] == list(range(1, len(whole) + 1))
            assert list(lines(whole)) == [f"line {n}" for n in range(300)]
