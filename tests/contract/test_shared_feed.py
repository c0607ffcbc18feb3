"""One feed for all gateways of a PostgreSQL: the same events with the same numbers at each, whatever happens to it."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from itertools import cycle

import pytest

from noah.clock import machine_clock
from noah.core.session.event_kind import EventKind
from noah.store import upgrade
from noah.store.database import Database
from noah.store.feed import KEPT, Event
from noah.store.feed_rows import FeedRows
from noah.store.hints import Hints, open_hints
from noah.store.shared_feed import MOST_WAITING, SharedFeed, open_shared_feed
from tests.postgres import Postgres

pytestmark = pytest.mark.postgres
Gateway = Callable[..., AbstractAsyncContextManager[SharedFeed]]


@pytest.fixture
async def gateway(postgres_url: str) -> Gateway:
    """Each call is the feed of another gateway on the same database."""
    await asyncio.to_thread(upgrade, postgres_url)

    @asynccontextmanager
    async def opened(*, deaf: bool = False) -> AsyncIterator[SharedFeed]:
        database = Database(postgres_url)
        try:
            async with open_hints(database) as hints:
                heard = Hints() if deaf else hints
                async with open_shared_feed(FeedRows(database), heard, clock=machine_clock) as feed:
                    yield feed
        finally:
            await database.close()

    return opened


async def take(feed: SharedFeed, last_id: str, count: int) -> list[Event]:
    found: list[Event] = []
    try:
        async with asyncio.timeout(60), aclosing(feed.watch(last_id)) as watched:
            async for event in watched:
                found.append(event)
                if len(found) == count:
                    break
    except TimeoutError:
        raise AssertionError(f"{len(found)} of {count} events came; the last is {found[-1:]}") from None
    return found


def numbers(events: list[Event]) -> list[int]:
    return [int(event.id.rpartition("-")[2]) for event in events]


async def publish(feed: SharedFeed, name: str, count: int) -> None:
    for n in range(count):
        feed.publish(EventKind.STEP, f"local/{name}", {"n": n})
        if n % 50 == 0:
            await asyncio.sleep(0.005)


async def test_each_gateway_shows_the_same_events_with_the_same_numbers(gateway: Gateway) -> None:
    async with gateway() as one, gateway() as other, asyncio.TaskGroup() as group:
        begin = one.last_id
        watches = [group.create_task(take(feed, begin, 10_000)) for feed in (one, other, one, other)]
        await asyncio.gather(publish(one, "one", 5000), publish(other, "other", 5000))
        first, *rest = await asyncio.gather(*watches)
        assert all(seen == first for seen in rest)
        assert numbers(first) == list(range(1, 10_001))
        for name in ("one", "other"):  # in the order in which its gateway has published them
            assert [event.data["n"] for event in first if event.subject == f"local/{name}"] == list(range(5000))


async def test_a_browser_goes_on_at_another_gateway_without_a_gap_or_a_double(gateway: Gateway) -> None:
    async with gateway() as one, gateway() as other, asyncio.TaskGroup() as group:
        seen, last_id, publishing = list[Event](), one.last_id, group.create_task(publish(one, "x", 1000))
        for at in cycle((one, other)):
            if len(seen) == 1000:
                break
            seen += await take(at, last_id, min(1 + secrets.randbelow(60), 1000 - len(seen)))
            last_id = seen[-1].id
        await publishing
        assert numbers(seen) == list(range(1, 1001))
        assert [event.data["n"] for event in seen] == list(range(1000))


async def test_a_gateway_that_is_behind_reads_on_before_it_answers(gateway: Gateway) -> None:
    async with gateway() as one, gateway(deaf=True) as behind:
        one.publish(EventKind.STEP, "local/x", {"n": 1})
        (first,) = await take(one, one.last_id, 1)
        one.publish(EventKind.STEP, "local/x", {"n": 2})
        (second,) = await take(behind, first.id, 1)
        assert second.data == {"n": 2}


async def test_a_hint_that_is_lost_costs_a_poll_and_nothing_else(gateway: Gateway) -> None:
    async with gateway(deaf=True) as one, gateway(deaf=True) as other, asyncio.TaskGroup() as group:
        watching = group.create_task(take(other, other.last_id, 3))
        await publish(one, "x", 3)
        assert [event.data["n"] for event in await watching] == [0, 1, 2]


async def test_events_wait_for_a_database_that_is_away(gateway: Gateway, postgres: Postgres) -> None:
    async with gateway() as one, gateway() as other, asyncio.TaskGroup() as group:
        watches = [group.create_task(take(feed, feed.last_id, 300)) for feed in (one, other)]
        await publish(one, "x", 100)
        await asyncio.to_thread(postgres.kill)
        try:
            await publish(one, "y", 100)
        finally:
            await asyncio.to_thread(postgres.start)
        await publish(other, "z", 100)
        first, second = await asyncio.gather(*watches)
        assert first == second
        assert numbers(first) == list(range(1, 301))


async def test_an_append_without_an_answer_is_not_doubled(gateway: Gateway, postgres: Postgres) -> None:
    async with gateway() as one, asyncio.TaskGroup() as group:
        watching = group.create_task(take(one, one.last_id, 2000))
        publishing = group.create_task(publish(one, "x", 2000))
        while not publishing.done():  # connections are cut in whatever they do
            await asyncio.to_thread(
                postgres.execute,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
            )
        assert [event.data["n"] for event in await watching] == list(range(2000))


async def test_an_event_with_text_that_no_database_holds_is_kept_without_that(gateway: Gateway) -> None:
    async with gateway() as one:
        begin = one.last_id
        one.publish(EventKind.STEP, "local/x", {"n": 1})
        one.publish(EventKind.STEP, "local/\0x", {"text": "a\0b", "deeper": [{"c\0": "\ud800"}], "n": 2})
        first, second = await take(one, begin, 2)
        assert first.data == {"n": 1}
        assert (second.subject, second.data) == ("local/x", {"text": "ab", "deeper": [{"c": "?"}], "n": 2})


async def test_too_many_that_wait_are_one_reload_for_all(gateway: Gateway, postgres: Postgres) -> None:
    async with gateway() as one, gateway() as other, asyncio.TaskGroup() as group:
        watches = [group.create_task(take(feed, feed.last_id, 2)) for feed in (one, other)]
        await asyncio.sleep(0)
        await asyncio.to_thread(postgres.kill)
        try:
            for n in range(MOST_WAITING + 1):
                one.publish(EventKind.STEP, "local/x", {"n": n})
        finally:
            await asyncio.to_thread(postgres.start)
        for seen in await asyncio.gather(*watches):
            assert [(event.kind, event.data) for event in seen] == [("reload", {}), ("step", {"n": MOST_WAITING})]


async def test_who_was_away_for_too_long_reloads_at_any_gateway(gateway: Gateway) -> None:
    async with gateway() as one:
        begin = one.last_id
        await publish(one, "x", KEPT + 300)
        while not one.last_id.endswith(f"-{KEPT + 300}"):
            await asyncio.sleep(0.05)
        async with gateway() as later:
            for feed in (one, later):
                (event,) = await take(feed, begin, 1)
                assert (event.kind, event.id) == ("reload", one.last_id)
                seen = await take(feed, f"{one.last_id.rpartition('-')[0]}-{KEPT + 200}", 100)
                assert numbers(seen) == list(range(KEPT + 201, KEPT + 301))
