"""Gateways are replaced one after another behind HAProxy: no debugger is cut, no request fails, no port changes."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from noah.demo.debugger import Jdb
from tests.gateway import Api
from tests.ports import free_port
from tests.postgres import Postgres
from tests.replicas import Replica, Requests, replicas, until
from tests.reverse_proxies import load_balancer
from tests.sample_process import App

pytestmark = [pytest.mark.jvm, pytest.mark.postgres]

WITHIN_S = 60.0  # on a busy machine


@dataclass
class Deployment:
    """Three gateways, and the places of three more: a new one comes before an old one goes."""

    gateways: list[Replica]
    apps: list[App]
    api: Api  # by the load balancer
    folder: Path

    @property
    def running(self) -> list[Replica]:
        return [one for one in self.gateways if one.is_running]


@asynccontextmanager
async def deployed(
    folder: Path, postgres: Postgres, url: str, classes: Path, *, sessions: int
) -> AsyncIterator[Deployment]:
    async with AsyncExitStack() as stack:
        apps = [App(classes, f"orders-{n}") for n in range(sessions)]
        for app in apps:
            stack.push_async_callback(app.kill)
            await app.start()
        config = "".join(app.config for app in apps) + f"[access]\nsessions_per_person = {len(apps)}\n"
        six = await stack.enter_async_context(replicas(postgres, url, folder, count=6, config=config, start=False))
        for one in six.gateways[:3]:
            await one.start()
        port, servers = free_port(), [(one.host, one.port) for one in six.gateways]
        debug_ports = f"{six.ports[0]}-{six.ports[-1]}"
        await stack.enter_async_context(load_balancer(folder, servers, port=port, debug_ports=debug_ports))
        first = six.gateways[0]
        yield Deployment(six.gateways, apps, Api(first.api.http, f"http://127.0.0.1:{port}", first.tokens), folder)


@pytest.mark.parametrize(
    ("sessions", "breakpoints"), [(3, 2), pytest.param(30, 10, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])]
)
async def test_replacing_every_gateway_cuts_no_debugger(
    tmp_path: Path, postgres: Postgres, postgres_url: str, classes: Path, sessions: int, breakpoints: int
) -> None:
    async with (
        deployed(tmp_path, postgres, postgres_url, classes, sessions=sessions) as deployment,
        # It is there for longer: what the debuggers said last is on its way when they have ended.
        AsyncExitStack() as laptop,
        AsyncExitStack() as debuggers,
        asyncio.TaskGroup() as group,
    ):
        api = deployment.api
        enabled = [await api.ready(f"local/{app.name}") for app in deployment.apps]
        requests = Requests(api)
        asking = group.create_task(requests.ask_for_ever(enabled), name="requests")
        debugged, idle = enabled[:breakpoints], enabled[breakpoints:]
        attached = await _attach(deployment, debugged, laptop, debuggers)
        async with asyncio.TaskGroup() as ending:
            ends = []
            for n in range(3):
                await deployment.gateways[3 + n].start()
                ends.append(ending.create_task(deployment.gateways[n].stop(), name=f"end {n}"))
                # Sessions without a debugger move at once.
                left = deployment.gateways[n + 1 :]
                for session in idle:
                    await until(lambda: _is_at_one_of(deployment, session, left))  # noqa: B023
            for session in debugged:
                assert (await api.show(session))["status"] == "suspended"
            assert not all(end.done() for end in ends)
            for debugger in attached:
                debugger.type("where")
                await debugger.says("OrderService.price")
                debugger.type("clear OrderService.price")
                debugger.type("cont")
            await debuggers.aclose()
            for session in debugged:
                audit = (await api.until(session, "ready"))["audit"]
                assert len(audit["connections"]) == 1, audit  # nobody had to attach again
            for end in ends:
                assert await asyncio.wait_for(end, 120) == 0
        for session in enabled[1:]:  # of the first the laptop's port is shown
            assert (await api.until(session, "ready"))["port"] == session["port"]
        async with deployment.apps[0].at_a_breakpoint("127.0.0.1", enabled[0]["port"]):
            await api.until(enabled[0], "suspended")
        asking.cancel()
    assert requests.failed == []
    assert requests.answered > 20


async def _attach(
    deployment: Deployment, sessions: list[dict[str, Any]], laptop: AsyncExitStack, stack: AsyncExitStack
) -> list[Jdb]:
    """Attach the first by a line, the second at another gateway than its session's, the others through HAProxy."""
    other = next(one for one in deployment.running if sessions[1]["id"] not in one.log.read_text())
    by_line = await laptop.enter_async_context(_connected(deployment, sessions[0]))
    ways = [("127.0.0.1", by_line), (other.host, sessions[1]["port"])]
    ways += [("127.0.0.1", session["port"]) for session in sessions[2:]]
    attached = []
    for app, (host, port) in zip(deployment.apps, ways, strict=False):
        attached.append(await stack.enter_async_context(app.at_a_breakpoint(host, port)))
    assert f"{sessions[1]['id']}: the debugger of 127.0.0.1:" in other.log.read_text()
    return attached


@asynccontextmanager
async def _connected(deployment: Deployment, session: dict[str, Any]) -> AsyncIterator[int]:
    """Run `noah connect` through the load balancer; yield its local port."""
    api = deployment.api
    own = {"NOAH_URL": api.url, "NOAH_TOKEN": api.token("ada"), "XDG_STATE_HOME": str(deployment.folder)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "noah", "connect", session["id"], env={**os.environ, **own}
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            while (shown := await api.show(session))["line"] is None or shown["line"]["state"] != "connected":
                await asyncio.sleep(0.05)
        yield int(shown["port"])
    finally:
        process.terminate()
        await process.wait()


async def _is_at_one_of(deployment: Deployment, session: dict[str, Any], gateways: list[Replica]) -> bool:
    """True if the session can be used, and one of these says that it took it."""
    with suppress(aiohttp.ClientError):
        shown = await deployment.api.show(session)
        logs = [one.log.read_text() for one in gateways if one.log.exists()]
        return shown["status"] == "ready" and any(session["id"] in log for log in logs)
    return False
