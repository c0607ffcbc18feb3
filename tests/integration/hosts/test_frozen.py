"""Hosts that stand still, and a gateway that is killed, right before and right after the file is replaced."""

import asyncio
import signal
import tomllib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from noah.errors import Unavailable
from noah.settings import parse_settings
from noah.targets.host.app import HostedApp
from noah.targets.host.ssh import Ssh
from tests.gateway import Api, Process, serving
from tests.integration.hosts.machines import OPTIONS, Gated, HostedOrders, classes_in
from tests.integration.hosts.test_faults import is_down, until
from tests.integration.hosts.test_hosts import at_a_breakpoint

pytestmark = pytest.mark.jvm


@dataclass
class Place:
    """One host with its app."""

    machine: Gated
    orders: HostedOrders
    before: tuple[bytes, int, int, int]


@asynccontextmanager
async def places(root: Path, number: int) -> AsyncIterator[list[Place]]:
    classes = classes_in(root)
    async with AsyncExitStack() as stack:

        async def place(at: int) -> Place:
            machine = Gated(20 + at, root)
            await machine.install()
            stack.push_async_callback(machine.kill)
            orders = HostedOrders(machine)
            await orders.install(classes)
            stack.callback(orders.kill)
            await asyncio.gather(machine.start(), orders.restart())
            await orders.has_settled()
            return Place(machine, orders, orders.state())

        yield await asyncio.gather(*map(place, range(number)))


@asynccontextmanager
async def served(folder: Path, there: list[Place]) -> AsyncIterator[tuple[Process, Api]]:
    config = "".join(one.machine.settings(one.orders.settings(), ends="revert") for one in there)
    async with serving(folder, config) as running:
        yield running


async def enabled_until(api: Api, place: Place, is_there: Callable[[], bool]) -> dict[str, Any]:
    session = await api.enable(place.orders.target, confirm_restart=True, wait=0)
    await until(is_there)
    return session


async def all_are_ready_and_end_as_they_were(api: Api, there: list[Place], sessions: Sequence[dict[str, Any]]) -> None:
    await asyncio.gather(*(api.until(session, "ready", within=90) for session in sessions))
    for place in there:
        assert place.orders.file.read_bytes().count(b"jdwp") == 1
        assert "jdwp" in place.orders.command_line()
    for ended in await asyncio.gather(*map(api.end, sessions)):
        assert ended["status"] == "ended", ended
    for place in there:
        assert place.orders.state() == place.before
        assert {one.name for one in place.orders.folder.iterdir()} == {"orders.env", "orders.sh", "pid", "app.log"}
        assert "jdwp" not in place.orders.command_line()


async def test_a_gateway_killed_before_and_after_the_file_is_replaced_goes_on(tmp_path: Path, root: Path) -> None:
    async with places(root, 2) as there, served(tmp_path, there) as (process, api):
        gates = [(place.machine, gate) for place, gate in zip(there, ("cp", "mv"), strict=True)]
        for machine, gate in gates:
            machine.hold(gate)
        sessions = await asyncio.gather(
            *(enabled_until(api, p, lambda m=m, g=g: m.is_held(g)) for p, (m, g) in zip(there, gates, strict=True))  # type: ignore[misc]
        )
        assert [b"jdwp" in place.orders.file.read_bytes() for place in there] == [False, True]
        await process.stop(signal.SIGKILL)
        for machine, gate in gates:
            machine.release(gate)
        await process.start()
        await all_are_ready_and_end_as_they_were(api, there, sessions)


@pytest.mark.soak  # 20 s until each of them is noticed
async def test_a_host_that_stands_still_is_waited_for_at_each_step(tmp_path: Path, root: Path) -> None:
    async with places(root, 4) as there, served(tmp_path, there) as (_, api):
        before, after, restarting, attached = there
        before.machine.hold("cp")
        after.machine.hold("mv")
        (restarting.orders.folder / "hold").touch()
        sessions = await asyncio.gather(
            enabled_until(api, before, lambda: before.machine.is_held("cp")),
            enabled_until(api, after, lambda: after.machine.is_held("mv")),
            enabled_until(api, restarting, lambda: is_down(restarting.orders)),
            api.ready(attached.orders.target, confirm_restart=True),
        )
        async with at_a_breakpoint(attached.orders, sessions[3]):
            await api.until(sessions[3], "suspended")
            for place in there:
                place.machine.freeze()
            await asyncio.gather(*(says_so(api, session) for session in sessions))
        before.machine.release("cp")
        after.machine.release("mv")
        (restarting.orders.folder / "hold").unlink()
        for place in there:
            place.machine.thaw()
        await all_are_ready_and_end_as_they_were(api, there, sessions)


async def says_so(api: Api, session: dict[str, Any]) -> None:
    words = ("does not answer", "stands still", "broke")
    shown: dict[str, Any] = {}
    try:
        async with asyncio.timeout(60):
            while shown.get("status") != "waiting" or not any(word in shown["reason"] for word in words):
                await asyncio.sleep(0.1)
                shown = await api.show(session)
    except TimeoutError:
        raise AssertionError(f"does not say that its host stands still: {shown}") from None


async def test_what_was_held_up_is_not_done_when_somebody_has_looked_since(root: Path) -> None:
    machine = Gated(30, root)
    await machine.install()
    orders = HostedOrders(machine)
    await orders.install(root)
    await machine.start()
    [host] = parse_settings(tomllib.loads(machine.settings(orders.settings())), origin="test").hosts
    first, second = (HostedApp(Ssh(host), host.apps[0]) for _ in range(2))
    file, becomes = str(orders.file), OPTIONS + b"DEBUG=1\n"
    try:
        await first.read_options(file, to_change=True)
        machine.hold("cp")
        async with asyncio.TaskGroup() as group:
            late = group.create_task(refused(first.replace_options(file, OPTIONS, becomes)))
            await until(lambda: machine.is_held("cp"))
            assert (await second.read_options(file, to_change=True)).content == OPTIONS
            machine.release("cp")
            assert "looking again" in await late
        assert orders.file.read_bytes() == OPTIONS
        assert "looking again" in await refused(first.restart(file, "echo restarted", line=lambda _: None))
        await second.replace_options(file, OPTIONS, becomes)
        assert (await second.restart(file, "echo restarted", line=lambda _: None)).stdout == b"restarted\n"
        assert orders.file.read_bytes() == becomes
    finally:
        for app in (first, second):
            await app.ssh.close()
        await machine.kill()


async def refused(act: Any) -> str:
    with pytest.raises(Unavailable) as refusal:
        await act
    return refusal.value.sentence
