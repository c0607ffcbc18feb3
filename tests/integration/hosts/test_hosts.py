"""Apps on hosts, by a real sshd and a real start script: enable, debug, end, and what is left on the host."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from noah.demo.debugger import Jdb, jdb
from tests.gateway import serving
from tests.integration.hosts.machines import OPTIONS, HostedOrders, Machine

pytestmark = pytest.mark.jvm

AGENT = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{port}"


@asynccontextmanager
async def at_a_breakpoint(orders: HostedOrders, session: dict[str, Any]) -> AsyncIterator[Jdb]:
    async with jdb(session["host"], session["port"]) as debugger, asyncio.TaskGroup() as group:
        debugger.type("stop in OrderService.price")
        await debugger.says("breakpoint")
        order = group.create_task(orders.answers("/orders", within=300))
        await debugger.says("Breakpoint hit")
        yield debugger
        order.cancel()


async def test_a_jvm_that_listens_is_debugged_without_a_restart(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    orders.file.write_bytes(OPTIONS.replace(b'"-D', b'"' + AGENT.format(port=orders.jdwp).encode() + b" -D"))
    await orders.restart()
    pid = orders.pid
    async with serving(tmp_path, machine.settings(orders.settings())) as (_, api):
        listed = await api.ask("GET", "targets?kind=host")
        assert [one["target"] for one in listed["items"]] == [orders.target]
        session = await api.ready(orders.target)
        async with at_a_breakpoint(orders, session):
            shown = await api.until(session, "suspended")
            assert re.match(r"OrderService\.price:\d+", shown["vm"]["location"])
            assert not await orders.answers()
        assert await orders.answers(within=10)
        await api.until(session, "ready")
        assert (await api.end(session))["status"] == "ended"
    assert orders.pid == pid
