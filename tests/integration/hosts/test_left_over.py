"""What ended sessions left on hosts is taken back later, when a host cannot be reached."""

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.core.host.edits import EditState, HostEdit
from noah.core.session.target import HostTarget
from noah.settings import parse_settings
from noah.store import Store
from noah.store.gateways import AboutGateway
from noah.targets.host.hosts import Hosts
from tests.databases import make_database
from tests.ports import free_port

TARGET = HostTarget(host="kvm-1", app="orders")


async def test_a_host_that_cannot_be_reached_is_not_asked_again_at_each_look(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "key")
    known: dict[str, Any] = {"address": "127.0.0.1", "port": free_port(), "user": "root", "key": str(tmp_path / "key")}
    app = {"name": "orders", "unit": "orders.service", "options_file": "/etc/default/orders"}
    known["host_key"] = key.export_public_key().decode().strip()
    hosts = parse_settings({"hosts": [{"name": "kvm-1", "apps": [app], **known}]}, origin="test").hosts
    store = Store.open(make_database(tmp_path / "noah.db"))
    caplog.set_level(logging.INFO, "noah.targets.host.hosts")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        lease = await stack.enter_async_context(store.lease(AboutGateway(name="test", version="0")))
        inventory = Hosts(store.edits, catalog=Catalog(), holders=Holders(), lease=lease, claims=store.claims)
        await inventory.configure(hosts)
        left = {"session": "s-ended", "file": app["options_file"], "mode": "644", "owner": "0:0"}
        edit = HostEdit(id="e-1", target=TARGET, before=b"", after=b"A=1\n", state=EditState.UNDOING, **left)
        await store.edits.record(edit)
        for _ in range(5):
            await inventory.take_back_left_over()
        said = [record for record in caplog.records if "is put back later" in record.getMessage()]
        assert len(said) == 1
        assert "host kvm-1" in said[0].getMessage().lower()
        assert len(await store.edits.left_over()) == 1
        # A host that goes from the configuration keeps what is owed to it, and is given it when it is back.
        assert await inventory.configure(()) == {TARGET}
        await inventory.take_back_left_over()
        assert [drift.target for drift in await inventory.drift()] == [TARGET]
        await inventory.configure(hosts)
        async with asyncio.timeout(60):
            while sum("is put back later" in record.getMessage() for record in caplog.records) < 2:
                await inventory.take_back_left_over()
                await asyncio.sleep(0.1)
        assert len(await store.edits.left_over()) == 1
        await inventory.close()
