"""The feed as server-sent events, read by the reader of the command line."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from noah.client.event_reader import EventReader
from noah.core.session.event_kind import EventKind
from noah.core.session.rights import Right
from noah.web.api.route import Call, Routes
from noah.web.permission import demand
from noah.web.sse import PING, STALLED, EventWriter, streamed
from noah.web.wire import Nothing
from tests.integration.web.conftest import Gateway, serving

pytestmark = pytest.mark.jvm
ROUTES = Routes()


class Stream:
    def __init__(self, answer: aiohttp.ClientResponse, last_id: str | None) -> None:
        self.answer = answer
        self.raw = b""
        self.reader = EventReader(last_id)
        self._events: list[dict[str, Any]] = []

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while not self._events:
                piece = await self.answer.content.readany()
                if not piece and self.answer.content.at_eof():
                    raise EOFError
                self.raw += piece
                self._events += [json.loads(event.data) for event in self.reader.feed(piece)]
        return self._events.pop(0)

    async def until(self, **wanted: Any) -> list[dict[str, Any]]:
        """The events up to the first that has what is wanted."""
        seen = [await self.next()]
        while {**seen[-1], **wanted} != seen[-1]:
            seen.append(await self.next())
        return seen


@asynccontextmanager
async def watching(gateway: Gateway, last_id: str | None = None, **query: str) -> AsyncIterator[Stream]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with gateway.http.get(f"{gateway.url}/api/v1/events", params=query, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        yield Stream(answer, last_id)


async def test_a_session_is_told_from_its_beginning_to_its_end(gateway: Gateway) -> None:
    async with watching(gateway) as stream:
        session = await gateway.api.ready("local/shop")
        await gateway.api.end(session)
        seen = await stream.until(kind="session", status="ended")
    assert {event["subject"] for event in seen} == {"local/shop"}
    assert {event["session"] for event in seen} == {session["id"]}
    statuses = [event["status"] for event in seen if event["kind"] == "session"]
    assert statuses.index("ready") < statuses.index("ending") < statuses.index("ended")
    assert stream.raw.startswith(b"retry: 2000\nid: e-0\n\n")


async def test_who_was_cut_off_misses_nothing_and_sees_nothing_twice(gateway: Gateway) -> None:
    async with watching(gateway) as stream:
        gateway.feed.publish(EventKind.STEP, "local/shop", {"n": 1})
        assert (await stream.next())["n"] == 1
        last_id = stream.reader.last_id
    for n in (2, 3):
        gateway.feed.publish(EventKind.STEP, "local/shop", {"n": n})
    async with watching(gateway, last_id) as stream:
        assert [(await stream.next())["n"] for _ in range(2)] == [2, 3]
    async with watching(gateway, last_event_id=str(last_id)) as stream:
        assert (await stream.next())["n"] == 2


@ROUTES.raw("/api/v1/gone", right=Right.SEE, summary="A stream without its client.", content_types=("text/plain",))
async def gone(call: Call[Nothing, Nothing]) -> web.StreamResponse:
    await demand(call.request, Right.SEE)
    assert call.request.transport is not None
    call.request.transport.close()

    async def write(_: EventWriter) -> None:
        raise AssertionError("nobody reads that")

    return await streamed(call.request, "e-0", write, right=(Right.SEE, None))


async def test_a_client_that_is_gone_before_its_stream_begins_is_not_a_failure(
    jvm: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(jvm, tmp_path, more_routes=tuple(ROUTES.declared)) as gateway:
        with pytest.raises(aiohttp.ClientError):
            await gateway.http.get(f"{gateway.url}/api/v1/gone", headers=gateway.api.headers())
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


async def test_who_was_cut_off_before_the_first_event_misses_nothing(gateway: Gateway) -> None:
    async with watching(gateway) as stream:
        gateway.feed.publish(EventKind.STEP, "local/other", {})
        await stream.answer.content.readany()
        at_connect = "e-0"
    gateway.feed.publish(EventKind.STEP, "local/shop", {"n": 1})
    async with watching(gateway, at_connect, target="local/shop") as stream:
        assert (await stream.next())["n"] == 1


async def test_who_comes_from_another_process_is_told_to_read_anew(gateway: Gateway) -> None:
    async with watching(gateway, "earlier-7", target="local/shop") as stream:
        gateway.feed.publish(EventKind.STEP, "local/shop", {"n": 1})
        assert [(await stream.next())["kind"] for _ in range(2)] == ["reload", "step"]


async def test_a_stream_tells_only_of_the_target_or_session_that_was_asked_for(gateway: Gateway) -> None:
    async with watching(gateway, target="pod/a/ns/shop") as target, watching(gateway, session="s-2") as session:
        for subject, about in (
            ("pod/a/ns/shop-1/app", "s-1"),
            ("pod/a/ns/shop/app", "s-2"),
            ("pod/a/ns/shop/sidecar", "s-3"),
            ("local/shop", "s-2"),
        ):
            gateway.feed.publish(EventKind.STEP, subject, {"session": about})
        assert [(await target.next())["session"] for _ in range(2)] == ["s-2", "s-3"]
        assert [(await session.next())["subject"] for _ in range(2)] == ["pod/a/ns/shop/app", "local/shop"]


async def test_a_stream_of_a_target_follows_a_session_that_goes_to_another(gateway: Gateway) -> None:
    async with watching(gateway, target="pod/a/ns/shop-1/app") as stream:
        for subject, about in (
            ("pod/a/ns/shop-2/app", "s-1"),  # before it was on the target
            ("pod/a/ns/shop-1/app", "s-1"),
            ("pod/a/ns/shop-2/app", "s-1"),
            ("pod/a/ns/shop-2/app", "s-2"),
            ("pod/a/ns/shop-1/app", "s-3"),
        ):
            gateway.feed.publish(EventKind.STEP, subject, {"session": about})
        seen = [await stream.next() for _ in range(3)]
    assert [(event["subject"][-5], event["session"]) for event in seen] == [("1", "s-1"), ("2", "s-1"), ("1", "s-3")]


async def test_ones_own_sessions_are_told_of_beside_what_one_looks_at(gateway: Gateway) -> None:
    async with gateway.http.get(f"{gateway.url}/api/v1/me") as answer:
        me = (await answer.json())["principal"]
    async with (
        watching(gateway, mine="true") as only_mine,
        watching(gateway, mine="true", environment="shop") as with_shop,
    ):
        for n, environment in enumerate(("shop", "other")):
            gateway.feed.publish(EventKind.STEP, "local/shop", {"n": n, "environment": environment})
        mine = {"owner_principal": me, "environment": "other"}
        gateway.feed.publish(EventKind.STEP, "local/shop", {"n": 2, **mine})
        assert (await only_mine.next())["n"] == 2
        assert [(await with_shop.next())["n"] for _ in range(2)] == [0, 2]


async def test_what_an_event_says_cannot_end_its_line(gateway: Gateway) -> None:
    nasty = "a\nid: 9\r\n\ndata: {}\u2028\0</script>"
    async with watching(gateway) as stream:
        gateway.feed.publish(EventKind.STEP, "local/shop", {"text": nasty})
        assert (await stream.next())["text"] == nasty


async def test_streams_end_when_the_gateway_stops(gateway: Gateway) -> None:
    async with watching(gateway) as one, watching(gateway) as other:
        stopping = asyncio.get_running_loop().time()
        await gateway.stop()
        for stream in (one, other):
            with pytest.raises(EOFError):
                await stream.next()
        assert asyncio.get_running_loop().time() - stopping < 30  # not the 60 s that an open stream would hold it


async def test_a_quiet_stream_says_that_it_lives_and_how_far_it_is(gateway: Gateway) -> None:
    async with watching(gateway, target="local/shop") as stream:
        gateway.feed.publish(EventKind.STEP, "local/other", {})
        async with asyncio.timeout(PING + 10):
            while b": ping" not in stream.raw:
                stream.raw += await stream.answer.content.readany()
    # Events of others count: who comes back to here is not sent through them again.
    assert stream.raw.endswith(b": ping\nid: e-1\n\n")


async def test_a_watcher_that_is_gone_is_let_go_of(gateway: Gateway) -> None:
    async with watching(gateway):
        assert len(_watchers(gateway)) == 1
    async with asyncio.timeout(60):
        while _watchers(gateway):
            gateway.feed.publish(EventKind.STEP, "local/shop", {})
            await asyncio.sleep(0.05)


async def test_who_does_not_read_is_cut_off_and_goes_on_later(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.server.port)) as deaf:
        deaf.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(STALLED + 15):
            while not _watchers(gateway):
                await asyncio.sleep(0.02)
            # More than the kernel holds for it, a piece at a time, as far as the feed is read.
            for _ in range(400):
                gateway.feed.publish(EventKind.STEP, "local/shop", {"text": "x" * 50_000})
                await asyncio.sleep(0)
            while _watchers(gateway):
                await asyncio.sleep(0.05)
    async with watching(gateway, "e-399") as stream:
        assert len((await stream.next())["text"]) == 50_000


def _watchers(gateway: Gateway) -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("ping ")]
