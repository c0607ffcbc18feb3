"""Every byte arrives, in order, once, whatever the network does in between; and nothing piles up."""

import asyncio
import random
import socket
import struct
import tracemalloc

import pytest

from noah.core.jdwp.wire import HANDSHAKE
from noah.proxy.relay import LINGER
from tests import jdwp
from tests.faults import Network, through
from tests.jdwp import ALL, ask, long, reply, stop, string
from tests.unit.proxy.conftest import Open, Watched

KINDS = [jdwp.VERSION, jdwp.VALUES, jdwp.METHODS, jdwp.SUSPEND, jdwp.RESUME, jdwp.SET, jdwp.REDEFINE, 0x1234]


def stream(chance: random.Random, size: int, *, of_jvm: bool) -> bytes:
    packets, total = [], 0
    while total < size:
        body = chance.randbytes(chance.choice([0, 1, 8, 16, 21, 300, 20_000]))
        packet_id = chance.randrange(50)
        if not of_jvm:
            packet = ask(packet_id, chance.choice(KINDS), body)
        else:
            packet = reply(packet_id, body) if chance.random() < 0.8 else stop(chance.randrange(3))
        packets.append(packet)
        total += len(packet)
    return b"".join(packets)


class Exchange:
    """A debugger says all it has and half closes; a JVM says all that it has after it has heard everything."""

    def __init__(self, seed: int, size: int) -> None:
        chance = random.Random(seed)
        self.commands = stream(chance, size, of_jvm=False)
        self.replies = stream(chance, size, of_jvm=True)
        self.heard_by_jvm = b""
        self.heard_by_debugger = b""

    async def jvm(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        half = len(self.replies) // 2
        writer.write(self.replies[:half])  # and so talks at the same time as the debugger, too
        while piece := await reader.read(65536):
            self.heard_by_jvm += piece
        writer.write(self.replies[half:])
        await writer.drain()
        writer.write_eof()

    async def debugger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HANDSHAKE)
        assert await reader.readexactly(14) == HANDSHAKE

        async def say() -> None:
            writer.write(self.commands)
            await writer.drain()
            writer.write_eof()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(say())
            while piece := await reader.read(65536):
                self.heard_by_debugger += piece


async def exchange(watched: Watched, network: Network, *, said: Exchange) -> None:
    """Bad networks on both sides of the port."""
    watched.jvm.talk = said.jvm
    far, near = through(network, to=watched.jvm.port), through(network, to=watched.listener.port)
    async with far as watched.dialled, near as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await said.debugger(reader, writer)
        finally:
            writer.close()
            await watched.until(lambda: watched.slot._holder is None and watched.jvm.is_free)


@pytest.mark.parametrize(
    ("network", "size"),
    [
        (Network(), 3_000_000),
        (Network(segment=1), 6_000),
        (Network(segment=7), 40_000),
        (Network(segment=4096, pause=0.001), 400_000),
    ],
    ids=["good", "1-byte segments", "7-byte segments", "slow readers"],
)
async def test_every_byte_arrives_in_order_past_half_closes(opened: Open, network: Network, size: int) -> None:
    watched = await opened(allow_exit=True)
    said = Exchange(1, size)
    await exchange(watched, network, said=said)
    assert said.heard_by_jvm == said.commands
    assert said.heard_by_debugger == said.replies


async def test_every_byte_arrives_through_a_transport_without_a_socket(opened: Open) -> None:
    watched = await opened(allow_exit=True)
    watched.slot.dial = watched.dial_stream
    said = Exchange(2, 1_000_000)
    await exchange(watched, Network(), said=said)
    assert said.heard_by_jvm == said.commands
    assert said.heard_by_debugger == said.replies


async def test_what_arrives_before_a_connection_breaks_is_right_and_the_next_one_works(opened: Open) -> None:
    watched = await opened(allow_exit=True)
    broken = 0
    for seed in range(30):
        said = Exchange(seed, 60_000)
        try:
            await exchange(watched, Network(segment=2000, breaks=0.02, seed=seed), said=said)
        except* (ConnectionError, asyncio.IncompleteReadError):
            broken += 1
        assert said.commands.startswith(said.heard_by_jvm)
        assert said.replies.startswith(said.heard_by_debugger)
    assert broken > 5
    said = Exchange(99, 60_000)
    await exchange(watched, Network(), said=said)
    assert said.heard_by_debugger == said.replies


async def test_a_debugger_that_does_not_read_stops_its_jvm_and_nothing_else(opened: Open) -> None:
    sent = 0

    async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        packet = reply(1, bytes(100_000))
        while True:
            writer.write(packet)
            await writer.drain()
            sent += len(packet)

    watched, other = await opened(pours), await opened()
    with socket.create_connection(("127.0.0.1", watched.listener.port)) as lazy:
        lazy.sendall(HANDSHAKE)
        tracemalloc.start()
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sent > 0
        assert held < 1 << 20
        reader, writer = await other.attach()
        writer.write(ask(1, jdwp.VERSION))
        assert len(await reader.readexactly(11)) == 11
        # It reads on, and so does everything else.
        lazy.setblocking(False)
        got, enough = 0, 2 * sent
        while got < enough:
            got += len(await asyncio.get_running_loop().sock_recv(lazy, 1 << 20))


async def test_a_fin_reaches_the_jvm_at_once(opened: Open) -> None:
    ended = asyncio.Event()

    async def notices(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()

    watched = await opened(notices)
    _, writer = await watched.attach()
    writer.close()
    async with asyncio.timeout(5):  # milliseconds, on a quiet machine
        await ended.wait()
    await watched.until(lambda: watched.slot.attached is None)
    assert watched.notices_of("detached")[0]["ended"] == "the debugger closed the connection"


async def test_a_jvm_that_dies_takes_its_debuggers_connection_with_it(opened: Open) -> None:
    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(11)
        writer.transport.abort()

    watched = await opened(dies)
    reader, writer = await watched.attach()
    writer.write(ask(1, jdwp.VERSION))
    assert await reader.read() == b""
    writer.close()
    await watched.until(lambda: watched.slot.attached is None)


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_side_that_does_not_end_after_the_other_is_ended(opened: Open) -> None:
    async def stays(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await asyncio.sleep(3600)

    watched = await opened(stays)
    reader, writer = await watched.attach()
    writer.write_eof()
    async with asyncio.timeout(LINGER * 2):
        assert await reader.read() == b""
    await watched.until(lambda: watched.slot.attached is None)


async def test_what_the_jvm_alone_knows_of_a_stop_is_asked_after_the_debugger_and_stays_here(opened: Open) -> None:
    heard: list[tuple[int, int]] = []
    answers = {
        jdwp.THREAD_NAME: string("http-1"),
        jdwp.SIGNATURE: string("Lcom/shop/Shop;"),
        jdwp.METHODS: jdwp.methods({70: "total"}),
        jdwp.LINES: jdwp.lines({0: 14, 4: 15}),
    }

    async def stops_and_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(stop(ALL, at=jdwp.location(7, 70, 4)))
        while True:
            length, packet_id, _, number = struct.unpack(">IIBH", await reader.readexactly(11))
            await reader.readexactly(length - 11)
            heard.append((packet_id, number))
            writer.write(reply(packet_id, answers.get(number, b"")))

    watched = await opened(stops_and_answers)
    reader, writer = await watched.attach()
    assert await reader.readexactly(len(stop(ALL))) == stop(ALL)
    for packet_id in range(1, 20):  # as long as it talks, nothing else is said
        writer.write(ask(packet_id, jdwp.VALUES, long(packet_id)))
        assert await reader.readexactly(11) == reply(packet_id)
    await watched.until(lambda: watched.slot.vm and watched.slot.vm.location == "Shop.total:15")
    assert watched.slot.vm is not None
    assert watched.slot.vm.thread == "http-1"
    own = [number for packet_id, number in heard if packet_id >= 20]
    assert own == [jdwp.THREAD_NAME, jdwp.SIGNATURE, jdwp.METHODS, jdwp.LINES]
    writer.write(ask(20, jdwp.RESUME))
    assert await reader.readexactly(11) == reply(20)
