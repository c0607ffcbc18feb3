"""A session over the API, from enable to its end, with a real JVM and a real debugger."""

import asyncio
import gc
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.gateway import Refused
from tests.integration.web.conftest import Gateway
from tests.principals import ADA

pytestmark = pytest.mark.jvm


@asynccontextmanager
async def jdb(session: dict[str, Any], *commands: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        "jdb",
        "-attach",
        f"{session['host']}:{session['port']}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    try:
        for command in commands:
            process.stdin.write(command.encode() + b"\n")
        await process.stdin.drain()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_enabling_twice_gives_one_session(gateway: Gateway) -> None:
    headers = gateway.api.headers()
    async with gateway.http.post(
        f"{gateway.url}/api/v1/sessions", json={"target": "local/shop", "for": "90m"}, headers=headers
    ) as answer:
        session = await answer.json()
        assert (answer.status, answer.headers["Location"]) == (201, f"../../api/v1/sessions/{session['id']}")
        # A long start is answered at once.
        assert session["status"] in ("pending", "starting")
    async with gateway.http.post(
        f"{gateway.url}/api/v1/sessions?wait=20", json={"target": "local/shop"}, headers=headers
    ) as answer:
        again = await answer.json()
        assert (answer.status, "Location" in answer.headers) == (200, False)
    assert (again["id"], again["status"], again["owner"]) == (session["id"], "ready", "ada")
    assert again["allow"] == ["127.0.0.1/32"]
    assert 5300 < again["expires_in_seconds"] <= 5400
    assert again["steps"]


async def test_a_request_that_is_cancelled_behind_a_slow_one_leaves_no_statement_behind(gateway: Gateway) -> None:
    session = await gateway.api.ready("local/shop")
    hour = timedelta(hours=1)
    with closing(sqlite3.connect(gateway.database, isolation_level=None, check_same_thread=False)) as other:
        # Not here: who holds the lock may be this loop.
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        async with asyncio.TaskGroup() as group:
            group.create_task(gateway.broker.extend(session["id"], by=ADA, length=hour))
            behind = group.create_task(gateway.broker.extend(session["id"], by=ADA, length=hour))
            await asyncio.sleep(0.1)  # both have got as far as they can
            behind.cancel()
            other.execute("ROLLBACK")
    assert behind.cancelled()
    gc.collect()  # a coroutine that was never awaited is a warning, and here an error


async def test_a_debuggers_stop_is_told_and_resumed(gateway: Gateway) -> None:
    session = await gateway.api.ready("local/shop")
    async with jdb(session, "stop in Shop$OrderService.total"):
        seen = await gateway.api.until(session, "suspended")
        assert seen["vm"]["state"] == "suspended"
        assert seen["vm"]["location"].startswith("Shop$OrderService.total")
        assert seen["attached"]["address"].startswith("127.0.0.1:")
        target = await gateway.api.ask("GET", "targets/local/shop")
        assert target["session"] == {
            "id": session["id"], "owner": "ada", "owner_id": ADA.id, "status": "suspended",
            "since": seen["vm"]["since"],
        }  # fmt: skip
        resumed = await gateway.api.ask("POST", f"sessions/{session['id']}/resume")
        assert (resumed["attached"], resumed["vm"]) == (None, None)
        [connection] = resumed["audit"]["connections"]
        assert connection["ended"] == "resumed by ada"
        assert connection["bytes_in"] > 0
        assert connection["until"].endswith("Z")
        assert resumed["audit"]["commands"]["EventRequest.Set"] >= 1


async def test_who_came_and_who_was_refused_are_steps_of_the_session(gateway: Gateway) -> None:
    session = await gateway.api.ready("local/shop")
    async with jdb(session):
        await gateway.api.until(session, "attached")
        for _ in range(3):  # an IDE that tries again
            reader, writer = await asyncio.open_connection(session["host"], session["port"])
            writer.write(b"JDWP-Handshake")
            assert await reader.read() == b""
            writer.close()
    expected = ["A debugger attached from", "A second debugger, from", "The debugger of"]
    async with asyncio.timeout(30):
        while True:
            seen = await gateway.api.ask("GET", f"sessions/{session['id']}")
            steps = [
                step["text"] for step in seen["steps"] if "debugger" in step["text"] and "Ready" not in step["text"]
            ]
            if steps[-1:] and steps[-1].startswith(expected[-1]):
                break
            await asyncio.sleep(0.05)
    # A busy JVM may stand for a moment between two refusals, which is a step of its own.
    assert len(steps) <= 8
    shown = [start for text in steps for start in expected if text.startswith(start)]
    assert [start for n, start in enumerate(shown) if start not in shown[:n]] == expected, steps


async def test_ending_waits_until_nothing_is_left(gateway: Gateway) -> None:
    session = await gateway.api.ready("local/shop")
    ended = await gateway.api.end(session)
    assert (ended["status"], ended["end_reason"], ended["ended_by"]) == ("ended", "closed", "ada")
    assert ended["expires_in_seconds"] == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(session["host"], session["port"])
    again = await gateway.api.end(session, user="bob")
    assert (again["end_reason"], again["ended_at"]) == ("closed", ended["ended_at"])
    for path, body in (("extend", {"for": "1h"}), ("resume", None)):
        with pytest.raises(Refused, match="409"):
            await gateway.api.ask("POST", f"sessions/{session['id']}/{path}", body)


async def test_somebody_elses_end_says_whose(gateway: Gateway) -> None:
    session = await gateway.api.ready("local/shop")
    ended = await gateway.api.end(session, user="bob")
    assert (ended["end_reason"], ended["ended_by"]) == ("canceled", "bob")


async def test_extending_counts_from_now_and_never_shortens(gateway: Gateway) -> None:
    session = await gateway.api.enable("local/shop", wait=0, **{"for": "1h"})
    extended = await gateway.api.ask("POST", f"sessions/{session['id']}/extend", {"for": "3h"})
    left = datetime.fromisoformat(extended["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=2, minutes=59) < left <= timedelta(hours=3)
    shorter = await gateway.api.ask("POST", f"sessions/{session['id']}/extend", {"for": 60})
    assert shorter["expires_at"] == extended["expires_at"]
    with pytest.raises(Refused, match="at most 12h"):
        await gateway.api.ask("POST", f"sessions/{session['id']}/extend", {"for": "13h"})


async def test_a_session_that_cannot_be_ends_with_the_reason(gateway: Gateway) -> None:
    session = await gateway.api.enable("local/nobody", wait=30)
    assert (session["status"], session["end_reason"]) == ("ended", "failed")
    assert session["end_detail"].endswith(".")


async def test_sessions_are_found_by_person_target_and_state(gateway: Gateway) -> None:
    past = await gateway.api.end(await gateway.api.ready("local/shop"))
    live = await gateway.api.ready("local/shop", user="bob")

    async def found(query: str) -> list[str]:
        page = await gateway.api.ask("GET", f"sessions?{query}")
        assert page["total"] == len(page["items"])
        return [session["id"] for session in page["items"]]

    assert await found("") == [live["id"]]
    assert await found("state=all") == [live["id"], past["id"]]
    assert await found("state=ended") == await found("status=ended") == [past["id"]]
    assert await found("owner=ada") == []
    assert await found("owner=ada&state=all") == [past["id"]]
    assert await found("target=local/shop&status=ready") == [live["id"]]
    assert await found("status=attached") == await found("status=ready&state=ended") == []
    assert await found("end_reason=closed") == await found("end_reason=closed&state=ended") == [past["id"]]
    assert await found("end_reason=closed&state=live") == await found("end_reason=failed") == []
    assert await found("target=local/nobody&state=all") == []

    page = await gateway.api.ask("GET", "sessions?state=all&limit=1")
    assert (page["items"][0]["id"], page["total"]) == (live["id"], 2)
    rest = await gateway.api.ask("GET", f"sessions?state=all&limit=1&continue={page['continue']}")
    assert (rest["items"][0]["id"], rest["continue"]) == (past["id"], None)


async def test_what_is_allowed_is_kept_as_networks(gateway: Gateway) -> None:
    allow = ["10.1.2.3", "10.1.2.3/16", "::ffff:10.9.9.9", "2001:db8::1/64"]
    session = await gateway.api.enable("local/shop", wait=0, allow=allow, allow_exit=True, pause_budget="10m")
    assert session["allow"] == ["10.1.2.3/32", "10.1.0.0/16", "10.9.9.9/32", "2001:db8::/64"]
    assert (session["allow_exit"], session["pause_budget_seconds"]) == (True, 600)


async def test_an_ide_is_told_the_sessions_address(gateway: Gateway) -> None:
    session = await gateway.api.enable("local/shop", wait=0)

    async def file(kind: str) -> tuple[str, str]:
        async with gateway.http.get(f"{gateway.url}/api/v1/sessions/{session['id']}/ide/{kind}") as answer:
            assert answer.status == 200
            return answer.headers["Content-Disposition"], await answer.text()

    name, text = await file("intellij")
    assert name == 'attachment; filename="shop.run.xml"'
    assert f'value="{session["port"]}"' in text
    ElementTree.fromstring(text)
    assert (await file("eclipse"))[0] == 'attachment; filename="shop.launch"'
    assert (await file("jdb"))[1] == f"jdb -attach 127.0.0.1:{session['port']}\n"


async def test_a_name_may_be_of_any_script(gateway: Gateway) -> None:
    headers = gateway.api.headers("Åsa Öberg")
    async with gateway.http.post(
        f"{gateway.url}/api/v1/sessions", json={"target": "local/shop"}, headers=headers
    ) as answer:
        assert (await answer.json())["owner"] == "Åsa Öberg"
