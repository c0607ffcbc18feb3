"""A debugger that comes to another gateway than its session's own."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from noah.core.jdwp.wire import HANDSHAKE
from noah.errors import Conflict, Unavailable
from noah.peers.connection import PeerConnection
from noah.peers.debugger import PassingSlot, take_debugger
from noah.peers.frames import PeerFrameKind
from noah.proxy.listener import Listener
from tests.jdwp import VALUES, ask
from tests.unit.peers.conftest import Gateway, Start
from tests.unit.proxy.conftest import Open, Talk, Watched, echo, opened

assert opened  # a fixture


class Passed:
    """A session's port at gateway a, whose slot is at b."""

    def __init__(self, a: Gateway, b: Gateway, watched: Watched, tasks: asyncio.TaskGroup) -> None:
        self.a, self.b, self.watched = a, b, watched
        self.dials = 0
        self.slot = PassingSlot("s1", dial=self.dial, tasks=tasks, turned_away=lambda host, reason: None, held_for_s=3)
        self.listener = Listener(self.slot, host="127.0.0.1", port=0, admits=lambda _: True)
        self.clients: list[asyncio.StreamWriter] = []

    async def dial(self, address: str) -> PeerConnection:
        self.dials += 1
        return await self.a.client.dial(self.b.peer, kind="debugger", session="s1", address=address)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port)
        self.clients.append(writer)
        return reader, writer

    async def attach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.connect()
        writer.write(HANDSHAKE)
        assert await reader.readexactly(len(HANDSHAKE)) == HANDSHAKE
        return reader, writer


OpenPassed = Callable[..., Awaitable[Passed]]


@pytest.fixture
async def passed(start: Start, opened: Open) -> AsyncIterator[OpenPassed]:
    made: list[Passed] = []
    async with asyncio.TaskGroup() as tasks:

        async def open_passed(talk: Talk = echo, **more: Any) -> Passed:
            watched = await opened(talk, **more)

            async def take(connection: PeerConnection, hello: dict[str, Any]) -> None:
                await take_debugger(connection, watched.slot.admit, str(hello["address"]))

            one = Passed(await start("a"), await start("b", take), watched, tasks)
            made.append(one)
            await one.listener.open()
            return one

        yield open_passed
        for one in made:
            one.listener.close()
            for writer in one.clients:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
            await one.watched.close_port("the test is over")


async def test_every_byte_is_passed_on_both_ways(passed: OpenPassed) -> None:
    one = await passed()
    reader, writer = await one.attach()
    sent = b"".join(ask(number, VALUES, os.urandom(3000)) for number in range(1000))

    async def send() -> None:
        writer.write(sent)
        await writer.drain()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(send(), name="send")
        assert await reader.readexactly(len(sent)) == sent
    attached = one.watched.slot.attached
    assert attached is not None
    assert attached.address == "{}:{}".format(*writer.get_extra_info("sockname"))


async def test_the_end_of_one_direction_is_passed_on_and_the_other_goes_on(passed: OpenPassed) -> None:
    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = await reader.read()
        writer.write(b"all of " + got)

    one = await passed(answer_at_the_end)
    reader, writer = await one.attach()
    writer.write(b"it")
    writer.write_eof()
    async with asyncio.timeout(30):
        assert await reader.read() == b"all of it"
    await one.watched.until(lambda: one.watched.slot.attached is None)


async def test_a_debugger_that_goes_frees_the_jvm(passed: OpenPassed) -> None:
    one = await passed()
    _, writer = await one.attach()
    writer.transport.abort()
    await one.watched.until(lambda: one.watched.slot.attached is None)
    await one.attach()


async def test_a_debugger_that_the_session_resumes_is_hung_up_on(passed: OpenPassed) -> None:
    one = await passed()
    reader, _ = await one.attach()
    await one.watched.slot.detach("resumed by ada")
    async with asyncio.timeout(30):
        with suppress(ConnectionError):
            assert await reader.read() == b""
    assert await _until(lambda: one.slot.passing == 0)


async def test_a_second_debugger_is_refused_once_and_by_name(passed: OpenPassed) -> None:
    one = await passed()
    await one.attach()
    reader, writer = await one.connect()
    writer.write(HANDSHAKE)
    async with asyncio.timeout(30):
        with suppress(ConnectionError):
            assert await reader.read() == b""
    (notice,) = one.watched.notices_of("refused")
    assert notice["reason"] == "slot_taken"
    assert one.dials == 2  # it was not tried again


async def test_a_debugger_is_held_until_the_sessions_gateway_is_there(passed: OpenPassed) -> None:
    one = await passed()
    b = one.b.known.pop("a")
    reader, writer = await one.connect()
    writer.write(HANDSHAKE)
    async with asyncio.timeout(30):
        while one.dials < 3:
            await asyncio.sleep(0.02)
        one.b.known["a"] = b
        assert await reader.readexactly(len(HANDSHAKE)) == HANDSHAKE


async def test_a_debugger_is_hung_up_on_when_no_gateway_comes(passed: OpenPassed) -> None:
    one = await passed()
    del one.b.known["a"]
    reader, writer = await one.connect()
    writer.write(HANDSHAKE)
    async with asyncio.timeout(30):
        with suppress(ConnectionError):
            assert await reader.read() == b""
    assert one.slot.refused["upstream_failed"] == 1


async def test_a_debugger_that_is_held_for_its_jvm_may_hang_up(passed: OpenPassed) -> None:
    """The session's gateway learns of it, and holds nothing any more."""
    one = await passed(held_for_s=20.0)
    one.watched.dialled = 1  # where nobody listens
    _, writer = await one.connect()
    writer.write(HANDSHAKE)
    await one.watched.until(lambda: one.watched.notices_of("step"))
    writer.close()
    await one.watched.until(lambda: one.watched.notices_of("refused"))
    assert await _until(lambda: one.slot.passing == 0)


async def test_a_jvm_that_sends_more_than_the_debugger_reads_waits(passed: OpenPassed) -> None:
    sent = 0
    wanted = 48 * 1024 * 1024

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < wanted:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    one = await passed(pour)
    reader, _ = await one.attach()
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.5)
    assert sent < wanted
    async with asyncio.timeout(60):
        got = 0
        while piece := await reader.read(1 << 20):
            got += len(piece)
    assert got == wanted


async def test_what_is_not_a_debugger_is_not_passed_on(passed: OpenPassed) -> None:
    one = await passed()
    connection = await one.a.client.dial(one.b.peer, kind="debugger", session="s1", address="x")
    await connection.send(PeerFrameKind.DATA, b"GET /")
    async with asyncio.timeout(30):
        with pytest.raises(Unavailable):
            await connection.receive()
    connection.abort()
    assert one.watched.jvm.touched == 0


async def test_a_port_may_change_from_passing_on_to_a_slot_of_its_own(passed: OpenPassed) -> None:
    one = await passed()
    _, writer = await one.attach()
    one.listener.admit_to(one.watched.slot)
    writer.close()
    await one.watched.until(lambda: one.watched.slot.attached is None)
    await one.attach()
    assert one.dials == 1


async def test_a_refusal_is_not_tried_again(start: Start) -> None:
    async def refuse(connection: PeerConnection, hello: dict[str, Any]) -> None:
        raise Conflict("The session is over.")

    a, b = await start("a"), await start("b", refuse)
    with pytest.raises(Conflict):
        await a.client.dial(b.peer, kind="debugger", session="s1", address="x")


async def _until(condition: Callable[[], bool]) -> bool:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)
    return True
