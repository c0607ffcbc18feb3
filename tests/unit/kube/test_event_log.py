"""A cluster's events, followed by several at once, while the API is away, refuses, or forgets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from noah.kube.client import Client
from noah.kube.errors import MissingRight
from noah.kube.event_log import LONGEST_QUEUE, EventLog
from noah.kube.watch import Pace
from tests.unit.kube.fake_api import Call, FakeApi

QUICK = Pace(first_wait=0.01, longest_wait=0.02, steady=0.0)


def event(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}}


class Events:
    """Answers each list with the next of *kept*, or the last.

    Each watch sends the next of *watches*, and the one after the last hangs.
    """

    def __init__(self, api: FakeApi) -> None:
        self.kept = [[event("a", 1)]]
        self.watches: list[list[tuple[str, dict[str, Any]]]] = []
        self.refuses: list[int] = []
        self.lists = 0
        api.on_anything = self

    async def __call__(self, call: Call) -> None:
        if self.refuses:
            call.refuse(self.refuses.pop(0), "no")
        elif not call.param("watch"):
            self.lists += 1
            call.json(
                200, {"metadata": {"resourceVersion": "10"}, "items": self.kept[min(self.lists, len(self.kept)) - 1]}
            )
        else:
            call.begin_watch()
            if not self.watches:
                await call.writer.drain()
                await call.hang()
            for kind, what in self.watches.pop(0):
                call.event(kind, what)


@pytest.fixture
def events(api: FakeApi) -> Events:
    return Events(api)


@asynccontextmanager
async def running(client: Client) -> AsyncIterator[EventLog]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task((event_log := EventLog(client, pace=QUICK)).run())
        await asyncio.sleep(0)
        yield event_log
        task.cancel()


class Follower:
    def __init__(self, event_log: EventLog) -> None:
        self.events = event_log.follow("shop")

    async def has(self, *names: str) -> None:
        """Read on until each of *names* has come, in this order and with nothing between."""
        async with asyncio.timeout(30):
            for name in names:
                assert (await anext(self.events))["metadata"]["name"] == name


async def test_events_are_listed_and_watched_once_for_all_who_follow(events: Events, client: Client) -> None:
    events.watches = [[("ADDED", event("b", 11)), ("DELETED", event("a", 12)), ("MODIFIED", event("b", 13))]]
    async with running(client) as event_log:
        first, second = Follower(event_log), Follower(event_log)
        await first.has("a", "b", "b")
        await second.has("b")
        assert events.lists == 1
        await first.events.aclose()
        await second.events.aclose()


async def test_an_api_that_is_away_is_waited_for(events: Events, client: Client) -> None:
    events.refuses = [503, 500, 429]
    async with running(client) as event_log, aclosing(Follower(event_log).events) as following:
        assert (await anext(following))["metadata"]["name"] == "a"


async def test_a_missing_right_is_raised_to_all_who_follow(events: Events, client: Client) -> None:
    events.refuses = [403]
    async with running(client) as event_log:
        both = await asyncio.gather(*(anext(event_log.follow("shop")) for _ in range(2)), return_exceptions=True)
    assert [type(one) for one in both] == [MissingRight, MissingRight]


async def test_events_of_a_watch_that_is_too_old_are_listed_again(events: Events, client: Client) -> None:
    events.kept += [[event("a", 1), event("c", 20)]]
    events.watches = [[("ERROR", {"kind": "Status", "code": 410, "message": "too old"})]]
    async with running(client) as event_log:
        follower = Follower(event_log)
        await follower.has("a", "c")
        assert events.lists == 2
        await follower.events.aclose()


async def test_a_follower_that_never_reads_holds_nothing_up(events: Events, client: Client) -> None:
    many = [("MODIFIED", event("b", 11 + n)) for n in range(LONGEST_QUEUE + 100)]
    events.watches = [many, [("ADDED", event("c", 1))]]
    async with running(client) as event_log:
        reader, sleeper = Follower(event_log), Follower(event_log)
        await reader.has("a")
        await sleeper.has("a")
        await reader.has(*["b"] * len(many), "c")
        await sleeper.has(*["b"] * (LONGEST_QUEUE - 1), "c")
        await reader.events.aclose()
        await sleeper.events.aclose()


async def test_nothing_is_watched_when_nobody_follows_any_more(events: Events, client: Client) -> None:
    async with running(client) as event_log:
        for lists in (1, 2):
            follower = Follower(event_log)
            await follower.has("a")
            await follower.events.aclose()
            assert events.lists == lists
