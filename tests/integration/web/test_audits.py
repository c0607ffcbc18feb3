"""What a debugger does is kept while it is attached, and only when there is something new."""

import asyncio
from typing import Any

import pytest

from noah.core.jdwp.wire import HANDSHAKE, HEADER_SIZE
from noah.sessions.audits import keeping_audits
from noah.store.database import Database
from noah.store.sessions import SessionStore
from tests import jdwp
from tests.integration.web.conftest import Gateway

pytestmark = pytest.mark.jvm


class CountsWrites(SessionStore):
    writes = 0

    async def save_audits(self, audits: Any) -> None:
        self.writes += 1
        await super().save_audits(audits)


async def test_an_attached_debuggers_commands_are_kept_now_and_then(gateway: Gateway) -> None:
    session = await gateway.api.ready("local/shop")
    database = Database(f"sqlite:///{gateway.database}")
    store = CountsWrites(database)
    reader, writer = await asyncio.open_connection(session["host"], session["port"])
    writer.write(HANDSHAKE)
    await reader.readexactly(len(HANDSHAKE))
    async with keeping_audits(store, every=0.05) as audits:
        audits.keep(gateway.broker.live()[0])
        for count in (1, 2):
            writer.write(jdwp.ask(count, jdwp.VERSION))
            await reader.readexactly(HEADER_SIZE)
            await _until_kept(store, session["id"], {"VirtualMachine.Version": count})
        written = store.writes
        await asyncio.sleep(0.3)  # some rounds in which nothing happens
        assert store.writes == written
        writer.write(jdwp.ask(3, jdwp.ALL_THREADS))
        await reader.readexactly(HEADER_SIZE)
    await database.close()
    writer.close()


async def _until_kept(store: SessionStore, session_id: str, commands: dict[str, int]) -> None:
    async with asyncio.timeout(60):
        while ((await store.audits([session_id]))[session_id] or {}).get("commands") != commands:
            await asyncio.sleep(0.02)
