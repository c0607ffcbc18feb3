"""An sshd that is full: it is asked again, and said to be full when it stays so."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.gateway import Refused, serving
from tests.integration.hosts.machines import OPTIONS, HostedOrders, Machine
from tests.integration.hosts.test_faults import until

pytestmark = pytest.mark.jvm


async def listens(orders: HostedOrders) -> None:
    orders.file.write_bytes(OPTIONS.replace(b'"-D', b'"' + orders.agent.encode() + b" -D"))
    await orders.restart()


@contextmanager
def strangers(machine: Machine, number: int) -> Iterator[None]:
    """They have connected to sshd, and do not log in."""
    with ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(socket.create_connection((machine.address, machine.port)))
        yield


async def restarted(machine: Machine, *options: str) -> None:
    await machine.kill()
    await machine.start(*options)


async def test_an_sshd_with_one_session_at_a_time_serves_everybody_one_by_one(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    await listens(orders)
    await restarted(machine, "MaxSessions 1")
    twins = [orders.settings(), orders.settings().replace('"orders"', '"twin"', 1)]
    async with serving(tmp_path, machine.settings(*twins)) as (_, api):
        targets = [orders.target, f"host/{machine.name}/twin"]
        await asyncio.gather(*map(api.ready, targets), *(api.ask("POST", "drift") for _ in range(3)))


async def test_an_sshd_that_allows_no_session_is_said_to_be_full(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    await listens(orders)
    await restarted(machine, "MaxSessions 0")
    async with serving(tmp_path, machine.settings(orders.settings())) as (_, api):
        with pytest.raises(Refused, match=r"its sshd is full \(MaxSessions") as refused:
            await api.enable(orders.target)
        assert refused.value.status == 503


async def test_an_sshd_that_is_full_of_strangers_is_asked_until_they_have_gone(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    await listens(orders)
    await restarted(machine, "MaxStartups 2", "LogLevel VERBOSE")
    async with serving(tmp_path, machine.settings(orders.settings())) as (_, api):
        with strangers(machine, 2):
            with pytest.raises(Refused, match=r"hangs up before the login: its sshd is full \(MaxStartups"):
                await api.enable(orders.target)
            before = hung_up(machine)
            enabling = asyncio.gather(api.ready(orders.target))
            await until(lambda: hung_up(machine) > before)
        await enabling


def hung_up(machine: Machine) -> int:
    return (machine.folder / "sshd.log").read_text().count("drop connection")
