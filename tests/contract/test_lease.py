"""One gateway for each SQLite file. What PostgreSQL does for several is in test_gateways.py."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from noah.store import upgrade
from noah.store.lease import AnotherGateway, exclusive_lease

# A gateway as far as the database sees it.
HOLDS = """
import asyncio, sys
from noah.store.lease import exclusive_lease
async def main():
    async with exclusive_lease(sys.argv[1]):
        print("holds", flush=True)
        await asyncio.sleep(300)
asyncio.run(main())
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/noah.db"


@asynccontextmanager
async def another_gateway(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDS, url, stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"holds\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_second_gateway_is_refused_with_what_to_do(file: str) -> None:
    async with another_gateway(file):
        with pytest.raises(AnotherGateway, match=r"stop it, or give this one a database of its own"):
            await _serve_a_moment(file, wait_s=0.5)
        await asyncio.to_thread(upgrade, file)  # which serves no one


async def test_a_file_is_the_same_by_any_name(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("noah.db")
    async with exclusive_lease(f"sqlite:///{tmp_path}/noah.db"):
        with pytest.raises(AnotherGateway):
            await _serve_a_moment(f"sqlite:///{tmp_path}/link.db", wait_s=0)


async def test_a_file_system_that_hangs_does_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    # Opening a FIFO takes until its other end is opened, as a file of a server that is away takes until that is back.
    os.mkfifo(tmp_path / "noah.db-gateway")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        waiting = group.create_task(_serve_a_moment(f"sqlite:///{tmp_path}/noah.db", wait_s=0))
        await asyncio.sleep(0.05)  # comes back only when the loop turns
        assert not waiting.done()
        other_end = os.open(tmp_path / "noah.db-gateway", os.O_RDONLY | os.O_NONBLOCK)
        await waiting
    os.close(other_end)


async def test_a_killed_gateway_is_waited_for_and_is_out_of_the_way_at_once(
    file: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with another_gateway(file) as other, asyncio.timeout(20), asyncio.TaskGroup() as group:
        # It would be waited for longer than this test lasts.
        second = group.create_task(_serve_a_moment(file, wait_s=60))
        while "waiting" not in caplog.text:
            await asyncio.sleep(0.01)
        other.kill()
        await second
    await _serve_a_moment(file, wait_s=0)  # one that ends in good order releases it too


async def _serve_a_moment(url: str, *, wait_s: float) -> None:
    async with exclusive_lease(url, wait_s=wait_s):
        pass
