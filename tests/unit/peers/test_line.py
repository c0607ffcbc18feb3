"""A line of `noah connect` that comes to another gateway than its session's own."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from noah.core.jdwp.frames import ACCELERATOR_VERSION
from noah.core.jdwp.wire import HANDSHAKE
from noah.core.line.frame import Reader
from noah.core.line.line import Came, Event, Line, LineState
from noah.errors import Conflict
from noah.peers.connection import PeerConnection
from noah.peers.frames import PeerFrameKind
from noah.peers.line import take_line
from noah.proxy.tunnel import Tunnel
from tests.jdwp import VALUES, ask
from tests.unit.peers.conftest import Gateway, Start
from tests.unit.proxy.conftest import Open, Watched, opened

assert opened  # a fixture


class Laptop:
    """A laptop, and the gateway to which it came."""

    def __init__(self) -> None:
        self.line = Line(opens=True)
        self.reader = Reader()
        self.greeting: dict[str, Any] = {}
        self.got = bytearray()
        self.connection: PeerConnection

    async def connect(self, a: Gateway, b: Gateway, *, token: str | None = None, take_over: bool = False) -> None:
        self.connection = await a.client.dial(b.peer, token=token, take_over=take_over)
        state = self.line.state()
        about = {"opened": state.opened, "received": state.received, "address": "192.0.2.7", "port": 20001}
        await self.connection.say(PeerFrameKind.TEXT, **about)
        self.greeting = (await self.connection.receive()).json()
        received = {int(number): at for number, at in self.greeting["received"].items()}
        self.line.resume(LineState(self.greeting["opened"], received))

    def say(self) -> None:
        """Send what the line has to send, in pieces."""
        while (message := self.line.next_message()) is not None:
            for part in message:
                self.connection.write(PeerFrameKind.DATA, part)
            self.connection.write(PeerFrameKind.END)

    async def until_got(self, wanted: bytes) -> None:
        async with asyncio.timeout(30):
            while self.got != wanted:
                frame = await self.connection.receive()
                assert frame.kind is PeerFrameKind.DATA
                for event in self._events_of(frame.data):
                    if isinstance(event, Came):
                        self.got += event.data
                        self.line.pass_on(event.stream, len(event.data))
                self.say()

    def _events_of(self, message: bytes) -> list[Event]:
        frames = [self.reader.take(memoryview(message)), self.reader.end()]
        return [event for frame in frames if frame is not None for event in self.line.receive(frame, now_s=0)]

    async def ending(self) -> str:
        async with asyncio.timeout(30):
            while (frame := await self.connection.receive()).kind is not PeerFrameKind.CLOSE:
                pass
        return str(frame.json()["why"])


class Passed:
    def __init__(self, a: Gateway, b: Gateway, watched: Watched, tunnel: Tunnel) -> None:
        self.a, self.b, self.watched, self.tunnel = a, b, watched, tunnel
        self.laptops: list[Laptop] = []

    async def connected(self, laptop: Laptop | None = None, **more: Any) -> Laptop:
        laptop = laptop or Laptop()
        self.laptops.append(laptop)
        await laptop.connect(self.a, self.b, **more)
        return laptop


@pytest.fixture
async def passed(start: Start, opened: Open) -> AsyncIterator[Passed]:
    watched = await opened()
    tunnel = Tunnel(
        session_id="s1",
        admit=watched.slot.admit,
        stands=lambda: False,
        clock=lambda: datetime.now(UTC),
        changed=lambda: None,
        held_running=timedelta(minutes=1),
        held_suspended=timedelta(minutes=1),
    )

    async def take(connection: PeerConnection, hello: dict[str, Any]) -> None:
        await take_line(connection, tunnel, token=hello["token"], take_over=hello["take_over"])

    one = Passed(await start("a"), await start("b", take), watched, tunnel)
    yield one
    for laptop in one.laptops:
        laptop.connection.abort()
    tunnel.close("the test is over")


async def test_a_debugger_s_bytes_are_passed_on_both_ways(passed: Passed) -> None:
    laptop = await passed.connected()
    assert laptop.greeting["accelerator"] == ACCELERATOR_VERSION
    stream = laptop.line.open()
    laptop.say()
    await laptop.until_got(HANDSHAKE)
    packet = ask(1, VALUES, bytes(200_000))
    laptop.line.write(stream, packet)
    laptop.say()
    await laptop.until_got(HANDSHAKE + packet)
    assert passed.tunnel.info is not None
    assert (passed.tunnel.info.address, passed.tunnel.info.port) == ("192.0.2.7", 20001)


async def test_a_line_goes_on_over_another_connection_where_it_was(passed: Passed) -> None:
    laptop = await passed.connected()
    stream = laptop.line.open()
    laptop.say()
    await laptop.until_got(HANDSHAKE)
    token = laptop.greeting["token"]
    laptop.connection.abort()
    await passed.watched.until(lambda: passed.tunnel.info is not None and passed.tunnel.info.is_lost)
    await passed.connected(laptop, token=token)
    assert laptop.greeting["token"] == token
    packet = ask(1, VALUES)
    laptop.line.write(stream, packet)
    laptop.say()
    await laptop.until_got(HANDSHAKE + packet)
    assert len(passed.watched.notices_of("attached")) == 1


async def test_a_laptop_that_leaves_frees_the_jvm(passed: Passed) -> None:
    laptop = await passed.connected()
    laptop.line.open()
    laptop.say()
    await laptop.until_got(HANDSHAKE)
    await laptop.connection.say(PeerFrameKind.CLOSE, why="It leaves.", leaves=True)
    await passed.watched.until(lambda: passed.watched.slot.attached is None)
    assert passed.tunnel.info is None


async def test_a_session_that_moves_ends_the_connection_with_its_sentence(passed: Passed) -> None:
    laptop = await passed.connected()
    passed.tunnel.close("Another gateway has the session.")
    assert await laptop.ending() == "Another gateway has the session."


async def test_another_laptop_is_refused_with_the_gateway_s_sentence(passed: Passed) -> None:
    await passed.connected()
    with pytest.raises(Conflict, match=r"is connected from 192\.0\.2\.7"):
        await passed.a.client.dial(passed.b.peer, token=None, take_over=False)
    await passed.connected(take_over=True)


@pytest.mark.parametrize("sent", [b"", b"\xff" * 21, bytes(300_000)])
async def test_what_is_not_a_line_s_message_ends_it(passed: Passed, sent: bytes) -> None:
    laptop = await passed.connected()
    laptop.connection.write(PeerFrameKind.DATA, sent)
    laptop.connection.write(PeerFrameKind.END)
    assert "not the protocol" in await laptop.ending()
    assert passed.tunnel.info is None
