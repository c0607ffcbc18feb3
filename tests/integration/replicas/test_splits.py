"""The network between gateways, or between one and the database, is split for longer than a lease: nothing is cut."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from noah.core.lease import LEASE_S
from tests.chaos import Watcher
from tests.faults import Link, link
from tests.jdwp import CLASSES_BY_SIGNATURE, Debugger, string
from tests.ports import free_port
from tests.postgres import Postgres
from tests.replicas import Replica, Replicas, as_config, jvms, replicas, until

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(600)]
WITHIN_S = 90.0  # on a busy machine
LASTS_S = [LEASE_S + 5, pytest.param(300.0, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with jvms(tmp_path_factory.mktemp("classes"), "Orders", "Stock") as ports:
        yield ports


@asynccontextmanager
async def linked(gateways: list[Replica]) -> AsyncIterator[list[Link]]:
    """Have each gateway be reached by the others through a link of its own. Before they are started."""
    async with AsyncExitStack() as stack:
        links = []
        for gateway in gateways:
            port, seen_at = free_port(), gateway.host.replace("127.0.0.", "127.0.1.")
            links.append(await stack.enter_async_context(link(to=port, to_host=gateway.host, host=seen_at, port=port)))
            settings = f'[gateway]\npeer_listen = "{gateway.host}:{port}"\npeer_address = "{seen_at}"\n'
            gateway.file.write_text(gateway.file.read_text().replace("[gateway]\n", settings))
        yield links


def debugs(debugger: Debugger, name: str) -> None:
    assert debugger.ask(CLASSES_BY_SIGNATURE, string(f"L{name};"))[:4] == b"\0\0\0\1"


async def attached(stack: AsyncExitStack, gateway: Replica, session: dict[str, Any]) -> Debugger:
    return stack.enter_context(await asyncio.to_thread(Debugger, session["port"], host=gateway.host))


async def goes_on(three: Replicas, *sessions: dict[str, Any]) -> None:
    """Each gateway takes requests for each session, and all show the same then."""
    for session in sessions:
        for gateway in three.gateways:
            await gateway.api.ask("POST", f"sessions/{session['id']}/extend", {"for": "2h"})
        await three.shown_alike(session)


@pytest.mark.parametrize("lasts_s", LASTS_S)
async def test_a_split_between_gateways_cuts_nothing(
    postgres: Postgres, postgres_url: str, targets: dict[str, int], tmp_path: Path, lasts_s: float
) -> None:
    async with (
        replicas(postgres, postgres_url, tmp_path, config=as_config(targets), start=False) as three,
        linked(three.gateways) as links,
        AsyncExitStack() as debuggers,
        asyncio.TaskGroup() as group,
    ):
        await three.start()
        one, other, third = three.gateways
        watching = group.create_task(Watcher(three).run(), name="watch events at each of them in turn")
        orders, stock = await one.api.ready("local/orders"), await other.api.ready("local/stock")
        direct = await attached(debuggers, one, orders)
        passed = await attached(debuggers, third, stock)
        await asyncio.to_thread(debugs, passed, "Stock")
        await third.api.until(orders, "attached", within=WITHIN_S)
        before = sorted(three.sessions())

        for each in links:
            each.freeze()
        passed.socket.settimeout(lasts_s + WITHIN_S)
        asked = group.create_task(asyncio.to_thread(debugs, passed, "Stock"), name="what is asked meanwhile")
        async with asyncio.timeout(lasts_s + WITHIN_S):
            until_s = asyncio.get_running_loop().time() + lasts_s
            while asyncio.get_running_loop().time() < until_s:
                await asyncio.to_thread(debugs, direct, "Orders")
                await goes_on(three, orders, stock)
                await asyncio.sleep(1)
        assert sorted(three.sessions()) == before
        for each in links:
            each.thaw()
        await asked
        await asyncio.to_thread(debugs, passed, "Stock")

        # Nobody answers there at all: a debugger that comes to the port is held until somebody does.
        passed.socket.close()
        await other.api.until(stock, "ready", within=WITHIN_S)
        for each in links:
            await each.cut()
        coming = group.create_task(attached(debuggers, third, stock), name="a debugger that comes meanwhile")
        await asyncio.wait({coming}, timeout=3)
        assert not coming.done()
        for each in links:
            await each.mend()
        await asyncio.to_thread(debugs, await coming, "Stock")
        await asyncio.to_thread(debugs, direct, "Orders")
        assert sorted(three.sessions()) == before
        watching.cancel()
        audit = (await one.api.show(orders))["audit"]
        assert len(audit["connections"]) == 1


@pytest.mark.parametrize("lasts_s", LASTS_S)
async def test_a_split_between_a_gateway_and_the_database_cuts_no_debugger_and_doubles_no_session(
    postgres: Postgres, postgres_url: str, targets: dict[str, int], tmp_path: Path, lasts_s: float
) -> None:
    async with (
        replicas(postgres, postgres_url, tmp_path, config=as_config(targets)) as three,
        AsyncExitStack() as debuggers,
        asyncio.TaskGroup() as group,
    ):
        one, other, third = three.gateways
        watching = group.create_task(Watcher(three).run(), name="watch events at each of them in turn")
        orders, stock = await one.api.ready("local/orders"), await one.api.ready("local/stock")
        direct = await attached(debuggers, one, orders)
        await other.api.until(orders, "attached", within=WITHIN_S)

        one.to_database.freeze()
        until_s = asyncio.get_running_loop().time() + lasts_s
        await until(lambda: _is_unready(one), WITHIN_S, "the gateway without its database leaves the load balancer")
        owner = await three.new_owner_of(stock, after=one)
        await owner.api.until(stock, "ready", within=WITHIN_S)
        # The port answers, at the gateway that has the session now and at one that passes on to it.
        for gateway in (other, third):
            debugger = await asyncio.to_thread(Debugger, stock["port"], host=gateway.host)
            with debugger:
                await asyncio.to_thread(debugs, debugger, "Stock")
            await owner.api.until(stock, "ready", within=WITHIN_S)
        while asyncio.get_running_loop().time() < until_s:
            await asyncio.to_thread(debugs, direct, "Orders")
            shown = await other.api.show(orders)
            assert shown["status"] != "ended"
            await asyncio.sleep(1)
        await asyncio.to_thread(debugs, direct, "Orders")
        one.to_database.thaw()

        # It gets the session back whose debugger it has, and no other.
        await until(lambda: _has(three, orders, one), WITHIN_S, "the session of its debugger is its own")
        await until(one.is_ready, WITHIN_S)
        await goes_on(three, orders, stock)
        await asyncio.to_thread(debugs, direct, "Orders")
        for gateway in three.gateways:
            await gateway.api.until(orders, "attached", within=WITHIN_S)
        assert (await three.row(stock))[1] == 2
        assert (await three.row(orders))[1] == 3
        for session, debuggers_seen in ((orders, 1), (stock, 2)):
            ended = await other.api.end(session)
            assert len(ended["audit"]["connections"]) == debuggers_seen, ended["audit"]
        assert list((tmp_path / "reports").iterdir()) == []
        watching.cancel()


async def _is_unready(gateway: Replica) -> bool:
    return not await gateway.is_ready()


async def _has(three: Replicas, session: dict[str, Any], gateway: Replica) -> bool:
    return await three.owner_of(session) is gateway
