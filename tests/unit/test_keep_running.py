"""One unexpected exception in a task that lives as long as the gateway does not end it, nor the gateway with it."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from noah.app import Clock, tidying
from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.core.lease import Fence
from noah.errors import Unavailable
from noah.keep_running import repeat
from noah.settings import parse_settings
from noah.store.claims import Claim
from noah.store.gateways import AboutGateway
from noah.store.lease import Lease
from noah.targets.host.hosts import open_hosts


class Breaks:
    """A part of the store that fails in ways that nobody foresaw, twice, and then works."""

    def __init__(self) -> None:
        self.asked = 0
        self.worked = asyncio.Event()

    async def answer(self, *_: Any) -> list[Any]:
        self.asked += 1
        if self.asked == 1:
            raise RuntimeError("a bug")
        if self.asked == 2:
            raise Unavailable("The database does not answer.")
        self.worked.set()
        return []


async def test_a_round_that_fails_is_logged_and_the_pause_grows(caplog: pytest.LogCaptureFixture) -> None:
    part, began = Breaks(), asyncio.get_running_loop().time()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(repeat(part.answer, name="count the beans", every_s=0.1))
        await part.worked.wait()
        task.cancel()
    assert asyncio.get_running_loop().time() - began >= 0.2  # half a pause, at least, and half of twice that
    logged = [(record.levelname, bool(record.exc_info)) for record in caplog.records]
    assert logged == [("ERROR", True), ("WARNING", False)]
    assert all("count the beans" in record.message for record in caplog.records)


class FreeClaims:
    async def take(self, kind: str, key: str, *, gateway: str) -> Claim:
        return Claim(kind, key, Fence(gateway, 1))


async def test_tidying_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Store(Breaks):
        is_shared = False

        async def now(self) -> datetime:
            return datetime.now(UTC)

        async def forget_before(self, age: timedelta, *, trail: timedelta) -> None:
            await self.answer()

        claims = FreeClaims()

    store = Store()
    async with (
        asyncio.timeout(20),
        tidying(
            store,  # type: ignore[arg-type]
            Lease(store, AboutGateway(name="test", version="0")),  # type: ignore[arg-type]
            Clock(),
            keep_trail=timedelta(days=1),
            every_s=0.01,
        ),
    ):
        await store.worked.wait()
    assert "a bug" in caplog.text


async def test_taking_edits_back_on_hosts_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Edits(Breaks):
        left_over = Breaks.answer

    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "key")
    known: dict[str, Any] = {
        "address": "127.0.0.1",
        "user": "root",
        "key": str(tmp_path / "key"),
        "apps": [{"name": "orders"}],
    }
    known["host_key"] = key.export_public_key().decode().strip()
    hosts = parse_settings({"hosts": [{"name": "kvm-1", **known}]}, origin="test").hosts
    edits = Edits()
    opened = open_hosts(
        hosts,
        edits,  # type: ignore[arg-type]
        catalog=Catalog(),
        holders=Holders(),
        lease=None,  # type: ignore[arg-type]
        claims=None,  # type: ignore[arg-type]
        every_s=0.01,
    )
    async with asyncio.timeout(20), opened:
        await edits.worked.wait()
    assert "a bug" in caplog.text
