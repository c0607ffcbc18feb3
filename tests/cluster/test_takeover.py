"""Gateways on one PostgreSQL end or stand still while their debuggers have stopped JVMs in pods.

What the kubelet, the container and the debuggers themselves say about it. The gateways are processes of this machine,
each at an address of its own.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from noah.demo.debugger import Jdb, jdb
from tests.cluster.conftest import Kubectl
from tests.cluster.promise.probed_app import FAILURES, PERIOD_S, ProbedApp, come_up, pod_of, session_on
from tests.postgres import Postgres
from tests.replicas import BUSY, TAKEN_OVER_WITHIN_S, replicas

pytestmark = [pytest.mark.cluster, pytest.mark.jvm, pytest.mark.postgres]

KILLS_WITHIN_S = (FAILURES + 1) * PERIOD_S  # the kubelet, an app that hangs and that nothing spares


@asynccontextmanager
async def at_a_breakpoint(app: ProbedApp, host: str, port: int) -> AsyncIterator[Jdb]:
    """Have a jdb at a breakpoint that stops the whole VM."""
    async with jdb(host, port) as debugger:
        debugger.type("stop in App.compute")
        await debugger.says("breakpoint")
        await app.work()
        await debugger.says("Breakpoint hit")
        yield debugger


async def socats(app: ProbedApp) -> list[str]:
    """The PIDs of the forwarders that listen for the session, which are not zombies; those of connections left out."""
    lines = (await app.exec("ps", "-eo", "pid,ppid,stat,args")).splitlines()
    found = [line.split(maxsplit=3) for line in lines if " socat " in line]
    all_of_them = {pid for pid, _, state, _ in found if not state.startswith("Z")}
    return [pid for pid, parent, state, _ in found if pid in all_of_them and parent not in all_of_them]


async def word(app: ProbedApp) -> tuple[str, float]:
    """The gateway's word in the pod, and how many seconds old it is."""
    said, uptime = (await app.exec("sh", "-c", "cat /dev/shm/noah-jvm.*.word; cat /proc/uptime")).splitlines()
    state, _, written_at = said.split()
    return state, float(uptime.split()[0]) - float(written_at)


async def test_a_killed_and_a_frozen_gateway_put_no_pod_at_risk(
    kubectl: Kubectl, kubeconfig: Path, postgres_url: str, postgres: Postgres, tmp_path: Path
) -> None:
    """Of three gateways one is killed and one stands still, each with a debugger at a breakpoint, and is let go on."""
    cluster = f'[[clusters]]\nname = "dev"\nkubeconfig = "{kubeconfig}"\nnamespaces = ["{kubectl.namespace}"]\n'
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        coming = group.create_task(come_up(kubectl, pod_of("orders"), pod_of("shop")), name="apps")
        three = await stack.enter_async_context(replicas(postgres, postgres_url, tmp_path, config=cluster))
        killed, frozen, left = three.gateways
        apps = await coming
        for app in apps.values():
            stack.callback(app.close)
        orders, shop = apps["orders"], apps["shop"]
        prefix = f"pod/dev/{kubectl.namespace}"
        of_killed = await session_on(killed.api, f"{prefix}/orders")
        of_frozen = await session_on(frozen.api, f"{prefix}/shop")
        assert await three.owner_of(of_killed) is killed
        assert await three.owner_of(of_frozen) is frozen
        forwarders = {app: await socats(app) for app in (orders, shop)}
        assert all(len(pids) == 1 for pids in forwarders.values()), forwarders
        await stack.enter_async_context(at_a_breakpoint(orders, killed.host, of_killed["port"]))
        survivor = await stack.enter_async_context(at_a_breakpoint(shop, frozen.host, of_frozen["port"]))
        api = left.api
        for session in (of_killed, of_frozen):
            await api.until(session, "suspended")

        before = [await app.restarts() for app in (orders, shop)]
        loop = asyncio.get_running_loop()
        since = loop.time()
        frozen.send(signal.SIGSTOP)
        await killed.stop(signal.SIGKILL)
        assert await three.new_owner_of(of_killed, after=killed) is left
        took_s = loop.time() - since
        assert took_s < TAKEN_OVER_WITHIN_S * BUSY
        shown = await api.until(of_killed, "ready")
        print(f"\nowned by another gateway after {took_s:.1f} s, ready after {loop.time() - since:.1f} s")
        assert shown["port"] == of_killed["port"]
        assert await socats(orders) == forwarders[orders]

        # The same port answers, and the report goes on.
        async with at_a_breakpoint(orders, left.host, of_killed["port"]):
            await api.until(of_killed, "suspended")
            async with asyncio.timeout(30 * BUSY):
                while (await word(orders))[0] != "suspended" or (await word(orders))[1] > 3:
                    await asyncio.sleep(0.2)

            # The other JVM has its debugger, which nobody speaks for: it is left alone.
            assert await three.new_owner_of(of_frozen, after=frozen) is left
            async with asyncio.timeout(30 * BUSY):
                while "through another gateway" not in ((await api.show(of_frozen))["reason"] or ""):
                    await asyncio.sleep(0.2)
            assert (await api.show(of_frozen))["status"] == "waiting"
            await asyncio.sleep(max(0.0, since + 2 * KILLS_WITHIN_S - loop.time()))
            state, age_s = await word(shop)
            assert (state, age_s > KILLS_WITHIN_S) == ("suspended", True)
            assert [await app.restarts() for app in (orders, shop)] == before

            frozen.send(signal.SIGCONT)
            async with asyncio.timeout(TAKEN_OVER_WITHIN_S * BUSY):
                while await three.owner_of(of_frozen) is not frozen:
                    await asyncio.sleep(0.1)
            await api.until(of_frozen, "suspended")
        survivor.type("clear App.compute")
        survivor.type("cont")
        await api.until(of_frozen, "attached")
        await shop.runs()
        assert [await socats(app) for app in (orders, shop)] == list(forwarders.values())
        for session in (of_killed, of_frozen):
            assert (await api.end(session))["status"] == "ended"
        assert [await socats(app) for app in (orders, shop)] == [[], []]
        assert [await app.restarts() for app in (orders, shop)] == before
