"""Health, metrics and the log: what watches the gateway."""

import asyncio
import gc
import logging
import re
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from noah.core.jdwp.wire import HANDSHAKE, HEADER_SIZE
from tests import jdwp
from tests.integration.web.conftest import Gateway

pytestmark = pytest.mark.jvm


async def _get(gateway: Gateway, path: str) -> tuple[int, dict[str, Any]]:
    async with gateway.http.get(gateway.url + path) as answer:
        return answer.status, await answer.json()


async def _metrics(gateway: Gateway) -> dict[str, float]:
    async with gateway.http.get(f"{gateway.url}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


async def test_a_gateway_that_stops_lives_and_is_not_ready(gateway: Gateway) -> None:
    assert await _get(gateway, "/readyz") == (
        200,
        {
            "status": "ok",
            "checks": [
                {"check": "serving", "ok": True, "message": None},
                {"check": "database", "ok": True, "message": None},
                {"check": "configuration", "ok": True, "message": None},
            ],
        },
    )
    gateway.is_stopping = True
    status, said = await _get(gateway, "/readyz")
    assert (status, said["status"]) == (503, "failing")
    assert said["checks"][0] == {"check": "serving", "ok": False, "message": "The gateway is stopping."}
    assert (await _get(gateway, "/livez"))[0] == 200
    async with gateway.http.get(f"{gateway.url}/api/v1/events") as answer:
        assert answer.status == 503


# Who asks the database while its pool is closed gives a connection back to a pool that nobody has any more.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_database_that_goes_away_is_said_and_seen_to_come_back(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    away = gateway.database.with_suffix(".away")
    gateway.database.rename(away)
    gateway.database.mkdir()
    await gateway.store.close()  # what it holds open would go on working
    status, said = await _until_readyz_is(gateway, 503)
    assert said["checks"][1]["message"] == "The database does not answer: the gateway's log says why."
    assert [one for one in caplog.messages if f"{gateway.database}: unable to open" in one]
    assert (await _get(gateway, "/livez"))[0] == 200
    assert (await _get(gateway, "/api/v1/targets"))[0] == 200
    status, problem = await _get(gateway, "/api/v1/sessions")
    assert status == 503
    assert problem["detail"].startswith("The database does not answer: ")
    assert (await _metrics(gateway))["noah_database_up"] == 0

    gateway.database.rmdir()
    away.rename(gateway.database)
    await _until_readyz_is(gateway, 200)
    assert "The database answers again." in caplog.messages
    assert (await _metrics(gateway))["noah_database_up"] == 1
    gc.collect()


async def _until_readyz_is(gateway: Gateway, wanted: int) -> tuple[int, dict[str, Any]]:
    async with asyncio.timeout(10):
        while (answer := await _get(gateway, "/readyz"))[0] != wanted:
            await asyncio.sleep(0.1)
    return answer


async def test_metrics_follow_a_session(gateway: Gateway) -> None:
    before = await _metrics(gateway)
    assert before["noah_sessions ready"] == 0
    assert before["noah_suspended_longest_seconds"] == 0
    assert "noah_enable_to_ready_seconds_count  local" not in before
    assert before["noah_cluster_reachable away"] == 0
    assert before["noah_execs_in_flight away"] == 0
    assert before["process_open_fds"] > 0

    session = await gateway.api.ready("local/shop", allow=["10.9.9.9"])
    reader, writer = await asyncio.open_connection(session["host"], session["port"])
    with suppress(ConnectionResetError):
        assert await reader.read() == b""  # it is refused
    writer.close()
    during = await _metrics(gateway)
    assert during["noah_sessions ready"] == 1
    assert during["noah_enable_to_ready_seconds_count  local"] == 1
    assert 0 < during["noah_enable_to_ready_seconds_sum  local"] < 60
    assert during["noah_refused_total not_allowed"] == 1

    await gateway.api.end(session)
    assert (await _metrics(gateway))["noah_sessions ready"] == 0


async def test_what_ports_carried_and_refused_still_counts_when_they_are_closed(gateway: Gateway) -> None:
    scraped = [await _metrics(gateway)]
    for allowed in ("127.0.0.0/8", "10.9.9.9"):
        session = await gateway.api.ready("local/shop", allow=[allowed])
        reader, writer = await asyncio.open_connection(session["host"], session["port"])
        writer.write(HANDSHAKE + jdwp.ask(1, jdwp.VERSION))
        with suppress(ConnectionResetError, asyncio.IncompleteReadError):
            await reader.readexactly(len(HANDSHAKE) + HEADER_SIZE)
        scraped.append(await _metrics(gateway))
        writer.close()
        await gateway.api.end(session)
        scraped.append(await _metrics(gateway))
    assert scraped[0]["noah_bytes_total in"] == scraped[0]["noah_bytes_total out"] == 0
    assert scraped[-1]["noah_bytes_total in"] == HEADER_SIZE
    assert scraped[-1]["noah_bytes_total out"] > HEADER_SIZE
    assert scraped[-1]["noah_refused_total not_allowed"] == 1
    for earlier, later in pairwise(scraped):
        assert all(later.get(name, 0) >= value for name, value in earlier.items() if "_total" in name)


async def test_the_log_has_one_line_per_request(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="noah.web.access")
    headers = {"Authorization": "Bearer a\tb", "X-Request-Id": "from-a-proxy"}
    async with gateway.http.get(f"{gateway.url}/api/v1/targets", headers=gateway.api.headers()) as answer:
        request_id = answer.headers["X-Request-Id"]
    async with gateway.http.get(f"{gateway.url}/api/v1/nothing%0Ahere?a=%0A", headers=headers):
        pass
    await _get(gateway, "/livez")
    lines = [record.getMessage() for record in caplog.records if record.name == "noah.web.access"]
    assert len(lines) == 2
    assert re.fullmatch(rf"GET /api/v1/targets 200 [\d.]+ ms 'ada' 127.0.0.1 {request_id}", lines[0])
    assert re.match(r"GET /api/v1/nothing%0Ahere\?a=%0A 401 [\d.]+ ms - 127.0.0.1 from-a-proxy The header", lines[1])


async def test_who_waits_does_not_hold_a_gateway_that_stops(gateway: Gateway, jvm: int) -> None:
    # A debugger that came past the gateway has the slot: the session has to wait for it.
    reader, writer = await asyncio.open_connection("127.0.0.1", jvm)
    writer.write(b"JDWP-Handshake")
    await reader.readexactly(14)
    session = await gateway.api.enable("local/shop", wait=0)
    await gateway.api.until(session, "waiting")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        waiting = group.create_task(gateway.api.ask("GET", f"sessions/{session['id']}?wait=100"))
        while gateway.requests != 1:
            await asyncio.sleep(0.01)
        await gateway.stop()
    assert waiting.result()["status"] == "waiting"
    writer.close()
