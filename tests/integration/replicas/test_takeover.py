"""A session goes on at another gateway when its own is killed, frozen or cut off, and no two ever have it."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from noah.core.lease import LEASE_S
from noah.errors import Unavailable
from noah.sessions.ownership import CATCH_UP_TAKES_S
from noah.store.database import AT_ONCE_TAKES
from tests.postgres import Postgres
from tests.replicas import BUSY, TAKEN_OVER_WITHIN_S, Replica, Replicas, until
from tests.sample_process import App

pytestmark = [pytest.mark.jvm, pytest.mark.postgres]


async def test_any_gateway_answers_any_request(three: Replicas, app: App) -> None:
    a, b, c = three.gateways
    session = await a.api.ready(f"local/{app.name}")
    assert (await b.api.until(session, "ready"))["steps"]
    with pytest.raises(Exception, match="ada is already debugging"):
        await c.api.enable(f"local/{app.name}", user="bob")
    assert (await c.api.ready(f"local/{app.name}"))["id"] == session["id"]
    extended = await b.api.ask("POST", f"sessions/{session['id']}/extend", {"for": "5h"})

    async def extends() -> bool:
        return bool((await a.api.show(session))["expires_at"] == extended["expires_at"])

    await until(extends)
    async with app.at_a_breakpoint(a.host, session["port"]) as debugger:
        for one in three.gateways:
            shown = await one.api.until(session, "suspended")
            assert shown["vm"]["location"].startswith("OrderService.price:")
            (item,) = (await one.api.ask("GET", "sessions"))["items"]
            assert item["attached"] == shown["attached"]
        asked = await c.api.ask("POST", f"sessions/{session['id']}/ask", {"text": "soon?"}, user="bob")
        assert asked["steps"][-1]["text"] == "bob asks to resume: soon?"
        assert (await a.api.show(session))["steps"][-1]["text"] == "bob asks to resume: soon?"
        resumed = await b.api.ask("POST", f"sessions/{session['id']}/resume", {})
        assert resumed["attached"] is None
        await debugger.says("disconnected")
    await b.api.until(session, "ready")
    assert (await c.api.end(session))["status"] == "ended"
    for one in three.gateways:
        assert (await one.api.ask("GET", "sessions"))["items"] == []


async def test_a_killed_gateway_s_session_goes_on_at_another_by_the_same_port(three: Replicas, app: App) -> None:
    a = three.gateways[0]
    session = await a.api.ready(f"local/{app.name}")
    loop = asyncio.get_running_loop()
    async with app.at_a_breakpoint(a.host, session["port"]):
        await a.api.until(session, "suspended")
        await a.stop(signal.SIGKILL)
        killed_at = loop.time()
    owner = await three.new_owner_of(session, after=a)
    shown = await owner.api.until(session, "ready")
    took_s = loop.time() - killed_at
    assert took_s < TAKEN_OVER_WITHIN_S * BUSY
    assert (await three.row(session))[1] == 2
    assert shown["port"] == session["port"]
    assert [step["text"] for step in shown["steps"]][: len(session["steps"])] == [s["text"] for s in session["steps"]]
    (connection,) = shown["audit"]["connections"]
    assert connection["ended"] == "the gateway ended before it could say why"
    async with app.at_a_breakpoint(owner.host, session["port"]):
        await owner.api.until(session, "suspended")
    await a.start()
    assert (await a.api.end(session))["status"] == "ended"


@pytest.mark.parametrize("how", ["frozen", "cut off from the database"])
async def test_a_gateway_that_was_away_gets_the_session_of_its_debugger_back(
    three: Replicas, app: App, how: str
) -> None:
    a = three.gateways[0]
    session = await a.api.ready(f"local/{app.name}")
    async with app.at_a_breakpoint(a.host, session["port"]) as debugger:
        await a.api.until(session, "suspended")
        async with _away(a, how):
            owner = await three.new_owner_of(session, after=a)
            await until(lambda: _is_left_alone(owner, session))
        async with asyncio.timeout(TAKEN_OVER_WITHIN_S * BUSY):
            while await three.owner_of(session) is not a:
                await asyncio.sleep(0.1)
        assert (await three.row(session))[1] == 3
        for one in three.gateways:
            await one.api.until(session, "suspended")
        assert "was declared dead" in a.log.read_text()
        debugger.type("clear OrderService.price")
        debugger.type("cont")
        await owner.api.until(session, "attached")
    assert (await owner.api.until(session, "ready"))["port"] == session["port"]
    assert (await owner.api.end(session))["status"] == "ended"


async def test_a_session_that_ends_while_its_gateway_is_away_is_over_there_too(three: Replicas, app: App) -> None:
    a = three.gateways[0]
    session = await a.api.ready(f"local/{app.name}")
    async with _away(a, "frozen"):
        owner = await three.new_owner_of(session, after=a)
        await owner.api.until(session, "ready")
        assert (await owner.api.end(session))["status"] == "ended"
        again = await owner.api.ready(f"local/{app.name}")
        assert again["port"] == session["port"]
    # Its port leads to the new session, soon, and nothing of the old one keeps it from ending.
    await a.api.until(again, "ready")

    async def leads_to_it() -> bool:
        with suppress(Unavailable):
            async with app.at_a_breakpoint(a.host, again["port"]):
                await owner.api.until(again, "suspended")
                return True
        return False

    await until(leads_to_it)
    assert (await owner.api.end(again))["status"] == "ended"
    async with asyncio.timeout(60):
        assert await a.stop() == 0


async def test_a_gateway_that_stood_still_shows_what_the_others_have_done_meanwhile(three: Replicas, app: App) -> None:
    a, b, _ = three.gateways
    session = await a.api.ready(f"local/{app.name}")
    await b.api.until(session, "ready")
    async with asyncio.TaskGroup() as group:
        b.to_database.freeze()  # so that it is asked, and has not answered, when it stands still
        asked = group.create_task(b.api.show(session), name="what it shows")
        await asyncio.sleep(1)
        b.send(signal.SIGSTOP)
        b.to_database.thaw()
        extended = await a.api.ask("POST", f"sessions/{session['id']}/extend", {"for": "5h"})
        await asyncio.sleep(max(CATCH_UP_TAKES_S, AT_ONCE_TAKES))
        b.send(signal.SIGCONT)
    assert (await asked)["expires_at"] == extended["expires_at"]
    assert (await a.api.end(session))["status"] == "ended"


async def _is_left_alone(owner: Replica, session: dict[str, str]) -> bool:
    shown = await owner.api.show(session)
    return shown["status"] == "waiting" and "through another gateway" in shown["reason"]


@asynccontextmanager
async def _away(gateway: Replica, how: str) -> AsyncIterator[None]:
    if how == "frozen":
        gateway.send(signal.SIGSTOP)
        yield
        gateway.send(signal.SIGCONT)
    else:
        gateway.to_database.freeze()
        yield
        gateway.to_database.thaw()


async def test_a_database_that_is_away_cuts_no_debugger_and_moves_no_session(
    three: Replicas, app: App, postgres: Postgres
) -> None:
    a, b, _ = three.gateways
    session = await a.api.ready(f"local/{app.name}")
    before = await three.row(session)
    async with app.at_a_breakpoint(a.host, session["port"]) as debugger:
        await b.api.until(session, "suspended")
        await asyncio.to_thread(postgres.kill)
        await asyncio.sleep(LEASE_S + 5)  # for longer than a lease
        debugger.type("clear OrderService.price")
        debugger.type("cont")
        await until(lambda: app.answers("/orders", within=5))
        await asyncio.to_thread(postgres.start)
        await b.api.until(session, "attached")
        await asyncio.sleep(LEASE_S / 2)  # a gateway that takes it over has done so by now
        assert await three.row(session) == before
    assert (await b.api.end(session))["status"] == "ended"
