"""A watch that stops, lies, is too old, or never comes: what is held stays true, and what changed is published once."""

import asyncio
import gc
import json
import logging
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from noah.kube.client import Client
from noah.kube.informer import SPARED_EVERY, Informer
from noah.kube.pods import Kind, Pod, PodIndex, read_pod
from noah.kube.watch import Pace
from tests.unit.kube.fake_api import Call, FakeApi

QUICK = Pace(first_wait=0.01, longest_wait=0.05, steady=0.0)


def pod(name: str, version: int, *, uid: str = "", namespace: str = "shop") -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "managedFields": [{"manager": "kubelet"}],
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "team": "blue",
                "debug.noah/agent": "always",
            },
        },
        "spec": {
            "nodeName": "node-a",
            "volumes": [{"name": "token"}],
            "containers": [
                {
                    "name": "app",
                    "image": "shop:1",
                    "env": [{"name": "JAVA_TOOL_OPTIONS", "value": "-Xmx1g"}, {"name": "PASSWORD", "value": "secret"}],
                    "volumeMounts": [{"name": "token"}],
                }
            ],
        },
        "status": {
            "phase": "Running",
            "qosClass": "Burstable",
            "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": None}],
            "containerStatuses": [{"name": "app", "ready": True, "imageID": "sha256:0", "state": {"running": {}}}],
        },
    }


class Story:
    """Lists and watches, one after the other; the last list is repeated, and after the last watch the next hangs."""

    def __init__(self, api: FakeApi) -> None:
        self.lists: list[tuple[list[dict[str, Any]], int]] = []
        self.watches: list[list[tuple[str, dict[str, Any]]]] = []
        self.from_versions: list[str | None] = []
        self.listed = 0
        api.on_list, api.on_watch = self.on_list, self.on_watch

    async def on_list(self, call: Call) -> None:
        items, version = self.lists[min(self.listed, len(self.lists) - 1)]
        self.listed += 1
        call.json(200, {"metadata": {"resourceVersion": str(version)}, "items": items})

    async def on_watch(self, call: Call) -> None:
        self.from_versions.append(call.param("resourceVersion"))
        call.begin_watch()
        if not self.watches:
            await call.writer.drain()
            await call.hang()
        for kind, what in self.watches.pop(0):
            call.event(kind, what)


@pytest.fixture
def story(api: FakeApi) -> Story:
    return Story(api)


class Watching:
    def __init__(self, informer: Informer) -> None:
        self.informer = informer
        self.changes: list[tuple[Kind, str]] = []
        informer.subscribe(self._note)

    def _note(self, pod: Pod, kind: Kind) -> None:
        self.changes.append((kind, pod["metadata"]["name"]))

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not true():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def watching(client: Client, **more: Any) -> AsyncIterator[Watching]:
    informer = Informer(client, **{"pace": QUICK, **more})
    watching = Watching(informer)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(informer.run())
        yield watching
        task.cancel()


async def test_pods_are_listed_then_watched(story: Story, client: Client) -> None:
    story.lists = [([pod("a", 1), pod("b", 2)], 10)]
    story.watches = [[("ADDED", pod("c", 11)), ("MODIFIED", pod("a", 12)), ("DELETED", pod("b", 13))]]
    async with watching(client) as seen:
        assert not seen.informer.synced
        assert await seen.informer.wait_synced(30)
        await seen.until(lambda: len(seen.changes) == 5)
        assert seen.changes == [("added", "a"), ("added", "b"), ("added", "c"), ("modified", "a"), ("deleted", "b")]
        assert {one["metadata"]["name"] for one in seen.informer.pods()} == {"a", "c"}
        assert seen.informer.get("shop", "b") is None
        # The watch ended as watches do: it goes on from its last event, with no list.
        await seen.until(lambda: len(story.from_versions) == 2)
        assert story.from_versions == ["10", "13"]
        assert story.listed == 1


async def test_only_what_is_asked_about_is_kept(story: Story, client: Client) -> None:
    story.lists = [([pod("a", 1)], 10)]
    async with watching(client) as seen:
        await seen.informer.wait_synced(30)
        kept = seen.informer.get("shop", "a")
    assert kept is not None
    assert kept["metadata"]["annotations"] == {"debug.noah/agent": "always"}
    assert "managedFields" not in kept["metadata"]
    assert kept["spec"] == {
        "nodeName": "node-a",
        "containers": [{"name": "app", "image": "shop:1", "env": [{"name": "JAVA_TOOL_OPTIONS", "value": "-Xmx1g"}]}],
    }
    assert kept["status"] == {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "app", "ready": True, "state": {"running": {}}}],
    }


async def test_bookmarks_move_the_watch_on(story: Story, client: Client) -> None:
    story.lists = [([], 10)]
    story.watches = [[("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "77"}})]]
    async with watching(client) as seen:
        await seen.until(lambda: len(story.from_versions) == 2)
        assert story.from_versions == ["10", "77"]
        assert seen.changes == []


async def test_a_list_comes_in_pages(api: FakeApi, story: Story, client: Client) -> None:
    async def pages(call: Call) -> None:
        after = call.param("continue")
        number = int(after or 0)
        more = {"continue": str(number + 1)} if number < 2 else {}
        call.json(200, {"metadata": {"resourceVersion": "10", **more}, "items": [pod(f"pod-{number}", number)]})

    api.on_list = pages
    async with watching(client, selector="team=blue") as seen:
        await seen.informer.wait_synced(30)
        assert len(seen.informer) == 3
    assert all((call.param("limit"), call.param("labelSelector")) == ("250", "team=blue") for call in api.calls[:3])


async def test_a_list_that_gets_too_old_between_pages_is_begun_again(
    api: FakeApi, story: Story, client: Client
) -> None:
    async def too_old_once(call: Call) -> None:
        if call.param("continue") and len(api.asked("pods")) == 2:
            call.refuse(410, "The provided continue parameter is too old")
        elif call.param("continue"):
            call.json(200, {"metadata": {"resourceVersion": "10"}, "items": [pod("b", 2)]})
        else:
            page = {"metadata": {"resourceVersion": "10", "continue": "x"}, "items": [pod("a", 1)]}
            call.json(200, page)

    api.on_list = too_old_once
    async with watching(client) as seen:
        await seen.informer.wait_synced(30)
        assert seen.changes == [("added", "a"), ("added", "b")]


@pytest.mark.parametrize("as_event", [True, False], ids=["as an event", "as an answer"])
async def test_what_changed_while_the_watch_was_away_is_published_once(
    api: FakeApi, story: Story, client: Client, as_event: bool
) -> None:
    story.lists = [
        ([pod("stays", 1), pod("changes", 2), pod("goes", 3), pod("is-replaced", 4, uid="old")], 10),
        ([pod("stays", 1), pod("changes", 22), pod("comes", 23), pod("is-replaced", 24, uid="new")], 30),
    ]
    went_on = story.on_watch

    async def gone(call: Call) -> None:
        api.on_watch = went_on
        if as_event:
            call.begin_watch()
            call.event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
        else:
            call.refuse(410, "too old resource version")

    api.on_watch = gone
    async with watching(client) as seen:
        await seen.until(lambda: len(seen.changes) >= 4 + 5)
        await seen.until(lambda: story.from_versions == ["30"])
    assert sorted(seen.changes[4:]) == [
        ("added", "comes"),
        ("added", "is-replaced"),
        ("deleted", "goes"),
        ("deleted", "is-replaced"),
        ("modified", "changes"),
    ]
    assert seen.changes.index(("deleted", "is-replaced")) < seen.changes.index(("added", "is-replaced"), 4)


async def test_a_watch_cut_in_the_middle_of_an_event_goes_on_from_the_last_whole_one(
    api: FakeApi, story: Story, client: Client
) -> None:
    story.lists = [([], 10)]
    went_on = story.on_watch

    async def cut(call: Call) -> None:
        api.on_watch = went_on
        call.begin_watch()
        call.event("ADDED", pod("a", 11))
        call.writer.write(b'{"type": "ADDED", "object": {"metada')
        await call.writer.drain()
        call.writer.transport.abort()

    api.on_watch = cut
    async with watching(client) as seen:
        await seen.until(lambda: story.from_versions == ["11"])
        assert seen.changes == [("added", "a")]
        assert story.listed == 1


async def test_a_watch_that_says_nothing_is_given_up_and_begun_again(story: Story, client: Client) -> None:
    story.lists = [([], 10)]
    late = 'Cluster "fake" does not answer: it neither feeds nor ends a watch.'
    async with watching(client, pace=Pace(watch=0.05, margin=0.05, first_wait=0.1)) as seen:
        await seen.until(lambda: seen.informer.trouble == late)
        await seen.until(lambda: len(story.from_versions) == 2 and seen.informer.trouble is None)


async def test_a_cluster_that_refuses_is_asked_until_it_does_not(api: FakeApi, story: Story, client: Client) -> None:
    story.lists = [([pod("a", 1)], 10)]
    may_list = story.on_list

    async def forbid(call: Call) -> None:
        call.refuse(403, "no")

    api.on_list = forbid
    async with watching(client) as seen:
        await seen.until(lambda: len(api.calls) > 5)
        assert not seen.informer.synced
        assert not await seen.informer.wait_synced(0.01)
        assert seen.informer.watch_age is None
        assert seen.informer.trouble == 'The gateway may not list pods in cluster "fake": no.'
        api.on_list = may_list
        assert await seen.informer.wait_synced(30)
        assert seen.informer.trouble is None
        assert seen.informer.watch_age is not None


async def test_waits_grow_while_it_fails(api: FakeApi, client: Client) -> None:
    at: list[float] = []

    async def fail(call: Call) -> None:
        at.append(asyncio.get_running_loop().time())
        call.refuse(500, "etcd is away")

    api.on_list = fail
    async with watching(client, pace=Pace(first_wait=0.02, longest_wait=0.2)) as seen:
        await seen.until(lambda: len(at) == 8)
    # Half of 20, 40, 80, 160, 200, 200 and 200 ms at least; without growth, it would be 140.
    assert at[-1] - at[0] >= 0.45


async def test_each_namespace_has_a_watch_of_its_own(api: FakeApi, story: Story, client: Client) -> None:
    async def by_path(call: Call) -> None:
        namespace = call.path.split("/")[4]
        call.json(200, {"metadata": {"resourceVersion": "1"}, "items": [pod("a", 1, namespace=namespace)]})

    api.on_list = by_path
    async with watching(client, namespaces=("shop", "bank")) as seen:
        await seen.informer.wait_synced(30)
        assert seen.informer.get("shop", "a") is not seen.informer.get("bank", "a")
        assert [one["metadata"]["namespace"] for one in seen.informer.in_namespace("bank")] == ["bank"]
        assert len(seen.informer) == 2


async def test_a_listener_that_raises_ends_nothing(
    story: Story, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    story.lists = [([pod("a", 1)], 10)]
    story.watches = [[("ADDED", pod("b", 11))]]

    def raises(pod: Pod, kind: Kind) -> None:
        raise RuntimeError("a bug")

    with caplog.at_level(logging.CRITICAL, logger="noah"):
        async with watching(client) as seen:
            unsubscribe = seen.informer.subscribe(raises)
            await seen.until(lambda: len(seen.changes) == 2)
            unsubscribe()
            unsubscribe()


@pytest.mark.parametrize("nonsense", [{}, {"metadata": None}, {"metadata": {"name": "b"}}, {"metadata": []}])
async def test_an_object_that_cannot_be_understood_costs_nobody_the_others(
    story: Story, client: Client, caplog: pytest.LogCaptureFixture, nonsense: dict[str, Any]
) -> None:
    story.lists = [([nonsense, pod("a", 1)], 10)]
    story.watches = [[("ADDED", nonsense), ("ADDED", pod("c", 20))]]
    with caplog.at_level(logging.CRITICAL, logger="noah"):
        async with watching(client) as seen:
            await seen.until(lambda: seen.changes == [("added", "a"), ("added", "c")])
            await seen.until(lambda: seen.informer.trouble is None)


class Pages:
    """A list of pages, each of which may be answered in its own way."""

    def __init__(self, api: FakeApi, *pages: list[dict[str, Any]]) -> None:
        self.pages = pages
        self.asked: list[int] = []
        self.before: list[Callable[[Call, int], Awaitable[bool]]] = []  # each may answer instead, once
        api.on_list = self.on_list
        api.on_watch = hangs

    async def on_list(self, call: Call) -> None:
        number = int(call.param("continue") or 0)
        self.asked.append(number)
        if self.before and await self.before[0](call, number):
            self.before.pop(0)
            return
        more = {"continue": str(number + 1)} if number + 1 < len(self.pages) else {}
        call.json(200, {"metadata": {"resourceVersion": "10", **more}, "items": self.pages[number]})


async def hangs(call: Call) -> None:
    call.begin_watch()
    await call.writer.drain()
    await call.hang()


async def test_pods_of_the_first_page_are_there_while_the_others_are_listed(api: FakeApi, client: Client) -> None:
    pages, goes_on = Pages(api, [pod("a", 1)], [pod("b", 2)]), asyncio.Event()

    async def wait(call: Call, number: int) -> bool:
        if number == 1:
            await goes_on.wait()
        return False

    pages.before.append(wait)
    async with watching(client) as seen:
        await seen.until(lambda: seen.informer.get("shop", "a") is not None)
        assert not seen.informer.synced
        goes_on.set()
        assert await seen.informer.wait_synced(30)
        assert len(seen.informer) == 2


async def test_a_full_collection_while_very_many_are_listed_does_not_look_through_them(
    api: FakeApi, client: Client
) -> None:
    pages = Pages(api, [pod(f"p{number}", 1) for number in range(SPARED_EVERY)], [pod("last", 2)])
    goes_on = asyncio.Event()

    async def wait(call: Call, number: int) -> bool:
        if number == 1:
            await goes_on.wait()
        return False

    pages.before.append(wait)
    gc.unfreeze()
    try:
        async with watching(client) as seen:
            await seen.until(lambda: len(seen.informer) == SPARED_EVERY)
            assert gc.get_freeze_count() > 0
            goes_on.set()
            assert await seen.informer.wait_synced(30)
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_server_is_asked_for_the_same_page_after_the_time_that_it_wants(
    api: FakeApi, client: Client, status: int
) -> None:
    pages, refused_at = Pages(api, [pod("a", 1)], [pod("b", 2)]), list[float]()

    async def refuse(call: Call, number: int) -> bool:
        if number == 1:
            refused_at.append(asyncio.get_running_loop().time())
            body = b'{"message": "too many requests"}'
            head = f"HTTP/1.1 {status} X\r\nRetry-After: 1\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            call.writer.write(head.encode() + body)
        return number == 1

    pages.before.append(refuse)
    async with watching(client) as seen:
        assert await seen.informer.wait_synced(20)
        assert asyncio.get_running_loop().time() - refused_at[0] >= 1
        assert pages.asked == [0, 1, 1]
        assert seen.informer.trouble is None


async def test_a_watch_that_is_always_too_old_lists_again_more_and_more_seldom(api: FakeApi, client: Client) -> None:
    pages = Pages(api, [pod("a", 1)])

    async def gone(call: Call) -> None:
        call.begin_watch()
        call.event("ERROR", {"code": 410, "message": "too old resource version"})

    api.on_watch = gone
    slow = Pace(first_wait=0.05, longest_wait=60.0, steady=5.0)
    async with watching(client, pace=slow) as seen:
        await seen.until(lambda: len(pages.asked) >= 3)
        await asyncio.sleep(1.5)
        # The pauses are 0.05 s, 0.1 s, 0.2 s, ... and half of that at least: seven of them take 3.2 s.
        assert len(pages.asked) <= 8


async def test_a_list_that_is_too_old_in_its_middle_begins_again(api: FakeApi, client: Client) -> None:
    pages = Pages(api, [pod("a", 1)], [pod("b", 2)])

    async def gone(call: Call, number: int) -> bool:
        if number == 1:
            call.refuse(410, "the provided continue parameter is too old")
            pages.pages = ([pod("a", 1)], [pod("c", 3)])
        return number == 1

    pages.before.append(gone)
    async with watching(client) as seen:
        assert await seen.informer.wait_synced(30)
        assert pages.asked == [0, 1, 0, 1]
        assert {one["metadata"]["name"] for one in seen.informer.pods()} == {"a", "c"}


def test_pods_of_one_revision_are_held_in_half_a_kibibyte_each() -> None:
    index = PodIndex()

    def text(number: int) -> bytes:
        one = pod(f"shop-7d9c5b8f6-{number:05}", number)
        one["spec"]["containers"][0]["livenessProbe"] = {"exec": {"command": ["sh", "-c", "x" * 2000]}}
        return json.dumps(one).encode()

    list(index.put(read_pod(text(0))))
    tracemalloc.start()
    try:
        for number in range(1, 501):
            list(index.put(read_pod(text(number))))
        assert tracemalloc.get_traced_memory()[0] / 500 < 512
    finally:
        tracemalloc.stop()
    assert index.get("shop", "shop-7d9c5b8f6-00500") == read_pod(text(500))
