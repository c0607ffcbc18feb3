"""A port with a JVM behind it that is a few lines of asyncio, on every event loop that the gateway may run on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from noah.core.jdwp.wire import HANDSHAKE
from noah.proxy.listener import Listener
from noah.proxy.slot import Slot

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
with suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOPS


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()


class Jvm:
    """Its agent greets one debugger at a time, then says what the test wants it to; others it drops."""

    def __init__(self, talk: Talk = echo) -> None:
        self.talk = talk
        self.debuggers = 0  # that were greeted
        self.touched = 0  # connections of any kind
        self.is_free = True
        self.port = 0
        self._server: asyncio.Server | None = None

    async def open(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.touched += 1
        try:
            if self.is_free:
                self.is_free = False
                await self._serve(reader, writer)
                self.is_free = True
        except (ConnectionError, asyncio.IncompleteReadError):
            self.is_free = True
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # All 14 bytes in one segment, as HotSpot wants them.
        assert await reader.read(1000) == HANDSHAKE
        writer.write(HANDSHAKE)
        self.debuggers += 1
        await self.talk(reader, writer)


class StreamTransport(asyncio.Transport, asyncio.Protocol):
    """Inside is a TCP connection, which nobody can tell."""

    ASKED = frozenset(
        {"abort", "can_write_eof", "close", "get_write_buffer_size", "is_closing"}
        | {"pause_reading", "resume_reading", "write", "write_eof"}
    )
    PASSED_ON = frozenset({"connection_lost", "eof_received", "pause_writing", "resume_writing"})

    def __init__(self, protocol: asyncio.BufferedProtocol) -> None:
        super().__init__()
        self._protocol = protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        for names, whose in ((self.ASKED, transport), (self.PASSED_ON, self._protocol)):
            for name in names:
                setattr(self, name, getattr(whose, name))
        self._protocol.connection_made(self)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass  # those of TCP

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def data_received(self, data: bytes) -> None:
        while data:
            room = memoryview(self._protocol.get_buffer(len(data)))
            size = min(len(room), len(data), 1000)  # in frames of its own
            room[:size] = data[:size]
            self._protocol.buffer_updated(size)
            data = data[size:]


class Watched:
    """A slot with a listener, and all that it announced."""

    def __init__(self, jvm: Jvm, *, admits: Callable[[str], bool], allow_exit: bool, held_for_s: float) -> None:
        self.jvm = jvm
        self.dialled = 0  # a port in front of the JVM's
        self.notices: list[tuple[str, Mapping[str, Any]]] = []
        self._change = asyncio.Event()
        self._clients: list[asyncio.StreamWriter] = []
        self.slot = Slot(
            session_id="s1",
            dial=self.dial,
            allow_exit=allow_exit,
            clock=lambda: datetime.now(UTC),
            changed=self._change.set,
            noticed=self._noticed,
            held_for_s=held_for_s,
        )
        self.listener = Listener(self.slot, host="127.0.0.1", port=0, admits=admits)

    async def open(self) -> None:
        await self.slot.open()
        await self.listener.open()

    async def dial(self, protocol: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        transport, _ = await asyncio.get_running_loop().create_connection(protocol, "127.0.0.1", self._jvm_port)
        return transport

    async def dial_stream(self, protocol: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        """As an exec stream or an SSH channel is: a transport without a socket of its own."""
        _, stream = await asyncio.get_running_loop().create_connection(
            lambda: StreamTransport(protocol()), "127.0.0.1", self._jvm_port
        )
        return stream

    @property
    def _jvm_port(self) -> int:
        return self.dialled or self.jvm.port

    def _noticed(self, kind: str, data: Mapping[str, Any]) -> None:
        self.notices.append((kind, data))
        self._change.set()

    async def until(self, condition: Callable[[], object], within: float = 60) -> None:
        async with asyncio.timeout(within):
            while not condition():
                self._change.clear()
                with suppress(TimeoutError):  # counters change without a word
                    await asyncio.wait_for(self._change.wait(), 0.05)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        streams = await asyncio.open_connection("127.0.0.1", self.listener.port)
        self._clients.append(streams[1])
        return streams

    async def close(self) -> None:
        for writer in self._clients:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        await self.close_port("the test is over")

    async def close_port(self, why: str) -> None:
        self.listener.close()
        await self.slot.close(why)

    async def attach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.connect()
        writer.write(HANDSHAKE)
        assert await reader.readexactly(len(HANDSHAKE)) == HANDSHAKE
        return reader, writer

    def notices_of(self, kind: str) -> list[Mapping[str, Any]]:
        return [data for one, data in self.notices if one == kind]


Open = Callable[..., Awaitable[Watched]]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Open a port before a JVM; all of it is closed at the end."""
    async with AsyncExitStack() as stack:

        async def open_port(
            talk: Talk = echo,
            *,
            admits: Callable[[str], bool] = lambda _: True,
            allow_exit: bool = False,
            held_for_s: float = 5.0,
        ) -> Watched:
            watched = Watched(jvm := Jvm(talk), admits=admits, allow_exit=allow_exit, held_for_s=held_for_s)
            await jvm.open()
            stack.push_async_callback(jvm.close)
            stack.push_async_callback(watched.close)
            await watched.open()
            return watched

        yield open_port
