"""A watchdog of the host, which asks the liveness expression and kills what is not alive three times in a row."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from noah.inpod import script
from tests.gateway import serving
from tests.integration.hosts.machines import OPTIONS, HostedOrders, Machine, as_user, own
from tests.integration.hosts.test_faults import is_down
from tests.integration.hosts.test_hosts import at_a_breakpoint

pytestmark = pytest.mark.jvm

WATCHDOG = """#!/bin/sh
# watchdog.sh CHECKURL: as a cron job or a supervisor does it; liveness.sh curls.
cd "$(dirname "$0")" || exit
failed=0
while :; do
  if sh liveness.sh "$1" 1 watched; then failed=0; else failed=$((failed + 1)); fi
  [ $failed -lt 3 ] || { echo killing; kill -9 "$(cat pid)"; exit; }
  sleep 0.3
done
"""


@asynccontextmanager
async def watched(orders: HostedOrders) -> AsyncIterator[Path]:
    """What its watchdog says."""
    (orders.folder / "liveness.sh").write_text(script("liveness"))
    (orders.folder / "watchdog.sh").write_text(WATCHDOG)
    said = orders.folder / "watchdog.log"
    said.touch()
    own(orders.folder)
    with said.open("ab") as log:
        watchdog = await asyncio.create_subprocess_exec(
            "sh", f"{orders.folder}/watchdog.sh", f"{orders.url}/checkurl",
            stdout=log, stderr=log, start_new_session=True, **as_user(),
        )  # fmt: skip
    try:
        yield said
    finally:
        with suppress(ProcessLookupError):  # it ends when it has killed
            os.killpg(watchdog.pid, signal.SIGKILL)
        await watchdog.wait()


async def says(log: Path, text: str, times: int = 1) -> None:
    """From now on."""
    before = count(log, text)
    async with asyncio.timeout(30):
        while count(log, text) < before + times:
            await asyncio.sleep(0.05)


def count(log: Path, text: str) -> int:
    return log.read_text().count(text)


async def test_a_watchdog_lets_a_breakpoint_be_and_kills_what_hangs_after_it(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    orders.file.write_bytes(OPTIONS.replace(b'"-D', b'"' + orders.agent.encode() + b" -D"))
    await orders.restart()
    pid = orders.pid
    # A name that no other test on this machine reports on.
    config = machine.settings(orders.settings(name="watched"))
    async with serving(tmp_path, config) as (_, api), watched(orders) as log:
        session = await api.ready(f"host/{machine.name}/watched")
        async with at_a_breakpoint(orders, session):
            await says(log, "a debugger has suspended java", times=6)
            assert not await orders.answers()
        await says(log, "answered 200")
        assert not is_down(orders)
        await api.end(session)
        os.kill(pid, signal.SIGSTOP)
        await says(log, "killing")
        async with asyncio.timeout(60):
            while not is_down(orders):
                await asyncio.sleep(0.05)
        assert "and nobody is debugging" in log.read_text().splitlines()[-2]
