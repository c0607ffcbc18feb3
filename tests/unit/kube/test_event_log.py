"""A cluster's events, followed by several at once, while the API is away, refuses, or forgets."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from noah.kube.client import Client
from noah.kube.errors import MissingRight
from noah.kube.event_log import Event, EventLog
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
    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, event: Event) -> None:
        self.names.append(event["metadata"]["name"])

    async def has(self, *names: str) -> None:
        async with asyncio.timeout(5):
            while self.names != list(names):
                await asyncio.sleep(0.005)


async def test_events_are_listed_and_watched_once_for_all_who_follow(events: Events, client: Client) -> None:
    events.watches = [[("ADDED", event("b", 11)), ("MODIFIED", event("b", 12)), ("DELETED", event("a", 13))]]
    first, second = Follower(), Follower()
    async with running(client) as event_log, asyncio.TaskGroup() as group:
        one = group.create_task(event_log.follow("shop", first))
        await first.has("a", "b", "b")
        two = group.create_task(event_log.follow("shop", second))
        await second.has("b")
        assert events.lists == 1
        one.cancel()
        two.cancel()


async def test_an_api_that_is_away_is_waited_for(events: Events, client: Client) -> None:
    events.refuses = [503, 500, 429]
    follower = Follower()
    async with running(client) as event_log, asyncio.TaskGroup() as group:
        task = group.create_task(event_log.follow("shop", follower))
        await follower.has("a")
        task.cancel()


async def test_a_missing_right_is_raised_to_all_who_follow(events: Events, client: Client) -> None:
    events.refuses = [403]
    async with running(client) as event_log:
        both = await asyncio.gather(
            event_log.follow("shop", Follower()), event_log.follow("shop", Follower()), return_exceptions=True
        )
    assert [type(one) for one in both] == [MissingRight, MissingRight]


async def test_events_of_a_watch_that_is_too_old_are_listed_again(events: Events, client: Client) -> None:
    events.kept += [[event("a", 1), event("c", 20)]]
    events.watches = [[("ERROR", {"kind": "Status", "code": 410, "message": "too old"})]]
    follower = Follower()
    async with running(client) as event_log, asyncio.TaskGroup() as group:
        task = group.create_task(event_log.follow("shop", follower))
        await follower.has("a", "c")
        assert events.lists == 2
        task.cancel()


async def test_a_follower_that_raises_ends_nothing(
    events: Events, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    events.watches = [[("ADDED", event("b", 11))]]
    follower = Follower()

    def raises(event: Event) -> None:
        raise RuntimeError("a bug")

    with caplog.at_level(logging.CRITICAL, logger="noah"):
        async with running(client) as event_log, asyncio.TaskGroup() as group:
            tasks = [group.create_task(event_log.follow("shop", take)) for take in (raises, follower)]
            await follower.has("a", "b")
            assert events.lists == 1
            for task in tasks:
                task.cancel()
