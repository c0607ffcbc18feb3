import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import pytest

from noah.core.session.event_kind import EventKind
from noah.store.feed import BEHIND, KEPT, Event, Feed

AT = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture
def feed() -> Feed:
    return Feed(epoch="e-1", clock=lambda: AT)


def publish(feed: Feed, count: int) -> None:
    for _ in range(count):
        feed.publish(EventKind.SESSION, "s1", {})


async def begun(feed: Feed) -> AsyncGenerator[Event, None]:
    """A watcher that is there already, and has seen one event."""
    watch = feed.watch(feed.last_id)
    publish(feed, 1)
    await anext(watch)
    return watch


async def ids(watch: AsyncGenerator[Event, None]) -> list[str]:
    return [event.id if event.kind != "reload" else f"reload {event.id}" async for event in watch]


async def test_who_watches_sees_what_comes_in_order(feed: Feed) -> None:
    publish(feed, 2)
    watch = await begun(feed)
    feed.publish(EventKind.STEP, "s2", {"text": "started"})
    assert await anext(watch) == Event("e-1-4", AT, EventKind.STEP, "s2", {"text": "started"})
    await watch.aclose()


async def test_who_was_cut_off_goes_on_without_gaps_and_doubles(feed: Feed) -> None:
    publish(feed, 5)
    watch = feed.watch("e-1-2")
    seen = [await anext(watch)]
    publish(feed, 2)  # while it still reads what it has missed
    feed.close()
    seen += [event async for event in watch]
    assert [event.id for event in seen] == [f"e-1-{n}" for n in range(3, 8)]


async def test_who_has_missed_nothing_is_told_nothing(feed: Feed) -> None:
    publish(feed, 2)
    feed.close()
    assert await ids(feed.watch("e-1-2")) == []
    assert await ids(feed.watch()) == []


async def test_the_oldest_event_that_is_kept_can_be_gone_on_from(feed: Feed) -> None:
    publish(feed, KEPT + 10)
    feed.close()
    assert len(await ids(feed.watch("e-1-10"))) == KEPT
    assert await ids(feed.watch("e-1-9")) == [f"reload {feed.last_id}"]


@pytest.mark.parametrize(
    "last_id", ["e-2-1", "1", "-1", "e-1-", "e-1-x", "e-1--1", "e-1-6", "e-1-٣", "e-1-" + "9" * 5000, "x" * 10_000]
)
async def test_a_number_that_means_nothing_here_is_answered_by_reload(feed: Feed, last_id: str) -> None:
    publish(feed, 5)
    feed.close()
    assert await ids(feed.watch(last_id)) == ["reload e-1-5"]


async def test_who_is_far_behind_is_told_to_reload_once_and_goes_on(feed: Feed) -> None:
    watch = await begun(feed)
    publish(feed, BEHIND)
    publish(feed, 1)  # one too many
    publish(feed, 2)
    feed.close()
    assert await ids(watch) == [f"reload e-1-{BEHIND + 2}", f"e-1-{BEHIND + 3}", f"e-1-{BEHIND + 4}"]


async def test_who_is_as_far_behind_as_is_allowed_loses_nothing(feed: Feed) -> None:
    watch = await begun(feed)
    publish(feed, BEHIND)
    feed.close()
    assert len(await ids(watch)) == BEHIND


async def test_a_slow_watcher_does_not_cost_a_quick_one_anything(feed: Feed) -> None:
    slow, quick = await begun(feed), await begun(feed)
    for n in range(3 * BEHIND):
        publish(feed, 1)
        assert (await anext(quick)).id == f"e-1-{n + 3}"
    assert (await anext(slow)).kind == "reload"
    await slow.aclose()
    await quick.aclose()


async def test_closing_ends_every_watch_at_once(feed: Feed) -> None:
    watches = [await begun(feed) for _ in range(3)]
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for watch in watches:
            group.create_task(ids(watch), name="watch")
        await asyncio.sleep(0)
        feed.close()
        feed.close()


async def test_what_is_published_after_closing_keeps_no_watch_open(feed: Feed) -> None:
    watch = await begun(feed)
    feed.close()
    publish(feed, 3 * BEHIND)  # sessions end while the gateway does
    async with asyncio.timeout(30):
        assert await ids(watch) == []
        assert await ids(feed.watch()) == []


async def test_who_has_gone_is_forgotten(feed: Feed) -> None:
    for _ in range(3):
        await (await begun(feed)).aclose()
    assert not feed._watchers
