"""What holds when the gateway, sshd, the disk or somebody else comes in between: nothing is half edited."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.gateway import Api, Process, Refused, serving
from tests.integration.hosts.machines import OPTIONS, HostedOrders, Machine, own

pytestmark = pytest.mark.jvm


async def until(what: Any, within: float = 90) -> None:
    async with asyncio.timeout(within):
        while not what():
            await asyncio.sleep(0.05)


async def ran(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(*argv)
    assert await process.wait() == 0


def is_down(orders: HostedOrders) -> bool:
    try:
        return " Z " in Path(f"/proc/{orders.pid}/stat").read_text()
    except FileNotFoundError:
        return True


@asynccontextmanager
async def held_in_its_restart(
    folder: Path, machine: Machine, orders: HostedOrders, *, ends: str = "revert"
) -> AsyncIterator[tuple[Process, Api, dict[str, Any]]]:
    """A session whose app has been stopped and, until `hold` is removed, is not started again."""
    await orders.restart()
    async with serving(folder, machine.settings(orders.settings(), ends=ends)) as (process, api):
        await orders.has_settled()
        (orders.folder / "hold").touch()
        session = await api.enable(orders.target, confirm_restart=True, wait=0)
        await until(lambda: is_down(orders))
        yield process, api, session


async def test_a_gateway_killed_in_a_restart_finds_it_done(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    async with held_in_its_restart(tmp_path, machine, orders) as (process, api, session):
        await process.stop(signal.SIGKILL)
        (orders.folder / "hold").unlink()
        await until(lambda: not is_down(orders))
        pid = orders.pid
        await process.start()
        await api.until(session, "ready")
        assert orders.pid == pid  # it was not restarted twice
        assert orders.file.read_bytes().count(b"jdwp") == 1
        assert (await api.end(session))["status"] == "ended"
        assert orders.file.read_bytes() == OPTIONS
        assert "jdwp" not in orders.command_line()


@pytest.mark.soak  # a killed sshd takes the restart with it as well
async def test_a_restart_that_died_on_the_way_is_begun_again(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    async with held_in_its_restart(tmp_path, machine, orders) as (process, api, session):
        await process.stop(signal.SIGKILL)
        orders.kill_script()
        (orders.folder / "hold").unlink()
        await process.start()
        await api.until(session, "ready")
        assert orders.file.read_bytes().count(b"jdwp") == 1


async def test_an_end_in_the_middle_of_a_restart_leaves_it_running_as_it_was(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    async with held_in_its_restart(tmp_path, machine, orders) as (process, api, session):
        await process.stop(signal.SIGKILL)
        orders.kill_script()
        (orders.folder / "hold").unlink()
        await process.start()
        assert (await api.end(session))["status"] == "ended"
        assert orders.file.read_bytes() == OPTIONS
        async with asyncio.timeout(30):
            while not await orders.answers():
                await asyncio.sleep(0.1)
        assert "jdwp" not in orders.command_line()


async def test_an_sshd_killed_in_a_restart_is_waited_for(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    async with held_in_its_restart(tmp_path, machine, orders) as (_, api, session):
        await machine.kill()
        (orders.folder / "hold").unlink()
        await machine.start()
        shown = await api.until(session, "ready")
        assert any("broke" in step["text"] for step in shown["steps"])


async def test_a_host_that_was_away_at_the_end_is_put_back_when_it_answers(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    await orders.restart()
    before = orders.state()
    async with serving(tmp_path, machine.settings(orders.settings())) as (process, api):
        await orders.has_settled()
        session = await api.ready(orders.target, confirm_restart=True)
        await machine.kill()
        ended = await api.end(session)
        assert ended["status"] == "ended", ended
        assert any("put back when that is possible" in step["text"] for step in ended["steps"])
        assert b"jdwp" in orders.file.read_bytes()
        await process.stop(signal.SIGKILL)  # what it knew is in the database
        await process.start()
        [drift] = (await api.ask("POST", "drift"))["items"]
        assert drift["finding"] == "unknown"
        await machine.start()
        await until(lambda: orders.state() == before)
        assert (await api.ask("POST", "drift"))["items"] == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts a tmpfs")
async def test_a_full_disk_changes_nothing_and_what_somebody_else_writes_stays(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    small = orders.folder / "small"
    small.mkdir()
    await ran("mount", "-t", "tmpfs", "-o", "size=16k", "noah-test", str(small))
    try:
        shutil.move(orders.file, small / "orders.env")
        orders.file.symlink_to(small / "orders.env")
        own(small)
        await orders.restart()
        before = orders.state()
        filler = small / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(b"x" * 64 * 1024)
        async with serving(tmp_path, machine.settings(orders.settings())) as (_, api):
            await orders.has_settled()
            session = await api.enable(orders.target, confirm_restart=True)
            assert session["end_reason"] == "failed"
            assert "No space left on device" in session["end_detail"]
            assert orders.state() == before
            filler.unlink()
            assert {one.name for one in small.iterdir()} == {"orders.env"}
            session = await api.ready(orders.target, confirm_restart=True)
            assert orders.file.is_symlink()
            orders.file.write_bytes(orders.file.read_bytes() + b"MORE=1\n")
            await api.end(session)
            assert orders.file.read_bytes() == OPTIONS + b"MORE=1\n"
    finally:
        await ran("umount", "-l", str(small))


async def test_a_changed_host_key_is_refused_with_what_to_check(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    await orders.restart()
    async with serving(tmp_path, machine.settings(orders.settings())) as (_, api):
        await machine.kill()
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(machine.folder / "host_key")
        own(machine.folder)
        await machine.start()
        with pytest.raises(Refused, match=r"another host key than the pinned one.*ssh-keyscan") as refused:
            await api.enable(orders.target)
        assert refused.value.status == 422


async def test_hosts_that_hang_do_not_slow_the_others(tmp_path: Path, root: Path, orders: HostedOrders) -> None:
    await fleet_enables(tmp_path, root, orders, good=4, black_holed=2)


@pytest.mark.soak
async def test_five_of_twenty_hosts_hang_and_the_others_do_not_notice(
    tmp_path: Path, root: Path, orders: HostedOrders
) -> None:
    await fleet_enables(tmp_path, root, orders, good=15, black_holed=5)


async def fleet_enables(folder: Path, root: Path, orders: HostedOrders, *, good: int, black_holed: int) -> None:
    """All at once, without those that hang and then, by a gateway that has no connections yet, with them."""
    orders.file.write_bytes(OPTIONS.replace(b'"-D', b'"' + orders.agent.encode() + b" -D"))
    await orders.restart()  # the one JVM that all hosts lead to
    async with AsyncExitStack() as stack:
        machines = [Machine(number, root) for number in range(10, 10 + good + black_holed)]
        for number, machine in enumerate(machines):
            await machine.install()
            if number < good:
                stack.push_async_callback(machine.kill)
                await machine.start()
            else:  # the kernel answers, and nobody else
                stack.enter_context(socket.create_server((machine.address, machine.port)))
        config = "".join(machine.settings(orders.settings()) for machine in machines)
        process, api = await stack.enter_async_context(serving(folder, config))
        alone = await all_ready(api, machines[:good])
        await process.stop()
        await process.start()
        hang = asyncio.gather(*(api.enable(f"host/{m.name}/orders") for m in machines[good:]), return_exceptions=True)
        beside = await all_ready(api, machines[:good])
        assert all("does not answer" in getattr(refused, "detail", "") for refused in await hang)
        print(f"{good} hosts: {alone:.1f} s alone, {beside:.1f} s beside {black_holed} that hang")
        # One that waited for another would wait for its 5 s at least.
        assert beside < alone + 4


async def all_ready(api: Api, machines: list[Machine]) -> float:
    """Seconds until all have a session, which is ended then."""
    began = asyncio.get_running_loop().time()
    sessions = await asyncio.gather(*(api.ready(f"host/{machine.name}/orders") for machine in machines))
    took = asyncio.get_running_loop().time() - began
    await asyncio.gather(*map(api.end, sessions))
    return took
