"""A gateway process with JVMs of this machine: what holds when it, its database or the JVM goes away."""

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from noah.demo.debugger import jdb
from tests.gateway import Api, Process, Refused, serving
from tests.java import SAMPLE, compiled
from tests.ports import free_port
from tests.sample_process import App, running_app

pytestmark = pytest.mark.jvm


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with running_app(compiled(SAMPLE, tmp_path / "classes")) as app:
        yield app


@pytest.fixture
async def gateway(tmp_path: Path, app: App) -> AsyncIterator[tuple[Process, Api]]:
    async with serving(tmp_path, app.config) as running:
        yield running


async def test_the_probe_knows_a_breakpoint_from_a_dead_app(gateway: tuple[Process, Api], app: App) -> None:
    _, api = gateway
    assert (await app.probe())[0] == 0
    session = await api.ready(f"local/{app.name}")
    async with app.at_a_breakpoint(session["host"], session["port"]) as debugger:
        shown = await api.until(session, "suspended")
        assert shown["vm"]["location"].startswith("OrderService.price:")
        assert not await app.answers()
        assert (await app.probe())[0] == 0
        debugger.type("clear OrderService.price")
        debugger.type("cont")
        await api.until(session, "attached")
    await api.end(session)
    await app.kill()
    code, said = await app.probe()
    assert code == 1
    assert "checkurl" in said


async def test_sessions_survive_a_killed_gateway_with_the_same_port(gateway: tuple[Process, Api], app: App) -> None:
    process, api = gateway
    session = await api.ready(f"local/{app.name}")
    async with app.at_a_breakpoint(session["host"], session["port"]):
        await api.until(session, "suspended")
        await process.stop(signal.SIGKILL)
        assert await app.answers(within=30)  # the kernel closed the connection, and so resumed the VM
        assert (await app.probe())[0] == 0
    await process.start()
    back = await api.until(session, "ready")
    assert (back["id"], back["port"]) == (session["id"], session["port"])
    async with app.at_a_breakpoint(session["host"], session["port"]):
        await api.until(session, "suspended")


async def test_a_killed_gateway_leaves_what_debuggers_did_to_the_next(gateway: tuple[Process, Api], app: App) -> None:
    process, api = gateway
    session = await api.ready(f"local/{app.name}")
    async with app.at_a_breakpoint(session["host"], session["port"]):
        pass
    await _until_kept(process, lambda audit: audit["connections"][0]["until"])
    async with jdb(session["host"], session["port"]):
        await _until_kept(process, lambda audit: len(audit["connections"]) == 2)
        await process.stop(signal.SIGKILL)
    await process.start()
    first, second = (await api.until(session, "ready"))["audit"]["connections"]
    assert first["until"]
    assert first["bytes_out"] > 0
    assert second["until"] is None  # nobody saw it
    assert second["ended"] == "the gateway ended before it could say why"

    async with app.at_a_breakpoint(session["host"], session["port"]):
        pass
    await process.stop()
    await process.start()
    audit = (await api.until(session, "ready"))["audit"]
    assert audit["connections"][:2] == [first, second]
    assert audit["connections"][2]["ended"]
    assert audit["commands"]["breakpoints set"] == 2
    assert (await api.end(session))["audit"] == audit


async def _until_kept(process: Process, seen: Callable[[Any], object]) -> None:
    with closing(sqlite3.connect(process.database)) as database:
        async with asyncio.timeout(60):
            while not (
                (text := database.execute("SELECT audit FROM sessions").fetchone()[0]) and seen(json.loads(text))
            ):
                await asyncio.sleep(0.05)


async def test_a_jvm_that_restarts_is_waited_for(gateway: tuple[Process, Api], app: App) -> None:
    _, api = gateway
    session = await api.ready(f"local/{app.name}")
    await app.kill()
    await api.until(session, "waiting")
    await app.start()
    await api.until(session, "ready")
    async with app.at_a_breakpoint(session["host"], session["port"]):
        await api.until(session, "suspended")


async def test_resume_frees_the_vm_and_the_session_goes_on(gateway: tuple[Process, Api], app: App) -> None:
    _, api = gateway
    session = await api.ready(f"local/{app.name}")
    async with app.at_a_breakpoint(session["host"], session["port"]):
        await api.until(session, "suspended")
        await api.ask("POST", f"sessions/{session['id']}/resume")
        assert await app.answers(within=30)
        await api.until(session, "ready")
    with pytest.raises(Refused, match="nothing to resume"):
        await api.ask("POST", f"sessions/{session['id']}/resume")


async def test_a_session_expires_on_time_with_a_debugger_at_a_breakpoint(
    gateway: tuple[Process, Api], app: App
) -> None:
    _, api = gateway
    session = await api.ready(f"local/{app.name}", **{"for": "6s"})
    async with app.at_a_breakpoint(session["host"], session["port"]):
        ended = await api.until(session, "ended", within=30)
        assert ended["end_reason"] == "expired"
        assert await app.answers(within=30)
    assert (await api.show(session))["audit"]["connections"]


async def test_a_pause_budget_warns_and_then_resumes(gateway: tuple[Process, Api], app: App) -> None:
    _, api = gateway
    async with api.http.get(f"{api.url}/api/v1/events") as events:
        session = await api.ready(f"local/{app.name}", pause_budget="4s")
        async with app.at_a_breakpoint(session["host"], session["port"]):
            await api.until(session, "suspended")
            await api.until(session, "ready")
            assert await app.answers(within=30)
        said = await _until_said(events, "used up")
        assert "ends soon" in said


async def _until_said(events: aiohttp.ClientResponse, words: str) -> str:
    said = ""
    async with asyncio.timeout(60):
        while words not in said:
            said += (await events.content.readline()).decode()
    return said


async def test_sigterm_ends_event_streams_and_leaves_sessions(gateway: tuple[Process, Api], app: App) -> None:
    process, api = gateway
    session = await api.ready(f"local/{app.name}")
    async with api.http.get(f"{api.url}/api/v1/events") as events:
        stopping = asyncio.get_running_loop().time()
        assert await process.stop() == 0
        assert asyncio.get_running_loop().time() - stopping < 20  # not the 60 s that an open stream would hold it
        await events.content.read()  # to its end
    await process.start()
    assert (await api.until(session, "ready"))["id"] == session["id"]


async def test_a_locked_database_is_said_and_forgotten(gateway: tuple[Process, Api], app: App) -> None:
    process, api = gateway
    session = await api.ready(f"local/{app.name}")
    other = sqlite3.connect(process.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(Refused, match="database does not answer") as refused:
            await api.ask("POST", f"sessions/{session['id']}/extend", {"for": "3h"})
        assert refused.value.status == 503
        async with app.at_a_breakpoint(session["host"], session["port"]):
            await api.until(session, "suspended")  # debugging asks no database
    finally:
        other.execute("ROLLBACK")
        other.close()
    await api.end(session)


async def test_two_clicks_at_once_make_one_session(gateway: tuple[Process, Api], app: App) -> None:
    _, api = gateway
    clicks = await asyncio.gather(*(api.enable(f"local/{app.name}") for _ in range(5)))
    assert len({session["id"] for session in clicks}) == 1
    by_others = await asyncio.gather(
        *(api.enable(f"local/{app.name}", user=f"u{n}") for n in range(3)), return_exceptions=True
    )
    assert all(isinstance(one, Refused) and one.status == 409 for one in by_others)


async def test_a_port_that_another_program_has_is_left_to_it(gateway: tuple[Process, Api], app: App) -> None:
    process, api = gateway
    first = await api.ready(f"local/{app.name}")
    await process.stop()
    squatter = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", first["port"])
    async with squatter:
        await process.start()
        moved = await api.until(first, "ready")
        assert moved["port"] != first["port"]
        async with app.at_a_breakpoint(moved["host"], moved["port"]):
            await api.until(first, "suspended")


async def test_a_second_gateway_is_refused_and_touches_no_session(gateway: tuple[Process, Api], app: App) -> None:
    process, api = gateway
    session = await api.ready(f"local/{app.name}")
    second = process.file.with_name("second.toml")
    second.write_text(process.file.read_text().replace(f":{process.port}", f":{free_port()}"))
    code, said = await process.noah("serve", "--config", str(second))
    assert code == 2
    assert said.endswith("Another gateway serves this database: stop it, or give this one a database of its own.\n")
    assert session["id"] not in said
    code, said = await process.noah("db", "upgrade", "--config", str(second))
    assert code == 0, said
    assert (await api.show(session))["status"] == "ready"


async def test_a_gateway_that_cannot_listen_says_so(gateway: tuple[Process, Api], tmp_path: Path) -> None:
    process, _ = gateway
    other = process.file.with_name("other.toml")
    other.write_text(process.file.read_text().replace("noah.db", "other.db"))
    await process.noah("db", "upgrade", "--config", str(other))
    code, said = await process.noah("serve", "--config", str(other))
    assert code == 2
    assert "cannot listen on" in said


async def test_a_gateway_on_a_database_that_is_not_ready_says_what_to_run(tmp_path: Path) -> None:
    process = Process(tmp_path, "")
    code, said = await process.noah("serve", "--config", str(process.file))
    assert code == 2
    assert "noah db upgrade" in said
    process.file.write_text('[gateway]\nlisten = "0.0.0.0:7070"\n')
    code, said = await process.noah("serve", "--config", str(process.file))
    assert code == 2
    assert "set tls_certificate and tls_key" in said
    process.file.write_text('[gateway]\nlissten = "127.0.0.1:7070"\n')
    code, said = await process.noah("serve", "--config", str(process.file))
    assert "lissten" in said
    assert "Traceback" not in said
