"""A bad network on loopback: a relay that cuts, delays, breaks off, and otherwise passes every byte."""

import asyncio
import random
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

RECOVERED_AFTER_S = 5.0  # what uses a link has noticed by then that it flows again


@dataclass(frozen=True)
class Network:
    segment: int = 65536  # bytes that are passed on at once
    pause: float = 0.0  # seconds before each
    breaks: float = 0.0  # probability, per segment, of a reset
    seed: int = 0


@asynccontextmanager
async def through(network: Network, *, to: int) -> AsyncIterator[int]:
    """The port of a relay to the port *to*."""
    chance = random.Random(network.seed)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to)
        writers = (writer, far_writer)
        for each in writers:
            each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):
            await asyncio.gather(_pass(network, chance, reader, far_writer), _pass(network, chance, far_reader, writer))
        for each in writers:
            _reset(each) if network.breaks else each.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _pass(
    network: Network, chance: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while piece := await reader.read(network.segment):
        if network.pause:
            await asyncio.sleep(network.pause)
        if chance.random() < network.breaks:
            raise ConnectionResetError
        writer.write(piece)
        await writer.drain()
    writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


class Link:
    """A relay to the port *to* that can be cut: its connections are reset, and new ones refused, until it is mended.

    Or frozen: connections stay and new ones are taken, and no byte passes, until it is thawed. Or slow: each piece
    takes *delay_s* in each direction. Or it loses answers: a connection in which *loses_answer_to* was asked is reset
    when the answer comes.
    """

    def __init__(self, to: int, *, to_host: str = "127.0.0.1", host: str = "127.0.0.1", port: int = 0) -> None:
        self.to = to
        self.delay_s = 0.0
        self.loses_answer_to: bytes | None = None
        self.answers_lost = 0
        self._to_host, self._host = to_host, host
        self._mended_at = 0.0
        self._open: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.port = port
        self._server: asyncio.Server | None = None

    async def mend(self) -> None:
        self._mended_at = time.monotonic()
        self._server = await asyncio.start_server(self._accept, self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            _reset(writer)
        self.thaw()  # for tasks that would wait here for ever

    @property
    def is_whole(self) -> bool:
        """True if bytes pass, and have passed for some seconds."""
        flows = self._server is not None and self._server.is_serving() and self._flows.is_set() and not self.delay_s
        return flows and time.monotonic() - self._mended_at > RECOVERED_AFTER_S

    @property
    def is_open(self) -> bool:
        return bool(self._open)

    def freeze(self) -> None:
        self._flows.clear()

    def thaw(self) -> None:
        self._mended_at = time.monotonic()
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(self._to_host, self.to)
        except OSError:
            _reset(writer)  # the server is away
            return
        both, asked = (writer, far_writer), asyncio.Event()
        self._open.update(both)
        try:
            with suppress(OSError):
                await asyncio.gather(self._ask(reader, far_writer, asked), self._answer(far_reader, writer, asked))
        finally:
            self._open.difference_update(both)
            for each in both:
                each.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: asyncio.Event) -> None:
        while piece := await reader.read(65536):
            if self.loses_answer_to is not None and self.loses_answer_to in piece:
                asked.set()
            await self._pass(piece, writer)
        await self._end(writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: asyncio.Event) -> None:
        while piece := await reader.read(65536):
            if asked.is_set():
                self.answers_lost += 1
                raise ConnectionResetError
            await self._pass(piece, writer)
        await self._end(writer)

    async def _pass(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.delay_s)
        await self._flows.wait()
        writer.write(piece)
        await writer.drain()

    async def _end(self, writer: asyncio.StreamWriter) -> None:
        await self._flows.wait()  # the end of a stream is something that passes, too
        writer.write_eof()


@asynccontextmanager
async def link(*, to: int, to_host: str = "127.0.0.1", host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Link]:
    one = Link(to, to_host=to_host, host=host, port=port)
    await one.mend()
    try:
        yield one
    finally:
        await one.cut()
        async with asyncio.timeout(20):
            while one.is_open:
                await asyncio.sleep(0.01)
