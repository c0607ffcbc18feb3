"""Gateways whose machines' clocks are minutes apart agree all the same: the database's clock decides."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from noah.store import Store
from tests.chaos import Watcher
from tests.jdwp import CLASSES_BY_SIGNATURE, Debugger, string
from tests.postgres import Postgres
from tests.replicas import Replica, Replicas, as_config, jvms, replicas

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(600)]
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"
APART_S = 300
WITHIN_S = 90  # on a busy machine
BUSY = timedelta(seconds=60)  # far less than the clocks are apart


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with jvms(tmp_path_factory.mktemp("classes"), "Orders", "Stock") as ports:
        yield ports


@pytest.fixture
def faketime() -> str:
    found = sorted(map(str, Path("/").glob(FAKETIME.removeprefix("/"))))
    if not found:
        pytest.skip("libfaketime is not installed (Debian: faketime)")
    return found[0]


class MachineClock:
    """The clock of one gateway's machine. What counts seconds there goes on as it does."""

    def __init__(self, gateway: Replica, library: str) -> None:
        self._file = gateway.file.with_suffix(".clock")
        gateway.env |= {
            "LD_PRELOAD": library,
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
        }

    def set(self, offset_s: int) -> None:
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{offset_s:+d}s\n")
        beside.replace(self._file)


def is_now(text: str) -> bool:
    return abs(datetime.fromisoformat(text) - datetime.now(UTC)) < BUSY


async def logged_in(gateway: Replica) -> dict[str, str]:
    """Log in as a browser does; return its cookie."""
    form = {"token": gateway.api.token("ada")}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{gateway.url}/login", data=form, allow_redirects=False) as answer,
    ):
        return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


async def lets_in(gateway: Replica, headers: dict[str, str]) -> bool:
    async with aiohttp.ClientSession() as http, http.get(f"{gateway.url}/api/v1/sessions", headers=headers) as answer:
        return answer.status == 200


async def debugs(debugger: Debugger) -> None:
    found = await asyncio.to_thread(debugger.ask, CLASSES_BY_SIGNATURE, string("LOrders;"))
    assert found[:4] == b"\0\0\0\1"


async def shown_alike(three: Replicas, session: dict[str, Any], *, lasts: timedelta) -> None:
    """Each gateway shows the same end, which is the database's time and *lasts*, and how long that is."""
    shown = await three.shown_alike(session)
    assert is_now((datetime.fromisoformat(shown[0]["expires_at"]) - lasts).isoformat()), shown
    for one in shown:
        assert abs(one["expires_in_seconds"] - lasts.total_seconds()) < BUSY.total_seconds(), one
        assert all(is_now(step["at"]) for step in one["steps"]), one


async def test_clocks_that_are_minutes_apart_change_nothing(
    postgres: Postgres, postgres_url: str, targets: dict[str, int], tmp_path: Path, faketime: str
) -> None:
    async with (
        replicas(postgres, postgres_url, tmp_path, config=as_config(targets), start=False) as three,
        AsyncExitStack() as debuggers,
        asyncio.TaskGroup() as group,
    ):
        fast, slow, right = three.gateways
        fasts, slows = MachineClock(fast, faketime), MachineClock(slow, faketime)
        fasts.set(APART_S)
        slows.set(-APART_S)
        await three.start()
        watching = group.create_task(Watcher(three).run(), name="watch events at each of them in turn")

        tokens = {f"token of {one}": one.api.headers("bob") for one in three.gateways}
        logins = {f"cookie of {one}": await logged_in(one) for one in three.gateways}
        for one in three.gateways:
            for what, headers in (tokens | logins).items():
                assert await lets_in(one, headers), (one, what)

        # A session of the fast one, to which a debugger comes by way of the slow one.
        session = await fast.api.ready("local/orders", **{"for": "1h"})
        await shown_alike(three, session, lasts=timedelta(hours=1))
        assert await three.owner_of(session) is fast
        debugger = debuggers.enter_context(await asyncio.to_thread(Debugger, session["port"], host=slow.host))
        await debugs(debugger)
        attached = await right.api.until(session, "attached")
        assert is_now(attached["attached"]["since"])
        await slow.api.ask("POST", f"sessions/{session['id']}/extend", {"for": "2h"})
        await shown_alike(three, session, lasts=timedelta(hours=2))
        asked = await right.api.ask("POST", f"sessions/{session['id']}/ask", {"text": "soon?"}, user="bob")
        assert asked["steps"][-1]["text"] == "bob asks to resume: soon?"

        # One that ends soon, at the slow one, does so by the database's time.
        short = await slow.api.ready("local/stock", **{"for": "8s"})
        ended = await right.api.until(short, "ended", within=WITHIN_S)
        assert ended["end_reason"] == "expired"
        late = datetime.fromisoformat(ended["ended_at"]) - datetime.fromisoformat(short["expires_at"])
        assert timedelta(0) <= late < BUSY

        # The machines' clocks are put right, and wrong, while they run.
        fasts.set(-APART_S)
        slows.set(APART_S)
        await debugs(debugger)
        for one, lasts in ((fast, "3h"), (slow, "4h"), (right, "5h")):
            await one.api.ask("POST", f"sessions/{session['id']}/extend", {"for": lasts})
        await shown_alike(three, session, lasts=timedelta(hours=5))
        for one in three.gateways:
            assert len(three.ids_of(one)) == 1, f"{one} was declared dead"
            for what, headers in (tokens | logins).items():
                assert await lets_in(one, headers), (one, what)
        again = await fast.api.ready("local/stock", **{"for": "1h"})
        await shown_alike(three, again, lasts=timedelta(hours=1))

        await fast.stop(signal.SIGKILL)
        assert await three.new_owner_of(session, after=fast) in (slow, right)
        three.gateways.remove(fast)
        await right.api.until(session, "ready", within=WITHIN_S)
        await shown_alike(three, session, lasts=timedelta(hours=5))
        assert [row[1:] for row in three.sessions("id, fence")] == [(2,), (2,)]
        for ending in (session, again):
            assert (await slow.api.end(ending))["end_reason"] == "closed"
        rows = (await right.api.ask("GET", "trail"))["items"]
        assert rows
        assert all(is_now(row["at"]) or row["at"] < again["created_at"] for row in rows), rows
        watching.cancel()
    store = Store.open(postgres_url)
    assert (await store.trail.verify()).verdict() == []
    await store.close()
